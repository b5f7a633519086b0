"""The worker is told of a trial once, and knows of a study what the operator knows."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from primo_operator import told
from primo_operator.asking import _question
from primo_operator.told import Notebook
from primo_operator.worker import Histories, _learn
from primo_optimizer import Trial
from primo_study.phases import TrialPhase
from primo_study.study import Study, TrialRecord
from support.builders import ended, seen, spec, study, trial

RANDOM = spec(algorithm={"name": "random"})


def done(number: int, error: float = 0.1) -> TrialRecord:
    return trial(number, TrialPhase.COMPLETED, ended(), observations=(seen(error),))


def of(trials: dict[int, TrialRecord], uid: str = "u") -> Study:
    return replace(study(*(trials[n] for n in sorted(trials)), spec=RANDOM), uid=uid)


def question(notebook: Notebook, found: Study) -> dict[str, Any]:
    return _question(found, notebook.of(found), notebook.forget(), 1, 1)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["observe", "delete", "ask", "fail"]),
            st.integers(0, 5),
            st.sampled_from(["u", "v"]),
        ),
        max_size=30,
    )
)
def test_what_the_worker_knows_is_what_it_would_know_if_told_everything(
    steps: list[tuple[str, int, str]],
) -> None:
    notebook, histories = Notebook(), Histories()
    studies: dict[str, dict[int, TrialRecord]] = {"u": {}, "v": {}}
    for k, (step, number, uid) in enumerate(steps):
        trials = studies[uid]
        match step:
            case "observe":
                trials[number] = done(number, 0.01 * k)
            case "delete":
                trials.pop(number, None)
            case "fail":
                notebook.drop(uid)
            case "ask":
                known = _learn(question(notebook, of(trials, uid)), histories)
                assert known == {
                    n: Trial.from_dict(t.as_trial().to_dict()) for n, t in trials.items()
                }


def test_an_ask_after_ten_thousand_trials_tells_one() -> None:
    notebook = Notebook()
    trials = {number: done(number) for number in range(10_000)}
    assert len(question(notebook, of(trials))["trials"]) == 10_000
    trials[10_000] = done(10_000)
    assert [t["number"] for t in question(notebook, of(trials))["trials"]] == [10_000]


def test_studies_that_nobody_asks_about_are_forgotten(monkeypatch: Any) -> None:
    monkeypatch.setattr(told, "REMEMBERED", 10)
    notebook = Notebook()
    for uid in "abc":
        known = notebook.of(of({}, uid))
        known.update(of({n: done(n) for n in range(4)}, uid))
    assert notebook.forget() == ["a"]
    assert notebook.forget() == []
    assert not notebook.of(of({}, "a")).trials
