"""`python -m primo_operator`: run the operator until it is told to stop."""

import argparse
import asyncio
import gc
import inspect
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import kopf

from primo_operator import health, logs, names
from primo_operator.cluster import ClusterError
from primo_operator.definitions import wait_until_served
from primo_operator.handlers import registry
from primo_operator.kubernetes_cluster import KubernetesCluster, connect
from primo_operator.leadership import Candidacy, candidacy
from primo_operator.prometheus import trusted
from primo_operator.settings import BadSettingError, Settings

log = logging.getLogger(__name__)

AGAIN_S = 5.0
# The garbage collector stops everything, the longer the more objects there are: for up to .35 s
# with 10,000 trials, and 35 times while they were made. Hardly anything is a cycle.
NEW_OBJECTS = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="primo_operator",
        description=__doc__,
        epilog=f"environment variables, PRIMO_ before each name in capitals:\n\n{_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-n",
        "--namespace",
        action="append",
        type=_namespace,
        help="watch this namespace; may be given repeatedly",
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
    gc.freeze()  # modules, which stay
    gc.set_threshold(NEW_OBJECTS)
    try:
        sys.exit(asyncio.run(_serve(given)))
    except (BadSettingError, ClusterError) as error:
        sys.stderr.write(f"primo_operator: {error}\n")
        sys.exit(1)


def _namespace(text: str) -> str:
    """kopf would take a pattern, such as `team-*`; what belongs to studies is watched by name."""
    if not names.LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a namespace")
    return text


def _settings() -> str:
    return (inspect.getdoc(Settings) or "").partition("Attributes:\n")[2]


async def _serve(given: argparse.Namespace) -> int:
    """Work until told to stop; 1 if another operator has to be let work instead."""
    settings, namespaces = Settings.from_environment(), _watched(given)
    standing, pause_s = candidacy(settings, namespaces), 0.0
    trusted(settings)  # a start that fails kopf repeats for ever
    while await _unless_stopped(_ready(given, settings, pause_s)):
        code = await _work(given, settings, standing)
        if code is not None:
            return code
        pause_s = AGAIN_S
    return 0


def _watched(given: argparse.Namespace) -> Sequence[str]:
    """Each once; none for all."""
    return list(dict.fromkeys(given.namespace or ()))


async def _unless_stopped(waiting: Coroutine[Any, Any, None]) -> bool:
    """Wait; False if told to stop meanwhile. Else it is kopf that is told, which leaves its ear."""
    task, loop = asyncio.ensure_future(waiting), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return True


async def _ready(given: argparse.Namespace, settings: Settings, pause_s: float) -> None:
    """kopf never finds a definition that is not there when it starts."""
    words = ["it is about to begin"]
    async with health.waiting(given.liveness, lambda: words[-1]):
        await asyncio.sleep(pause_s)
        client = await connect(given.context)
        try:
            cluster = KubernetesCluster(client, settings.request_timeout_s)
            await wait_until_served(cluster.published, words.append)
        finally:
            await client.close()


async def _work(
    given: argparse.Namespace, settings: Settings, standing: Candidacy | None
) -> int | None:
    """None if it has to begin anew.

    kopf gives up where there are no studies to list: their definition was taken away.
    """
    # An Event would do to stop kopf, but its waiter outlives a SIGTERM, and kopf waits for it.
    ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    try:
        await kopf.operator(
            # kopf would ask for the user's name, and the user of a container need not have one.
            identity="primo-operator",  # type: ignore[arg-type]  # kopf.Identity is not exported
            registry=registry(settings, given.context, standing, ending, _watched(given)),
            namespaces=_watched(given),
            clusterwide=given.all_namespaces,
            liveness_endpoint=given.liveness,
            stop_flag=ending,
        )
    except Exception as error:
        if not logs.of_kopf(error):
            raise
        log.error("studies cannot be watched: %s; beginning anew", error.args[0])
        return None
    return ending.result() if ending.done() and not ending.cancelled() else 0


if __name__ == "__main__":
    main()
