"""What every object's metadata must obey, and the fields that only the server writes."""

import re
import secrets
import uuid
from collections.abc import Callable

from primo_local.apiserver.errors import (
    Cause,
    forbidden_field,
    invalid_value,
    required,
    too_long,
)
from primo_local.apiserver.objects import Json, dig, is_deleting

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_ANNOTATION_BYTES = 256 << 10
# The generated part keeps clear of vowels so that it spells nothing.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_GENERATED_BASE = 63 - _SUFFIX_LENGTH

# Written by the server alone; what a client sends for them is replaced by what is stored.
SYSTEM_FIELDS = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "namespace",
    "name",
    "generateName",
    "resourceVersion",
)

NameRule = Callable[[str], str | None]


def subdomain(name: str) -> str | None:
    """What is wrong with a name that must be an RFC 1123 subdomain, None if nothing is."""
    if len(name) > 253:
        return "must be no more than 253 characters"
    if re.fullmatch(_SUBDOMAIN, name):
        return None
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
        "or '.', and must start and end with an alphanumeric character (e.g. 'example.com', "
        f"regex used for validation is '{_SUBDOMAIN}')"
    )


def label(name: str) -> str | None:
    """The same for an RFC 1123 label, as namespaces and containers have it."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    if re.fullmatch(_LABEL, name):
        return None
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc', "
        f"regex used for validation is '{_LABEL}')"
    )


def service_name(name: str) -> str | None:
    if len(name) <= 63 and re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        return None
    return (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
        "an alphabetic character, and end with an alphanumeric character"
    )


def new_uid() -> str:
    return str(uuid.uuid4())  # noqa: TID251 an object's identity is what nobody can foretell


def generated_name(base: str) -> str:
    suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX_LENGTH))
    return base[:_GENERATED_BASE] + suffix


def validate_metadata(metadata: Json, name_rule: NameRule) -> list[Cause]:
    name = metadata["name"]
    causes = []
    if problem := name_rule(name):
        causes.append(invalid_value("metadata.name", name, problem))
    causes += validate_labels(metadata.get("labels") or {}, "metadata.labels")
    causes += _annotations(metadata.get("annotations") or {})
    causes += _owners(metadata.get("ownerReferences") or [])
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if problem := qualified_name(finalizer):
            causes.append(invalid_value(f"metadata.finalizers[{index}]", finalizer, problem))
    return causes


def validate_labels(labels: Json, path: str) -> list[Cause]:
    causes = []
    for key, value in labels.items():
        if problem := qualified_name(key):
            causes.append(invalid_value(path, key, problem))
        if len(value) > 63:
            causes.append(too_long(path, 63))
        elif not re.fullmatch(_LABEL_VALUE, value):
            detail = (
                "a valid label must be an empty string or consist of alphanumeric characters, "
                "'-', '_' or '.', and must start and end with an alphanumeric character"
            )
            causes.append(invalid_value(path, value, detail))
    return causes


def qualified_name(name: str) -> str | None:
    """What is wrong with `name` or `prefix/name`."""
    prefix, slash, part = name.rpartition("/")
    if slash and (problem := subdomain(prefix)):
        return f"prefix part {problem}"
    if len(part) > 63:
        return "name part must be no more than 63 characters"
    if re.fullmatch(_QUALIFIED, part):
        return None
    return (
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and "
        "end with an alphanumeric character"
    )


def _annotations(annotations: Json) -> list[Cause]:
    path = "metadata.annotations"
    causes = [
        invalid_value(path, key, problem)
        for key in annotations
        if (problem := qualified_name(key.lower()))
    ]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _ANNOTATION_BYTES:
        causes.append(too_long(path, _ANNOTATION_BYTES))
    return causes


def _owners(references: list[Json]) -> list[Cause]:
    path = "metadata.ownerReferences"
    causes = [
        required(f"{path}[{index}].{field}", f"{field} must not be empty")
        for index, reference in enumerate(references)
        for field in ("apiVersion", "kind", "name", "uid")
        if not reference.get(field)
    ]
    if sum(bool(reference.get("controller")) for reference in references) > 1:
        detail = "Only one reference can have Controller set to true"
        causes.append(invalid_value(path, references, detail))
    return causes


def kept_metadata(new: Json, old: Json) -> Json:
    """A client's metadata with the system's own fields as they are stored."""
    merged = dict(new)
    for field in SYSTEM_FIELDS:
        if field in old:
            merged[field] = old[field]
        else:
            merged.pop(field, None)
    return tidy_metadata(merged)


def tidy_metadata(metadata: Json) -> Json:
    """Without empty collections and without field ownership, which we do not track."""
    dropped = ("managedFields", "selfLink")
    return {
        field: value
        for field, value in metadata.items()
        if field not in dropped and value not in (None, {}, [], "")
    }


def validate_finalizers_update(new: Json, old: Json) -> list[Cause]:
    if not is_deleting(old):
        return []
    added = set(dig(new, "metadata", "finalizers") or ()) - set(
        dig(old, "metadata", "finalizers") or ()
    )
    if not added:
        return []
    detail = (
        "no new finalizers can be added if the object is being deleted, "
        f"found new finalizers {sorted(added)}"
    )
    return [forbidden_field("metadata.finalizers", detail)]
