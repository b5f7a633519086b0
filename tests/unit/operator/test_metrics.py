"""What a scrape of the operator shows: as the objects say, bounded, and gone with the study."""

import asyncio
import os
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from primo_operator.asking import WorkerSuggester
from primo_operator.cluster import ClusterError
from primo_operator.metrics import (
    OperatorMetrics,
    StateCollector,
    TimedSuggester,
    serve,
)
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.ports import Answer
from primo_operator.queue import StudyQueue
from primo_operator.settings import Settings
from primo_operator.study_metrics import StudyCollector
from primo_optimizer import SpaceExhaustedError
from primo_study.study import Trouble
from support.builders import CREATED, spec_dict
from support.builders import study as a_study

KEY = Key("team", "digits")
PARAMETERS = [
    {"name": "lr", "float": {"min": 0.001, "max": 0.1}},
    {"name": "activation", "categorical": {"choices": ["relu", "gelu"]}},
]
STATUS = {
    "phase": "Optimizing",
    "conditions": [
        {"type": "Degraded", "status": "True", "reason": "OptimizerFailed"},
        {"type": "Completed", "status": "False", "reason": "NotEnded"},
    ],
    "trials": {"total": 3, "completed": 2, "running": 1},
    "running": 1,
    "front": [{"trial": 1, "values": {"error": 0.1}}],
    "frontSize": 1,
    "hypervolume": 0.5,
    "best": {"error": {"trial": 1, "value": 0.1}},
    "referencePoint": {"error": 1.0},
    "budgetUsed": {"trials": 3, "fullEvaluations": 1.5},
    "optimizer": {"stage": "Optimizing"},
}


def study(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "team",
            "name": "digits",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2027-01-15T08:00:00Z",
        },
        "spec": spec_dict(parameters=PARAMETERS),
        "status": {**STATUS, **status},
    }


def trial(number: int, phase: str = "Completed", error: float | None = 0.1) -> dict[str, Any]:
    seen = {
        "fidelity": 9,
        "values": {"error": error},
        "observedAt": f"2027-01-15T09:00:{number:02}Z",
    }
    observations = [seen] if error is not None else []
    return {
        "metadata": {
            "namespace": "team",
            "name": f"digits-{number}",
            "uid": f"t{number}",
            "resourceVersion": "1",
            "ownerReferences": [{"uid": "u", "kind": "PriMOStudy", "name": "digits"}],
        },
        "spec": {
            "study": "digits",
            "number": number,
            "parameters": {"lr": 0.01 * (number + 1), "activation": "gelu"},
            "suggestion": {"priorTrust": {"error": number / 10}},
        },
        "status": {
            "phase": phase,
            "fidelity": 9,
            "observations": observations,
            "runs": [{"job": f"digits-u-{number}-r0-a0", "rung": 0, "attempt": 0}],
        },
    }


def mirror(*trials: dict[str, Any], **status: Any) -> Mirror:
    found = Mirror()
    found.absorb(Kind.STUDY, study(**status))
    for each in trials:
        found.absorb(Kind.TRIAL, each)
    return found


def samples(registry: CollectorRegistry | StudyCollector) -> dict[tuple[str, ...], float]:
    """Name and label values -> value; namespace and study left out."""
    return {
        (s.name, *(v for k, v in s.labels.items() if k not in ("namespace", "study"))): s.value
        for family in registry.collect()
        for s in family.samples
    }


def shown(found: Mirror, now: float = CREATED, **settings: Any) -> dict[tuple[str, ...], float]:
    return samples(StudyCollector(found, Settings(**settings), lambda: now))


def test_a_study_and_its_trials() -> None:
    found = shown(mirror(trial(0, error=0.2), trial(1), trial(2, "Running", None)))
    assert found["primo_study_info", "primo"] == 1
    assert found["primo_study_created_timestamp_seconds",] == CREATED
    assert found["primo_study_phase", "Optimizing"] == 1
    assert found["primo_study_phase", "Failed"] == 0
    assert found["primo_study_condition", "Degraded", "OptimizerFailed"] == 1
    assert found["primo_study_condition", "Completed", "NotEnded"] == 0
    assert found["primo_study_stage", "Optimizing"] == 1
    assert found["primo_study_trials", "Completed"] == 2
    assert found["primo_study_trials", "Failed"] == 0
    assert found["primo_study_rung_trials", "0", "1"] == 2
    assert found["primo_study_rung_trials", "2", "9"] == 2
    assert found["primo_study_unfinished_runs",] == 1
    assert found["primo_study_parallelism",] == 2
    assert found["primo_study_front_size",] == 1
    assert found["primo_study_hypervolume",] == 0.5
    assert found["primo_study_best_value", "error", "Minimize"] == 0.1
    assert found["primo_study_reference_point", "error"] == 1.0
    assert found["primo_study_prior_trust", "error"] == pytest.approx(0.2), "of the latest"
    assert found["primo_study_budget_limit", "trials"] == 10
    assert found["primo_study_budget_used", "trials"] == 3
    assert found["primo_study_budget_used", "full_evaluations"] == 1.5
    assert found["primo_study_choice_info", "activation", "1", "gelu"] == 1
    assert found["primo_trial_info", "0", "digits-0", "digits-u-0-r0-a0"] == 1
    assert found["primo_trial_phase", "2", "Running"] == 1
    assert found["primo_trial_objective_value", "0", "error"] == 0.2
    assert found["primo_trial_fidelity", "0"] == 9
    assert found["primo_trial_pareto_optimal", "0"] == 0
    assert found["primo_trial_pareto_optimal", "1"] == 1
    assert found["primo_trial_parameter", "1", "lr"] == pytest.approx(0.02)
    assert found["primo_trial_parameter", "1", "activation"] == 1
    assert ("primo_trial_objective_value", "2", "error") not in found


SINCE = "primo_study_trials_since_improvement"


def test_the_trials_since_the_front_has_changed_are_counted() -> None:
    """Those at full fidelity: what is paused had no chance to change it."""
    trials = trial(0), trial(1), trial(2, "Paused"), trial(3), trial(4), trial(5, "Running", None)
    assert shown(mirror(*trials))[SINCE,] == 2, "those after 1, the front"
    assert shown(mirror(*trials[:2]))[SINCE,] == 0
    assert (SINCE,) not in shown(mirror(*trials, frontSize=51)), "the newest may be left out"
    assert (SINCE,) not in shown(mirror(*trials, front=[], frontSize=0))


def test_when_a_study_was_observed_last_and_when_it_ended() -> None:
    observed = "primo_study_last_observation_timestamp_seconds"
    ended = "primo_study_completion_timestamp_seconds"
    found = shown(mirror(trial(1), trial(0), trial(2, "Running", None)))
    assert found[observed,] == CREATED + 3601
    assert (ended,) not in found
    assert (observed,) not in shown(mirror(trial(2, "Running", None)))
    assert shown(mirror(completionTime="2027-01-15T08:00:05Z"))[ended,] == CREATED + 5


def test_a_study_that_nobody_has_looked_at_yet() -> None:
    found = Mirror()
    found.absorb(Kind.STUDY, {**study(), "status": {}})
    assert shown(found)["primo_study_phase", "Pending"] == 1


def numbers(found: dict[tuple[str, ...], float]) -> set[str]:
    return {labels[0] for name, *labels in found if name.startswith("primo_trial_")}


def test_series_are_bounded() -> None:
    """The front, what runs, then the latest."""
    found = mirror(*(trial(n) for n in range(50)), trial(50, "Running"), trial(51))
    few = shown(found, metrics_trials=4, metrics_parameters=1)
    assert numbers(few) == {"1", "50", "51", "49"}
    assert few["primo_study_trials_shown",] == 4
    assert {labels[-1] for labels in few if labels[0] == "primo_trial_parameter"} == {"activation"}
    assert numbers(shown(found, metrics_trials=0)) == set()
    assert {labels[1] for labels in few if labels[0] == "primo_study_choice_info"} == {"activation"}
    none = shown(found, metrics_parameters=0)
    assert not any(labels[0] == "primo_study_choice_info" for labels in none)


def test_of_a_front_that_is_cut_off_only_what_is_known_is_said() -> None:
    found = shown(mirror(trial(0), trial(1), frontSize=51))
    assert found["primo_trial_pareto_optimal", "1"] == 1
    assert ("primo_trial_pareto_optimal", "0") not in found


def test_trials_of_a_study_that_ended_long_ago_are_not_shown() -> None:
    over = mirror(trial(0), trial(1), completionTime="2027-01-15T08:00:00Z")
    assert numbers(shown(over, CREATED + 60, metrics_keep_s=60)) == {"0", "1"}
    later = shown(over, CREATED + 61, metrics_keep_s=60)
    assert numbers(later) == set()
    assert later["primo_study_hypervolume",] == 0.5


def test_failures_are_counted_by_reason() -> None:
    failed = [trial(n, "Failed", None) for n in range(3)]
    for each, reason in zip(failed, ("Diverged", "OutOfMemory", "Diverged"), strict=True):
        each["status"]["reason"] = reason
    found = shown(mirror(*failed, trial(3)))
    assert found["primo_study_failed_trials", "Diverged"] == 2
    assert found["primo_study_failed_trials", "OutOfMemory"] == 1
    assert ("primo_study_failed_trials", "Completed") not in found


def test_a_rung_counts_who_has_reached_it() -> None:
    """Not by the fidelity observed: a trial made by hand may have any."""
    trials = [trial(n) for n in range(4)]
    for each, fidelity in zip(trials, (1, 3, 5, 9), strict=True):
        each["status"]["observations"][0]["fidelity"] = fidelity
    found = shown(mirror(*trials, trial(4, "Running", None)), metrics_trials=1)
    rungs = {key[1:]: v for key, v in found.items() if key[0] == "primo_study_rung_trials"}
    assert rungs == {("0", "1"): 4, ("1", "3"): 3, ("2", "9"): 1}


def test_the_series_of_a_deleted_study_vanish() -> None:
    found = mirror(trial(0))
    found.absorb(Kind.STUDY, study(), deleted=True)
    assert shown(found) == {}


def test_a_study_that_makes_no_sense_hides_no_other() -> None:
    found = mirror(trial(0))
    odd = study()
    odd["metadata"] |= {"name": "odd", "uid": "o"}
    odd["spec"] = {"fidelity": {"name": "epoch", "min": "many"}, "parameters": 7}
    found.absorb(Kind.STUDY, odd)
    assert shown(found) == shown(mirror(trial(0)))


def test_trials_of_an_earlier_study_of_this_name_are_not_shown() -> None:
    stranger = trial(7)
    stranger["metadata"]["ownerReferences"][0]["uid"] = "another"
    assert numbers(shown(mirror(trial(0), stranger))) == {"0"}


def test_names_and_labels_keep_to_the_conventions() -> None:
    for family in StudyCollector(mirror(trial(0)), Settings(), lambda: CREATED).collect():
        assert re.fullmatch(r"primo_(study|trial)_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert list(sample.labels)[:2] == ["namespace", "study"]
            assert {"step", "seed", "value", "job", "instance"}.isdisjoint(sample.labels)


# --- the operator itself


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/apis/batch/v1/namespaces/n/jobs", ("list", "jobs")),
        ("GET", "/apis/batch/v1/namespaces/n/jobs/j", ("get", "jobs")),
        ("POST", "/api/v1/namespaces/n/events", ("create", "events")),
        ("DELETE", "/apis/batch/v1/namespaces/n/jobs/j", ("delete", "jobs")),
        (
            "PATCH",
            "/apis/primo.dev/v1alpha1/namespaces/n/primotrials/t/status",
            ("patch", "primotrials/status"),
        ),
        ("GET", "/version", ("list", "other")),
        ("PUT", "/apis/x/namespaces/n/secrets/s", ("other", "other")),
    ],
)
def test_calls_are_counted_by_verb_and_resource(
    method: str, path: str, labels: tuple[str, str]
) -> None:
    told = OperatorMetrics()
    for code in (200, None, 409, 200):
        told.count_request(method, path, code)
    found = samples(told.registry)
    assert found["primo_api_requests_total", *labels, "200"] == 2
    assert found["primo_api_requests_total", *labels, "409"] == 1
    assert found["primo_api_requests_total", *labels, "Error"] == 1


def test_passes_are_measured_whatever_comes_of_them() -> None:
    told = OperatorMetrics()
    ends: Iterator[Any] = iter([5.0, ClusterError("x"), ValueError("y")])

    async def run_pass(_: Key) -> float | None:
        end = next(ends)
        if isinstance(end, Exception):
            raise end
        return float(end)

    measured = told.timed(run_pass)
    for result in ("Done", "ClusterError", "Failed"):
        assert samples(told.registry)["primo_pass_duration_seconds_count", result] == 0
    assert asyncio.run(measured(KEY)) == 5.0
    for error in (ClusterError, ValueError):
        with pytest.raises(error):
            asyncio.run(measured(KEY))
    found = samples(told.registry)
    for result in ("Done", "ClusterError", "Failed"):
        assert found["primo_pass_duration_seconds_count", result] == 1


async def no_pass(_: Key) -> float | None:
    return None


class Scripted:
    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = iter(answers)

    async def suggest(self, *_: Any) -> Answer:
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_asks_are_measured_and_forgotten_with_their_study() -> None:
    told = OperatorMetrics()
    assert samples(told.registry)["primo_asks_total", "Fallback"] == 0, "before the first"
    answers = (
        Answer(()),
        Answer((), Trouble("OptimizerTimedOut", "late")),
        SpaceExhaustedError("x"),
    )
    suggester = TimedSuggester(Scripted(*answers), told)
    for answer in answers:
        if isinstance(answer, Answer):
            assert asyncio.run(suggester.suggest(a_study(), 1, 1)) is answer
        else:
            with pytest.raises(SpaceExhaustedError):
                asyncio.run(suggester.suggest(a_study(), 1, 1))
    told.keep([KEY, Key("team", "other")])
    found = samples(told.registry)
    for result in ("Done", "Fallback", "Exhausted"):
        assert found["primo_suggestion_duration_seconds_count", result] == 1
        assert found["primo_asks_total", result] == 1
    told.keep([])
    assert not any("suggestion" in name for name, *_ in samples(told.registry))


def test_asks_of_studies_that_come_and_go_take_no_more_memory_though_nobody_scrapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("primo_operator.metrics.MAX_SUGGESTED", 3)
    told = OperatorMetrics()
    for n in range(9):
        told.suggested(Key("team", f"study-{n}"), "Done", 0.1)
    counted = {
        sample.labels["study"] for family in told.suggestions.collect() for sample in family.samples
    }
    assert counted == {"study-6", "study-7", "study-8"}


def test_the_first_start_of_the_optimizers_process_is_no_restart() -> None:
    worker, queue = WorkerSuggester(1.0), StudyQueue(OperatorMetrics().timed(no_pass), 1)
    registry = CollectorRegistry()
    registry.register(StateCollector(queue, worker, lambda: True))
    for starts, restarts in ((0, 0), (1, 0), (3, 2)):
        worker._short.worker.starts = starts
        assert samples(registry)["primo_worker_restarts_total",] == restarts


def test_who_waits_for_the_lead_says_so() -> None:
    queue = StudyQueue(OperatorMetrics().timed(no_pass), 1)
    lead = [False]
    registry = CollectorRegistry()
    registry.register(StateCollector(queue, WorkerSuggester(1.0), lambda: lead[0]))
    assert samples(registry)["primo_leader",] == 0
    lead[0] = True
    assert samples(registry)["primo_leader",] == 1


class Working(WorkerSuggester):
    """Whose process is this one."""

    pid = os.getpid()


def test_the_optimizers_process_is_shown_while_there_is_one() -> None:
    for worker, there in ((WorkerSuggester(1.0), False), (Working(1.0), True)):
        queue = StudyQueue(OperatorMetrics().timed(no_pass), 1)
        registry = CollectorRegistry()
        registry.register(StateCollector(queue, worker, lambda: True))
        found = samples(registry).get(("primo_worker_process_resident_memory_bytes",), 0)
        assert (found > 1e6) == there


def test_the_guide_names_what_there_is() -> None:
    failed = trial(1, "Failed", None)
    failed["status"]["reason"] = "Diverged"
    told, found = OperatorMetrics(), mirror(trial(0), failed, infeasible=0)
    queue = StudyQueue(told.timed(no_pass), 1)
    told.registry.register(StateCollector(queue, Working(1.0), lambda: True))
    told.registry.register(StudyCollector(found, Settings(), lambda: CREATED))
    there = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in told.registry.collect()
        if family.name.startswith("primo_")
    }
    guide = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"primo_[a-z_]+[a-z]", guide)) == there
    for variable in re.findall(r"PRIMO_[A-Z_]+", guide):
        assert variable.removeprefix("PRIMO_").lower() in {f.name for f in fields(Settings)}


def test_it_is_served() -> None:
    async def scenario() -> str:
        told, found = OperatorMetrics(), mirror(trial(0))
        settings = Settings(operator_metrics_address="127.0.0.1", operator_metrics_port=0)
        queue = StudyQueue(told.timed(no_pass), 1)
        told.registry.register(StateCollector(queue, WorkerSuggester(1.0), lambda: True))
        told.registry.register(StudyCollector(found, settings, lambda: CREATED))
        runner = await serve(told, settings, found)
        url = "http://{}:{}/metrics".format(*runner.addresses[0][:2])
        try:
            return await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        finally:
            await runner.cleanup()

    found = {family.name for family in text_string_to_metric_families(asyncio.run(scenario()))}
    assert {"primo_queue_depth", "primo_worker_restarts", "primo_study_phase"} <= found
