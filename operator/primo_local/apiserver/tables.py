"""Tables: what `kubectl get` prints, made on the server from columns."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from primo_local.apiserver.clock import parse_timestamp
from primo_local.apiserver.jsonpath import find
from primo_local.apiserver.objects import Json, dig
from primo_local.wire import encode

Cell = Callable[[Json, datetime.datetime], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; priority above 0 is printed by `-o wide` only."""

    name: str
    cell: Cell
    type: str = "string"
    priority: int = 0
    description: str = ""
    format: str = ""

    def definition(self) -> Json:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


Columns = tuple[Column, ...]


def human_duration(elapsed: datetime.timedelta) -> str:
    """`5m30s`, `3h`, `12d`: the two largest units while the first is small."""
    seconds = int(elapsed.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 180:
        return _two(minutes, "m", seconds % 60, "s", minutes < 10)
    if hours < 48:
        return _two(hours, "h", minutes % 60, "m", hours < 8)
    if days < 730:
        return _two(days, "d", hours % 24, "h", days < 8)
    return _two(days // 365, "y", days % 365, "d", days < 8 * 365)


def _two(first: int, unit: str, second: int, smaller: str, both: bool) -> str:
    return f"{first}{unit}{second}{smaller}" if both and second else f"{first}{unit}"


def since(text: str | None, now: datetime.datetime) -> str:
    if not text:
        return "<unknown>"
    try:
        return human_duration(now - parse_timestamp(text))
    except ValueError:
        return "<invalid>"


def _age(obj: Json, now: datetime.datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


NAME = Column("Name", lambda obj, _: obj["metadata"]["name"], format="name")
AGE = Column("Age", _age)
AGE_ONLY: Columns = (NAME, AGE)


def path_column(
    name: str, path: str, kind: str, priority: int = 0, description: str = ""
) -> Column:
    """A printer column of a CRD: the first match of a JSONPath, dates as their age."""

    def cell(obj: Json, now: datetime.datetime) -> Any:
        found = find(path, obj)
        if not found or found[0] is None:
            return "<unknown>" if kind == "date" and path == ".metadata.creationTimestamp" else None
        if kind == "date":
            return since(str(found[0]), now)
        return _printed(found[0], kind)

    shown = "string" if kind == "date" else kind
    return Column(name, cell, shown, priority, description)


def _printed(value: Any, kind: str) -> Any:
    if kind == "integer":
        return int(value) if isinstance(value, int | float) else None
    if kind == "number":
        return value if isinstance(value, int | float) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, dict | list):
        return encode(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_column(name: str, *path: str, priority: int = 0) -> Column:
    """A built-in column that shows one field as text."""
    return Column(name, lambda obj, _: str(dig(obj, *path) or "<none>"), priority=priority)


def table(
    columns: Columns,
    objects: Sequence[Json],
    list_metadata: Json,
    now: datetime.datetime,
    include: str = "Metadata",
    headers: bool = True,
) -> Json:
    """A meta.k8s.io/v1 Table.

    Args:
        include: what each row carries of its object: None, Metadata or Object.
        headers: whether to define the columns; a watch does so in its first event only.
    """
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": [column.definition() for column in columns] if headers else None,
        "rows": [_row(columns, obj, now, include) for obj in objects],
    }


def _row(columns: Columns, obj: Json, now: datetime.datetime, include: str) -> Json:
    row: Json = {"cells": [column.cell(obj, now) for column in columns]}
    if include == "Object":
        row["object"] = obj
    elif include == "Metadata":
        row["object"] = partial_metadata(obj)
    return row


def partial_metadata(obj: Json) -> Json:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
