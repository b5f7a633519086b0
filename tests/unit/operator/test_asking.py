"""The optimizer's process may die, hang or talk nonsense: the study goes on and says so."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primo_operator.asking import WorkerSuggester
from primo_operator.ports import Answer
from primo_operator.settings import Settings
from primo_operator.worker_process import LateError
from primo_optimizer import Observation, SpaceExhaustedError, Trial
from primo_study.phases import TrialPhase
from primo_study.study import Study, Trouble
from primo_study.warm_start import Source
from support import bad_worker
from support.builders import ended, of, run, seen, spec, study, trial
from support.virtual_time import run_in_virtual_time

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
    assert answer.degraded is None


def test_the_same_ask_gives_the_same_answer_in_another_process() -> None:
    found = study(spec=spec(algorithm={"name": "primo", "seed": 3}))
    assert ask(found) == ask(found)


def test_an_ask_that_takes_too_long_is_answered_anyway() -> None:
    answer = ask(study(spec=spec(algorithm=RANDOM)), timeout_s=0.001)
    assert answer.degraded
    assert "no suggestion within" in answer.degraded.message
    (suggestion,) = answer.suggestions
    assert suggestion.fidelity == 1.0
    assert "fallback" in suggestion.explanation


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
    assert (answer.degraded, answer.suggestions[0].trial) == (None, 0)
    assert answer.suggestions[0].explanation["stage"] == "Optimizing"


# --- a worker that misbehaves

BAD = (sys.executable, str(Path(bad_worker.__file__)))


def poisoned(seed: int, uid: str = "poisoned") -> Study:
    return replace(study(spec=spec(algorithm={**RANDOM, "seed": seed})), uid=uid)


def good(uid: str = "good") -> Study:
    return replace(study(spec=spec(algorithm=RANDOM)), uid=uid)


@pytest.mark.parametrize(
    ("seed", "reason", "words"),
    [
        (bad_worker.HANG, "OptimizerTimedOut", "no suggestion within 2 s"),
        (bad_worker.ALLOCATE, "OptimizerOutOfMemory", "more than 256 MiB were needed"),
        (bad_worker.DIE, "OptimizerDied", "signal 11"),
        (bad_worker.NONSENSE, "OptimizerMisanswered", "[1, 2"),
        (bad_worker.RAISE, "OptimizerFailed", "ZeroDivisionError: by nothing"),
    ],
)
def test_whatever_the_worker_does_there_is_an_answer_and_the_next_ask_heals(
    seed: int, reason: str, words: str
) -> None:
    async def asked() -> tuple[Answer, Answer]:
        suggester = WorkerSuggester(2.0 if seed == bad_worker.HANG else 240.0, 256, BAD)
        try:
            bad = await suggester.suggest(poisoned(seed, "one"), 2, 2)
            suggester._long._timeout_s = 240.0  # however slow the machine is
            return bad, await suggester.suggest(good("one"), 2, 2)
        finally:
            await suggester.close()

    bad, healed = asyncio.run(asked())
    assert bad.degraded
    assert bad.degraded.reason == reason
    assert words in bad.degraded.message
    (suggestion,) = bad.suggestions
    assert (suggestion.trial, suggestion.fidelity) == (0, 1.0)
    assert suggestion.explanation["fallback"] == bad.degraded.message[:200]
    assert healed.degraded is None
    assert [s.trial for s in healed.suggestions] == [0, 1]


def test_what_a_library_takes_when_it_is_loaded_is_not_the_suggestions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a torch with CUDA, which alone takes more than the limit."""
    monkeypatch.setenv("LIBRARY_MIB", "300")

    async def asked() -> list[Answer]:
        suggester = WorkerSuggester(240.0, 256, BAD)
        try:
            return [
                await suggester.suggest(found, 1, 1)
                for found in (good("one"), good("two"), poisoned(bad_worker.ALLOCATE))
            ]
        finally:
            await suggester.close()

    first, second, greedy = asyncio.run(asked())
    assert (first.degraded, second.degraded) == (None, None)
    assert greedy.degraded
    assert greedy.degraded.reason == "OptimizerOutOfMemory"


def test_a_worker_that_is_killed_while_it_thinks_is_replaced() -> None:
    async def asked() -> tuple[Answer, Answer]:
        suggester = WorkerSuggester(240.0, 256, BAD)
        asking = asyncio.create_task(suggester.suggest(poisoned(bad_worker.HANG, "one"), 1, 1))
        while (pid := suggester._short.worker.pid) is None:
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        bad = await asking
        healed = await suggester.suggest(good("one"), 1, 1)
        await suggester.close()
        return bad, healed

    bad, healed = asyncio.run(asked())
    assert bad.degraded == Trouble("OptimizerDied", "the worker died (signal 9)")
    assert healed.degraded is None


def test_the_models_fit_into_the_memory_that_is_given_by_default() -> None:
    objectives = [{"name": f"o{n}", "goal": "Minimize", "metric": f"o{n}"} for n in range(3)]
    parameters = [{"name": f"p{n}", "float": {"min": 0, "max": 1}} for n in range(6)]
    earlier = [
        Trial(
            n,
            {f"p{p}": (n * (p + 3) % 97) / 97 for p in range(6)},
            (Observation(9.0, {f"o{m}": (n * (m + 5) % 89) / 89 for m in range(3)}),),
        )
        for n in range(100)
    ]
    given = spec(objectives=objectives, parameters=parameters)
    found = study(spec=given, sources=(Source("other", "", "100 trials", tuple(earlier)),))

    async def asked() -> Answer:
        settings = Settings()
        suggester = WorkerSuggester(250.0, settings.suggestion_memory_mib)
        try:
            return await suggester.suggest(found, 1, 1)
        finally:
            await suggester.close()

    answer = asyncio.run(asked())
    assert answer.degraded is None
    assert answer.suggestions[0].explanation["stage"] == "Optimizing"


def test_with_no_room_for_a_new_trial_a_failed_ask_promotes_one_that_has_earned_it() -> None:
    three = [
        trial(n, TrialPhase.PAUSED, ended(), observations=(seen(1.0, error=0.1 * (n + 1)),))
        for n in range(3)
    ]
    found = study(*three, spec=spec(algorithm={**RANDOM, "seed": bad_worker.RAISE}))

    async def asked(found: Study) -> Answer:
        suggester = WorkerSuggester(60.0, 0, BAD)
        try:
            return await suggester.suggest(found, 1, 0)
        finally:
            await suggester.close()

    answer = asyncio.run(asked(found))
    (promoted,) = answer.suggestions
    assert answer.degraded
    assert (promoted.trial, promoted.fidelity, promoted.resume_from) == (0, 3.0, 1.0)
    assert asyncio.run(asked(replace(found, **of(found.trials[:1])))).suggestions == []


# --- turns


class SlowWorker:
    """In place of a worker process: how long an ask takes is its seed; by the loop's clock."""

    def __init__(self, log: list[str]) -> None:
        self.log, self.starts, self.pid = log, 0, None

    async def ask(self, question: bytes, timeout_s: float) -> dict[str, Any]:
        given = json.loads(question)
        self.log.append(str(given["seed"]))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(given["seed"])
        except TimeoutError:
            raise LateError(timeout_s) from None
        return {"suggestions": []}

    async def close(self) -> None:
        self.log.append("closed")


def turns(timeout_s: float = 120.0) -> tuple[WorkerSuggester, list[str], list[str]]:
    suggester, short, long = WorkerSuggester(timeout_s), [], []
    suggester._short.worker = SlowWorker(short)  # type: ignore[assignment]
    suggester._long.worker = SlowWorker(long)  # type: ignore[assignment]
    return suggester, short, long


def test_a_study_whose_asks_hang_holds_up_the_others_once_and_shortly() -> None:
    async def scenario() -> list[float]:
        suggester, _, _ = turns()
        loop, waits = asyncio.get_running_loop(), []

        async def hangs(uid: str) -> None:
            while True:
                await suggester.suggest(poisoned(100_000, uid), 1, 1)
                await asyncio.sleep(0.01)

        hanging = [asyncio.create_task(hangs(f"h{n}")) for n in range(3)]
        for _ in range(20):
            await asyncio.sleep(0.01)
            begin = loop.time()
            assert (await suggester.suggest(poisoned(1), 1, 1)).degraded is None
            waits.append(loop.time() - begin)
        for task in hanging:
            task.cancel()
        return waits

    waits = run_in_virtual_time(scenario())
    # Three studies were new to it, and had their 30 s each; never again.
    assert waits[0] == pytest.approx(91, abs=0.1)
    assert waits[1:] == [pytest.approx(1)] * 19


def test_a_study_whose_asks_always_hang_keeps_the_worker_for_long_asks_less_and_less() -> None:
    async def scenario() -> tuple[float, list[str]]:
        suggester, _, long = turns()
        loop = asyncio.get_running_loop()
        for _ in range(4 * 360):
            answer = await suggester.suggest(poisoned(100_000), 1, 1)
            assert answer.degraded
            assert answer.degraded.reason == "OptimizerTimedOut"
            assert answer.suggestions
            await asyncio.sleep(10)
        return loop.time(), [each for each in long if each != "closed"]

    took_s, asked = run_in_virtual_time(scenario())
    assert took_s >= 4 * 3600
    assert 120 * len(asked) < 0.15 * took_s


def test_an_ask_that_is_long_has_all_its_time_and_the_second_worker_ends_with_it() -> None:
    async def scenario() -> tuple[list[Any], list[str], list[str]]:
        suggester, short, long = turns()
        degraded = [
            (await suggester.suggest(poisoned(seed, "one"), 1, 1)).degraded
            for seed in (100, 90, 5, 4)
        ]
        return degraded, short, long

    degraded, short, long = run_in_virtual_time(scenario())
    assert degraded == [None] * 4
    assert short == ["100", "4"]
    assert long == ["100", "closed", "90", "closed", "5", "closed"]
