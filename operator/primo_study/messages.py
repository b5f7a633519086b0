"""Mistakes that pydantic finds, in our words: `field: value expectation`."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails


def tuples(value: Any) -> Any:
    """Lists as tuples, and no nulls, which are fields left out; the template stays as it is."""
    if isinstance(value, Mapping):
        return {
            key: item if key == "trialTemplate" else tuples(item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return tuple(tuples(item) for item in value)
    return value


def follows(details: ErrorDetails) -> bool:
    """Whether a list is called too short only because its bad items are not counted."""
    return (
        details["type"] == "too_short" and len(details["input"]) > details["ctx"]["actual_length"]
    )


def line(details: ErrorDetails) -> str:
    """Of one mistake, below `spec`."""
    path = "spec"
    for part in details["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    match details["type"]:
        case "missing":
            return f"{path}: is missing"
        case "extra_forbidden":
            return f"{path}: is not a field"
        case "model_type" | "dict_type":
            return f"{path}: {_shown(details['input'])} should be an object"
        case "tuple_type":
            return f"{path}: {_shown(details['input'])} should be a list"
        case _:
            # pydantic begins with the type: "Input should be", "String should have".
            _, should, expectation = (
                details["msg"].replace(" after validation", "").partition("should ")
            )
            return f"{path}: {_shown(details['input'])} {should}{expectation}"


def _shown(value: object) -> str:
    """A value as its user wrote it; of a list or an object only that it is one."""
    match value:
        case tuple() | list():
            return "a list"
        case Mapping():
            return "an object"
        case bool():
            return str(value).lower()
        case _:
            return f"{value!r:.80}"
