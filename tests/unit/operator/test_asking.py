"""The optimizer's process may die, hang or talk nonsense: the study goes on and says so."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from primo_operator.asking import WorkerSuggester
from primo_operator.ports import Answer
from primo_optimizer import Observation, SpaceExhaustedError, Trial
from primo_study.phases import TrialPhase
from primo_study.study import Study
from primo_study.warm_start import Source
from support.builders import ended, run, seen, spec, study, trial

RANDOM = {"name": "random"}


def ask(found: Study, *, timeout_s: float = 60.0, count: int = 2, new: int = 2) -> Answer:
    async def asked() -> Answer:
        suggester = WorkerSuggester(timeout_s)
        try:
            return await suggester.suggest(found, count, new)
        finally:
            await suggester.close()

    return asyncio.run(asked())


def test_the_worker_suggests_what_the_optimizer_would() -> None:
    answer = ask(study(spec=spec(algorithm=RANDOM)))
    assert [s.trial for s in answer.suggestions] == [0, 1]
    assert answer.degraded == ""


def test_the_same_ask_gives_the_same_answer_in_another_process() -> None:
    found = study(spec=spec(algorithm={"name": "primo", "seed": 3}))
    assert ask(found) == ask(found)


def test_an_ask_that_takes_too_long_is_answered_anyway() -> None:
    answer = ask(study(spec=spec(algorithm=RANDOM)), timeout_s=0.001)
    assert "no suggestion within" in answer.degraded
    (suggestion,) = answer.suggestions
    assert suggestion.fidelity == 1.0
    assert "fallback" in suggestion.explanation


def test_a_killed_worker_is_replaced_at_the_next_ask() -> None:
    async def asked() -> tuple[Answer, Answer]:
        suggester = WorkerSuggester(60.0)
        found = study(spec=spec(algorithm=RANDOM))
        await suggester.suggest(found, 1, 1)
        assert suggester._process
        os.kill(suggester._process.pid, signal.SIGKILL)
        degraded = await suggester.suggest(found, 1, 1)
        healed = await suggester.suggest(found, 1, 1)
        await suggester.close()
        return degraded, healed

    degraded, healed = asyncio.run(asked())
    assert len(degraded.suggestions) == 1
    assert healed.degraded == ""


def test_a_used_up_space_is_said_to_be_so() -> None:
    parameters = [{"name": "lr", "categorical": {"choices": ["0.01", "b"]}}]
    done = trial(0, TrialPhase.COMPLETED, ended(), observations=(seen(),))
    both = [
        replace(done, number=number, configuration={"lr": choice})
        for number, choice in enumerate(("0.01", "b"))
    ]
    with pytest.raises(SpaceExhaustedError):
        ask(study(*both, spec=spec(parameters=parameters, algorithm=RANDOM)))


def test_the_worker_is_told_from_which_trial_a_prior_counts() -> None:
    priors = [{"objective": "error", "parameters": [{"name": "lr", "center": 0.01}]}]
    given = spec(priors=priors, algorithm={"name": "primo"}, fidelity=None)
    running = trial(0, TrialPhase.RUNNING, run(fidelity=None), explanation={})
    found = study(running, spec=given)
    assert ask(found).suggestions[0].explanation["origin"] == "PriorCenter"
    later = {"priors": [{"objective": "error", "fromTrial": 7}]}
    assert ask(replace(found, status=later)).suggestions[0].explanation["origin"] == "Uniform"


def test_the_worker_learns_from_the_sources_of_a_warm_start() -> None:
    earlier = [
        Trial(n, {"lr": 0.002 * (n + 1)}, (Observation(9.0, {"error": 0.1 * n, "cost": 9.0 - n}),))
        for n in range(6)
    ]
    source = Source("other", "", "6 trials", tuple(earlier))
    answer = ask(study(spec=spec(), sources=(source,)), count=1, new=1)
    assert (answer.degraded, answer.suggestions[0].trial) == ("", 0)
    assert answer.suggestions[0].explanation["stage"] == "Optimizing"
