"""What may be learnt from another study."""

from typing import Any

import pytest

from primo_optimizer import Observation, Trial
from primo_study.warm_start import MAX_TRIALS, difference, read, together
from support.builders import spec

LR = {"name": "lr", "float": {"min": 0.001, "max": 0.1, "log": True}}
OPTIMIZER = {"name": "optimizer", "categorical": {"choices": ["adam", "sgd"]}}
MOMENTUM = {"name": "momentum", "float": {"min": 0, "max": 1}}
ERROR = {"name": "error", "goal": "Minimize", "metric": "val_error"}
COST = {"name": "cost", "goal": "Minimize", "metric": "kmacs"}
MEMORY = {"metric": "memory_gib", "atMost": 40}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="the same"),
        pytest.param({"objectives": [COST, {**ERROR, "reduce": "Last"}]}, id="order and defaults"),
        pytest.param({"objectives": [COST, {**ERROR, "target": 0.1}]}, id="a target"),
        pytest.param({"constraints": [MEMORY]}, id="it bounds more"),
        pytest.param({"budget": {"trials": 3}, "algorithm": {"name": "random"}}, id="the search"),
        pytest.param({"fidelity": {"name": "epochs", "min": 1, "max": 9, "eta": 2}}, id="eta"),
    ],
)
def test_what_makes_no_difference(changes: dict[str, Any]) -> None:
    assert difference(spec(), spec(**changes)) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "reason", "message"),
    [
        ({}, {"objectives": [ERROR]}, "DifferentObjectives", "objective 'cost' is not there"),
        (
            {},
            {"objectives": [COST, {**ERROR, "goal": "Maximize"}]},
            "DifferentObjectives",
            "objective 'error' is another one there",
        ),
        (
            {},
            {"objectives": [COST, {**ERROR, "metric": "test_error"}]},
            "DifferentObjectives",
            "objective 'error' is another one there",
        ),
        (
            {"objectives": [ERROR]},
            {},
            "DifferentObjectives",
            "objective 'cost' is there, and not here",
        ),
        (
            {"parameters": [LR, MOMENTUM]},
            {},
            "DifferentParameters",
            "parameter 'momentum' is not there",
        ),
        (
            {},
            {"parameters": [{**LR, "float": {"min": 0.001, "max": 1, "log": True}}]},
            "DifferentParameters",
            "parameter 'lr' is another one there",
        ),
        (
            {"parameters": [OPTIMIZER, {**MOMENTUM, "when": {"optimizer": ["sgd"]}}]},
            {"parameters": [OPTIMIZER, MOMENTUM]},
            "DifferentParameters",
            "the condition of 'momentum' is not there",
        ),
        ({}, {"fidelity": None}, "DifferentFidelity", "fidelity 'epochs' is not there"),
        (
            {},
            {"fidelity": {"name": "epochs", "min": 1, "max": 27}},
            "DifferentFidelity",
            "fidelity 'epochs' is another one there",
        ),
        (
            {"constraints": [MEMORY]},
            {},
            "DifferentConstraints",
            "constraint 'memory_gib' is not there",
        ),
    ],
)
def test_a_difference_is_named(
    ours: dict[str, Any], theirs: dict[str, Any], reason: str, message: str
) -> None:
    assert difference(spec(**ours), spec(**theirs)) == (reason, message)


def observed(number: int, fidelity: float = 9.0, **fields: Any) -> Trial:
    return Trial(number, {"lr": 0.01}, (Observation(fidelity, {"error": 0.1}),), **fields)


def test_what_was_observed_is_read_and_where_trainings_failed() -> None:
    trials = [observed(0), observed(1, failed="Diverged"), Trial(2, {"lr": 0.1}), observed(3, 1.0)]
    source = read("digits", trials)
    assert [trial.number for trial in source.trials] == [0, 3, 1]
    assert (source.reason, source.message) == ("", "2 trials and 1 that failed")
    assert read("digits", trials[1:3]).reason == "NoObservations"


def test_of_many_trials_those_that_were_trained_for_longest_are_read() -> None:
    trials = [observed(n, 9.0 if n % 2 else 1.0) for n in range(2 * MAX_TRIALS)]
    source = read("digits", trials)
    assert [trial.number for trial in source.trials] == list(range(1, 2 * MAX_TRIALS, 2))
    assert source.message == f"{MAX_TRIALS} of {2 * MAX_TRIALS} trials"
    failed = [Trial(n, {"lr": 0.1}, failed="Failed") for n in range(MAX_TRIALS + 1)]
    numbers = [trial.number for trial in read("digits", [observed(0), *failed]).trials]
    assert numbers == [0, *range(1, MAX_TRIALS + 1)]


def test_trials_of_other_studies_have_no_number_of_ours() -> None:
    first, second = read("a", [observed(0), observed(1)]), read("b", [observed(0)])
    assert [trial.number for trial in together([first, second])] == [-1, -2, -3]
