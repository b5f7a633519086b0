"""Trials of the user's own: which become trials, and what is said of the others."""

from dataclasses import replace
from typing import Any

import pytest

from primo_study.phases import TrialPhase
from primo_study.plan import Adopt, Ask, NoteRequest, RetryAsked, decide
from primo_study.requests import judge, mistakes
from primo_study.study import Request, Template, Waiting
from support.builders import CREATED, ended, seen, spec, study, trial
from support.hostile import nested

NOW = CREATED + 60
PHASE = TrialPhase
MINE = Request("mine", {"lr": 0.05})
DONE = trial(0, PHASE.COMPLETED, ended(2), observations=(seen(),))  # lr: 0.01


def request(name: str = "mine", lr: Any = 0.05, **fields: Any) -> Request:
    return Request(name, {"lr": lr}, **fields)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(request(lr=7), "spec.parameters.lr: 7", id="outside the range"),
        pytest.param(request(lr="big"), "spec.parameters.lr: 'big'", id="not a number"),
        pytest.param(Request("mine", {}), "spec.parameters.lr: is missing", id="left out"),
        pytest.param(
            Request("mine", {"lr": 0.05, "x": 1}), "spec.parameters.x: is not a", id="unknown"
        ),
        pytest.param(
            request(fidelity=27), "spec.fidelity: 27 is not between 1 and 9", id="fidelity"
        ),
        pytest.param(request(lr=0.01), "spec.parameters: trial 0 has the same", id="known"),
        pytest.param(request(lr=nested(5000)), "spec.parameters.lr: an object or a", id="deep"),
        pytest.param(
            Request("mine", {"lr": 0.05, "\x1b[2J": 1}),
            "spec.parameters.'\\x1b[2J': is not",
            id="red",
        ),
    ],
)
def test_a_mistake_is_named_and_harms_nobody(given: Request, words: str) -> None:
    found = study(DONE, requests=(given,))
    note, ask = decide(found, NOW).actions
    assert isinstance(note, NoteRequest)
    assert isinstance(ask, Ask)
    assert (note.phase, note.waiting.reason) == (PHASE.FAILED, "InvalidTrial")
    assert words in note.waiting.message
    told = request_said(given, note)
    assert [type(a) for a in decide(study(DONE, requests=(told,)), NOW).actions] == [Ask]


@pytest.mark.parametrize(
    ("lr", "numbers"), [(0.013, [3, 9]), (0.017, [7]), (0.016, [])], ids=["rest", "runs", "none"]
)
def test_all_trials_with_the_same_values_are_named(lr: float, numbers: list[int]) -> None:
    others = [replace(DONE, number=n, configuration={"lr": (10 + n) / 1000}) for n in range(6)]
    twin = replace(DONE, number=9, configuration={"lr": 0.013})
    found = study(*others, trial(7, PHASE.RUNNING), twin)
    said = [f"spec.parameters: trial {number} has the same" for number in numbers]
    assert mistakes(found, request(lr=lr)) == said


def request_said(given: Request, note: NoteRequest) -> Request:
    said = (note.phase.value, note.waiting.reason, note.waiting.message)
    return Request(given.name, given.configuration, given.fidelity, said)


def test_a_fidelity_where_there_is_none() -> None:
    verdict = judge(study(spec=spec(fidelity=None)), request(fidelity=3), None, 1)
    assert verdict.said
    assert "the study has no fidelity" in verdict.said[1].message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"spec": spec(suspend=True)}, "StudySuspended", id="suspended"),
        pytest.param({"template": Template(True, "quota")}, "TemplateRefused", id="template"),
        pytest.param({"spec": spec(budget={"duration": "1s"})}, "StudyEnded", id="ended"),
        pytest.param({"spec": spec(budget={"trials": 2})}, "BudgetExhausted", id="budget"),
        pytest.param({"spec": spec(parallelism=1)}, "NoFreeSlot", id="no slot"),
    ],
)
def test_it_waits_and_says_for_what(fields: dict[str, Any], reason: str) -> None:
    found = study(DONE, trial(1), requests=(MINE,), **fields)
    (note,) = (a for a in decide(found, NOW).actions if isinstance(a, NoteRequest))
    assert (note.phase, note.waiting.reason) == (PHASE.QUEUED, reason)
    again = study(DONE, trial(1), requests=(request_said(MINE, note),), **fields)
    assert not any(isinstance(a, NoteRequest | Adopt) for a in decide(again, NOW).actions)


@pytest.mark.parametrize(
    ("given", "fidelity"),
    [
        pytest.param(MINE, 9.0, id="at full fidelity"),
        pytest.param(request(fidelity=3.0), 3.0, id="or at the one that is given"),
        pytest.param(request(lr=0.1), 9.0, id="at a bound"),
    ],
)
def test_it_is_adopted_before_anything_is_asked_for(given: Request, fidelity: float) -> None:
    assert decide(study(DONE, requests=(given,)), NOW).actions == (Adopt(given, fidelity),)


def test_one_after_the_other() -> None:
    first, second = request("a"), request("b")
    actions = decide(study(DONE, requests=(first, second)), NOW).actions
    assert actions == (Adopt(first, 9.0),)


def test_a_retry_comes_first() -> None:
    failed = trial(0, PHASE.FAILED, ended(reason="Failed"), retry="1")
    found = study(failed, requests=(MINE,), spec=spec(parallelism=1))
    assert [type(a) for a in decide(found, NOW).actions] == [RetryAsked, NoteRequest]


def test_one_that_has_been_corrected_says_so_first() -> None:
    corrected = request(said=("Failed", "InvalidTrial", "m"))
    (note, _) = decide(study(DONE, requests=(corrected,)), NOW).actions
    assert isinstance(note, NoteRequest)
    assert (note.phase, note.waiting.reason) == (PHASE.QUEUED, "Accepted")


def test_one_that_the_api_server_refuses_does_not_hold_up_the_others() -> None:
    why = Waiting("CreateRefused", "no", endless=False)
    refused = request(refusal=why, said=("Queued", "CreateRefused", "no"))
    actions = decide(study(DONE, requests=(refused, request("b", 0.06))), NOW).actions
    assert [type(a) for a in actions] == [Adopt, Adopt]
    assert [type(a) for a in decide(study(DONE, requests=(refused,)), NOW).actions] == [Adopt, Ask]
