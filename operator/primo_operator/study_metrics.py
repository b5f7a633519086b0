"""Studies and trials as metrics: what their objects say at the moment of the scrape.

Nothing is kept between scrapes, so the series of a study or trial go with it. How many there may be
is bounded by settings: trials of a study, parameters of a trial, and for how long after its end the
trials of a study are shown at all.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from primo_operator.cluster import Object
from primo_operator.mirror import Family, Key, Mirror
from primo_operator.observe import own_trials
from primo_operator.settings import Settings
from primo_optimizer import Fidelity
from primo_optimizer.rungs import ladder
from primo_study.phases import StudyPhase, TrialPhase
from primo_study.study import TrialRecord, epoch

log = logging.getLogger(__name__)

STUDY = ("namespace", "study")
TRIAL = (*STUDY, "trial")

_STUDY_GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "primo_study_info": ("The study, and which algorithm it has.", ("algorithm",)),
    "primo_study_created_timestamp_seconds": ("When it was created.", ()),
    "primo_study_last_observation_timestamp_seconds": ("When a trial was observed last.", ()),
    "primo_study_completion_timestamp_seconds": ("When it ended.", ()),
    "primo_study_phase": ("1 for the phase it is in, 0 for the others.", ("phase",)),
    "primo_study_condition": ("1 if the condition is True, else 0.", ("condition", "reason")),
    "primo_study_stage": ("1 for the stage of the latest suggestion.", ("stage",)),
    "primo_study_trials": ("Trials by phase.", ("phase",)),
    "primo_study_failed_trials": ("Trials that failed, by reason.", ("reason",)),
    "primo_study_rung_trials": (
        "Trials observed at the fidelity of this rung or beyond it.",
        ("rung", "fidelity"),
    ),
    "primo_study_unfinished_runs": ("Runs that have not ended, queued ones included.", ()),
    "primo_study_parallelism": ("How many runs may be unfinished at once.", ()),
    "primo_study_front_size": ("Trials on the Pareto front.", ()),
    "primo_study_trials_since_improvement": (
        "Trials observed at full fidelity since the newest of the Pareto front.",
        (),
    ),
    "primo_study_infeasible_trials": ("Trials that break a constraint.", ()),
    "primo_study_hypervolume": ("Between front and reference point, in the objectives' units.", ()),
    "primo_study_best_value": ("The best value observed, in its unit.", ("objective", "goal")),
    "primo_study_reference_point": ("What the hypervolume is measured to.", ("objective",)),
    "primo_study_prior_trust": (
        "How far the observations support a prior, 0 to 1, as of the latest suggestion.",
        ("objective",),
    ),
    "primo_study_budget_limit": ("What may be spent, in what the label says.", ("budget",)),
    "primo_study_budget_used": ("What has been spent, in what the label says.", ("budget",)),
    "primo_study_choice_info": (
        "Which number stands for a choice in primo_trial_parameter.",
        ("parameter", "index", "choice"),
    ),
    "primo_study_trials_shown": ("Trials that have series of their own.", ()),
}
_TRIAL_GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "primo_trial_info": ("The trial, its object, and the Job of its latest run.", ("name", "run")),
    "primo_trial_phase": ("1 for the phase it is in.", ("phase",)),
    "primo_trial_fidelity": ("The highest observed, in the study's unit.", ()),
    "primo_trial_objective_value": (
        "As observed at the highest fidelity, in its unit.",
        ("objective",),
    ),
    "primo_trial_pareto_optimal": (
        "1 if it is on the Pareto front, as far as the study's status holds it: 50 trials.",
        (),
    ),
    "primo_trial_parameter": ("Its value; of a choice, its number.", ("parameter",)),
}
_BUDGETS = {"trials": "trials", "fullEvaluations": "full_evaluations", "gpuHours": "gpu_hours"}

Row = tuple[str, tuple[str, ...], float]


class StudyCollector(Collector):
    """Reads our view of the cluster; in the event loop, since it changes there."""

    def __init__(self, mirror: Mirror, settings: Settings, now: Callable[[], float]) -> None:
        self._mirror, self._settings, self._now = mirror, settings, now

    def describe(self) -> Iterable[Metric]:
        return []  # known without a look at any study

    def collect(self) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(name, text, labels=(*common, *labels))
            for gauges, common in ((_STUDY_GAUGES, STUDY), (_TRIAL_GAUGES, TRIAL))
            for name, (text, labels) in gauges.items()
        }
        for key in self._mirror.studies():
            family = self._mirror.family(key)
            assert family.study
            for name, labels, value in self._known_rows(key, family.study, family):
                families[name].add_metric((key.namespace, key.name, *labels), value)
        yield from families.values()

    def _known_rows(self, key: Key, study: Object, family: Family) -> Sequence[Row]:
        """None of a study that makes no sense: it must not hide the others."""
        try:
            return list(self._rows(study, family))
        except Exception:
            log.exception("no metrics of a study", extra={"study": key.name})
            return ()

    def _rows(self, study: Object, family: Family) -> Iterator[Row]:
        views = own_trials(family.trials.values(), study["metadata"]["uid"])
        own = [view.record for view in views if view.record]
        trials = self._shown(study, own)
        yield from _of_study(study)
        yield from _results(study)
        yield from _trust(own)
        yield from _failures(own)
        yield from _rungs(study, own)
        yield from _observed(study, own)
        yield "primo_study_trials_shown", (), float(len(trials))
        choices = _choices(study) if trials else {}
        shown: set[str] = set()
        front = _front(study)
        whole = len(front) >= _number(_status(study).get("frontSize"))
        for trial in trials:
            number = trial.number
            for name, labels, value in _of_trial(trial):
                yield name, (str(number), *labels), value
            if number in front or (whole and trial.observations):
                yield "primo_trial_pareto_optimal", (str(number),), float(number in front)
            for parameter, value in self._parameters(trial, choices):
                yield "primo_trial_parameter", (str(number), parameter), value
                shown.add(parameter)
        for parameter, words in choices.items():
            for index, word in enumerate(words if parameter in shown else ()):
                yield "primo_study_choice_info", (parameter, str(index), word), 1.0

    def _shown(self, study: Object, own: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
        """The front, what runs, then the latest, as far as the settings allow."""
        ended = _status(study).get("completionTime")
        if ended and self._now() > epoch(ended) + self._settings.metrics_keep_s:
            return []
        front = _front(study)
        return nsmallest(
            self._settings.metrics_trials,
            own,
            key=lambda t: (t.number not in front, not t.unfinished, -t.number),
        )

    def _parameters(
        self, trial: TrialRecord, choices: Mapping[str, list[str]]
    ) -> Iterator[tuple[str, float]]:
        given = sorted(trial.configuration.items())
        for name, value in given[: self._settings.metrics_parameters]:
            if name in choices and value in choices[name]:
                yield name, float(choices[name].index(value))
            elif isinstance(value, int | float):
                yield name, float(value)


def _of_study(study: Object) -> Iterator[Row]:
    spec, status = study["spec"], _status(study)
    algorithm = (spec.get("algorithm") or {}).get("name") or "primo"
    yield "primo_study_info", (str(algorithm),), 1.0
    created = epoch(study["metadata"]["creationTimestamp"])
    yield "primo_study_created_timestamp_seconds", (), created
    current = status.get("phase") or StudyPhase.PENDING
    for phase in StudyPhase:
        yield "primo_study_phase", (phase.value,), float(phase == current)
    for condition in status.get("conditions") or ():
        labels = (condition["type"], condition["reason"])
        yield "primo_study_condition", labels, float(condition["status"] == "True")
    if stage := (status.get("optimizer") or {}).get("stage"):
        yield "primo_study_stage", (stage,), 1.0
    counts = status.get("trials") or {}
    for trial_phase in TrialPhase:
        count = counts.get(trial_phase.value.lower(), 0)
        yield "primo_study_trials", (trial_phase.value,), float(count)
    yield "primo_study_unfinished_runs", (), float(status.get("running") or 0)
    yield "primo_study_parallelism", (), _number(spec.get("parallelism"), 1.0)
    if ended := status.get("completionTime"):
        yield "primo_study_completion_timestamp_seconds", (), epoch(ended)
    used, limits = status.get("budgetUsed") or {}, spec.get("budget") or {}
    for field, label in _BUDGETS.items():
        if field in limits:
            yield "primo_study_budget_limit", (label,), _number(limits[field])
        if field in used:
            yield "primo_study_budget_used", (label,), _number(used[field])


def _results(study: Object) -> Iterator[Row]:
    status = _status(study)
    for name, field in (
        ("primo_study_front_size", "frontSize"),
        ("primo_study_infeasible_trials", "infeasible"),
        ("primo_study_hypervolume", "hypervolume"),
    ):
        if field in status:
            yield name, (), _number(status[field])
    goals = {o.get("name"): o.get("goal") for o in study["spec"].get("objectives") or ()}
    for objective, best in (status.get("best") or {}).items():
        labels = (objective, str(goals.get(objective)))
        yield "primo_study_best_value", labels, _number(best["value"])
    for objective, value in (status.get("referencePoint") or {}).items():
        yield "primo_study_reference_point", (objective,), _number(value)


def _trust(trials: Sequence[TrialRecord]) -> Iterator[Row]:
    """Of the latest trial that tells."""
    told = {
        trial.number: trust for trial in trials if (trust := trial.explanation.get("priorTrust"))
    }
    for objective, value in (told[max(told)] if told else {}).items():
        yield "primo_study_prior_trust", (objective,), _number(value)


def _failures(trials: Sequence[TrialRecord]) -> Iterator[Row]:
    failed = (trial for trial in trials if trial.phase is TrialPhase.FAILED)
    for reason, count in Counter(str(trial.reason) for trial in failed).items():
        yield "primo_study_failed_trials", (reason,), float(count)


def _rungs(study: Object, trials: Sequence[TrialRecord]) -> Iterator[Row]:
    """By the study's own rungs: a trial made by hand may have another fidelity."""
    given = study["spec"].get("fidelity")
    if not given:
        return
    sizes = {key: float(given[key]) for key in ("min", "max", "eta") if key in given}
    reached = [
        max(seen.fidelity or 0.0 for seen in trial.observations)
        for trial in trials
        if trial.observations
    ]
    for rung, fidelity in enumerate(ladder(Fidelity(given["name"], **sizes))):
        count = sum(value >= fidelity for value in reached)
        yield "primo_study_rung_trials", (str(rung), f"{fidelity:g}"), float(count)


def _observed(study: Object, trials: Sequence[TrialRecord]) -> Iterator[Row]:
    """When, and how many since the front has changed; that only while all of the front is known."""
    times = {t.number: t.observations[-1].observed_at for t in trials if t.observations}
    if times:
        # The operator writes all times in one form: they sort as text.
        yield "primo_study_last_observation_timestamp_seconds", (), epoch(max(times.values()))
    front = _front(study)
    if not front or len(front) < _number(_status(study).get("frontSize")):
        return
    newest = max((times[number] for number in front if number in times), default="")
    full = [trial.number for trial in trials if trial.phase is TrialPhase.COMPLETED]
    since = sum(times.get(number, "") > newest for number in full)
    yield "primo_study_trials_since_improvement", (), float(since)


def _of_trial(trial: TrialRecord) -> Iterator[Row]:
    yield "primo_trial_info", (trial.name, trial.run.job), 1.0
    yield "primo_trial_phase", (trial.phase.value,), 1.0
    if not trial.observations:
        return
    latest = trial.observations[-1]
    if latest.fidelity is not None:
        yield "primo_trial_fidelity", (), _number(latest.fidelity)
    for objective, value in latest.values.items():
        yield "primo_trial_objective_value", (objective,), _number(value)


def _front(study: Object) -> set[int]:
    return {entry["trial"] for entry in _status(study).get("front") or ()}


def _choices(study: Object) -> dict[str, list[str]]:
    return {
        parameter["name"]: list(parameter["categorical"]["choices"])
        for parameter in study["spec"].get("parameters") or ()
        if "categorical" in parameter
    }


def _status(obj: Object) -> Mapping[str, Any]:
    return obj.get("status") or {}


def _number(value: Any, default: float = 0.0) -> float:
    return float(value) if isinstance(value, int | float) else default
