"""The verbs on objects: get, list, watch, create, update, patch, delete, deletecollection."""

from collections.abc import Callable

from aiohttp import web

from primo_local.apiserver.api import Api
from primo_local.apiserver.deletion import DeleteOptions, delete, parse_delete_options
from primo_local.apiserver.errors import (
    bad_request,
    invalid,
    invalid_value,
    method_not_allowed,
    unsupported_media_type,
)
from primo_local.apiserver.listing import Lister, Page, check_list_version
from primo_local.apiserver.objects import Json, dig, key_of
from primo_local.apiserver.patch import (
    APPLY,
    JSON,
    MERGE,
    STRATEGIC,
    json_patch,
    merge_patch,
    strategic_patch,
)
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.replies import deleted, json_reply
from primo_local.apiserver.requests import (
    Target,
    flag,
    load_json,
    media_type,
    number,
    read_object,
    read_optional_object,
    selection,
    write_options,
)
from primo_local.apiserver.views import View, view_for
from primo_local.apiserver.watch import WatchRequest, watch

_WATCH_TIMEOUT_S = 1800.0
_NEWEST = ("", "0")

Change = Callable[[Json], Json]


class Verbs:
    """Turns requests into calls of the Api and their results into replies."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lister = Lister(api.store)

    async def get(self, request: web.Request, target: Target) -> web.StreamResponse:
        if flag(request, "watch"):
            return await self._watch(request, target)
        if not target.name:
            return self._list(request, target)
        record = self._api.get(target.resource, target.key)
        return json_reply(self._view(request, target).one(record))

    def _list(self, request: web.Request, target: Target) -> web.Response:
        query, store = request.query, self._api.store
        token, version = query.get("continue", ""), query.get("resourceVersion", "")
        if token and version not in _NEWEST:
            raise bad_request("resourceVersion is forbidden together with continue")
        check_list_version(version, query.get("resourceVersionMatch", ""), store.revision)
        shelf = store.shelf(target.resource.shelf)
        select, limit = selection(request, target), number(request, "limit") or 0
        page = self._lister.page(shelf, select, limit, token)
        return json_reply(self._view(request, target).many(page))

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        asked = _watch_request(request, target)
        view = self._view(request, target)
        stream = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        shelf = self._api.store.shelf(target.resource.shelf)
        async for batch in watch(self._api.store, shelf, asked):
            lines = []
            for seen in batch:
                lines.append(view.event(seen))
                view = view.without_headers()
            try:
                await stream.write(b"".join(lines))
            except ConnectionResetError:
                break  # the client has gone; there is nobody to tell
        return stream

    async def create(self, request: web.Request, target: Target) -> web.Response:
        resource = target.resource
        if target.name or (resource.namespaced and not target.namespace):
            raise method_not_allowed("create", resource)
        obj = await read_object(request)
        options = write_options(request)
        record = self._api.create(resource, target.namespace, obj, options)
        return json_reply(self._view(request, target).one(record), 201, options.warnings)

    async def update(self, request: web.Request, target: Target) -> web.Response:
        body = await read_object(request)
        return self._changed(request, target, lambda _: _versioned(target, body))

    async def patch(self, request: web.Request, target: Target) -> web.Response:
        body = await request.read()
        change = patcher(target.resource, media_type(request), body)
        return self._changed(request, target, change, body.decode(errors="replace"))

    def _changed(
        self, request: web.Request, target: Target, change: Change, patch: str = ""
    ) -> web.Response:
        options = write_options(request, patch)
        record = self._api.update(target.resource, target.key, change, options, target.subresource)
        return json_reply(self._view(request, target).one(record), 200, options.warnings)

    async def delete(self, request: web.Request, target: Target) -> web.Response:
        options = parse_delete_options(await read_optional_object(request), dict(request.query))
        if not target.name:
            return self._delete_collection(request, target, options)
        resource = target.resource
        record, gone = delete(self._api, resource, target.key, options)
        if gone and not resource.strategy.returns_deleted:
            return deleted(resource, record.obj)
        warnings = resource.strategy.delete_warnings(options.propagation)
        return json_reply(self._view(request, target).one(record), 200, warnings)

    def _delete_collection(
        self, request: web.Request, target: Target, options: DeleteOptions
    ) -> web.Response:
        resource, store = target.resource, self._api.store
        if resource.namespaced and not target.namespace:
            raise method_not_allowed("deletecollection", resource)
        select = selection(request, target)
        found = [each for _, each in store.shelf(resource.shelf).sorted() if select(each.obj)]
        records = [delete(self._api, resource, key_of(each.obj), options)[0] for each in found]
        return json_reply(self._view(request, target).many(Page(records, store.revision)))

    def _view(self, request: web.Request, target: Target) -> View:
        return view_for(request, target.resource, self._api.clock)


def patcher(resource: Resource, kind: str, body: bytes) -> Change:
    """What a patch of a media type does to an object; raises a 415 for types not taken."""
    strategy = resource.strategy
    if kind == APPLY:
        raise unsupported_media_type(
            "server-side apply is not supported by this local API server: "
            "use kubectl apply without --server-side"
        )
    if kind not in (MERGE, JSON) and not (kind == STRATEGIC and strategy.strategic):
        accepted = [JSON, MERGE] + ([STRATEGIC] if strategy.strategic else [])
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted)
        )
    patch = load_json(body)

    def change(old: Json) -> Json:
        if kind == MERGE:
            new = merge_patch(old, patch)
        elif kind == JSON:
            new = json_patch(old, patch)
        else:
            new = strategic_patch(old, patch, strategy.schema(), strategy.definitions())
        if not isinstance(new, dict):
            raise bad_request("the patched object is not an object")
        return new

    return change


def _versioned(target: Target, body: Json) -> Json:
    """The body of a PUT, if the kind lets it come without a resourceVersion or it has one."""
    resource = target.resource
    if dig(body, "metadata", "resourceVersion") or resource.strategy.unconditional_update:
        return body
    detail = "must be specified for an update"
    raise invalid(resource, target.name, [invalid_value("metadata.resourceVersion", 0, detail)])


def _watch_request(request: web.Request, target: Target) -> WatchRequest:
    query = request.query
    version, initial = query.get("resourceVersion", ""), query.get("sendInitialEvents")
    if version and not version.isdigit():
        raise bad_request(f"invalid resource version {version!r}: must be a number")
    if initial is not None and query.get("resourceVersionMatch") != "NotOlderThan":
        raise bad_request(
            "sendInitialEvents is forbidden for a watch unless resourceVersionMatch is NotOlderThan"
        )
    from_start = initial == "true" or (initial is None and version in _NEWEST)
    after = None if from_start else int(version or "0")
    bookmarks = flag(request, "allowWatchBookmarks")
    return WatchRequest(
        select=selection(request, target),
        after=after,
        timeout_s=float(number(request, "timeoutSeconds") or _WATCH_TIMEOUT_S),
        bookmarks=bookmarks,
        announce_end=bookmarks and initial == "true",
    )
