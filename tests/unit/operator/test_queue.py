"""Passes run one at a time for each study, and one study's failure is its own."""

import asyncio
from collections import Counter

from primo_operator.mirror import Key
from primo_operator.queue import StudyQueue

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
