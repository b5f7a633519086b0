"""Several things of a pass at once: all are finished, whatever becomes of one of them."""

import asyncio
import warnings

import pytest

from primo_operator.cluster import ClusterError
from primo_operator.ports import AT_ONCE, at_once
from support.virtual_time import run_in_virtual_time


async def later(value: int, after_s: float = 1.0) -> int:
    await asyncio.sleep(after_s)
    return value


def test_results_come_in_the_order_of_the_calls() -> None:
    calls = [later(k, 10.0 - k) for k in range(5)]
    assert run_in_virtual_time(at_once(calls)) == [0, 1, 2, 3, 4]


def test_only_so_many_are_under_way() -> None:
    async def scenario() -> float:
        await at_once([later(k) for k in range(2 * AT_ONCE + 1)])
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(scenario()) == 3.0


def test_one_that_fails_stops_no_other() -> None:
    done: list[int] = []

    async def fails() -> None:
        raise ClusterError("the answer was lost")

    async def works() -> None:
        await asyncio.sleep(1.0)
        done.append(1)

    with pytest.raises(ClusterError, match="lost"):
        run_in_virtual_time(at_once([works(), fails(), works()]))
    assert done == [1, 1]


def test_a_pass_that_is_cancelled_leaves_nothing_half_begun() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(at_once([later(k) for k in range(2 * AT_ONCE)]))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_in_virtual_time(scenario())
