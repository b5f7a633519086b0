"""Label and field selectors: parsed once, matched against many objects."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from primo_local.apiserver.errors import bad_request
from primo_local.apiserver.objects import Json, dig

_KEY = r"[A-Za-z0-9](?:[-\w./]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_PRESENCE = re.compile(rf"(!?)\s*({_KEY})")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^()]*\))")

Requirement = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind a request is about."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[tuple[str, str, bool], ...] = ()  # path, value, whether they must be equal
    namespace: str = ""

    def __call__(self, obj: Json) -> bool:
        metadata = obj["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        if self.labels:
            labels = metadata.get("labels") or {}
            if not all(requirement(labels) for requirement in self.labels):
                return False
        return all((field_text(obj, path) == value) is equal for path, value, equal in self.fields)


def parse_selection(
    labels: str, fields: str, supported: Collection[str], namespace: str = ""
) -> Selection:
    """Raises a 400 for what does not parse or names a field that is not selectable."""
    return Selection(parse_labels(labels), parse_fields(fields, supported), namespace)


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k`."""
    if not text.strip():
        return ()
    return tuple(_requirement(part.strip()) for part in _COMMA_OUTSIDE_PARENTHESES.split(text))


def _requirement(text: str) -> Requirement:
    if found := _SET.fullmatch(text):
        key, operator, listed = found.groups()
        return _in_set(key, frozenset(each.strip() for each in listed.split(",")), operator == "in")
    if found := _EQUALITY.fullmatch(text):
        key, operator, value = found.groups()
        return _in_set(key, frozenset({value}), operator != "!=")
    if found := _PRESENCE.fullmatch(text):
        negated, key = found.groups()
        return _present(key, not negated)
    raise bad_request(f"unable to parse requirement: {text!r} is not a label selector")


def _in_set(key: str, values: frozenset[str], wanted: bool) -> Requirement:
    # An absent label is in no set: `notin` and `!=` select it.
    return lambda labels: (labels.get(key) in values) is wanted


def _present(key: str, wanted: bool) -> Requirement:
    return lambda labels: (key in labels) is wanted


def parse_fields(text: str, supported: Collection[str]) -> tuple[tuple[str, str, bool], ...]:
    return tuple(_field(part, supported) for part in text.split(",") if part.strip())


def _field(text: str, supported: Collection[str]) -> tuple[str, str, bool]:
    found = re.fullmatch(r"\s*([^=!\s]+)\s*(==|!=|=)(.*)", text, re.DOTALL)
    if found is None:
        raise bad_request(f"invalid field selector: {text!r} is not of the form path=value")
    path, operator, value = found.groups()
    if path not in supported:
        raise bad_request(f"field label not supported: {path}")
    return path, value, operator != "!="


def field_text(obj: Json, path: str) -> str:
    """A field as selectors see it; absent is the empty text, booleans are lower case."""
    value = dig(obj, *path.split("."))
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
    return str(value)
