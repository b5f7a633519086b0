"""What requests ask an API server's authorizer for, and a server that answers as one would."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web
from kubernetes import client, config

# (verb, API group, resource with its subresource)
Right = tuple[str, str, str]
BY_METHOD = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding", "content-encoding"}


def rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    """The rules of a role, taken apart."""
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def right(method: str, url: str) -> tuple[Right, str] | None:
    """The right that a request needs, and in which namespace ("": in all of them).

    None for discovery, which every authenticated user may read.
    """
    parsed = urlsplit(url)
    _, kind, *parts = parsed.path.rstrip("/").split("/")
    group = "" if kind == "api" or not parts else parts.pop(0)
    _version, rest = parts[:1], parts[1:]
    if kind not in ("api", "apis") or not rest:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        _, namespace, *rest = rest
    plural, name, sub = rest[0], rest[1:2], rest[2:]
    verb = BY_METHOD.get(method) or ("get" if name else "list")
    if verb == "list" and parse_qs(parsed.query).get("watch") in (["true"], ["1"]):
        verb = "watch"
    if verb == "delete" and not name:
        verb = "deletecollection"
    return (verb, group, "/".join([plural, *sub])), namespace


class Authorizer:
    """A server before that of a kubeconfig which lets through what some rules allow.

    Attributes:
        kubeconfig: of this server.
        used: rights that requests have needed, and had.
        refused: those they have not had.
    """

    def __init__(self, upstream: Path, folder: Path, allowed: set[tuple[Right, str]]) -> None:
        self._upstream = client.Configuration()
        config.load_kube_config(str(upstream), client_configuration=self._upstream)
        self.kubeconfig = folder / "kubeconfig"
        self._allowed = set(allowed)
        self.used: set[Right] = set()
        self.refused: set[tuple[Right, str]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def take(self, *taken: Right) -> None:
        """These are not granted any more, wherever they were."""
        self._allowed -= {(needed, where) for needed, where in self._allowed if needed in taken}

    def give(self, *given: Right, namespace: str = "") -> None:
        """These are granted, in all namespaces if none is named."""
        self._allowed |= {(needed, namespace) for needed in given}

    def __enter__(self) -> Self:
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        tls = ssl.create_default_context(cafile=self._upstream.ssl_ca_cert)
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=16 * 1024**2)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.kubeconfig.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{port}")))

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # of watches that nobody reads any more
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        needed = right(request.method, str(request.rel_url))
        if needed is not None:
            if not {needed, (needed[0], "")} & self._allowed:
                self.refused.add(needed)
                return _forbidden(*needed)
            self.used.add(needed[0])
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        for setting in self._upstream.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        async with self._session.request(
            request.method,
            self._upstream.host + str(request.rel_url),
            data=await request.read(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as reply:
            answer = web.StreamResponse(status=reply.status)
            answer.content_type = reply.content_type
            await answer.prepare(request)
            async for chunk in reply.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
            return answer


def _forbidden(needed: Right, namespace: str) -> web.Response:
    """In the words of an API server's."""
    verb, group, resource = needed
    plural = resource.partition("/")[0]
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = (
        f'{f"{plural}.{group}" if group else plural} is forbidden: User "us" cannot {verb} resource'
        f' "{resource}" in API group "{group}" {where}'
    )
    body = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}
    return web.json_response({**body, "message": message}, status=403)


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "here", "user": {"token": "none"}}],
    }
