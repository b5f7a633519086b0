"""Simulate seeds in parallel: `python -m support.simulation [--seeds N] [--from N]`."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from support.simulation.runs import BadRunError, simulate_drawn

BATCH = 50
SHOWN = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    began, cpu = time.monotonic(), 0.0
    bad: list[int] = []
    batches = [
        range(at, min(at + BATCH, given.first + given.seeds))
        for at in range(given.first, given.first + given.seeds, BATCH)
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for failures, used in pool.map(batch, batches):
            cpu += used
            for seed, words in failures:
                bad.append(seed)
                short = f"seed {seed}: {words.splitlines()[-2]}"
                print(f"{words}\n" if len(bad) <= SHOWN else short, flush=True)
    wall = time.monotonic() - began
    print(f"{given.seeds} seeds, {len(bad)} failed; {wall:.0f} s, {cpu:.0f} s of CPU")
    if given.seeds == 1 and not bad:
        print(f"trace {simulate_drawn(given.first).trace_hash}")
    return 1 if bad else 0


def batch(seeds: range) -> tuple[list[tuple[int, str]], float]:
    """Those that failed, with their words, and the CPU time of all."""
    began = time.process_time()
    logging.disable(logging.WARNING)  # what operators warn of is what the faults are for
    return list(_failures(seeds)), time.process_time() - began


def _failures(seeds: range) -> Iterator[tuple[int, str]]:
    for seed in seeds:
        try:
            simulate_drawn(seed)
        except BadRunError as error:
            yield seed, str(error)


if __name__ == "__main__":
    sys.exit(main())
