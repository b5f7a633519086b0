"""What kopf calls: events become keys in the queue. No decisions here.

Only `on.event`: it writes nothing to the objects, neither annotations nor finalizers, so deleting
a study works while the operator is down, and nothing needs to be seen twice or in order.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from primo_operator import names
from primo_operator.asking import WorkerSuggester
from primo_operator.cluster import Object
from primo_operator.kubernetes_cluster import KubernetesCluster, connect
from primo_operator.mirror import Kind, Mirror
from primo_operator.queue import StudyQueue
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings

# A watch that falls silent is renewed; the server ends it before we do.
SERVER_TIMEOUT_S = 300
CLIENT_TIMEOUT_S = 330


class SystemClock:
    """The wall clock, and the one that never goes back."""

    def now(self) -> float:
        return time.time()  # noqa: TID251  # this is the Clock

    def monotonic(self) -> float:
        return time.monotonic()


def registry(settings: Settings, context: str | None = None) -> kopf.OperatorRegistry:
    """All handlers, around one reconciler.

    Args:
        context: of the kubeconfig; None for the pod's own credentials or the current context.
    """
    handlers = kopf.OperatorRegistry()
    mirror = Mirror()
    running: list[asyncio.Task[Any]] = []
    closing: list[Callable[[], Awaitable[None]]] = []
    queue: StudyQueue | None = None

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        client = await connect(context)
        try:
            return _credentials(client.configuration)
        finally:
            await client.close()

    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        nonlocal queue
        _configure(settings)
        client = await connect(context)
        cluster = KubernetesCluster(client, ours.request_timeout_s)
        suggester = WorkerSuggester(ours.suggestion_timeout_s)
        reconciler = Reconciler(cluster, suggester, SystemClock(), ours, mirror)
        queue = StudyQueue(reconciler.reconcile, ours.workers)
        closing.extend((suggester.close, client.close))
        running.append(asyncio.create_task(queue.run(), name="passes"))
        running.append(asyncio.create_task(cluster.post_notices(), name="notices"))

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for close in closing:
            await close()

    @kopf.on.probe(id="passes", registry=handlers)
    async def passes(**_: Any) -> int:
        return queue.passes if queue else 0

    ours = settings

    def seen(kind: Kind, event: kopf.RawEvent) -> None:
        obj: Object = dict(event["object"])
        key = mirror.absorb(kind, obj, deleted=event["type"] == "DELETED")
        if key and queue:
            queue.mark(key)

    @kopf.on.event(names.GROUP, names.VERSION, names.STUDIES, registry=handlers)
    async def study(event: kopf.RawEvent, **_: Any) -> None:
        seen(Kind.STUDY, event)

    @kopf.on.event(names.GROUP, names.VERSION, names.TRIALS, registry=handlers)
    async def trial(event: kopf.RawEvent, **_: Any) -> None:
        seen(Kind.TRIAL, event)

    ours_only = {names.STUDY_LABEL: kopf.PRESENT}

    @kopf.on.event("batch", "v1", "jobs", labels=ours_only, registry=handlers)
    async def job(event: kopf.RawEvent, **_: Any) -> None:
        seen(Kind.JOB, event)

    @kopf.on.event("v1", "pods", labels=ours_only, registry=handlers)
    async def pod(event: kopf.RawEvent, **_: Any) -> None:
        seen(Kind.POD, event)

    return handlers


def _configure(settings: kopf.OperatorSettings) -> None:
    # One operator, held apart by its Deployment: peering would freeze two equal ones.
    settings.peering.standalone = True
    # With scanning on, and its cluster-wide rights denied, kopf does nothing for a minute.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = CLIENT_TIMEOUT_S
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    # Filtered by the server: all other Jobs and pods of the cluster never reach us.
    for resource in (("batch", "v1", "jobs"), ("", "v1", "pods")):
        settings.watching.label_selectors[resource] = names.STUDY_LABEL


def _credentials(configuration: Any) -> kopf.ConnectionInfo:
    token = (configuration.api_key.get("BearerToken") or "").removeprefix("Bearer ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
