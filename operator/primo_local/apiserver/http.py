"""The HTTP face: who may ask, which path means what, and refusals as Status bodies."""

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from aiohttp import web

from primo_local.apiserver import patch as patches
from primo_local.apiserver import pods, reviews, scale
from primo_local.apiserver.api import Api, WriteOptions
from primo_local.apiserver.builtins.namespace import PROTECTED
from primo_local.apiserver.deletion import delete, parse_delete_options
from primo_local.apiserver.discovery import discover
from primo_local.apiserver.errors import (
    ApiError,
    bad_request,
    forbidden,
    invalid,
    method_not_allowed,
    no_such_path,
    required,
    unsupported_media_type,
)
from primo_local.apiserver.listing import Lister, Page, check_list_version
from primo_local.apiserver.objects import Json
from primo_local.apiserver.openapi import OpenApi
from primo_local.apiserver.podlog import NodeAccess, stream_log
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.requests import (
    Target,
    flag,
    load_json,
    media_type,
    number,
    parse_target,
    read_object,
    read_optional_object,
    selection,
    write_options,
)
from primo_local.apiserver.store import Record
from primo_local.apiserver.views import TABLE, view_for
from primo_local.apiserver.watch import WatchRequest, watch
from primo_local.wire import encode

log = logging.getLogger(__name__)

MAXIMUM_BODY_BYTES = 3 << 20
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_WATCH_S = 1800
_APPLY_MESSAGE = (
    "server-side apply is not supported by this local API server: leave out --server-side, "
    "kubectl apply then patches on the client's side"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _json(body: Json | bytes, status: int = 200, media: str = "application/json") -> web.Response:
    data = body if isinstance(body, bytes) else encode(body)
    return web.Response(body=data, status=status, headers={"Content-Type": media})


def _version() -> Json:
    # The client's major version is the Kubernetes minor one whose schemas we serve.
    minor = version("kubernetes").split(".")[0]
    return {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0-local", "platform": "local"}


class HttpApi:
    """Answers every path of the server."""

    def __init__(self, api: Api, access: NodeAccess) -> None:
        self._api = api
        self._access = access
        self._lister = Lister(api.store)
        self._openapi = OpenApi(api.registry)

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[_as_status, self._admitted], client_max_size=MAXIMUM_BODY_BYTES
        )
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only our own host name (against DNS rebinding) and only who has the token."""
        host = re.sub(r":\d+$", "", request.headers.get("Host", ""))
        if host not in _LOCAL_HOSTS:
            raise ApiError(403, "Forbidden", f"host {host!r} is not this server")
        if request.path.rstrip("/") in _OPEN_PATHS:
            return await handler(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(token.strip().encode(), self._access.token.encode())
        if scheme.lower() != "bearer" or not known:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return await handler(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return _json(_version())
            case ["openapi", "v3"]:
                return _json(self._openapi.index())
            case ["openapi", "v3", *rest]:
                return _json(self._openapi.document("/".join(rest)))
            case ["api"] | ["api", _] | ["apis"] | ["apis", _] | ["apis", _, _]:
                accept = request.headers.get("Accept", "")
                document, media = discover(self._api.registry, parts, accept)
                return _json(document, media=media)
            case [""]:
                return _json({"paths": ["/api", "/apis", "/openapi/v3", "/version"]})
        target = parse_target(self._api.registry, request.path)
        if target.subresource not in ("", "status"):
            return await self._subresource(request, target)
        return await self._object(request, target)

    async def _object(self, request: web.Request, target: Target) -> web.StreamResponse:
        verb = _verb(request, target)
        if verb not in target.resource.verbs:
            raise method_not_allowed(verb, target.resource)
        match verb:
            case "watch":
                return await self._watch(request, target)
            case "list":
                return self._list(request, target)
            case "get":
                return self._one(request, target, self._api.get(target.resource, target.key))
            case "create":
                return await self._create(request, target)
            case "update":
                return await self._update(request, target)
            case "patch":
                return await self._patch(request, target)
            case "delete":
                return await self._delete(request, target)
        return await self._delete_collection(request, target)

    def _one(
        self,
        request: web.Request,
        target: Target,
        record: Record,
        status: int = 200,
        options: WriteOptions | None = None,
    ) -> web.Response:
        view = view_for(request, target.resource, self._api.clock)
        response = _json(view.one(record), status)
        _warn(response, options.warnings if options else [])
        return response

    def _list(self, request: web.Request, target: Target) -> web.Response:
        query = request.query
        check_list_version(
            query.get("resourceVersion", ""),
            query.get("resourceVersionMatch", ""),
            self._api.store.revision,
        )
        page = self._lister.page(
            self._api.store.shelf(target.resource.shelf),
            selection(request, target),
            number(request, "limit") or 0,
            query.get("continue", ""),
        )
        return _json(view_for(request, target.resource, self._api.clock).many(page))

    async def _create(self, request: web.Request, target: Target) -> web.Response:
        body = await read_object(request)
        resource = target.resource
        if resource.kind.startswith("SelfSubject"):
            return _json(reviews.review(resource.kind, body), 201)
        options = write_options(request)
        record = self._api.create(resource, target.namespace, body, options)
        return self._one(request, target, record, 201, options)

    async def _update(self, request: web.Request, target: Target) -> web.Response:
        body = await read_object(request)
        given = body.get("metadata") or {}
        resource = target.resource
        if not given.get("resourceVersion") and not resource.strategy.unconditional_update:
            self._api.get(resource, target.key)
            cause = required("metadata.resourceVersion", "must be specified for an update")
            raise invalid(resource, target.name, [cause])
        options = write_options(request)
        record = self._api.update(resource, target.key, lambda _: body, options, target.subresource)
        return self._one(request, target, record, options=options)

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        body = await request.read()
        options = write_options(request, body.decode(errors="replace"))
        change = _patch_change(target.resource, media_type(request), body)
        record = self._api.update(target.resource, target.key, change, options, target.subresource)
        return self._one(request, target, record, options=options)

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        resource = target.resource
        options = parse_delete_options(await read_optional_object(request), dict(request.query))
        if resource.plural == "namespaces" and target.name in PROTECTED:
            raise forbidden(resource, target.name, "this namespace may not be deleted")
        record, gone = delete(self._api, resource, target.key, options)
        warnings = list(resource.strategy.delete_warnings(options.propagation))
        if gone and not resource.strategy.returns_deleted:
            response = _json(_deleted(resource, record))
        else:
            response = self._one(request, target, record)
        _warn(response, warnings)
        return response

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = parse_delete_options(await read_optional_object(request), dict(request.query))
        select = selection(request, target)
        resource = target.resource
        found = self._api.store.shelf(resource.shelf).sorted()
        chosen = [(key, record) for key, record in found if select(record.obj)]
        for key, _ in chosen:
            delete(self._api, resource, key, options)
        page = Page([record for _, record in chosen], self._api.store.revision)
        return _json(view_for(request, resource, self._api.clock).many(page))

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        asked = _watch_request(request, target)
        resource, store = target.resource, self._api.store
        view = view_for(request, resource, self._api.clock)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for batch in watch(store, store.shelf(resource.shelf), asked):
                lines = []
                for seen in batch:
                    lines.append(view.event(seen))
                    view = view.without_headers() if view.form == TABLE else view
                await response.write(b"".join(lines))
            await response.write_eof()
        except ConnectionResetError:
            log.debug("a watcher has gone")
        return response

    async def _subresource(self, request: web.Request, target: Target) -> web.StreamResponse:
        resource, verb = target.resource, _verb(request, target)
        subresource = resource.subresource(target.subresource)
        if subresource is None or verb not in subresource.verbs:
            raise method_not_allowed(verb, resource)
        match target.subresource:
            case "log":
                return await stream_log(request, self._api, target, self._access)
            case "binding":
                body, options = await read_object(request), write_options(request)
                return _json(pods.bind(self._api, resource, target.key, body, options), 201)
            case "eviction":
                body = await read_object(request)
                return _json(pods.evict(self._api, resource, target.key, body), 201)
            case "finalize":
                return await self._update(request, target)
            case "scale":
                return await self._scale(request, target, verb)
        raise no_such_path()

    async def _scale(self, request: web.Request, target: Target, verb: str) -> web.Response:
        resource = target.resource
        if verb == "get":
            obj = self._api.get(resource, target.key).obj
            return _json(scale.scale_of(resource, obj))
        body = await request.read()
        options = write_options(request, body.decode(errors="replace"))

        def change(obj: Json) -> Json:
            current = scale.scale_of(resource, obj)
            if verb == "update":
                wanted = load_json(body)
            else:
                wanted = _patch_change(resource, media_type(request), body)(current)
            return scale.scaled(resource, obj, wanted)

        record = self._api.update(resource, target.key, change, options)
        return _json(scale.scale_of(resource, record.obj))


@web.middleware
async def _as_status(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal in the form that Kubernetes clients read."""
    try:
        return await handler(request)
    except ApiError as error:
        return _json(error.status(), error.code)
    except web.HTTPRequestEntityTooLarge:
        message = f"Request entity too large: limit is {MAXIMUM_BODY_BYTES}"
        return _json(ApiError(413, "RequestEntityTooLarge", message).status(), 413)
    except web.HTTPException as error:
        return _json(ApiError(error.status, "BadRequest", error.reason).status(), error.status)
    except (asyncio.CancelledError, ConnectionResetError):
        raise
    except Exception:  # the boundary of the process: a bug here must not end the server
        log.exception("request failed", extra={"path": request.path, "method": request.method})
        error_ = ApiError(500, "InternalError", "Internal error occurred: see the server's log")
        return _json(error_.status(), 500)


def _verb(request: web.Request, target: Target) -> str:
    match request.method:
        case "GET" if flag(request, "watch"):
            return "watch"
        case "GET":
            return "get" if target.name else "list"
        case "POST" if not target.name or target.subresource:
            if target.resource.namespaced and not target.namespace:
                raise method_not_allowed("create without a namespace", target.resource)
            return "create"
        case "PUT" if target.name:
            return "update"
        case "PATCH" if target.name:
            return "patch"
        case "DELETE":
            return "delete" if target.name else "deletecollection"
    raise method_not_allowed(request.method, target.resource)


def _patch_change(resource: Resource, media: str, body: bytes) -> Callable[[Json], Json]:
    strategy = resource.strategy
    if media == patches.APPLY:
        raise unsupported_media_type(_APPLY_MESSAGE)
    if media not in (patches.MERGE, patches.JSON, patches.STRATEGIC) or (
        media == patches.STRATEGIC and not strategy.strategic
    ):
        accepted = [patches.JSON, patches.MERGE]
        accepted += [patches.STRATEGIC] if strategy.strategic else []
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted)
        )
    patch = load_json(body)

    def change(obj: Json) -> Json:
        if media == patches.JSON:
            changed = patches.json_patch(obj, patch)
        elif media == patches.STRATEGIC:
            schema, definitions = strategy.schema(), strategy.definitions()
            changed = patches.strategic_patch(obj, patch, schema, definitions)
        else:
            changed = patches.merge_patch(obj, patch)
        if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
            raise bad_request("the patch leaves no object with metadata")
        return changed

    return change


def _watch_request(request: web.Request, target: Target) -> WatchRequest:
    after = number(request, "resourceVersion") or None
    initial = flag(request, "sendInitialEvents")
    bookmarks = flag(request, "allowWatchBookmarks")
    timeout = number(request, "timeoutSeconds")
    if not timeout:
        # Spread, so that watches opened together do not all end together.
        timeout = _WATCH_S + secrets.randbelow(_WATCH_S)
    return WatchRequest(
        select=selection(request, target),
        after=None if initial else after,
        timeout_s=timeout,
        bookmarks=bookmarks,
        announce_end=initial and bookmarks,
    )


def _deleted(resource: Resource, record: Record) -> Json:
    fields = record.obj["metadata"]
    details = {
        "name": fields["name"],
        "group": resource.group,
        "kind": resource.plural,
        "uid": fields["uid"],
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {name: value for name, value in details.items() if value},
    }


def _warn(response: web.Response, warnings: list[str]) -> None:
    for text in dict.fromkeys(warnings):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
