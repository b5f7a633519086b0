"""Kubernetes objects as plain JSON, and the few ways we look into them."""

from typing import Any, NamedTuple

Json = dict[str, Any]


class Key(NamedTuple):
    """Where an object lives within its kind; namespace is "" for cluster-scoped ones."""

    namespace: str
    name: str


def dig(value: Any, *path: str) -> Any:
    """The value at a path of field names, None where any of them is missing."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def key_of(obj: Json) -> Key:
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def with_metadata(obj: Json, **fields: Any) -> Json:
    """A copy with these metadata fields; None takes a field away."""
    metadata = {**obj["metadata"], **fields}
    return {**obj, "metadata": {k: v for k, v in metadata.items() if v is not None}}


def is_deleting(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def condition(obj: Json, kind: str) -> Json:
    """The status condition of a type, {} where there is none."""
    for each in dig(obj, "status", "conditions") or ():
        if each.get("type") == kind:
            return dict(each)
    return {}
