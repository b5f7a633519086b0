"""What kopf calls: events of studies become keys in the queue. No decisions here.

Only `on.event`: it writes nothing to the objects, neither annotations nor finalizers, so deleting
a study works while the operator is down, and nothing needs to be seen twice or in order. What
belongs to studies `watching.py` sees.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import kopf
from kubernetes.aio.client import ApiClient

from primo_operator import names
from primo_operator.asking import WorkerSuggester
from primo_operator.cluster import Object
from primo_operator.failures import note_failure
from primo_operator.kubernetes_cluster import KubernetesCluster, connect
from primo_operator.leadership import Candidacy, Elector, LeadershipLostError
from primo_operator.metrics import OperatorMetrics, StateCollector, TimedSuggester, serve
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.ports import Suggester
from primo_operator.prometheus import PrometheusMetrics
from primo_operator.queue import StepsAside, StudyQueue
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_operator.study_metrics import StudyCollector
from primo_operator.watching import Watching
from primo_study.queries import Reading

log = logging.getLogger(__name__)

# A watch that falls silent is renewed; the server ends it before we do.
SERVER_TIMEOUT_S = 300
CLIENT_TIMEOUT_S = 330
# An answer tells its second, and was under way.
DATE_WITHIN_S = 1.0


class SystemClock:
    """The API server's clock, as its answers tell it, and one that never goes back.

    What is read in objects are the API server's times: compared with a clock of our own that is an
    hour off, a run that waits would have waited for too long.
    """

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()  # noqa: TID251  # this is the Clock

    def tell(self, date: str | None) -> None:
        """What an answer's header says, in whole seconds; one that cannot be read says nothing."""
        try:
            told = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        start = told + 0.5 - time.monotonic()
        if abs(start - self._start) > DATE_WITHIN_S:
            self._start = start

    def now(self) -> float:
        return self._start + time.monotonic()

    def monotonic(self) -> float:
        return time.monotonic()


def registry(
    settings: Settings,
    context: str | None = None,
    candidacy: Candidacy | None = None,
    ending: asyncio.Future[int] | None = None,
    namespaces: Sequence[str] = (),
) -> kopf.OperatorRegistry:
    """All handlers, around one reconciler.

    Args:
        context: of the kubeconfig; None for the pod's own credentials or the current context.
        candidacy: what the operator waits for before it works, while it watches already; None: it
            works at once.
        ending: given the exit code at the end, and earlier if the operator leads no more: it has
            stopped working, and the process must end.
        namespaces: to watch; empty for all.
    """
    handlers = kopf.OperatorRegistry()
    mirror = Mirror()
    running: list[asyncio.Task[Any]] = []
    closing: list[Callable[[], Awaitable[None]]] = []
    queue: StudyQueue | None = None
    watching: Watching | None = None

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        client = await connect(context)
        try:
            return _credentials(client.configuration)
        finally:
            await client.close()

    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        nonlocal queue, watching
        _configure(settings)
        client = await connect(context)
        # Leadership must not wait behind the calls of passes, nor those behind watches.
        leading, watcher = await connect(context), await connect(context)
        watcher.rest_client.maxsize = 0  # each watch holds a connection for good
        elector = _elector(leading, candidacy) if candidacy else None
        may_write = (lambda: elector.leads) if elector else (lambda: True)
        told = OperatorMetrics()
        clock = SystemClock()
        cluster = KubernetesCluster(
            client, ours.request_timeout_s, may_write, told.count_request, clock.tell
        )
        worker = WorkerSuggester(ours.suggestion_timeout_s, ours.suggestion_memory_mib)

        def answered(key: Key, job: str, readings: Mapping[str, Reading]) -> None:
            reconciler.answered(key, job, readings)
            if queue:
                queue.mark(key)

        prometheus = PrometheusMetrics(ours, answered)
        served = ours.operator_metrics_port > 0
        suggester: Suggester = TimedSuggester(worker, told) if served else worker

        async def one_pass(key: Key) -> float | None:
            return await reconciler.reconcile(key)

        async def failed(key: Key, error: Exception) -> None:
            await note_failure(cluster, mirror, key, error, clock)

        queue = StudyQueue(told.timed(one_pass), ours.workers, failed)
        suggester = StepsAside(suggester, queue)
        reconciler = Reconciler(cluster, suggester, prometheus, clock, ours, mirror)
        watching = Watching(
            KubernetesCluster(watcher, ours.request_timeout_s, count=told.count_request),
            mirror,
            queue.mark,
            clock.monotonic,
            ours.resync_s,
            namespaces,
        )
        closing.extend((prometheus.close, worker.close))
        if served:
            told.registry.register(StateCollector(queue, worker, may_write))
            closing.append((await serve(told, ours, mirror)).cleanup)
        if elector:
            closing.append(elector.release)
        closing.extend((client.close, watcher.close, leading.close))
        running.append(asyncio.create_task(watching.run(), name="watches"))

        def work() -> None:
            # Who waits for the lead sees the studies too, and would show them a second time.
            told.registry.register(StudyCollector(mirror, ours, clock.now))
            running.append(asyncio.create_task(queue.run(), name="passes"))
            running.append(asyncio.create_task(cluster.post_notices(), name="notices"))

        if elector:
            running.append(asyncio.create_task(lead(elector, work), name="leadership"))
        else:
            work()

    async def lead(elector: Elector, work: Callable[[], None]) -> None:
        try:
            await elector.acquire()
            work()
            await elector.hold()
        except Exception as error:  # after a bug of ours too: one that neither leads nor waits
            known = isinstance(error, LeadershipLostError)
            log.error("stopping: %s", error, exc_info=None if known else error)
            for task in running:
                if task is not asyncio.current_task():
                    task.cancel()
            end(1)

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for close in closing:
            await close()
        end(0)

    def end(code: int) -> None:
        if ending and not ending.done():
            ending.set_result(code)

    @kopf.on.probe(id="passes", registry=handlers)
    async def passes(**_: Any) -> int:
        # Without one of these the watches go on and no study does: only a restart helps.
        ended = [task.get_name() for task in running if task.done()]
        if ended:
            raise kopf.PermanentError(f"ended, and must not: {', '.join(ended)}")
        return queue.passes if queue else 0

    ours = settings

    @kopf.on.event(names.GROUP, names.VERSION, names.STUDIES, registry=handlers)
    async def study(event: kopf.RawEvent, **_: Any) -> None:
        obj: Object = dict(event["object"])
        key = mirror.absorb(Kind.STUDY, obj, deleted=event["type"] == "DELETED")
        # Before all that belongs to studies has been listed there is nothing to decide from.
        if key and queue and watching and watching.synced.is_set():
            queue.mark(key)

    return handlers


def _elector(client: ApiClient, candidacy: Candidacy) -> Elector:
    # One call that hangs must leave time for another before leadership is lost.
    return Elector(candidacy, KubernetesCluster(client, candidacy.renew_s / 2), SystemClock())


def _configure(settings: kopf.OperatorSettings) -> None:
    # Held apart by a Lease: peering would freeze two equal ones.
    settings.peering.standalone = True
    # With scanning on, and its cluster-wide rights denied, kopf does nothing for a minute.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = CLIENT_TIMEOUT_S
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30


def _credentials(configuration: Any) -> kopf.ConnectionInfo:
    # Some ways to credentials say "Bearer TOKEN", a pod's own "bearer TOKEN".
    token = (configuration.api_key.get("BearerToken") or "").rpartition(" ")[2].strip()
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
