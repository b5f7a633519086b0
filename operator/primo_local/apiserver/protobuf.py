"""Protobuf request bodies of the few kinds that kubectl and helm send in nothing else.

`kubectl create namespace|configmap|secret|serviceaccount`, `kubectl auth` and helm, about the
Secrets that hold its releases, send application/vnd.kubernetes.protobuf without a JSON fallback,
but take JSON replies. Field numbers are those of the generated.proto files in k8s.io/api and
k8s.io/apimachinery.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from primo_local.apiserver.errors import bad_request, unsupported_media_type
from primo_local.apiserver.objects import Json

PROTOBUF = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\0"
_TYPE_META, _RAW = 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

Message = Mapping[int, "Field"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; `read` turns its wire value into JSON."""

    name: str
    read: Callable[[Any], Any]
    repeated: bool = False
    entries: bool = False  # a map: its entries are merged into one object


def decode_body(body: bytes) -> Json:
    """Raises a 415 for a kind that is not in the table, a 400 for what is not protobuf."""
    if not body.startswith(_MAGIC):
        raise bad_request("the body of the request does not begin with the protobuf magic k8s\\0")
    try:
        envelope = dict(_fields(body[len(_MAGIC) :]))
        types = _message(envelope[_TYPE_META], {1: _TEXT("apiVersion"), 2: _TEXT("kind")})
        kind = types.get("kind", "")
        known = _KINDS.get(kind)
        fields = None if known is None else _message(envelope.get(_RAW, b""), known)
    except (IndexError, KeyError, ValueError, AttributeError) as error:
        raise bad_request(f"the body of the request is not valid protobuf: {error!r}") from error
    if fields is None:
        raise unsupported_media_type(
            f"protobuf bodies of kind {kind} are not supported by this local API server: "
            "write the object to a file and use kubectl apply -f, which sends JSON"
        )
    return {**types, **fields}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and their wire values: an int or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _LENGTH:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is not known")
        if at + size > len(data):
            raise ValueError("the message is cut off")
        yield tag >> 3, data[at : at + size]
        at += size


def _message(data: bytes, fields: Message) -> Json:
    found: Json = {}
    for number, value in _fields(data):
        field = fields.get(number)
        if field is None:
            continue
        decoded = field.read(value)
        if field.entries:
            found.setdefault(field.name, {}).update(decoded)
        elif field.repeated:
            found.setdefault(field.name, []).append(decoded)
        elif decoded not in ("", {}):
            found[field.name] = decoded
    return found


def _TEXT(name: str) -> Field:  # noqa: N802 reads as a type in the tables below
    return Field(name, bytes.decode)


def _TEXTS(name: str) -> Field:  # noqa: N802
    return Field(name, bytes.decode, repeated=True)


def _BOOL(name: str) -> Field:  # noqa: N802
    return Field(name, bool)


def _INT(name: str) -> Field:  # noqa: N802
    return Field(name, int)


def _NESTED(name: str, fields: Message, repeated: bool = False) -> Field:  # noqa: N802
    return Field(name, lambda data: _message(data, fields), repeated)


def _MAP(name: str, read: Callable[[bytes], str] = bytes.decode) -> Field:  # noqa: N802
    def entry(data: bytes) -> dict[str, str]:
        pair = dict(_fields(data))
        return {pair.get(1, b"").decode(): read(pair.get(2, b""))}

    return Field(name, entry, entries=True)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_OWNER: Message = {
    1: _TEXT("kind"),
    3: _TEXT("name"),
    4: _TEXT("uid"),
    5: _TEXT("apiVersion"),
    6: _BOOL("controller"),
    7: _BOOL("blockOwnerDeletion"),
}
_METADATA = _NESTED(
    "metadata",
    {
        1: _TEXT("name"),
        2: _TEXT("generateName"),
        3: _TEXT("namespace"),
        5: _TEXT("uid"),
        6: _TEXT("resourceVersion"),
        11: _MAP("labels"),
        12: _MAP("annotations"),
        13: _NESTED("ownerReferences", _OWNER, repeated=True),
        14: _TEXTS("finalizers"),
    },
)
_RESOURCE_ATTRIBUTES: Message = {
    1: _TEXT("namespace"),
    2: _TEXT("verb"),
    3: _TEXT("group"),
    4: _TEXT("version"),
    5: _TEXT("resource"),
    6: _TEXT("subresource"),
    7: _TEXT("name"),
}
_ACCESS_REVIEW: Message = {
    1: _NESTED("resourceAttributes", _RESOURCE_ATTRIBUTES),
    2: _NESTED("nonResourceAttributes", {1: _TEXT("path"), 2: _TEXT("verb")}),
}
_KINDS: Mapping[str, Message] = {
    "Namespace": {1: _METADATA},
    "ConfigMap": {
        1: _METADATA,
        2: _MAP("data"),
        3: _MAP("binaryData", _base64),
        4: _BOOL("immutable"),
    },
    "Secret": {
        1: _METADATA,
        2: _MAP("data", _base64),
        3: _TEXT("type"),
        4: _MAP("stringData"),
        5: _BOOL("immutable"),
    },
    "ServiceAccount": {1: _METADATA},
    "DeleteOptions": {
        1: _INT("gracePeriodSeconds"),
        2: _NESTED("preconditions", {1: _TEXT("uid"), 2: _TEXT("resourceVersion")}),
        3: _BOOL("orphanDependents"),
        4: _TEXT("propagationPolicy"),
        5: _TEXTS("dryRun"),
    },
    "SelfSubjectAccessReview": {1: _METADATA, 2: _NESTED("spec", _ACCESS_REVIEW)},
    "SelfSubjectRulesReview": {1: _METADATA, 2: _NESTED("spec", {1: _TEXT("namespace")})},
    "SelfSubjectReview": {1: _METADATA},
}
