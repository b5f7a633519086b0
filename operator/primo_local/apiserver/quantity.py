"""Kubernetes quantities: `500m`, `1Gi`, `4`, and the one spelling the API server stores."""

import re
from fractions import Fraction
from functools import lru_cache

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?"
)
_BINARY = {
    suffix: 1024**power for power, suffix in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
}
_DECIMAL = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}


class QuantityError(ValueError):
    """A text that is no quantity."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a quantity such as 500m, 2, 1.5Gi or 1e3")


@lru_cache(maxsize=1024)  # the same few are in each Job and pod
def parse(text: str) -> Fraction:
    """The exact value; raises QuantityError."""
    number, suffix = _split(text)
    return number * _factor(suffix)


def canonical(value: str | int | float) -> str:
    """The largest suffix that leaves a whole number, in the suffix's own family.

    A number is taken as its decimal text. Finer than a nano is rounded up, as the API server does.
    """
    return _canonical(value if isinstance(value, str) else repr(value))


@lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    number, suffix = _split(text)
    exact = number * _factor(suffix)
    if suffix in _BINARY and suffix and exact.denominator == 1:
        return _shortest(exact, [(Fraction(factor), name) for name, factor in _BINARY.items()])
    exact = Fraction(-((-exact * 10**9) // 1), 10**9)
    if suffix and suffix[0] in "eE" and len(suffix) > 1 and suffix not in _BINARY:
        return _exponent(exact)
    return _shortest(exact, [(factor, name) for name, factor in _DECIMAL.items()])


def _split(text: str) -> tuple[Fraction, str]:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise QuantityError(text)
    return Fraction(found["number"]), found["suffix"] or ""


def _factor(suffix: str) -> Fraction:
    if suffix in _BINARY and suffix:
        return Fraction(_BINARY[suffix])
    if suffix in _DECIMAL:
        return _DECIMAL[suffix]
    return Fraction(10) ** int(suffix[1:])


def _shortest(value: Fraction, units: list[tuple[Fraction, str]]) -> str:
    if value == 0:
        return "0"
    fitting = [(factor, name) for factor, name in units if (value / factor).denominator == 1]
    factor, name = max(fitting, key=lambda unit: unit[0])
    return f"{int(value / factor)}{name}"


def _exponent(value: Fraction) -> str:
    if value == 0:
        return "0"
    for power in range(18, -10, -3):
        scaled = value / Fraction(10) ** power
        if scaled.denominator == 1:
            return f"{int(scaled)}e{power}" if power else f"{int(scaled)}"
    raise AssertionError(value)  # the caller has rounded to nanos
