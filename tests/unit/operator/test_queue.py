"""Passes run one at a time for each study, and one study's failure is its own."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from primo_operator.cluster import ClusterError
from primo_operator.mirror import Key
from primo_operator.queue import StudyQueue
from support.virtual_time import run_in_virtual_time

A, B = Key("n", "a"), Key("n", "b")


def test_a_study_is_never_in_two_passes_and_a_mark_meanwhile_is_not_lost() -> None:
    async def scenario() -> tuple[int, int]:
        busy, most, passes = 0, 0, 0
        release, again = asyncio.Event(), asyncio.Event()

        async def run_pass(_: Key) -> None:
            nonlocal busy, most, passes
            busy, passes = busy + 1, passes + 1
            most = max(most, busy)
            if passes == 2:
                again.set()
            await release.wait()
            busy -= 1

        queue = StudyQueue(run_pass, workers=3)
        working = asyncio.create_task(queue.run())
        queue.mark(A, 0)
        while not passes:
            await asyncio.sleep(0)
        queue.mark(A, 0)
        await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(again.wait(), 30)
        working.cancel()
        return most, passes

    most, passes = asyncio.run(scenario())
    assert most == 1
    assert passes == 2


def test_a_study_whose_pass_fails_does_not_hold_up_the_others() -> None:
    async def scenario() -> Counter[Key]:
        seen: Counter[Key] = Counter()
        done = asyncio.Event()

        async def run_pass(key: Key) -> float | None:
            seen[key] += 1
            if key == A:
                raise RuntimeError("a bug")
            if seen[B] == 3:
                done.set()
            return 0.0

        queue = StudyQueue(run_pass, workers=1)
        working = asyncio.create_task(queue.run())
        queue.mark(A, 0)
        queue.mark(B, 0)
        await asyncio.wait_for(done.wait(), 30)
        working.cancel()
        return seen

    seen = asyncio.run(scenario())
    # How often beyond that depends on the machine.
    assert seen[B] >= 3
    assert seen[A] >= 1


def test_a_pass_that_waits_for_the_optimizer_takes_no_others_place() -> None:
    async def scenario() -> list[tuple[float, Key]]:
        began: list[tuple[float, Key]] = []
        loop = asyncio.get_running_loop()

        async def run_pass(key: Key) -> float | None:
            began.append((round(loop.time()), key))
            if key == A:
                async with queue.aside():
                    await asyncio.sleep(100)
            return 10.0

        queue = StudyQueue(run_pass, workers=1)
        working = asyncio.create_task(queue.run())
        queue.mark(A, 0)
        queue.mark(B, 1)
        await asyncio.sleep(95)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return began

    assert run_in_virtual_time(scenario()) == [(0, A), *((1 + 10 * n, B) for n in range(10))]


def test_more_studies_than_workers_wait_for_their_turn() -> None:
    async def scenario() -> int:
        busy = most = 0

        async def run_pass(key: Key) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(1)
            busy -= 1

        queue = StudyQueue(run_pass, workers=3)
        working = asyncio.create_task(queue.run())
        for n in range(20):
            queue.mark(Key("n", str(n)), 0)
        await asyncio.sleep(10)
        working.cancel()
        assert queue.passes == 20
        return most

    assert run_in_virtual_time(scenario()) == 3


def test_a_study_that_is_edited_without_end_takes_one_turn_in_two() -> None:
    async def scenario() -> list[float]:
        loop, marked, waits = asyncio.get_running_loop(), 0.0, []
        done = asyncio.Event()

        async def run_pass(key: Key) -> None:
            if key == B:
                waits.append(loop.time() - marked)
                done.set()
            await asyncio.sleep(0.5)

        async def edits() -> None:
            while True:
                queue.mark(A, 0)
                await asyncio.sleep(0.001)

        queue = StudyQueue(run_pass, workers=1)
        tasks = [asyncio.create_task(queue.run()), asyncio.create_task(edits())]
        for _ in range(20):
            await asyncio.sleep(3.3)
            done.clear()
            marked = loop.time()
            queue.mark(B, 0)
            await done.wait()
        for task in tasks:
            task.cancel()
        return waits

    assert max(run_in_virtual_time(scenario())) <= 0.6


def test_a_pass_that_fails_is_not_brought_forward_by_each_event() -> None:
    """As one that writes something before it fails: each of its events is a reason for another."""

    async def scenario() -> tuple[list[float], int]:
        began: list[float] = []
        told: list[Exception] = []
        loop = asyncio.get_running_loop()

        async def run_pass(key: Key) -> None:
            began.append(loop.time())
            if loop.time() < 600:
                queue.mark(key)
                raise RuntimeError("a bug")

        async def tell(_: Key, error: Exception) -> None:
            told.append(error)
            raise ValueError("a bug there, too")

        queue = StudyQueue(run_pass, workers=1, tell=tell)
        working = asyncio.create_task(queue.run())
        queue.mark(A, 0)
        for _ in range(6000):
            queue.mark(A)
            await asyncio.sleep(0.1)
        fails = list(began), len(told)
        await asyncio.sleep(30)
        queue.mark(A, 0)
        await asyncio.sleep(0.5)
        # The cure works at the first try after it, and from then on nothing is held back.
        assert began[-1] == pytest.approx(630, abs=0.1)
        working.cancel()
        return fails

    began, told = run_in_virtual_time(scenario())
    pauses = [after - before for before, after in pairwise(began)]
    assert pauses[:4] == [pytest.approx(s, abs=0.1) for s in (1, 2, 4, 8)]
    assert all(pause == pytest.approx(15, abs=0.1) for pause in pauses[4:])
    assert told == len(began)


def test_a_failure_that_lasts_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> int:
        tries = 0

        async def run_pass(key: Key) -> None:
            nonlocal tries
            tries += key == A
            raise ClusterError("403: no right" if key == A else "503: busy")

        async def tell(key: Key, error: Exception) -> None:
            raise ClusterError("403: no right to the status either")

        queue = StudyQueue(run_pass, workers=1, tell=tell)
        working = asyncio.create_task(queue.run())
        for _ in range(50):
            queue.mark(A, 0)
            queue.mark(B, 0)
            await asyncio.sleep(5)
        working.cancel()
        return tries

    tries = run_in_virtual_time(scenario())
    said = Counter(
        (record.study, record.getMessage())  # type: ignore[attr-defined]  # given as extra
        for record in caplog.records
        if record.levelname != "DEBUG"
    )
    assert tries > 10
    assert len(said) == 4
    assert set(said.values()) <= {4, 5}, said
