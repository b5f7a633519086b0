"""The optimizer's process with an algorithm that misbehaves, as the seed of the study says."""

import ctypes
import os
import sys
import time
import types
from typing import Any

from primo_operator import worker
from primo_optimizer import optimizer, random_search

HANG, ALLOCATE, DIE, NONSENSE, RAISE, SLOW = range(1, 7)
# A piece that malloc gets by mmap, and whose refusal is therefore seen at once.
PIECE = 16 << 20


def suggest(problem: Any, trials: Any, count: int, seed: int, next_number: int) -> Any:
    if seed == HANG:
        time.sleep(3600)
    if seed == SLOW:
        time.sleep(float(os.environ["SLOW_S"]))
    if seed == ALLOCATE:
        kept = []
        while True:
            kept.append(bytearray(PIECE))
            kept[-1][::4096] = b"x" * len(kept[-1][::4096])  # resident, too
    if seed == DIE:
        ctypes.string_at(0)
    if seed == NONSENSE:
        os.write(ANSWERS, b"[1, 2\n")
    if seed == RAISE:
        raise ZeroDivisionError("by nothing")
    return random_search.suggest(problem, trials, count, seed, next_number)


def load(problem: Any) -> None:
    """A library, as large as the environment says; loaded once."""
    if not LIBRARY:
        LIBRARY.append(bytes(int(os.environ.get("LIBRARY_MIB", "0")) << 20))


LIBRARY: list[bytes] = []
ANSWERS = -1


def main() -> None:
    global ANSWERS
    module = types.ModuleType("bad_search")
    module.suggest = suggest  # type: ignore[attr-defined]
    module.load = load  # type: ignore[attr-defined]
    module.check_settings = random_search.check_settings  # type: ignore[attr-defined]
    sys.modules["bad_search"] = module
    optimizer.ALGORITHMS["random"] = "bad_search"
    ANSWERS = os.dup(1)  # before main points it elsewhere
    worker.main()


if __name__ == "__main__":
    main()
