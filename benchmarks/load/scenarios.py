"""What is measured: each scenario sets a load up, waits for its end, and gives its figures."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from load import objects
from load.objects import STUDIES, TRIALS, Obj
from load.place import Operator, Place, together
from primo_local.client import JOBS, key_of

SHORT = (0.0, 1.0)
LONGER = (5.0, 15.0)
# A cluster with stock flags needs 40 minutes for 10,000 runs.
LIMIT_S = 7200.0
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it: the figures are asked for in full, the quick ones show that it works."""

    trials: int = 10_000
    parallelism: int = 100
    bare: int = 2_000
    steady: int = 2_000
    studies: int = 1_000
    each: int = 10
    idle_s: float = 120.0
    restart_trials: int = 20_000
    memory_trials: int = 50_000
    normal: int = 10


QUICK = Size(
    trials=300,
    parallelism=50,
    bare=200,
    steady=100,
    studies=30,
    each=3,
    idle_s=10.0,
    restart_trials=300,
    memory_trials=500,
    normal=3,
)


async def one(place: Place, size: Size) -> Figures:
    """One study, many trials, and as many bare Jobs at once by a plain loop.

    Both as fast as it goes: with runs of half a second it is the cluster that sets the pace.
    """
    bare_per_min = await _bare(place, "bare", size, objects.job_spec(SHORT))
    namespace = await place.namespace("load-one")
    with place.operator(namespace) as operator:
        spec = objects.study("one", size.trials, size.parallelism, SHORT)
        ours, jobs = await _to_its_end(place, namespace, operator, spec)
        (study,) = (await place.client.list(STUDIES, namespace=namespace))["items"]
        used = _used(operator, size.trials)
        listed = await place.client.list(JOBS, {"limit": "1"}, namespace)
    same = {"template": {"spec": listed["items"][0]["spec"]["template"]["spec"]}}
    same_per_min = await _bare(place, "same", size, same)
    return {
        "bare_per_min": bare_per_min,
        "same_per_min": same_per_min,
        "runs_per_min": _rate(ours),
        "ratio": _rate(ours) / bare_per_min,
        "ratio_to_same": _rate(ours) / same_per_min,
        **_gaps(ours, jobs, size.parallelism),
        "status_kib": len(json.dumps(study["status"])) / 1024,
        **used,
    }


async def steady(place: Place, size: Size) -> Figures:
    """One study whose runs last some seconds: how long a slot, and its GPU, stays empty."""
    namespace = await place.namespace("load-steady")
    with place.operator(namespace) as operator:
        spec = objects.study("steady", size.steady, size.parallelism, LONGER)
        ends, jobs = await _to_its_end(place, namespace, operator, spec)
        return {
            "runs_per_min": _rate(ends),
            **_gaps(ends, jobs, size.parallelism),
            **_used(operator, size.steady),
        }


async def _to_its_end(
    place: Place, namespace: str, operator: Operator, study: Obj
) -> tuple[Sequence[tuple[float, str]], Sequence[tuple[float, str]]]:
    """Run a study alone: when its pods ended, and when its Jobs were made."""
    operator.ready()
    await place.client.create(STUDIES, namespace, study)
    await _completed(place, namespace, operator, 1)
    name = study["metadata"]["name"]
    ends = place.moments("end", lambda of: of == name)
    return ends, place.moments("job", lambda of: of == name)


async def many(place: Place, size: Size) -> Figures:
    """Many small studies at once."""
    namespace = await place.namespace("load-many")
    with place.operator(namespace) as operator:
        operator.ready()
        begin = time.monotonic()
        specs = [objects.study(f"s{k}", size.each, 2, SHORT) for k in range(size.studies)]
        await together(place.client.create(STUDIES, namespace, spec) for spec in specs)
        await _completed(place, namespace, operator, size.studies)
        took_s = time.monotonic() - begin
        total = size.studies * size.each
        ends = place.moments("end", lambda of: of.startswith("s"))
        return {
            "seconds": took_s,
            "completed": size.studies,
            "runs_per_min": _rate(ends),
            **_used(operator, total),
        }


async def idle(place: Place, size: Size) -> Figures:
    """Studies whose trials run and run."""
    namespace = await place.namespace("load-idle")
    with place.operator(namespace) as operator:
        operator.ready()
        specs = [objects.study(f"i{k}", 10, 1, objects.FOR_EVER) for k in range(size.studies)]
        await together(place.client.create(STUDIES, namespace, spec) for spec in specs)
        await _until(
            lambda: _phases(place, namespace, "InitialDesign", size.studies),
            operator,
            "all run",
        )
        await _at_rest(operator)
        rss_mib = operator.usage()["rss_mib"]
        calls = operator.calls()  # which is work for it, and takes memory
        before = operator.usage()
        await asyncio.sleep(size.idle_s)
        cpu_s = operator.usage()["cpu_s"] - before["cpu_s"]
        since = operator.calls() - calls
        since = Counter({key: n for key, n in since.items() if key[1] != "leases"})
        return {
            "cpu_percent": 100 * cpu_s / size.idle_s,
            "writes": _writes(since),
            "reads": since.total() - _writes(since),
            "rss_mib": rss_mib,
        }


async def restart(place: Place, size: Size) -> Figures:
    """An operator starts on studies with many ended trials, and each has one to go."""
    namespace = await place.namespace("load-restart")
    each = size.restart_trials // size.studies
    names = [f"r{k}" for k in range(size.studies)]
    await _loaded(place, namespace, names, each)
    with place.operator(namespace) as operator:
        began = operator.started_at
        first = await _jobs_of(place, operator, "r", 1)
        last = await _jobs_of(place, operator, "r", size.studies)
        await _completed(place, namespace, operator, size.studies)
        return {
            "first_decision_s": first[0][0] - began,
            "last_decision_s": last[-1][0] - began,
            **_used(operator, size.studies),
        }


async def memory(place: Place, size: Size) -> Figures:
    """An operator that has many trials to keep."""
    namespace = await place.namespace("load-memory")
    studies = max(size.memory_trials // 10_000, 1)
    names = [f"m{k}" for k in range(studies)]
    each = size.memory_trials // studies
    await _loaded(place, namespace, names, each)
    with place.operator(namespace) as operator:
        began = operator.started_at
        jobs = await _jobs_of(place, operator, "m", studies)
        await _completed(place, namespace, operator, studies)
        await _at_rest(operator)
        return {
            "trials": size.memory_trials + studies,
            "last_decision_s": jobs[-1][0] - began,
            **_used(operator, studies),
        }


async def abusive(place: Place, size: Size) -> Figures:
    """Small studies beside one that wants everything."""
    namespace = await place.namespace("load-abusive")
    with place.operator(namespace) as operator:
        operator.ready()
        await place.client.create(
            STUDIES, namespace, objects.study("abusive", 100_000, 1000, (0.0, 0.0))
        )
        await _jobs_of(place, operator, "abusive", 20)
        specs = [objects.study(f"n{k}", 10, 2, SHORT) for k in range(size.normal)]
        await together(place.client.create(STUDIES, namespace, spec) for spec in specs)
        begin = time.monotonic()
        await _completed(place, namespace, operator, size.normal)
        took_s = time.monotonic() - begin
        gaps = [
            _gaps(
                place.moments("end", lambda of, k=k: of == f"n{k}"),
                place.moments("job", lambda of, k=k: of == f"n{k}"),
                2,
            )["p95_s"]
            for k in range(size.normal)
        ]
        await place.client.delete(STUDIES, (namespace, "abusive"))
        return {
            "normal_seconds": took_s,
            "normal_p95_s": max(gaps),
            "abusive_runs": len(place.moments("end", lambda of: of == "abusive")),
        }


SCENARIOS: Mapping[str, Callable[[Place, Size], Awaitable[Figures]]] = {
    each.__name__: each for each in (one, steady, many, abusive, idle, restart, memory)
}


# --- bare Jobs


async def _bare(place: Place, kind: str, size: Size, spec: Obj) -> float:
    """Runs a minute of a plain loop: whenever a Job is Complete, the next is made.

    Args:
        kind: what its Jobs are called.
        spec: of each.
    """
    namespace = await place.namespace(f"load-{kind}")
    selector = {"labelSelector": f"{objects.KIND_LABEL}={kind}"}
    client, count = place.client, size.bare
    listed = await client.list(JOBS, selector, namespace)
    made = 0

    async def make() -> None:
        nonlocal made
        made += 1
        job = objects.bare_job(f"{kind}-{made}", kind, spec)
        await client.create(JOBS, namespace, job)

    await together(make() for _ in range(min(size.parallelism, count)))
    done: set[tuple[str, str]] = set()
    making: set[asyncio.Task[None]] = set()
    async for event, job in client.watch(JOBS, listed["metadata"]["resourceVersion"], selector):
        conditions = (
            (job.get("status") or {}).get("conditions") or () if event != "BOOKMARK" else ()
        )
        if any(c["type"] == "Complete" for c in conditions) and key_of(job) not in done:
            done.add(key_of(job))
            if made < count:
                task = asyncio.create_task(make())
                making.add(task)
                task.add_done_callback(making.discard)
            if len(done) == count:
                break
    return _rate(place.moments("end", lambda of: of == kind))


# --- waiting


async def _until(
    holds: Callable[[], Awaitable[bool]], operator: Operator, what: str, every_s: float = 0.5
) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await holds():
        operator.process.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT_S:g} s: {what}")
        await asyncio.sleep(every_s)


async def _phases(place: Place, namespace: str, phase: str, count: int) -> bool:
    listed = await place.client.list(STUDIES, namespace=namespace)
    phases = [(s.get("status") or {}).get("phase") for s in listed["items"]]
    if "Failed" in phases and phase != "Failed":
        failed = next(s for s in listed["items"] if s["status"]["phase"] == "Failed")
        raise RuntimeError(f"{failed['metadata']['name']}: {failed['status']['conditions']}")
    return phases.count(phase) >= count


async def _completed(place: Place, namespace: str, operator: Operator, count: int) -> None:
    every_s = 1.0 if count < 100 else 5.0
    await _until(
        lambda: _phases(place, namespace, "Completed", count), operator, "all completed", every_s
    )


async def _at_rest(operator: Operator) -> None:
    """Until it has hardly worked for five seconds."""

    async def quiet() -> bool:
        before = operator.usage()["cpu_s"]
        await asyncio.sleep(5.0)
        return operator.usage()["cpu_s"] - before < 0.25

    await _until(quiet, operator, "at rest")


async def _jobs_of(
    place: Place, operator: Operator, prefix: str, count: int
) -> Sequence[tuple[float, str]]:
    found: list[tuple[float, str]] = []

    async def enough() -> bool:
        found[:] = place.moments("job", lambda of: of.startswith(prefix))
        return len(found) >= count

    await _until(enough, operator, f"{count} Jobs of {prefix}*", 0.1)
    return found


# --- trials that have ended


async def _loaded(place: Place, namespace: str, names: Sequence[str], each: int) -> None:
    """Studies with so many ended trials, and one more to run."""
    client = place.client
    specs = [objects.study(name, each + 1, 1, SHORT) for name in names]
    studies = await together(client.create(STUDIES, namespace, spec) for spec in specs)

    async def make(study: Obj, number: int) -> None:
        obj, status = objects.ended_trial(study, number)
        await client.create(TRIALS, namespace, obj)
        await client.patch(TRIALS, (namespace, obj["metadata"]["name"]), status, "status")

    await together(make(study, number) for study in studies for number in range(each))


# --- figures


def _rate(ends: Sequence[tuple[float, str]]) -> float:
    """A minute, from the first to the last."""
    return 60 * (len(ends) - 1) / (ends[-1][0] - ends[0][0])


def _gaps(
    ends: Sequence[tuple[float, str]], jobs: Sequence[tuple[float, str]], parallelism: int
) -> Figures:
    """From each run's end to the creation of the Job that takes its slot.

    With all slots taken the k-th end makes room for the Job number k + parallelism.
    """
    pairs = zip(ends, jobs[parallelism:], strict=False)
    gaps = np.array([job[0] - end[0] for end, job in pairs])
    if not len(gaps):
        return {"p50_s": 0.0, "p95_s": 0.0, "p99_s": 0.0}
    p50, p95, p99 = np.quantile(gaps, [0.5, 0.95, 0.99])
    return {"p50_s": p50, "p95_s": p95, "p99_s": p99}


def _writes(calls: Mapping[tuple[str, str], int]) -> int:
    return sum(n for (verb, _), n in calls.items() if verb in ("create", "patch", "delete"))


def _used(operator: Operator, trials: int) -> dict[str, Any]:
    used = operator.usage()
    calls = operator.calls()
    own = {key: n for key, n in calls.items() if key[1] != "leases"}
    lags = np.array(operator.lags_s or [0.0])
    return {
        "writes_per_trial": _writes(own) / trials,
        "reads_per_trial": (sum(own.values()) - _writes(own)) / trials,
        **{f"{k}": used[k] for k in ("cpu_s", "rss_mib", "peak_mib")},
        "cpu_ms_per_trial": 1000 * used["cpu_s"] / trials,
        "worker_cpu_s": used.get("worker_cpu_s", 0.0),
        "worker_rss_mib": used.get("worker_rss_mib", 0.0),
        "loop_lag_p99_s": float(np.quantile(lags, 0.99)),
        "calls": {" ".join(key): n for key, n in sorted(own.items())},
    }
