"""Lends GPUs: each to one pod at a time, until every process of that pod has been reaped."""

import asyncio
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

from primo_local.client import Obj
from primo_local.controllers.resources import requests_of_container

GPU: Final = "nvidia.com/gpu"


def real_gpus(devices: Path = Path("/dev")) -> int:
    """How many NVIDIA devices this machine has."""
    return sum(entry.name.removeprefix("nvidia").isdecimal() for entry in devices.glob("nvidia*"))


class Devices:
    """GPU ids, real or pretended.

    Where more are pretended than there are, real ones are shared: id 3 of two real devices is
    device 1. On a machine without any the ids mean nothing, but are told apart all the same.
    """

    def __init__(self, count: int, real: int = 0) -> None:
        self._free = list(range(count))
        self._real = real
        self._returned = asyncio.Condition()

    async def lend(self, count: int) -> tuple[int, ...]:
        """Wait for so many free ones; the lowest ids first."""
        async with self._returned:
            await self._returned.wait_for(lambda: len(self._free) >= count)
            lent, self._free = self._free[:count], self._free[count:]
            return tuple(lent)

    async def take_back(self, lent: Sequence[int]) -> None:
        async with self._returned:
            self._free = sorted([*self._free, *lent])
            self._returned.notify_all()

    def visible(self, lent: Sequence[int]) -> str:
        """For CUDA_VISIBLE_DEVICES: ids of real devices, if there are any."""
        ids = [device % self._real for device in lent] if self._real else lent
        return ",".join(str(device) for device in dict.fromkeys(ids))


def gpus_of_container(container: Obj) -> int:
    return int(requests_of_container(container).get(GPU, Fraction(0)))


def shares(pod: Obj, lent: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
    """Which of a pod's devices each container sees.

    Main containers and sidecars run together and so share nothing; other init containers run
    before the main ones and use the devices that those will have.
    """
    spec = pod["spec"]
    inits = spec.get("initContainers") or []
    sidecars = [container for container in inits if container.get("restartPolicy") == "Always"]
    result: dict[str, tuple[int, ...]] = {}
    offset = 0
    for container in (*sidecars, *spec["containers"]):
        count = gpus_of_container(container)
        result[container["name"]] = tuple(lent[offset : offset + count])
        offset += count
    reserved = sum(gpus_of_container(container) for container in sidecars)
    for container in inits:
        if container not in sidecars:
            count = gpus_of_container(container)
            result[container["name"]] = tuple(lent[reserved : reserved + count])
    return result
