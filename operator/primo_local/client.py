"""Talks to a Kubernetes API server: requests and watches.

Small on purpose and used by the local cluster's own programs only. Everything goes over HTTP, so
they serve a real API server just as well.
"""

import base64
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml

from primo_local.wire import decode, encode

Obj = dict[str, Any]
Key = tuple[str, str]  # namespace (empty for cluster-wide objects) and name

MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"

REQUEST_TIMEOUT_S: Final = 30
WATCH_TIMEOUT_S: Final = 300


class ClientError(Exception):
    """A request that did not succeed.

    ├── UnreachableError   no answer; trying again may help
    └── ApiError           the server said no
        ├── NotFoundError     404
        ├── ConflictError     409, AlreadyExists included
        └── GoneError         410, a resource version too old to continue from
    """


class UnreachableError(ClientError):
    """The server did not answer."""


class ApiError(ClientError):
    """The server's refusal.

    Attributes:
        status: HTTP status code.
        reason: the server's one word, such as `AlreadyExists`.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: it exists, or it is not as the request expects."""


class GoneError(ApiError):
    """410: the watch or list cannot go on from that resource version."""


class InvalidKubeconfigError(Exception):
    """The kubeconfig lacks something, or asks for something this client does not do."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object and where it lives."""

    api_version: str  # "v1", "batch/v1"
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root = "/apis/" if "/" in self.api_version else "/api/"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (self.plural, name, subresource) if part)
        return f"{root}{self.api_version}{scope}{tail}"


CLAIMS: Final = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
CONFIG_MAPS: Final = Resource("v1", "ConfigMap", "configmaps")
EVENTS: Final = Resource("v1", "Event", "events")
JOBS: Final = Resource("batch/v1", "Job", "jobs")
LEASES: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")
NAMESPACES: Final = Resource("v1", "Namespace", "namespaces", namespaced=False)
NODES: Final = Resource("v1", "Node", "nodes", namespaced=False)
PODS: Final = Resource("v1", "Pod", "pods")
SECRETS: Final = Resource("v1", "Secret", "secrets")


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The server of a kubeconfig's current context, and how to be trusted by it."""

    server: str
    tls: ssl.SSLContext | None  # None for plain http
    token: str = field(default="", repr=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises:
        InvalidKubeconfigError: it is incomplete, turns verification off, or runs a plugin.
        """
        config = yaml.safe_load(path.read_text()) or {}
        context = _named(config, "context", config.get("current-context", ""), path)
        cluster = _named(config, "cluster", context.get("cluster", ""), path)
        user = _named(config, "user", context.get("user", ""), path)
        if cluster.get("insecure-skip-tls-verify"):
            raise InvalidKubeconfigError(f"{path}: insecure-skip-tls-verify is not supported")
        for plugin in ("exec", "auth-provider"):
            if plugin in user:
                raise InvalidKubeconfigError(f"{path}: users[].user.{plugin} is not supported")
        token = user.get("token") or ""
        if not token and "tokenFile" in user:
            token = (path.parent / user["tokenFile"]).read_text().strip()
        server = str(cluster["server"]).rstrip("/")
        tls = _tls(cluster, user, path.parent) if server.startswith("https:") else None
        return cls(server, tls, token)


def _named(config: Obj, kind: str, name: str, path: Path) -> Obj:
    for entry in config.get(f"{kind}s") or []:
        if entry["name"] == name:
            found: Obj = entry[kind]
            return found
    raise InvalidKubeconfigError(f"{path}: {kind}s has no entry named {name!r}")


def _tls(cluster: Obj, user: Obj, folder: Path) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    certificate = _material(user, "client-certificate", folder)
    key = _material(user, "client-key", folder)
    if certificate and key:
        # The ssl module reads certificate chains from files only.
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(certificate + b"\n" + key)
            pem.flush()
            tls.load_cert_chain(pem.name)
    return tls


def _material(section: Obj, name: str, folder: Path) -> bytes:
    if f"{name}-data" in section:
        return base64.b64decode(str(section[f"{name}-data"]))
    if name in section:
        return (folder / str(section[name])).read_bytes()
    return b""


class Client:
    """One connection pool to one API server. An async context manager."""

    def __init__(self, config: Kubeconfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json"}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            # Watches hold a connection each, so that a limit would starve the requests.
            connector=aiohttp.TCPConnector(ssl=self._config.tls or True, limit=0),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, selector: Mapping[str, str] | None = None, namespace: str = ""
    ) -> Obj:
        """The List object: `items` without apiVersion and kind, and `metadata.resourceVersion`."""
        return await self._request("GET", resource.path(namespace), query=selector)

    async def create(
        self, resource: Resource, namespace: str, body: Obj, name: str = "", subresource: str = ""
    ) -> Obj:
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        path = resource.path(namespace, name, subresource)
        return await self._request("POST", path, body={**head, **body})

    async def patch(
        self,
        resource: Resource,
        key: Key,
        body: Obj,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
    ) -> Obj:
        path = resource.path(*key, subresource)
        return await self._request("PATCH", path, body=body, content_type=content_type)

    async def delete(
        self,
        resource: Resource,
        key: Key,
        *,
        uid: str = "",
        grace_s: int | None = None,
        propagation: str = "Background",
    ) -> None:
        """Delete, if it is still the object with that uid. Already gone counts as done."""
        options: Obj = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._request("DELETE", resource.path(*key), body=options)
        except NotFoundError:
            return

    async def watch(
        self,
        resource: Resource,
        resource_version: str,
        selector: Mapping[str, str] | None = None,
    ) -> AsyncIterator[tuple[str, Obj]]:
        """Events after a resource version, bookmarks included, until the server ends the stream.

        Raises:
            GoneError: list again; the server no longer knows what happened since.
        """
        query = {
            **(selector or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=WATCH_TIMEOUT_S + 30
        )
        url = self._config.server + resource.path()
        try:
            async with self._http.get(url, params=query, timeout=timeout) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await response.read())
                async for line in _lines(response.content):
                    event = decode(line)
                    if event["type"] == "ERROR":
                        raise _refusal(int(event["object"].get("code", 500)), event["object"])
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(f"watch {resource.plural}", error) from error

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use the client as a context manager"
        return self._session

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Obj | None = None,
        content_type: str = "application/json",
    ) -> Obj:
        try:
            async with self._http.request(
                method,
                self._config.server + path,
                params=query,
                data=None if body is None else encode(body),
                headers={} if body is None else {"Content-Type": content_type},
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(f"{method} {path}", error) from error
        if response.status >= 400:
            raise _refusal(response.status, answer)
        decoded: Obj = decode(answer)
        return decoded


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not stream.readline(): it refuses lines over its buffer, and an object may have a megabyte.
    pending = bytearray()
    async for piece in stream.iter_any():
        *lines, rest = (pending + piece).split(b"\n")
        pending = rest
        for line in lines:
            if line:
                yield bytes(line)


def _unreachable(attempt: str, error: Exception) -> UnreachableError:
    # The kind as well: a time-out has no text of its own, and a repr has far too much.
    return UnreachableError(f"{attempt}: {type(error).__name__}: {error}")


def _refusal(status: int, answer: bytes | Obj) -> ApiError:
    facts: Obj
    if isinstance(answer, bytes):
        try:
            facts = decode(answer)
        except ValueError:
            facts = {"message": answer.decode(errors="replace")[:500]}
    else:
        facts = answer
    kinds: dict[int, type[ApiError]] = {404: NotFoundError, 409: ConflictError, 410: GoneError}
    kind = kinds.get(status, ApiError)
    return kind(status, str(facts.get("reason", "Unknown")), str(facts.get("message", "")))


def key_of(item: Obj) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
