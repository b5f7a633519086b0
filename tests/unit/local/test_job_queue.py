"""The queue of keys to look at."""

import asyncio
from collections.abc import Awaitable, Callable

from primo_local.client import UnreachableError
from primo_local.controllers.queue import WorkQueue

DEADLINE_S = 20

Work = Callable[[str], Awaitable[None]]


def run(story: Callable[[WorkQueue[str]], Awaitable[None]], work: Work, workers: int = 1) -> None:
    async def whole() -> None:
        queue: WorkQueue[str] = WorkQueue()
        working = asyncio.create_task(queue.run(work, workers))
        try:
            await asyncio.wait_for(story(queue), DEADLINE_S)
        finally:
            working.cancel()

    asyncio.run(whole())


def test_a_key_added_twice_is_looked_at_once() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async def story(queue: WorkQueue[str]) -> None:
        for key in ("a", "a", "b", "a"):
            queue.add(key)
        while "b" not in seen:
            await asyncio.sleep(0)

    run(story, work)
    assert seen == ["a", "b"]


def test_a_key_added_during_its_look_is_looked_at_again_but_never_by_two() -> None:
    looks = 0
    together = 0
    most = 0

    async def story(queue: WorkQueue[str]) -> None:
        queue.add("a")
        while looks < 2:
            if looks == 0 and together:
                queue.add("a")
            await asyncio.sleep(0)

    async def work(_key: str) -> None:
        nonlocal looks, together, most
        together += 1
        most = max(most, together)
        for _ in range(5):
            await asyncio.sleep(0)
        together -= 1
        looks += 1

    run(story, work, workers=3)
    assert most == 1


def test_a_failed_look_is_repeated_and_does_not_stop_the_others() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        if key == "bug" and seen.count("bug") == 1:
            raise RuntimeError("a bug")
        if key == "down" and seen.count("down") == 1:
            raise UnreachableError("down")

    async def story(queue: WorkQueue[str]) -> None:
        for key in ("bug", "down", "fine"):
            queue.add(key)
        while seen.count("bug") < 2 or seen.count("down") < 2:
            await asyncio.sleep(0.01)

    run(story, work)
    assert seen[:3] == ["bug", "down", "fine"]


def test_of_two_wishes_for_later_the_earlier_holds() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async def story(queue: WorkQueue[str]) -> None:
        queue.add_after("a", 600)
        queue.add_after("a", 0.01)
        queue.add_after("a", 600)
        while not seen:
            await asyncio.sleep(0.01)

    run(story, work)
    assert seen == ["a"]
