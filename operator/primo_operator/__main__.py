"""`python -m primo_operator`: run the operator until it is told to stop."""

import argparse
import asyncio
import inspect
import sys

import kopf

from primo_operator import logs
from primo_operator.handlers import registry
from primo_operator.leadership import candidacy
from primo_operator.settings import BadSettingError, Settings


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="primo_operator",
        description=__doc__,
        epilog=f"environment variables, PRIMO_ before each name in capitals:\n\n{_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-n", "--namespace", action="append", help="watch this namespace; may be given repeatedly"
    )
    where.add_argument("-A", "--all-namespaces", action="store_true", help="watch all of them")
    parser.add_argument("--context", help="of the kubeconfig")
    parser.add_argument(
        "--liveness",
        metavar="URL",
        help="serve health there, for example http://127.0.0.1:8080/healthz",
    )
    parser.add_argument("--verbose", action="store_true", help="say what each pass does")
    given = parser.parse_args()
    if not (given.namespace or given.all_namespaces):
        parser.error("one of --namespace and --all-namespaces is required")
    logs.configure(verbose=given.verbose)
    try:
        sys.exit(asyncio.run(_serve(given)))
    except BadSettingError as error:
        sys.stderr.write(f"primo_operator: {error}\n")
        sys.exit(1)


def _settings() -> str:
    return (inspect.getdoc(Settings) or "").partition("Attributes:\n")[2]


async def _serve(given: argparse.Namespace) -> int:
    """Work until told to stop; 1 if another operator has to be let work instead."""
    settings, namespaces = Settings.from_environment(), given.namespace or ()
    # An Event would do to stop kopf, but its waiter outlives a SIGTERM, and kopf waits for it.
    ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await kopf.operator(
        # kopf would ask for the user's name, and the user of a container need not have one.
        identity="primo-operator",  # type: ignore[arg-type]  # kopf.Identity is not exported
        registry=registry(
            settings, given.context, candidacy(settings, namespaces), ending, namespaces
        ),
        namespaces=namespaces,
        clusterwide=given.all_namespaces,
        liveness_endpoint=given.liveness,
        stop_flag=ending,
    )
    return ending.result() if ending.done() else 0


if __name__ == "__main__":
    main()
