"""What the operator says of itself and of its studies to Prometheus.

Collected in the event loop, since what is shown changes there.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from aiohttp import web
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from primo_operator import names
from primo_operator.asking import WorkerSuggester
from primo_operator.cluster import ClusterError
from primo_operator.mirror import Key, Mirror
from primo_operator.ports import Answer, Suggester
from primo_operator.queue import Pass, StudyQueue
from primo_operator.settings import Settings
from primo_optimizer import SpaceExhaustedError
from primo_study.study import Study

log = logging.getLogger(__name__)

PASS_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
PASS_RESULTS = ("Done", "ClusterError", "Failed")
ASK_RESULTS = ("Done", "Fallback", "Exhausted", "Failed")
SUGGESTION_BUCKETS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
MAX_SUGGESTED = 10_000
KINDS = frozenset({names.STUDIES, names.TRIALS, "jobs", "pods", "events", "leases"})


class OperatorMetrics:
    """The operator's own counters, in a registry of their own."""

    def __init__(self) -> None:
        self._suggested: dict[tuple[Key, str], None] = {}
        self.registry = registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        self.requests = Counter(
            "primo_api_requests_total",
            "Calls to the API server; watches are not among them. The code is an HTTP "
            "status, or Error where no answer came.",
            ("verb", "resource", "code"),
            registry=registry,
        )
        self.passes = Histogram(
            "primo_pass_duration_seconds",
            "Passes over studies. A pass that failed is tried again.",
            ("result",),
            buckets=PASS_BUCKETS_S,
            registry=registry,
        )
        for result in PASS_RESULTS:
            self.passes.labels(result)  # from 0 on: Prometheus does not see a series begin at 1
        self.asks = Counter(
            "primo_asks_total",
            "Asks of the optimizer, of all studies.",
            ("result",),
            registry=registry,
        )
        for result in ASK_RESULTS:
            self.asks.labels(result)
        self.suggestions = Histogram(
            "primo_suggestion_duration_seconds",
            "Asks of the optimizer, waiting for its process included; Fallback if the answer was "
            "not the algorithm's own.",
            ("namespace", "study", "result"),
            buckets=SUGGESTION_BUCKETS_S,
            registry=registry,
        )

    def count_request(self, method: str, path: str, code: int | None) -> None:
        """One call, and the HTTP status that came; None if nothing came."""
        verb, resource = _what(method, path)
        self.requests.labels(verb, resource, str(code or "Error")).inc()

    def timed(self, run_pass: Pass) -> Pass:
        """A pass that is measured."""

        async def measured(key: Key) -> float | None:
            begin, result = time.monotonic(), "Failed"
            try:
                wait_s = await run_pass(key)
                result = "Done"
            except ClusterError:
                result = "ClusterError"
                raise
            finally:
                self.passes.labels(result).observe(time.monotonic() - begin)
            return wait_s

        return measured

    def keep(self, studies: Iterable[Key]) -> None:
        """Drop the series of all others."""
        kept = set(studies)
        for one in [one for one in self._suggested if one[0] not in kept]:
            self._drop(one)

    def suggested(self, key: Key, result: str, duration_s: float) -> None:
        """One ask."""
        self.asks.labels(result).inc()
        self._suggested[key, result] = None
        self.suggestions.labels(key.namespace, key.name, result).observe(duration_s)
        if len(self._suggested) > MAX_SUGGESTED:  # nobody scrapes, and studies come and go
            self._drop(next(iter(self._suggested)))

    def _drop(self, one: tuple[Key, str]) -> None:
        key, result = one
        del self._suggested[one]
        self.suggestions.remove(key.namespace, key.name, result)


class TimedSuggester:
    """A `Suggester` that is measured."""

    def __init__(self, suggester: Suggester, metrics: OperatorMetrics) -> None:
        self._suggester, self._metrics = suggester, metrics

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        begin, result = time.monotonic(), "Failed"
        try:
            answer = await self._suggester.suggest(study, count, new_trials)
            result = "Fallback" if answer.degraded else "Done"
        except SpaceExhaustedError:
            result = "Exhausted"
            raise
        finally:
            key = Key(study.namespace, study.name)
            self._metrics.suggested(key, result, time.monotonic() - begin)
        return answer


class StateCollector(Collector):
    """What queue, worker and the election know at the moment of a scrape."""

    def __init__(
        self, queue: StudyQueue, worker: WorkerSuggester, leads: Callable[[], bool]
    ) -> None:
        self._queue, self._worker, self._leads = queue, worker, leads
        # Torch and its models are in there: the operator's own process says nothing of them.
        self._process = ProcessCollector(
            "primo_worker", lambda: worker.pid or "none", registry=None
        )

    def collect(self) -> Iterator[Metric]:
        leader = "1 while it works, 0 while it waits for the lead."
        yield GaugeMetricFamily("primo_leader", leader, value=float(self._leads()))
        depth = "Studies that wait for a pass."
        yield GaugeMetricFamily("primo_queue_depth", depth, value=float(self._queue.depth))
        starts = "Starts of the optimizer's processes after the first."
        yield CounterMetricFamily(
            "primo_worker_restarts", starts, value=float(self._worker.restarts)
        )
        yield from self._process.collect()


class Snapshot(Collector):
    """What has been collected."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def serve(metrics: OperatorMetrics, settings: Settings, mirror: Mirror) -> web.AppRunner:
    """Serve `/metrics` where the settings say; its `cleanup` ends it.

    Raises:
        OSError: the port is taken.
    """

    async def scraped(request: web.Request) -> web.Response:
        metrics.keep(mirror.studies())
        seen = Snapshot(list(metrics.registry.collect()))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # Thousands of series take a while to write down, and nothing changes in them any more.
        body = await asyncio.to_thread(encode, seen)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get("/metrics", scraped)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(
        runner, settings.operator_metrics_address, settings.operator_metrics_port
    ).start()
    log.info("metrics are served", extra={"address": str(runner.addresses)})
    return runner


def _what(method: str, path: str) -> tuple[str, str]:
    """Verb and resource of a call, in Kubernetes's words; few, whatever the path."""
    _, namespaced, tail = path.partition("/namespaces/")
    resource, *rest = tail.split("/")[1:] if namespaced else [path.rpartition("/")[2]]
    known = resource if resource in KINDS else "other"
    verb = "list" if method == "GET" and not rest else VERBS.get(method, "other")
    return verb, f"{known}/status" if rest[1:] == ["status"] else known
