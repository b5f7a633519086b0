"""`primo convert`: Katib's Experiments as PriMOStudies."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from primo_cli.checks import Checker
from primo_cli.files import read_texts
from primo_cli.katib.experiment import KIND
from primo_cli.katib.notes import CannotConvertError, Fate, Notes, comments
from primo_cli.katib.study import Wishes
from primo_cli.katib.study import convert as convert_experiment
from primo_cli.katib.template import ConfigMaps
from primo_operator.manifest_files import dump, load_documents
from primo_optimizer import InvalidSpecError

CONVERTED, IMPOSSIBLE, UNREADABLE = 0, 1, 2
_GOALS = ("Minimize", "Maximize")


def wishes(objectives: Sequence[str], fidelity: str | None, wrap: bool) -> Wishes:
    """The command's options.

    Raises:
        InvalidSpecError: an objective is not METRIC=Minimize or METRIC=Maximize.
    """
    found = {}
    for text in objectives:
        metric, _, goal = text.rpartition("=")
        if not metric or goal not in _GOALS:
            raise InvalidSpecError(
                f"--objective: {text!r} is not METRIC=Minimize or METRIC=Maximize"
            )
        found[metric] = goal
    return Wishes(found, fidelity, wrap)


def convert(files: Sequence[str], wishes: Wishes) -> int:
    """Print the studies of all Experiments; the exit code sums it up."""
    manifests: list[tuple[str, Mapping[str, Any]]] = []
    unreadable = impossible = False
    for name, text in read_texts(files):
        try:
            manifests += [(name, each) for each in _manifests(text)]
        except InvalidSpecError as error:
            _say(f"{name}: {error}")
            unreadable = True
    experiments = [(name, each) for name, each in manifests if each.get("kind") == KIND]
    config_maps = ConfigMaps([each for _, each in manifests if each.get("kind") == "ConfigMap"])
    if not experiments and not unreadable:
        _say(f"{', '.join(files)}: there is no {KIND} in it")
        unreadable = True
    checker, separator = Checker(), ""
    for name, experiment in experiments:
        metadata = experiment.get("metadata")
        called = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
        title = f"{name}: {KIND} {called}".rstrip()
        try:
            text, notes = _converted(experiment, config_maps, wishes, checker)
        except CannotConvertError as error:
            _say(f"{title}: cannot be converted: {error}")
            impossible = True
            continue
        sys.stdout.write(f"{separator}{text}")
        separator = "---\n"
        _say(f"{title}: {_summary(notes)}")
    if unreadable:
        return UNREADABLE
    return IMPOSSIBLE if impossible else CONVERTED


def _manifests(text: str | OSError | UnicodeError) -> Iterator[Mapping[str, Any]]:
    if not isinstance(text, str):
        raise InvalidSpecError(getattr(text, "strerror", None) or str(text))
    for document in load_documents(text):
        yield from (each.manifest for each in document.items())


def _converted(
    experiment: Mapping[str, Any], config_maps: ConfigMaps, wishes: Wishes, checker: Checker
) -> tuple[str, Notes]:
    made = convert_experiment(experiment, config_maps, wishes)
    # What the Experiment itself had wrong, Katib would have found in the cluster.
    for finding in checker.check(made.manifest):
        raise CannotConvertError(f"the study would be wrong: {finding.field}: {finding.message}")
    name = made.manifest["metadata"]["name"]
    title = f"From Katib's Experiment {name}, by primo convert."
    return comments(title, made.notes) + dump(made.manifest), made.notes


def _summary(notes: Notes) -> str:
    """Counts of what a reader should look at."""
    counts = {fate: len(notes.of(fate)) for fate in Fate if fate is not Fate.MAPPED}
    told = [
        f"{count} {fate.value[0].lower()}{fate.value[1:]}"
        for fate, count in counts.items()
        if count
    ]
    return f"converted; {', '.join(told)}: see its head" if told else "converted"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
