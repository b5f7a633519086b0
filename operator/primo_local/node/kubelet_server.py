"""The node's HTTPS port, where the API server fetches container logs."""

import hmac
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from primo_local.apiserver.clock import parse_timestamp, utc_now
from primo_local.client import Obj
from primo_local.node.agent import Agent
from primo_local.node.logs import Options, stream
from primo_local.node.states import ADDRESS

TRUE: Final = ("true", "1")


def options_of(query: Mapping[str, str]) -> Options:
    """Raises ValueError for a number or time that is none."""
    since = None
    if query.get("sinceTime"):
        since = parse_timestamp(query["sinceTime"])
    if query.get("sinceSeconds"):
        since = utc_now() - timedelta(seconds=int(query["sinceSeconds"]))
    return Options(
        tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
        since=since,
        timestamps=query.get("timestamps") in TRUE,
        limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
    )


class KubeletServer:
    """Serves logs on loopback to who holds the token."""

    def __init__(self, agent: Agent, token: str) -> None:
        self._agent = agent
        self._token = token
        self._runner: web.AppRunner | None = None

    async def start(self, certificate: Path, key: Path) -> int:
        """Listen on a free port and return it."""
        app = web.Application(middlewares=[self._authorise])
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/healthz", self._health)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, ADDRESS, 0, ssl_context=tls, shutdown_timeout=0.5)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise web.HTTPUnauthorized
        return await handler(request)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["namespace"], request.match_info["pod"]
        container = request.match_info["container"]
        previous = request.query.get("previous") in TRUE
        pod = self._agent.find(key)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{key[1]}" not found\n')
        try:
            options = options_of(request.query)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        path = self._agent.log_of(pod, container, previous=previous)
        if path is None:
            raise web.HTTPBadRequest(text=_why_none(pod, container, previous=previous))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follow = request.query.get("follow") in TRUE and not previous
        running = self._agent.running(pod)
        pieces = stream(
            path,
            options,
            follow=follow,
            has_ended=lambda: running is None or running.has_ended(container),
        )
        async for piece in pieces:
            await response.write(piece)
        return response


def _why_none(pod: Obj, container: str, *, previous: bool) -> str:
    spec, name = pod["spec"], pod["metadata"]["name"]
    known = [c["name"] for c in (*spec["containers"], *(spec.get("initContainers") or []))]
    if container not in known:
        return f"container {container} is not valid for pod {name}\n"
    if previous:
        return f'previous terminated container "{container}" in pod "{name}" not found\n'
    status = pod.get("status") or {}
    groups = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    reason = next(
        (
            (each.get("state") or {}).get("waiting", {}).get("reason", "")
            for each in groups
            if each["name"] == container
        ),
        "",
    )
    return f'container "{container}" in pod "{name}" is waiting to start: {reason or "unknown"}\n'
