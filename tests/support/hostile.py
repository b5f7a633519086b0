"""What comes from outside at its worst, for hypothesis; PRIMO_FUZZ says how many examples."""

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Json = Any
Strategy = st.SearchStrategy[Any]

fuzz = settings(
    max_examples=int(os.environ.get("PRIMO_FUZZ", "30")),
    deadline=None,
    # To shrink whole studies takes longer than to read them.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

WORDS = (
    "", " ", "\x1b[2J\x1b[31mred", "a\nb", "\r\n", "\x00", "\u202egnp.exe", "\ud800", "\U0001f600",
    "[/bold]", "[red]x", "</script><img src=x onerror=alert(1)>", "$(PRIMO_TRIAL)", "$$(x)",
    "`id`", "'; rm -rf /", "../../etc/passwd", "x" * 5000, "(a+)+$", "NaN", "1e999", "-0", "null",
    "=cmd|' /C calc'!A0", "kube-system", "{{ .Values }}", "%s%n", "\u2028",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2**31, 2**53 + 1, -(2**63), 2**63, 10**4000, 1e308, -1e308, 5e-324, 0.1, 1e-12,
    float("nan"), float("inf"), True,
)  # fmt: skip

REQUIRED = frozenset({"type", "status", "name", "exitCode"})

text = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=()), max_size=30)
# As an API server hands it on: half a surrogate pair has become something else.
utf8 = text.map(lambda word: word.encode(errors="replace").decode())
scalar = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | text
json = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(text.filter(bool), inner, max_size=4)
    ),
    max_leaves=8,
)


def nested(depth: int) -> Json:
    value: Json = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@st.composite
def mutated(draw: Callable[..., Any], given: Strategy, with_: Strategy = json) -> Json:
    """A good value with up to three of its parts replaced, doubled, renamed or left out."""
    value = copy.deepcopy(draw(given))
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value, with_)
    return value


@st.composite
def incomplete(draw: Callable[..., Any], value: Json) -> Json:
    """A status of Kubernetes without some of the parts that it need not have."""
    if isinstance(value, dict):
        kept = {n: part for n, part in value.items() if n in REQUIRED or draw(st.integers(0, 9))}
        return {name: draw(incomplete(part)) for name, part in kept.items()}
    if isinstance(value, list):
        return [draw(incomplete(part)) for part in value if draw(st.integers(0, 9))]
    return value


def _changed(draw: Callable[..., Any], value: Json, with_: Strategy) -> Json:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(with_)
    place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    act = draw(st.sampled_from(["within", "within", "within", "away", "more"]))
    if act == "within":
        value[place] = _changed(draw, value[place], with_)
    elif act == "away":
        del value[place]
    elif isinstance(value, list):
        value.append(copy.deepcopy(value[place]))
    else:
        value[draw(text)] = copy.deepcopy(value[place])
    return value


def of_schema(schema: Mapping[str, Any]) -> Strategy:
    """Whatever a structural schema lets through: what a user with rights on it may write."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        values = st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e308, 1e308) | utf8
        return st.dictionaries(utf8.filter(bool), values, max_size=3)
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = set(schema.get("required") or ())
            fields = {name: of_schema(part) for name, part in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: field for name, field in fields.items() if name in required},
                optional={name: field for name, field in fields.items() if name not in required},
            )
        case "object":
            values = of_schema(schema.get("additionalProperties") or {"type": "string"})
            return st.dictionaries(utf8.filter(bool), values, max_size=3)
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            return st.lists(of_schema(schema["items"]), max_size=most)
        case "integer":
            return st.integers(schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1))
        case "number":
            # Of JSON: finite, and whole ones are integers.
            return st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
        case "boolean":
            return st.booleans()
    if schema.get("format") == "date-time":
        return st.sampled_from(
            ["2026-11-25T21:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999+14:00"]
        )
    most = schema.get("maxLength", 100)
    return utf8.map(lambda word: word[:most])
