"""One running API server: objects, background work and the listening socket, put together."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from primo_local.apiserver import crd
from primo_local.apiserver.api import Api, WriteOptions
from primo_local.apiserver.builtins.catalogue import BUILTINS
from primo_local.apiserver.clock import Clock, utc_now
from primo_local.apiserver.crd import serve_definitions
from primo_local.apiserver.gc import GarbageCollector
from primo_local.apiserver.http import HttpApi
from primo_local.apiserver.journal import Journal
from primo_local.apiserver.lifecycle import Lifecycle
from primo_local.apiserver.objects import Key
from primo_local.apiserver.podlog import NodeAccess
from primo_local.apiserver.registry import Registry
from primo_local.apiserver.store import Store

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_SHUTDOWN_S = 0.2


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers; `failed` ends if its background work breaks."""

    port: int
    failed: asyncio.Future[None]


def new_api(clock: Clock = utc_now, first_revision: int | None = None) -> Api:
    """Objects and resources as they are before anybody has written anything."""
    api = _empty_api(clock, first_revision)
    _make_namespaces(api)
    return api


def _empty_api(clock: Clock, first_revision: int | None) -> Api:
    if first_revision is None:
        # Milliseconds outrun any earlier process's count, so its revisions are answered with 410.
        first_revision = int(clock().timestamp() * 1000)
    api = Api(Store(first_revision), Registry(), clock)
    api.registry.add(BUILTINS)
    api.store.listen(serve_definitions(api.registry))
    return api


def _make_namespaces(api: Api) -> None:
    namespaces = api.registry.get("", "v1", "namespaces")
    for name in _NAMESPACES:
        if api.store.get(namespaces.shelf, Key("", name)) is None:
            api.create(namespaces, "", {"metadata": {"name": name}}, WriteOptions())


@contextlib.asynccontextmanager
async def serve(
    tls: ssl.SSLContext, access: NodeAccess, port: int = 0, journal: Journal | None = None
) -> AsyncIterator[Serving]:
    """Serve on loopback until the context ends; raises OSError if the port is taken.

    Args:
        journal: what is kept in it is there again; None: all is forgotten at the end.
    """
    # A clock that was set back must not give a revision a second time.
    least = journal.revision + 1 if journal else 0
    api = _empty_api(utc_now, max(int(utc_now().timestamp() * 1000), least))
    collector, lifecycle = GarbageCollector(api), Lifecycle(api)
    if journal:
        journal.restore(api.store, first=crd.SHELF)
    _make_namespaces(api)
    application = HttpApi(api, access).application()
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_S,
        # A watch of a quiet kind would not notice for half an hour that its client has gone.
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        tasks = [collector.run(), lifecycle.run(), lifecycle.sweep_events()]
        work = asyncio.gather(*tasks, *([journal.failed] if journal else []))
        try:
            yield Serving(_port(runner), work)  # type: ignore[arg-type] # none of them returns
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
    finally:
        await runner.cleanup()


def _port(runner: web.AppRunner) -> int:
    return int(runner.addresses[0][1])
