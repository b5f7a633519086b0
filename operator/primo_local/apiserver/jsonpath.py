"""The JSONPath of printer columns and scale paths: fields, indexes, `*` and equality filters."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"""\.(?P<field>(?:[^.\[\]\\]|\\.)+)
      | \[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]
      | \[(?P<index>-?\d+)\]
      | \[(?P<start>-?\d*):(?P<stop>-?\d*)\]
      | (?P<all>\[\*\]|\.\*)
      | \[\?\(\s*@(?P<path>[^=!\s]+)\s*(?P<operator>==|!=)
          \s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]
    """,
    re.VERBOSE,
)


class JsonPathError(ValueError):
    """A path that is not in the part of JSONPath we know."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is not a JSONPath such as .spec.replicas")


@dataclass(frozen=True, slots=True)
class _Step:
    kind: str
    argument: Any = None

    def __call__(self, values: list[Any]) -> list[Any]:
        return [found for value in values for found in self._one(value)]

    def _one(self, value: Any) -> list[Any]:
        if self.kind == "field":
            known = isinstance(value, dict) and self.argument in value
            return [value[self.argument]] if known else []
        if self.kind == "all":
            return [*value.values()] if isinstance(value, dict) else _as_list(value)
        if self.kind == "slice":
            return [*_as_list(value)[self.argument]]
        path, equal, wanted = self.argument
        return [each for each in _as_list(value) if (wanted in find(path, each)) is equal]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def find(path: str, value: Any) -> list[Any]:
    """All matches, in order; raises JsonPathError for a path we cannot read."""
    values = [value]
    for step in _steps(path):
        values = step(values)
    return values


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[_Step, ...]:
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if text and text[0] not in ".[":
        text = "." + text
    steps = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise JsonPathError(path)
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> _Step:
    if found["all"]:
        return _Step("all")
    if found["field"] is not None:
        return _Step("field", re.sub(r"\\(.)", r"\1", found["field"]))
    if found["quote"]:
        return _Step("field", found["quoted"])
    if found["index"] is not None:
        at = int(found["index"])
        return _Step("slice", slice(at, at + 1 or None))
    if found["path"] is not None:
        return _Step("filter", (found["path"], found["operator"] == "==", _literal(found["value"])))
    start, stop = (int(found[end]) if found[end] else None for end in ("start", "stop"))
    return _Step("slice", slice(start, stop))


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
