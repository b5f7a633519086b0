"""What a study's status says of its results."""

import json
from typing import Any

import pytest

from primo_study.phases import TrialPhase
from primo_study.status import summarise
from primo_study.study import Seen, Study, TrialRecord
from primo_study.warm_start import Source
from support.builders import CREATED, ended, spec, study, trial

STAMP = "2027-01-15T09:00:00Z"
LIMITED = spec(constraints=[{"metric": "memory_gib", "atMost": 40}])


def done(number: int, error: float, cost: float, feasible: bool | None = None) -> TrialRecord:
    seen = Seen(9.0, {"error": error, "cost": cost}, STAMP, feasible=feasible)
    return trial(number, TrialPhase.COMPLETED, ended(2), observations=(seen,))


def status(found: Study) -> dict[str, Any]:
    return summarise(found, CREATED, STAMP, "labels")


def test_the_front_has_the_trade_offs_and_best_the_ends() -> None:
    found = status(study(done(0, 0.1, 5), done(1, 0.2, 3), done(2, 0.2, 6)))
    assert [entry["trial"] for entry in found["front"]] == [1, 0]
    assert found["frontSize"] == 2
    assert {name: best["trial"] for name, best in found["best"].items()} == {"error": 0, "cost": 1}
    assert "infeasible" not in found


def test_an_observation_that_lacks_an_objective_does_not_count() -> None:
    """Only somebody else can have written that; it must not end the pass."""
    faked = Seen(9.0, {"error": 0.01}, STAMP)
    odd = trial(1, TrialPhase.COMPLETED, ended(2), observations=(faked,))
    assert status(study(done(0, 0.1, 5), odd))["frontSize"] == 1
    target = [{"name": n, "goal": "Minimize", "metric": n, "target": 9} for n in ("error", "cost")]
    assert status(study(odd, spec=spec(objectives=target)))["phase"] != "Completed"


def test_who_breaks_a_constraint_is_not_on_the_front_nor_best_and_is_counted() -> None:
    trials = (done(0, 0.1, 5, True), done(1, 0.01, 0.1, False), done(2, 0.2, 3, True))
    found = status(study(*trials, spec=LIMITED))
    assert [entry["trial"] for entry in found["front"]] == [2, 0]
    assert found["best"]["cost"] == {"trial": 2, "value": 3}
    assert (found["frontSize"], found["infeasible"]) == (2, 1)
    assert found["trials"]["completed"] == 3
    without = status(study(trials[0], trials[2], spec=LIMITED))
    assert found["hypervolume"] == without["hypervolume"]


@pytest.mark.parametrize(
    ("preferences", "trial"),
    [
        ({"weights": {"error": 1, "cost": 1}}, 1),
        ({"weights": {"error": 1, "cost": 1}, "scalarization": "Linear"}, 0),
        ({"weights": {"error": 9, "cost": 1}}, 0),
        ({"weights": {"cost": 1}}, 2),
    ],
)
def test_the_preferred_trial_is_that_of_the_front_which_comes_closest(
    preferences: dict[str, Any], trial: int
) -> None:
    trials = (done(0, 0.1, 10), done(1, 0.16, 6), done(2, 0.2, 0), done(3, 0.3, 11))
    found = status(study(*trials, spec=spec(preferences=preferences)))
    assert found["preferred"]["trial"] == trial
    assert "preferred" not in status(study(*trials))


def test_if_nothing_is_feasible_there_is_no_front() -> None:
    found = status(study(done(0, 0.1, 5, False), spec=LIMITED))
    assert (found["frontSize"], found["infeasible"]) == (0, 1)
    assert not {"front", "best", "hypervolume"} & found.keys()


# --- priors

PRIORS = [
    {"objective": name, "parameters": [{"name": "lr", "center": 0.01}]}
    for name in ("error", "cost")
]


@pytest.mark.parametrize(
    ("known", "written", "starts"),
    [
        pytest.param([], {}, {"error": 0, "cost": 0}, id="from the first trial on"),
        pytest.param(
            [["error"], ["error"]], {}, {"error": 0, "cost": 2}, id="added after two trials"
        ),
        pytest.param(
            [["error"], ["error"], ["cost", "error"]],
            {},
            {"error": 0, "cost": 2},
            id="the operator died before it was written",
        ),
        pytest.param(
            [[], [], ["cost", "error"]],
            {"error": 1},
            {"error": 1, "cost": 2},
            id="what is written holds",
        ),
    ],
)
def test_since_when_a_prior_counts(
    known: list[list[str]], written: dict[str, int], starts: dict[str, int]
) -> None:
    trials = [trial(n, explanation={"priors": names}) for n, names in enumerate(known)]
    before = {"priors": [{"objective": o, "fromTrial": n} for o, n in written.items()]}
    found = status(study(*trials, spec=spec(priors=PRIORS), status=before))
    assert {p["objective"]: p["fromTrial"] for p in found["priors"]} == starts


def test_without_priors_nothing_is_said_of_them() -> None:
    assert "priors" not in status(study())


# --- warm start


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        pytest.param(
            [Source("a", "", "3 trials"), Source("b", "", "2 trials")],
            ("True", "ObservationsRead", "a: 3 trials; b: 2 trials"),
            id="all read",
        ),
        pytest.param(
            [Source("a", "", "3 trials"), Source("b", "StudyNotFound", "there is none")],
            ("False", "StudyNotFound", "a: 3 trials; b: there is none"),
            id="one is missing",
        ),
    ],
)
def test_what_could_be_learnt_from_is_a_condition(
    sources: list[Source], said: tuple[str, str, str]
) -> None:
    found = status(study(sources=tuple(sources)))
    (condition,) = (c for c in found["conditions"] if c["type"] == "WarmStarted")
    assert (condition["status"], condition["reason"], condition["message"]) == said


def test_without_a_warm_start_there_is_no_such_condition() -> None:
    assert not [c for c in status(study())["conditions"] if c["type"] == "WarmStarted"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([(1e200, 1e-200), (1e-200, 1e200)], id="their product overflows"),
        pytest.param([(1.7e308, 0.0), (0.0, 1.7e308)], id="so does the reference point"),
        pytest.param([(-1e308, 1e308), (1e308, -1e308)], id="and their range"),
        pytest.param([(1e200, 1e200)], id="there is one trial"),
    ],
)
@pytest.mark.parametrize("preferences", [None, {"weights": {"error": 1, "cost": 2}}])
def test_whatever_a_trial_reports_the_study_can_say_how_it_stands(
    values: list[tuple[float, float]], preferences: dict[str, Any] | None
) -> None:
    """Of a loss that explodes short of infinity the volume may be no number that JSON has."""
    trials = [done(number, error, cost) for number, (error, cost) in enumerate(values)]
    found = status(study(*trials, spec=spec(preferences=preferences)))
    json.dumps(found, allow_nan=False)
    assert found["frontSize"] == len(values)
    assert "hypervolume" not in found
    assert found["hypervolumeText"] in ("inf", "nan")
