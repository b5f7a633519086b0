"""Many runs: which are missing from a file of results, and running them side by side."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import problems
from client import HERE, Peer, PeerError
from peers import OPTIMIZERS
from peers.adapter import UnsupportedError
from search import BUDGET, Outcome, Search

# Costs at which a run's value is written down.
GRID = tuple(float(cost) for cost in np.arange(0.25, BUDGET + 0.01, 0.25))


@dataclass(frozen=True, slots=True)
class Plan:
    """One run to be done.

    Attributes:
        label: what the optimizer is called in the results.
        settings: of the optimizer.
    """

    optimizer: str
    problem: str
    priors: str
    workers: int
    seed: int
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for the same run, whether planned or read from a file."""
        settings = json.dumps(self.settings, sort_keys=True)
        return (self.label, self.problem, self.priors, str(self.workers), str(self.seed), settings)


def plans(
    optimizers: Sequence[str],
    names: Sequence[str],
    priors: Sequence[str],
    workers: Sequence[int],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    label: str | None,
) -> list[Plan]:
    """Seed by seed, so that a campaign that was interrupted is balanced."""
    return [
        Plan(optimizer, name, setting, count, seed, label or optimizer, settings)
        for seed, count, optimizer, setting, name in product(
            seeds, workers, optimizers, priors, names
        )
        if setting == problems.NO_PRIORS or OPTIMIZERS[optimizer].uses_priors
    ]


def read(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The results in files of JSON lines; a line cut short by a crash is left out."""
    for file in files:
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                print(f"{file}: a broken line is left out", file=sys.stderr)


def missing(wanted: Iterable[Plan], out: Path) -> list[Plan]:
    """Those not in the file yet."""
    fields = Plan.__dataclass_fields__
    rows = read([out]) if out.exists() else ()
    done = {Plan(**{name: row[name] for name in fields}).key for row in rows}
    return [plan for plan in wanted if plan.key not in done]


class Campaign:
    """Does plans in some threads, each with a process of the optimizer; writes as it goes."""

    def __init__(self, wanted: Sequence[Plan], data: Path, out: Path) -> None:
        self._data, self._out = data, out
        self._total, self._done = len(wanted), 0
        self._plans: queue.SimpleQueue[Plan] = queue.SimpleQueue()
        for plan in wanted:
            self._plans.put(plan)
        self._lock = threading.Lock()

    def run(self, jobs: int) -> None:
        self._out.parent.mkdir(parents=True, exist_ok=True)
        # Daemons, so that an interrupt ends the program and with it the optimizers' input.
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        peer: Peer | None = None
        try:
            while True:
                plan = self._plans.get_nowait()
                if peer is None or peer.name != plan.optimizer:
                    if peer is not None:
                        peer.close()
                    peer = Peer(plan.optimizer)
                if not self._do(plan, peer):
                    peer.close()
                    peer = None
        except queue.Empty:
            return
        finally:
            if peer is not None:
                peer.close()

    def _do(self, plan: Plan, peer: Peer) -> bool:
        """Whether the optimizer's process is as good as new."""
        benchmark = problems.load(plan.problem, self._data)
        search = Search(benchmark, peer, plan.workers, plan.seed)
        error = None
        try:
            peer.start(benchmark.spec(plan.priors), plan.seed, plan.settings)
            search.run()
        except UnsupportedError as reason:
            self._say(plan, f"left out, {reason}")
            return True
        except PeerError as reason:
            error = str(reason)
        self._write(plan, _row(plan, benchmark, search.outcome, peer, error))
        return error is None

    def _write(self, plan: Plan, row: Mapping[str, Any]) -> None:
        with self._lock, self._out.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a campaign was killed in the middle of its last row
                    file.write(b"\n")
            file.write(json.dumps(row).encode() + b"\n")
        self._say(
            plan, f"{row['values'][-1]:.4f} in {row['optimizerSeconds']:.1f} s {row['error'] or ''}"
        )

    def _say(self, plan: Plan, what: str) -> None:
        with self._lock:
            self._done += 1
            print(
                f"[{self._done}/{self._total}] {plan.label} {plan.problem} {plan.priors} "
                f"workers={plan.workers} seed={plan.seed}: {what}",
                file=sys.stderr,
            )


def _row(
    plan: Plan,
    benchmark: problems.Benchmark,
    outcome: Outcome,
    peer: Peer,
    error: str | None,
) -> dict[str, Any]:
    """As it is written; `values` belong to the costs of `GRID`."""
    seconds = peer.seconds or [0.0]
    return {
        "optimizer": plan.optimizer,
        "label": plan.label,
        "settings": plan.settings,
        "versions": peer.versions,
        "commit": commit(),
        "problem": plan.problem,
        "group": benchmark.task.group,
        "priors": plan.priors,
        "workers": plan.workers,
        "seed": plan.seed,
        "values": [round(outcome.at(cost), 5) for cost in GRID],
        "trials": outcome.trials,
        "runs": outcome.runs,
        "full": outcome.full,
        "duplicates": outcome.duplicates,
        "failures": outcome.failures,
        "paid": round(outcome.paid, 4),
        "elapsed": round(outcome.elapsed, 4),
        "error": error,
        "secondsMedian": round(float(np.median(seconds)), 5),
        "secondsP95": round(float(np.quantile(seconds, 0.95)), 5),
        "optimizerSeconds": round(peer.started + sum(seconds), 3),
    }


@cache
def commit() -> str:
    """Of this repository; with `-dirty` where files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
