"""The verbs of `primo`."""

import sys
import tempfile
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Prior-guided multi-objective hyperparameter optimization on Kubernetes.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    pretty_exceptions_enable=False,
)


class Output(StrEnum):
    """What is printed."""

    TEXT = "text"
    JSON = "json"


Filenames = Annotated[
    list[str] | None, typer.Option("-f", "--filename", metavar="FILE", help="The same as FILE.")
]
Gpus = Annotated[int, typer.Option(min=0, max=1024, help="Pretend GPUs of the local cluster.")]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the local cluster keeps its files; logs and volumes stay there. "
        "Default: a new folder, named at the start."
    ),
]

WithPrometheus = Annotated[
    bool,
    typer.Option(
        "--prometheus",
        help="Run a Prometheus too, which scrapes operator and trials, answers objectives that are"
        " queries, and has the alerts.",
    ),
]
PrometheusBinary = Annotated[
    Path | None,
    typer.Option(
        envvar="PRIMO_PROMETHEUS_BINARY",
        help="Which Prometheus. Default: that of the PATH, or what `make prometheus` fetched.",
    ),
]


# What `primo run` takes for the cluster that it starts, not for one that is there.
LOCAL = ("gpus", "workdir", "state_dir", "prometheus", "prometheus_binary")


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"primo {version('primo-operator')}")
        raise typer.Exit


@app.callback()
def verbs(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """With a callback, a single verb still has to be named."""


@app.command()
def run(
    given: typer.Context,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="A manifest with one PriMOStudy.")
    ] = None,
    filenames: Filenames = None,
    context: Annotated[
        str | None,
        typer.Option(help="Use this context of the kubeconfig, where the operator is installed."),
    ] = None,
    namespace: Annotated[str, typer.Option("-n", "--namespace")] = "default",
    gpus: Gpus = 2,
    workdir: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Where local trials run. Default: the folder of the manifest.",
        ),
    ] = None,
    state_dir: StateDir = None,
    picture: Annotated[
        Path | None, typer.Option(help="Save the front as this PNG. Default: NAME.front.png.")
    ] = None,
    prometheus: WithPrometheus = False,
    prometheus_binary: PrometheusBinary = None,
) -> None:
    """Run a study to its end and show its Pareto front.

    Without --context everything runs on this machine: a local cluster, the operator, the trials.

    Exits with 0 when the study completed with a front, 1 when it failed or has none, 2 when the
    manifest is wrong or something that is needed did not start, has ended, or cannot be reached;
    130 after Ctrl-C.
    """
    from primo_cli.run import run_study

    file, *others = _all(files, filenames)
    if others:
        raise typer.BadParameter("more than one is given", param_hint="FILE")
    if context is not None:
        _refuse_local(given)
    raise typer.Exit(
        run_study(
            Path(file),
            context=context,
            namespace=namespace,
            gpus=gpus,
            workdir=workdir or Path(file).parent,
            state_dir=state_dir,
            picture=picture,
            prometheus=_binary(prometheus_binary) if prometheus else None,
        )
    )


@app.command()
def up(
    namespace: Annotated[str, typer.Option("-n", "--namespace")] = "default",
    gpus: Gpus = 2,
    workdir: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Where trials run. Default: the current folder."
        ),
    ] = Path(),
    state_dir: StateDir = None,
    prometheus: WithPrometheus = False,
    prometheus_binary: PrometheusBinary = None,
) -> None:
    """Start a local cluster with the operator, for kubectl, until Ctrl-C."""
    from primo_cli.up import serve

    binary = _binary(prometheus_binary) if prometheus else None
    raise typer.Exit(serve(namespace, gpus, workdir, state_dir or _new_folder(), binary))


@app.command()
def validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Manifests; a folder's; - for standard input."),
    ] = None,
    filenames: Filenames = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="For people or programs.")] = (
        Output.TEXT
    ),
) -> None:
    """Say what a cluster would say about manifests, without one.

    Each mistake comes with its line, and with who would name it: the API server, which refuses
    the manifest, or the operator, in the conditions of the study. A trial is checked against its
    study if that is given too. What only a cluster knows, such as quotas, admission policies and
    whether a claim exists, is not checked.

    Exits with 0 when nothing is wrong, 1 when something is, 2 when a file cannot be read.
    """
    from primo_cli.validate import validate as check

    raise typer.Exit(check(_all(files, filenames), as_json=output is Output.JSON))


@app.command()
def convert(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Katib Experiments, and ConfigMaps that hold their templates; - for standard"
            " input.",
        ),
    ] = None,
    filenames: Filenames = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=GOAL",
            help="A further objective, such as latency=Minimize; may be given several times.",
        ),
    ] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(
            metavar="PARAMETER",
            help="The parameter that says how long to train: trials begin at its min, and the"
            " good ones go on to its max.",
        ),
    ] = None,
    wrap_command: Annotated[
        bool,
        typer.Option(
            "--wrap-command",
            help="Make reports of NAME=VALUE in the output instead of changing the script; the"
            " image needs sh and awk.",
        ),
    ] = False,
) -> None:
    """Turn Katib's Experiments into PriMOStudies.

    The studies go to standard output, each with a report at its head: what is to be done before
    it runs, what is approximated, left out and mapped. What cannot be converted says why in a
    line on standard error.

    Exits with 0 when all were converted, 1 when one cannot be, 2 when a file cannot be read.
    """
    from primo_cli.convert import convert as run_convert
    from primo_cli.convert import wishes

    given = _all(files, filenames)
    raise typer.Exit(run_convert(given, wishes(objective or [], fidelity, wrap_command)))


def _all(files: list[str] | None, filenames: list[str] | None) -> list[str]:
    """Those given as arguments and, as kubectl wants them, with -f."""
    given = [*(files or ()), *(filenames or ())]
    if not given:
        raise typer.BadParameter("none is given", param_hint="FILE")
    return given


def _refuse_local(given: typer.Context) -> None:
    for name in LOCAL:
        source = given.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            words = "it is about the local cluster, and --context names another"
            raise typer.BadParameter(words, param_hint=option)


def _binary(given: Path | None) -> Path:
    from primo_cli.prometheus import find_binary

    return find_binary(given)


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="primo-"))


def main() -> None:
    """Say what is wrong in a line, not in a traceback."""
    from primo_optimizer import PrimoError

    try:
        app()
    except PrimoError as error:
        lines = getattr(error, "problems", None) or (str(error),)
        print("\n".join(f"error: {line}" for line in lines), file=sys.stderr)
        raise SystemExit(2) from None
    except (OSError, UnicodeEncodeError) as error:  # a full disk, a folder that is none, a locale
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
