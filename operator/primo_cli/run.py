"""`primo run`: a study from its manifest to its front."""

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from primo_cli.kube import Kube, UnavailableError
from primo_cli.validate import check, mistakes
from primo_cli.view import front_table, last_words, one_line, plain, study_view
from primo_optimizer import InvalidSpecError, PrimoError

POLL_S = 0.5
# A cluster that is not there for so long is given up; the study goes on without us.
PATIENCE_S = 120.0
# An operator that watches has looked at a new study long before.
UNSEEN_S = 20.0
COMPLETED, FAILED, INTERRUPTED = 0, 1, 130

Manifest = dict[str, Any]


class StudyGoneError(PrimoError):
    """Somebody deleted it."""


def run_study(
    file: Path,
    *,
    context: str | None,
    namespace: str,
    gpus: int,
    workdir: Path,
    state_dir: Path | None,
    picture: Path | None,
    prometheus: Path | None = None,
) -> int:
    """Run the study of a manifest; the exit code says how it ended.

    Args:
        state_dir: of the local cluster; None for a new folder.

    Raises:
        InvalidSpecError: the manifest is wrong, or the picture has no folder to go to.
    """
    if picture and not picture.parent.is_dir():
        raise InvalidSpecError(f"--picture {picture}: there is no folder {picture.parent}")
    manifests = read(file)
    console = Console()
    left = "nothing is left running" if context is None else "what is in the cluster goes on"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if context is not None:
            return _follow(Kube(context=context), manifests, namespace, picture, lambda: None)
        from primo_cli.session import local_session

        namespace = _study(manifests)["metadata"].get("namespace") or namespace
        folder = state_dir or Path(tempfile.mkdtemp(prefix="primo-"))
        console.print(plain(f"starting a local cluster in {folder}"))
        with local_session(folder, namespace, gpus, workdir, prometheus) as session:
            if session.prometheus:
                console.print(f"Prometheus: {session.prometheus.url}")
            kube = Kube(session.kubeconfig)
            code = _follow(kube, manifests, namespace, picture, session.tend)
            if code == FAILED:
                console.print(plain(f"logs: {folder / 'node' / 'pods'}"), soft_wrap=True)
            return code
    except KeyboardInterrupt:
        console.print(f"stopped; {left}")
        return INTERRUPTED


def read(file: Path) -> list[Manifest]:
    """The manifests of a file or folder, of which one is a PriMOStudy.

    Raises:
        InvalidSpecError: every mistake in it, as `primo validate` says it.
    """
    outcomes = check([str(file)])
    problems = [f"{outcome.file}: {outcome.problem}" for outcome in outcomes if outcome.problem]
    problems += [line for outcome in outcomes for line in mistakes(outcome)]
    if problems:
        raise InvalidSpecError(*problems)
    manifests = [outcome.document.manifest for outcome in outcomes if outcome.document]
    studies = [m for m in manifests if m.get("kind") == "PriMOStudy"]
    if len(studies) != 1:
        raise InvalidSpecError(f"{file}: {len(studies)} PriMOStudies in it, expected 1")
    if not studies[0]["metadata"].get("name"):
        raise InvalidSpecError(f"{file}: metadata.name: is missing, expected a name")
    return manifests


def _study(manifests: list[Manifest]) -> Manifest:
    return next(m for m in manifests if m["kind"] == "PriMOStudy")


def _follow(
    kube: Kube,
    manifests: list[Manifest],
    namespace: str,
    picture: Path | None,
    tend: Callable[[], None],
) -> int:
    for manifest in manifests:
        kube.apply(manifest, namespace)
    metadata = _study(manifests)["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace") or namespace
    console = Console()
    study, trials = _watch(kube, name, namespace, tend, console)
    console.print(front_table(study, trials, console))
    front = study["status"].get("front")
    if front:
        path = picture or Path(f"{name}.front.png")
        console.print(plain(f"picture: {_picture(study, trials, path)}"))
    console.print(last_words(study))
    return COMPLETED if front and study["status"]["phase"] == "Completed" else FAILED


def _picture(study: Manifest, trials: list[Manifest], path: Path) -> str:
    """Save it: where it is, or why there is none. The study has ended well either way."""
    from primo_cli.picture import save_front

    try:
        save_front(study, trials, path)
    except ImportError as error:
        return f"none, {error.name} is not installed (pip install '.[plots]' in a checkout)"
    except OSError as error:
        return f"none, {path}: {error.strerror or error}"
    except (ValueError, OverflowError) as error:  # of values that have no axis
        return f"none, {error}"
    return str(path)


def _watch(
    kube: Kube, name: str, namespace: str, tend: Callable[[], None], console: Console
) -> tuple[Manifest, list[Manifest]]:
    """Show the study until it has ended."""
    began, told, asked = time.monotonic(), "", False
    with contextlib.ExitStack() as stack:
        live = Live(console=console, refresh_per_second=4, transient=False)
        if not console.is_terminal:
            stack.callback(console.print)  # it ends in the middle of a line
        stack.enter_context(live)
        while True:
            study, trials = _look(kube, name, namespace, tend)
            elapsed_s = time.monotonic() - began
            live.update(study_view(study, trials, elapsed_s))
            if not console.is_terminal and (line := one_line(study, trials)) != told:
                told = line
                console.print(plain(line))
            if elapsed_s > UNSEEN_S and not (study.get("status") or asked):
                asked = True
                question = f"does one run, and watch namespace {namespace}?"
                console.print(plain(f"no operator has looked at this study; {question}"))
            if _has_ended(study):
                return study, trials
            time.sleep(POLL_S)


def _has_ended(study: Manifest) -> bool:
    """In the eyes of an operator that has seen the spec as it is now."""
    status = study.get("status") or {}
    seen = status.get("observedGeneration") == study["metadata"].get("generation")
    return seen and status.get("phase") in ("Completed", "Failed")


def _look(
    kube: Kube, name: str, namespace: str, tend: Callable[[], None]
) -> tuple[Manifest, list[Manifest]]:
    """The study and its trials, as soon as the cluster answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        tend()
        try:
            study = kube.get("PriMOStudy", name, namespace)
            if study is None:
                raise StudyGoneError(f"PriMOStudy {name}: was deleted while it ran")
            return study, list(kube.trials(name, namespace))
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
