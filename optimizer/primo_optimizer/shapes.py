"""What foreign data looks like: checks of types and field names, put together to shapes.

A check yields each mistake as `field: value expectation` and nothing else, whatever it is given.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

# From the path of a field and its value to what is wrong with it.
Check = Callable[[str, Any], Iterator[str]]


def plain(value: Any) -> Any:
    """As JSON would hand it over: numpy numbers and arrays, tuples and mappings made plain.

    What is no JSON stays as it is.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    # Scalars and arrays of numpy and torch, neither of which is imported for it.
    return value.tolist() if hasattr(value, "tolist") else value


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float, and no bool; an int that no float can hold is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def shown(value: Any) -> str:
    """A value as its user wrote it; of a list or an object only that it is one."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case Mapping():
            return "an object"
        case int() if not is_number(value):
            return "a number of more than 300 digits"  # Python refuses to print one of 5,000
        case _:
            return f"{value!r:.80}"


def there_are(names: Sequence[str]) -> str:
    return f"(there are: {', '.join(names)})" if names else "(there are none)"


def number(at: str, value: Any) -> Iterator[str]:
    if not is_number(value):
        yield f"{at}: {shown(value)} is not a finite number"


def whole_number(at: str, value: Any) -> Iterator[str]:
    """3.0 is one: the API server takes it for one too."""
    if not is_number(value) or value != int(value):
        yield f"{at}: {shown(value)} is not a whole number"


def flag(at: str, value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{at}: {shown(value)} is not true or false"


def text(at: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{at}: {shown(value)} is not a string"
    elif not value.strip():
        yield f"{at}: {shown(value)} is empty"


def items(at: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{at}: {shown(value)} is not a list"


def entries(at: str, value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{at}: {shown(value)} is not an object"


def anything(at: str, value: Any) -> Iterator[str]:  # noqa: ARG001
    yield from ()


def one_of(*words: str) -> Check:
    def check(at: str, value: Any) -> Iterator[str]:
        if value not in words:
            yield f"{at}: {shown(value)} is not {' or '.join(words)}"

    return check


def items_of(check_item: Check) -> Check:
    def check(at: str, value: Any) -> Iterator[str]:
        yield from items(at, value)
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from check_item(f"{at}[{i}]", item)

    return check


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with these fields; null is as good as left out."""

    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)

    def __call__(self, at: str, value: Any) -> Iterator[str]:
        yield from self.unknown(at, value)
        yield from self.misshapen(at, value)

    def unknown(self, at: str, value: Any) -> Iterator[str]:
        """Of the fields that do not belong here."""
        names = [*self.required, *self.optional]
        for name in value if isinstance(value, Mapping) else ():
            if name not in names:
                yield f"{below(at, name)}: is not a field {there_are(names)}"

    def misshapen(self, at: str, value: Any) -> Iterator[str]:
        """Of those that do, and of the object itself."""
        if not isinstance(value, Mapping):
            yield from entries(at, value)
            return
        for name, check in {**self.required, **self.optional}.items():
            if value.get(name) is not None:
                yield from check(below(at, name), value[name])
            elif name in self.required:
                yield f"{below(at, name)}: is missing"


def below(at: str, name: Any) -> str:
    """The path of a field, whose name may be anything where a user gave it."""
    usual = isinstance(name, str) and name.strip() and name.isprintable()
    name = name if usual else shown(name)
    return f"{at}.{name}" if at else str(name)
