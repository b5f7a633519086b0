"""What the server refuses, in the words of Kubernetes: Status bodies and their causes."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from primo_local.apiserver.objects import Json


class GroupKind(Protocol):
    """The names of a resource that error texts need."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def plural(self) -> str: ...


def group_resource(resource: GroupKind) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def group_kind(resource: GroupKind) -> str:
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong."""

    field: str
    reason: str
    message: str

    def as_json(self) -> Json:
        return {"reason": self.reason, "message": self.message, "field": self.field}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def _shown(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= 400 else text[:400] + "…"


def required(field: str, detail: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid_value(field: str, value: Any, detail: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}")


def type_invalid(field: str, value: Any, expected: str) -> Cause:
    kind = _shown(json_type(value))
    detail = f"{field or '<root>'} in body must be of type {expected}: {_shown(value)}"
    return Cause(field, "FieldValueTypeInvalid", f"Invalid value: {kind}: {detail}")


def not_supported(field: str, value: Any, supported: Iterable[Any]) -> Cause:
    values = ", ".join(_shown(each) for each in supported)
    message = f"Unsupported value: {_shown(value)}: supported values: {values}"
    return Cause(field, "FieldValueNotSupported", message)


def duplicate(field: str, value: Any) -> Cause:
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {_shown(value)}")


def forbidden_field(field: str, detail: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {detail}")


def reference_missing(field: str, value: Any) -> Cause:
    return Cause(field, "FieldValueNotFound", f"Not found: {_shown(value)}")


def too_long(field: str, limit: int) -> Cause:
    return Cause(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> Cause:
    message = f"Too many: {count}: must have at most {limit} items"
    return Cause(field, "FieldValueTooMany", message)


def json_type(value: Any) -> str:
    """The JSON name of a value's type, as error texts have it."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case None:
            return "null"
    return "object"


class ApiError(Exception):
    """A refused request; becomes a Status body.

    Attributes:
        code: the HTTP status.
        reason: the machine-readable word clients branch on.
        details: the Status' details, may be empty.
    """

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    def status(self) -> Json:
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
        return {**body, "details": self.details} if self.details else body


def _details(resource: GroupKind, name: str) -> Json:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {field: value for field, value in details.items() if value}


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def not_found(resource: GroupKind, name: str) -> ApiError:
    message = f'{group_resource(resource)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(resource, name))


def already_exists(resource: GroupKind, name: str) -> ApiError:
    message = f'{group_resource(resource)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: GroupKind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {group_resource(resource)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def stale(resource: GroupKind, name: str) -> ApiError:
    why = (
        "the object has been modified; "
        "please apply your changes to the latest version and try again"
    )
    return conflict(resource, name, why)


def forbidden(resource: GroupKind, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    details = _details(resource, name)
    if causes:
        details["causes"] = [cause.as_json() for cause in causes]
    message = f'{group_resource(resource)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, details)


def invalid(resource: GroupKind, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with one cause for each field; the message lists them as kubectl prints it."""
    texts = [str(cause) for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: Json = {**_details(resource, name), "kind": resource.kind}
    details["causes"] = [cause.as_json() for cause in causes]
    message = f'{group_kind(resource)} "{name}" is invalid: {listed}'
    return ApiError(422, "Invalid", message, details)


def method_not_allowed(verb: str, resource: GroupKind) -> ApiError:
    message = f'{verb} is not supported on resources of kind "{group_resource(resource)}"'
    return ApiError(405, "MethodNotAllowed", message, _details(resource, ""))


def unsupported_media_type(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)
