"""What goes back over HTTP: JSON, Status bodies and the warnings beside them."""

from collections.abc import Iterable

from aiohttp import web

from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.objects import Json
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.store import encode

_JSON = "application/json"


def json_reply(
    body: bytes | Json, code: int = 200, warnings: Iterable[str] = (), media: str = _JSON
) -> web.Response:
    data = body if isinstance(body, bytes) else encode(body)
    reply = web.Response(body=data, status=code, headers={"Content-Type": media})
    # Nothing of this server may be kept by a proxy or a browser.
    reply.headers["Cache-Control"] = "no-cache, private"
    for each in warnings:
        reply.headers.add("Warning", f'299 - "{_quoted(each)}"')
    return reply


def error_reply(error: ApiError) -> web.Response:
    reply = json_reply(error.status(), error.code)
    if "retryAfterSeconds" in error.details:
        reply.headers["Retry-After"] = str(error.details["retryAfterSeconds"])
    return reply


def success(code: int = 200, details: Json | None = None) -> web.Response:
    body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return json_reply({**body, "details": details} if details else body, code)


def deleted(resource: Resource, obj: Json) -> web.Response:
    details = {"name": obj["metadata"]["name"], "kind": resource.plural}
    details |= {"group": resource.group} if resource.group else {}
    return success(details={**details, "uid": obj["metadata"]["uid"]})


def _quoted(text: str) -> str:
    """A quoted-string of RFC 9110; what a header cannot hold becomes a question mark."""
    plain = " ".join(text.split()).encode("ascii", "replace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"')
