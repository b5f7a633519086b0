"""A study of ten thousand trials: its status is small, and a pass does not do n² work."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from primo_study.phases import Reason, TrialPhase
from primo_study.plan import decide
from primo_study.status import summarise
from primo_study.study import EndedJob, Seen, Study
from support.builders import CREATED, ended, run, seen, spec, study, trial
from support.counting import calls

STAMP = "2027-01-15T09:00:00Z"
PHASES = (TrialPhase.COMPLETED, TrialPhase.COMPLETED, TrialPhase.PAUSED, TrialPhase.FAILED)


def big(n: int, objectives: int = 2, letters: int = 8) -> Study:
    """Completed, paused and failed trials, ten that run, and all the Jobs there ever were."""
    rng = np.random.default_rng(n)
    names = [f"{chr(97 + k)}{'x' * (letters - 1)}" for k in range(objectives)]
    trials = []
    for number in range(n):
        values = dict(zip(names, rng.random(objectives).tolist(), strict=True))
        phase = PHASES[number % 4] if number < n - 10 else TrialPhase.RUNNING
        seen = (Seen(9.0, values, STAMP),) if phase is TrialPhase.COMPLETED else ()
        last = run() if phase is TrialPhase.RUNNING else ended(reason=_reason(phase))
        trials.append(trial(number, phase, last, observations=seen))
    given = [{"name": name, "goal": "Minimize", "metric": "m", "target": -1} for name in names]
    return study(
        *trials,
        spec=spec(
            objectives=given,
            budget={"trials": 100_000, "gpuHours": 1e6},
            parallelism=20,
            retention={"jobs": "Failed"},
        ),
        ended_jobs=tuple(EndedJob(f"job-{k}", completed=True, ttl_s=0) for k in range(n)),
    )


def _reason(phase: TrialPhase) -> str:
    return Reason.FAILED if phase is TrialPhase.FAILED else Reason.COMPLETED


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda s: decide(s, CREATED + 60), id="decide"),
        pytest.param(lambda s: summarise(s, CREATED + 60, STAMP, ""), id="summarise"),
    ],
)
def test_work_grows_with_the_number_of_trials_and_not_with_its_square(
    step: Callable[[Study], Any],
) -> None:
    small, large = big(500), big(5_000)
    few, many = calls(lambda: step(small)), calls(lambda: step(large))
    assert many < 12 * few


@pytest.mark.parametrize("objectives", [2, 3, 4, 8])
def test_so_it_does_where_every_trial_is_on_the_front(objectives: int) -> None:
    values = np.abs(np.random.default_rng(0).normal(size=(1_000, objectives)))
    values = 1 - values / np.linalg.norm(values, axis=1, keepdims=True)
    names = [f"o{k}" for k in range(objectives)]
    given = spec(objectives=[{"name": n, "goal": "Minimize", "metric": n} for n in names])
    trials = [
        trial(
            number,
            TrialPhase.COMPLETED,
            ended(),
            observations=(Seen(9.0, dict(zip(names, row, strict=True)), STAMP),),
        )
        for number, row in enumerate(values.tolist())
    ]

    def work(n: int) -> int:
        front = study(*trials[:n], spec=given)
        return calls(lambda: summarise(front, CREATED + 60, STAMP, ""))

    few, many = work(100), work(1_000)
    assert many < 12 * few


@pytest.mark.parametrize(("objectives", "letters"), [(2, 8), (8, 63)])
def test_the_status_of_ten_thousand_trials_is_small(objectives: int, letters: int) -> None:
    status = summarise(big(10_000, objectives, letters), CREATED + 60, STAMP, "")
    assert status["frontSize"] > 0
    assert len(json.dumps(status)) < 64 * 1024


def test_of_the_fronts_that_there_were_nothing_large_is_kept() -> None:
    """Each observation makes another one, and it may have as many points as there are trials."""
    trials = [
        trial(n, TrialPhase.COMPLETED, ended(2), observations=(seen(9.0, float(n), float(-n)),))
        for n in range(1_021)
    ]
    given = spec()

    def fronts() -> None:
        for size in range(1_000, 1_020):
            found = summarise(study(*trials[:size], spec=given), CREATED, STAMP, "")
            assert found["frontSize"] == size

    fronts()  # what is made once
    tracemalloc.start()
    try:
        del trials[0]  # all others
        fronts()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
