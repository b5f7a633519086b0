"""The forms in which objects leave the server: as they are, as Tables, or metadata alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from primo_local.apiserver.clock import Clock
from primo_local.apiserver.listing import Page
from primo_local.apiserver.objects import Json
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.store import Record
from primo_local.apiserver.tables import partial_metadata, table
from primo_local.apiserver.watch import Observed
from primo_local.wire import encode

OBJECT, TABLE, PARTIAL = "", "Table", "PartialObjectMetadata"
_INITIAL_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class View:
    """One client's form of one resource.

    Attributes:
        include: for Tables, what a row carries of its object.
        headers: for Tables, whether columns are defined; only a watch's first event does so.
    """

    resource: Resource
    clock: Clock
    form: str = OBJECT
    include: str = "Metadata"
    headers: bool = True

    def one(self, record: Record) -> bytes:
        obj = self.resource.strategy.from_storage(record.obj)
        if self.form == TABLE:
            version = {"resourceVersion": record.obj["metadata"].get("resourceVersion", "")}
            return encode(self._table([obj], version))
        if self.form == PARTIAL:
            return encode(partial_metadata(obj))
        return record.encoded if obj is record.obj else encode(obj)

    def many(self, page: Page) -> bytes:
        fields: Json = {"resourceVersion": str(page.revision)}
        if page.token:
            fields |= {"continue": page.token, "remainingItemCount": page.remaining}
        if self.form == TABLE:
            strategy = self.resource.strategy
            objects = [strategy.from_storage(record.obj) for record in page.records]
            return encode(self._table(objects, fields))
        kind, version = self.resource.list_kind, self.resource.api_version
        if self.form == PARTIAL:
            kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        # The records' own texts are joined, so that a list costs no second encoding.
        head = encode({"kind": kind, "apiVersion": version, "metadata": fields})
        items = b",".join(self.one(record) for record in page.records)
        return b'%s,"items":[%s]}' % (head[:-1], items)

    def event(self, seen: Observed) -> bytes:
        """One line of a watch."""
        if seen.record is not None:
            body = self.one(seen.record)
        elif seen.error is not None:
            body = encode(seen.error)
        else:
            body = encode(self._bookmark(seen))
        return b'{"type":"%s","object":%s}\n' % (seen.type.encode(), body)

    def without_headers(self) -> "View":
        return replace(self, headers=False)

    def _bookmark(self, seen: Observed) -> Json:
        fields: Json = {"resourceVersion": str(seen.revision)}
        if seen.initial_end:
            fields["annotations"] = _INITIAL_END
        if self.form == TABLE:
            return self._table([], fields)
        kind, version = self.resource.kind, self.resource.api_version
        if self.form == PARTIAL:
            kind, version = PARTIAL, "meta.k8s.io/v1"
        return {"kind": kind, "apiVersion": version, "metadata": fields}

    def _table(self, objects: Sequence[Json], fields: Json) -> Json:
        columns = self.resource.strategy.columns
        return table(columns, objects, fields, self.clock(), self.include, self.headers)


def view_for(request: web.Request, resource: Resource, clock: Clock) -> View:
    """The first form in Accept that we have; plain JSON is always one."""
    for choice in request.headers.get("Accept", "").split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        asked = dict(part.partition("=")[::2] for part in parameters)
        if media not in ("application/json", "*/*", "application/*", ""):
            continue
        form = asked.get("as", OBJECT).removesuffix("List")
        if form in (OBJECT, TABLE, PARTIAL) and asked.get("v", "v1") == "v1":
            include = request.query.get("includeObject") or "Metadata"
            return View(resource, clock, form, include)
    return View(resource, clock)
