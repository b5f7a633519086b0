"""The parts of an operator, joined: clients, cluster, queue, passes, watches, metrics, election."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from kubernetes.aio.client import ApiClient

from primo_operator.asking import WorkerSuggester
from primo_operator.clock import SystemClock
from primo_operator.definitions import Definitions
from primo_operator.failures import note_failure
from primo_operator.kubernetes_cluster import KubernetesCluster, connect
from primo_operator.leadership import Candidacy, Elector
from primo_operator.metrics import OperatorMetrics, StateCollector, TimedSuggester, serve
from primo_operator.mirror import Key, Mirror
from primo_operator.ports import Suggester
from primo_operator.prometheus import PrometheusMetrics
from primo_operator.queue import StepsAside, StudyQueue
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_operator.study_metrics import StudyCollector
from primo_operator.watching import Watching
from primo_study.queries import Reading


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, and what is asked about it; the other parts are behind these.

    Attributes:
        elector: None if there is no election.
        show_studies: add them to the metrics.
    """

    cluster: KubernetesCluster
    queue: StudyQueue
    watching: Watching
    definitions: Definitions
    elector: Elector | None
    show_studies: Callable[[], None]


@contextlib.asynccontextmanager
async def assembled(
    settings: Settings,
    mirror: Mirror,
    context: str | None,
    candidacy: Candidacy | None,
    namespaces: Sequence[str],
) -> AsyncIterator[Parts]:
    """The parts, none of them at work yet; the end closes what they hold.

    It must come when all work is over: then the Lease is given up, by a client that is closed last.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Leadership must not wait behind the calls of passes, nor those behind watches.
        leading, watcher, client = [await _client(stack, context) for _ in range(3)]
        watcher.rest_client.maxsize = 0  # each watch holds a connection for good
        clock, metrics = SystemClock(), OperatorMetrics()
        elector = await _elector(stack, leading, candidacy)
        leads = (lambda: elector.leads) if elector else (lambda: True)
        timeout_s, count = settings.request_timeout_s, metrics.count_request
        cluster = KubernetesCluster(client, timeout_s, leads, count, clock.tell)
        worker = WorkerSuggester(settings.suggestion_timeout_s, settings.suggestion_memory_mib)
        stack.push_async_callback(worker.close)
        served = settings.operator_metrics_port > 0
        # Only a scrape drops the series of studies that are gone.
        suggester: Suggester = TimedSuggester(worker, metrics) if served else worker

        def look_again() -> None:
            for key in mirror.studies():
                queue.mark(key)

        definitions = Definitions(cluster.published, look_again)

        def mark(key: Key, after_s: float) -> None:
            queue.mark(key, after_s)

        stream = KubernetesCluster(watcher, timeout_s, count=count)
        watching = Watching(stream, mirror, mark, clock.monotonic, settings.resync_s, namespaces)

        def check(key: Key) -> None:
            definitions.check()
            watching.check(key)

        queue, prometheus = _passes(cluster, suggester, clock, settings, mirror, metrics, check)
        stack.push_async_callback(prometheus.close)
        if served:
            metrics.registry.register(StateCollector(queue, worker, leads))
            stack.push_async_callback((await serve(metrics, settings, mirror)).cleanup)

        def show_studies() -> None:
            metrics.registry.register(StudyCollector(mirror, settings, clock.now))

        yield Parts(cluster, queue, watching, definitions, elector, show_studies)


async def _client(stack: contextlib.AsyncExitStack, context: str | None) -> ApiClient:
    client = await connect(context)
    stack.push_async_callback(client.close)
    return client


async def _elector(
    stack: contextlib.AsyncExitStack, client: ApiClient, candidacy: Candidacy | None
) -> Elector | None:
    if candidacy is None:
        return None
    # One call that hangs must leave time for another before leadership is lost.
    leases = KubernetesCluster(client, candidacy.renew_s / 2)
    elector = Elector(candidacy, leases, SystemClock())
    stack.push_async_callback(elector.release)
    return elector


def _passes(
    cluster: KubernetesCluster,
    suggester: Suggester,
    clock: SystemClock,
    settings: Settings,
    mirror: Mirror,
    metrics: OperatorMetrics,
    check: Callable[[Key], None],
) -> tuple[StudyQueue, PrometheusMetrics]:
    """The queue of passes, and who answers their questions: each knows of the others.

    Args:
        check: raises what keeps a study's pass from beginning.
    """

    async def one_pass(key: Key) -> float | None:
        check(key)
        return await reconciler.reconcile(key)

    async def failed(key: Key, error: Exception) -> None:
        await note_failure(cluster, mirror, key, error, clock)

    def answered(key: Key, job: str, readings: Mapping[str, Reading]) -> None:
        reconciler.answered(key, job, readings)
        queue.mark(key)

    queue = StudyQueue(metrics.timed(one_pass), settings.workers, failed)
    prometheus = PrometheusMetrics(settings, answered)
    aside = StepsAside(suggester, queue)
    reconciler = Reconciler(cluster, aside, prometheus, clock, settings, mirror)
    return queue, prometheus
