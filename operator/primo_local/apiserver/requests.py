"""What a request is about: its path, its options and its body, read once."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from primo_local.apiserver.api import WriteOptions
from primo_local.apiserver.errors import bad_request, no_such_path, unsupported_media_type
from primo_local.apiserver.objects import Json, Key
from primo_local.apiserver.protobuf import PROTOBUF, decode_body
from primo_local.apiserver.registry import Registry, Resource
from primo_local.apiserver.selectors import Selection, parse_selection
from primo_local.wire import decode

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class Target:
    """The resource a path names; name and subresource are "" where it has none."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


def parse_target(registry: Registry, path: str) -> Target:
    """Raises a 404 for a path that leads nowhere."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    namespace = ""
    own = len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES
    if rest[0] == "namespaces" and len(rest) > 2 and not own:
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise no_such_path()
    plural, name, subresource = [*rest, "", ""][:3]
    resource = registry.get(group, version, plural)
    if namespace and not resource.namespaced:
        raise no_such_path()
    if resource.namespaced and name and not namespace:
        raise no_such_path()
    if subresource and resource.subresource(subresource) is None:
        raise no_such_path()
    return Target(resource, namespace, name, subresource)


def selection(request: web.Request, target: Target) -> Selection:
    query = request.query
    fields = query.get("fieldSelector", "")
    if target.name:  # a watch of one object by its own path
        fields = ",".join(filter(None, (fields, f"metadata.name={target.name}")))
    labels = query.get("labelSelector", "")
    return parse_selection(labels, fields, target.resource.selectable, target.namespace)


def write_options(request: web.Request, patch: str = "") -> WriteOptions:
    dry_run = request.query.getall("dryRun", [])
    if dry_run not in ([], ["All"]):
        raise bad_request(f"invalid dryRun {dry_run!r}: must be All")
    validation = request.query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise bad_request(f"invalid fieldValidation {validation!r}: must be Strict, Warn or Ignore")
    return WriteOptions(bool(dry_run), validation, patch)


def flag(request: web.Request, name: str) -> bool:
    return request.query.get(name) in ("true", "1", "True")


def number(request: web.Request, name: str) -> int | None:
    """A query parameter that counts something; raises a 400."""
    text = request.query.get(name)
    if not text:
        return None
    try:
        value = int(text)
    except ValueError as error:
        raise bad_request(f"invalid {name} {text!r}: must be an integer") from error
    if value < 0:
        raise bad_request(f"invalid {name} {text!r}: must not be negative")
    return value


def media_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", "application/json").split(";")[0].strip().lower()


async def read_object(request: web.Request) -> Json:
    """The body as one object, from JSON or, for a few kinds, protobuf."""
    kind = media_type(request)
    body = await request.read()
    if kind == PROTOBUF:
        return decode_body(body)
    if kind in ("application/json", "", "application/octet-stream"):
        value = load_json(body)
    else:
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json"
        )
    if not isinstance(value, dict) or not isinstance(value.get("metadata") or {}, dict):
        raise bad_request("the body of the request is not an object with metadata")
    return value


async def read_optional_object(request: web.Request) -> Json:
    return await read_object(request) if request.can_read_body and await request.read() else {}


def load_json(body: bytes) -> Any:
    """Raises a 400; numbers that JSON has no words for are refused, not passed on."""
    try:
        return decode(body)
    except ValueError as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from error
