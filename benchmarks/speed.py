"""Seconds of one suggestion, by the number of observations at full fidelity; one thread."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import problems
from campaign import commit, read
from client import Peer, PeerError
from peers import OPTIMIZERS
from peers.adapter import Proposal, UnsupportedError
from primo_optimizer import Problem

# By number of objectives: cross entropy and time, then balanced error too.
PROBLEMS = {2: "lcbench-126026", 3: "lcbench-126026-m3"}
ASKS = 5
# Observations of a run before it, in which everything is imported.
WARM_UP = 8
# Slower ones are not tried with more observations.
PATIENCE_S = 60.0
SEED = 0


def measure(
    names: Sequence[str],
    observations: Sequence[int],
    objectives: Sequence[int],
    data: Path,
    out: Path,
) -> None:
    """Add what is missing to a file of JSON lines."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(row): row for row in read([out])} if out.exists() else {}
    for name in names:
        for m in objectives:
            for n in sorted(observations):
                row = done.get((name, m, n)) or _measured(name, n, m, data)
                if (name, m, n) not in done:
                    _write(row, out)
                if row["error"] is not None or row["median"] > PATIENCE_S:
                    break


def _key(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["label"], row["objectives"], row["observations"]


def _write(row: Mapping[str, Any], out: Path) -> None:
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    what = row["error"] or f"{row['median']:.3f} s, p95 {row['p95']:.3f} s"
    print(*_key(row), what, file=sys.stderr)


def _measured(name: str, n: int, m: int, data: Path) -> dict[str, Any]:
    seconds: list[float] = []
    error = None
    with Peer(name) as peer:
        try:
            seconds = _asked(peer, n, problems.load(PROBLEMS[m], data))
        except (PeerError, UnsupportedError) as reason:
            error = str(reason)
        versions = peer.versions
    return {
        "label": name,
        "objectives": m,
        "observations": n,
        "median": round(float(np.median(seconds)), 5) if seconds else None,
        "p95": round(float(np.quantile(seconds, 0.95)), 5) if seconds else None,
        "seconds": [round(s, 5) for s in seconds],
        "error": error,
        "versions": versions,
        "commit": commit(),
    }


def _asked(peer: Peer, n: int, benchmark: problems.Benchmark) -> list[float]:
    """Each ask comes after one new result: that of the ask before."""
    priors = "good-good" if OPTIMIZERS[peer.name].uses_priors else problems.NO_PRIORS
    peer.start(benchmark.spec(priors), SEED, {})
    peer.add(_random_evaluations(benchmark, WARM_UP))
    peer.ask()
    peer.start(benchmark.spec(priors), SEED, {})
    peer.add(_random_evaluations(benchmark, n))
    for _ in range(ASKS):
        proposal = peer.ask()
        assert proposal is not None
        peer.tell(proposal.trial, _evaluated(benchmark, proposal))
    return peer.seconds


def _random_evaluations(
    benchmark: problems.Benchmark, n: int
) -> list[tuple[Mapping[str, Any], Mapping[str, float]]]:
    problem = Problem.from_spec(benchmark.task.spec)
    rng = np.random.default_rng([SEED, n])
    points = problem.space.spread(rng.random((n, len(problem.space.parameters))))
    configurations = [problem.space.decode(point) for point in points]
    results = benchmark.task.evaluate(configurations, problem.full_fidelity)
    names = [o.name for o in problem.objectives]
    return [
        (configuration, {name: values[name] for name in names})
        for configuration, values in zip(configurations, results, strict=True)
        if values is not None
    ]


def _evaluated(benchmark: problems.Benchmark, proposal: Proposal) -> Mapping[str, float] | None:
    (values,) = benchmark.task.evaluate([proposal.configuration], proposal.fidelity)
    return values
