"""JSON that a stranger wrote: read within bounds, and named in messages within bounds."""

import json
from typing import Any, Final, TypeGuard

_MAX_EXACT_DIGITS: Final = 20  # a 64-bit integer with its sign


def is_number(given: object) -> TypeGuard[int | float]:
    return isinstance(given, int | float) and not isinstance(given, bool)


def loads(text: str) -> Any:
    """As json.loads, but long integers are floats and a repeated key is an error.

    Raises:
        ValueError: the text is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_int=_integer, object_pairs_hook=_unique)


def _integer(digits: str) -> int | float:
    # int() refuses thousands of digits, and takes long for hundreds.
    return int(digits) if len(digits) <= _MAX_EXACT_DIGITS else float(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key is repeated")
    return record


def shown(given: object) -> str:
    """A JSON value in a message; lists and objects unspelled, since they may be huge or deep."""
    match given:
        case str():
            return ascii(given if len(given) <= 40 else given[:37] + "...")
        case list():
            return "a list"
        case dict():
            return "an object" if given else "{}"
        case None | bool():
            return json.dumps(given)
        case _:
            return repr(given)


def shortened(text: str, length: int) -> str:
    """One line of printable ASCII."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return plain if len(plain) <= length else plain[: length - 3] + "..."
