"""CEL: `x-kubernetes-validations` of custom resources, compiled once, evaluated at each write."""

import base64
import binascii
import datetime
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cel
from cel.stdlib import STDLIB_FUNCTIONS

from primo_local.apiserver.clock import parse_timestamp
from primo_local.apiserver.errors import Cause
from primo_local.apiserver.objects import Json

_OLD = re.compile(r"\boldSelf\b")
_KEYWORDS = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function"}
    | {"if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"}
)
_PREFIXES = {
    "FieldValueInvalid": 'Invalid value: "{kind}": ',
    "FieldValueForbidden": "Forbidden: ",
    "FieldValueRequired": "Required value: ",
    "FieldValueDuplicate": 'Duplicate value: "{kind}": ',
}
_DURATION_CALL = re.compile(r"(?<![.\w])duration\(")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_DURATION_S = 2**63 / 1e9  # Go counts nanoseconds
# What the CEL runtime raises for an expression that has no value for these variables.
_EVALUATION_ERRORS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


class _Missing:
    """Stands for an old value that does not exist or cannot be told."""


_MISSING = _Missing()


def _is_sorted(values: list[Any]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(values))


def _index_of(values: Any, wanted: Any, *start: int) -> int:
    """Of a text or, a Kubernetes extension, of a list."""
    if isinstance(values, str):
        return values.find(wanted, *start)
    return next((index for index, each in enumerate(values) if each == wanted), -1)


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str) -> list[str]:
    return [found[0] for found in re.finditer(pattern, text)]


def _duration(text: str) -> datetime.timedelta:
    parts = _DURATION_PART.findall(text)
    read = "".join(number + unit for number, unit in parts)
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if not read or read != text.lstrip("+-") or seconds >= _MAX_DURATION_S:
        raise ValueError(f"invalid duration {text!r}")
    return datetime.timedelta(seconds=-seconds if text.startswith("-") else seconds)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **STDLIB_FUNCTIONS,
    "goDuration": _duration,
    "isSorted": _is_sorted,
    "indexOf": _index_of,
    "find": _find,
    "findAll": _find_all,
}


@lru_cache(maxsize=4096)
def _program(rule: str) -> Any:
    # The runtime's own cannot be replaced, and takes what is too long for the longest there is.
    return cel.compile(_DURATION_CALL.sub("goDuration(", rule))


def rule_problem(rule: str) -> str | None:
    """Why a rule does not compile, None if it does."""
    if not rule.strip():
        return "the rule is empty"
    try:
        _program(rule)
    except ValueError as error:
        return str(error).splitlines()[0]
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """One x-kubernetes-validation."""

    text: str
    message: str
    message_expression: str
    reason: str
    field_path: str
    optional_old: bool

    def applies(self, value: Any, old: Any) -> bool:
        if _OLD.search(self.text):
            return old is not _MISSING or self.optional_old
        # As on a real server, what is not changed need not obey newer rules.
        return old is _MISSING or bool(value != old)

    def cause(self, context: Any, path: str, kind: str) -> Cause | None:
        try:
            passed = _program(self.text).execute(context)
        except _EVALUATION_ERRORS as error:
            text = f"rule evaluation error: {error}: {self.text}"
            return Cause(path, "FieldValueInvalid", f'Invalid value: "{kind}": {text}')
        if passed is True:
            return None
        prefix = _PREFIXES[self.reason].format(kind=kind)
        field = (path + self.field_path).lstrip(".")
        return Cause(field, self.reason, prefix + self._said(context))

    def _said(self, context: Any) -> str:
        if self.message_expression:
            try:
                return str(_program(self.message_expression).execute(context))
            except _EVALUATION_ERRORS:
                pass  # the plain message stands in for one that cannot be made
        return self.message or f"failed rule: {self.text}"


def _rules(schema: Json) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            text=each["rule"],
            message=each.get("message", "").strip(),
            message_expression=each.get("messageExpression", ""),
            reason=each.get("reason", "FieldValueInvalid"),
            field_path=each.get("fieldPath", ""),
            optional_old=bool(each.get("optionalOldSelf")),
        )
        for each in schema.get("x-kubernetes-validations") or ()
    )


@dataclass(frozen=True, slots=True)
class RuleTree:
    """The rules of a schema, in its shape; branches without rules are left out."""

    schema: Json
    rules: tuple[Rule, ...]
    properties: dict[str, "RuleTree"]
    items: "RuleTree | None"
    values: "RuleTree | None"

    @classmethod
    def of(cls, schema: Json) -> "RuleTree":
        members = {name: cls.of(each) for name, each in (schema.get("properties") or {}).items()}
        items, values = schema.get("items"), schema.get("additionalProperties")
        return cls(
            schema,
            _rules(schema),
            {name: tree for name, tree in members.items() if tree},
            (cls.of(items) or None) if isinstance(items, dict) else None,
            (cls.of(values) or None) if isinstance(values, dict) else None,
        )

    def __bool__(self) -> bool:
        return bool(self.rules or self.properties or self.items or self.values)

    def causes(self, value: Any, old: Any | None) -> list[Cause]:
        """What the rules say of an object; `old` is None for one that is being created."""
        if not self:
            return []
        if old is None:
            return list(self._visit(value, _MISSING, ""))
        return list(self._visit(value, _aligned(self.schema, old, value), ""))

    def _visit(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if self.rules:
            yield from self._own(value, old, path)
        if isinstance(value, dict):
            yield from self._members(value, old if isinstance(old, dict) else {}, path)
        elif isinstance(value, list) and self.items:
            for index, each in enumerate(value):
                yield from self.items._visit(each, self._old_item(each, old), f"{path}[{index}]")

    def _own(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        applying = [rule for rule in self.rules if rule.applies(value, old)]
        if not applying:
            return
        variables = {"self": _cel_value(self.schema, value)}
        if old is not _MISSING:
            variables["oldSelf"] = _cel_value(self.schema, old)
        # One for all rules of a node: making it is dearer than evaluating a rule.
        context = cel.Context(variables=variables, functions=_FUNCTIONS)
        kind = self.schema.get("type", "object")
        for rule in applying:
            if cause := rule.cause(context, path, kind):
                yield cause

    def _members(self, value: Json, old: Json, path: str) -> Iterator[Cause]:
        for name, member in value.items():
            tree = self.properties.get(name, self.values)
            if tree:
                declared = name in self.properties
                here = (f"{path}.{name}" if path else name) if declared else f"{path}[{name}]"
                yield from tree._visit(member, old.get(name, _MISSING), here)

    def _old_item(self, item: Any, old: Any) -> Any:
        """The same item before; only lists with keys can tell."""
        keys = self.schema.get("x-kubernetes-list-map-keys")
        if not keys or not isinstance(old, list) or not isinstance(item, dict):
            return _MISSING
        wanted = [item.get(key) for key in keys]
        return next((o for o in old if [o.get(key) for key in keys] == wanted), _MISSING)


def _aligned(schema: Json, old: Any, new: Any) -> Any:
    """The old value with its unordered lists in the order of the new one.

    Lists of type map and set compare without order; with both in one order, `==` does so.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        members = schema.get("properties") or {}
        values = schema.get("additionalProperties")
        others = values if isinstance(values, dict) else {}
        return {
            name: _aligned(members.get(name, others), each, new.get(name))
            for name, each in old.items()
        }
    if not isinstance(old, list) or not isinstance(new, list):
        return old
    keys = schema.get("x-kubernetes-list-map-keys")
    if schema.get("x-kubernetes-list-type") not in ("map", "set"):
        return old

    def identity(item: Any) -> Any:
        return [item.get(key) for key in keys] if keys and isinstance(item, dict) else item

    order = [identity(each) for each in new]
    ranked = sorted(
        old, key=lambda each: order.index(identity(each)) if identity(each) in order else len(order)
    )
    items = schema.get("items") or {}
    partners = {str(identity(each)): each for each in new}
    return [_aligned(items, each, partners.get(str(identity(each)))) for each in ranked]


def _cel_value(schema: Json, value: Any) -> Any:
    """A value in the types that the schema gives it in CEL.

    A JSON integer in a `number` is a double; date-times, durations and bytes have their own
    types; declared names that are no identifiers are escaped.
    """
    if isinstance(value, dict):
        members = schema.get("properties") or {}
        values = schema.get("additionalProperties")
        others = values if isinstance(values, dict) else {}
        return {
            _escaped(name) if name in members else name: _cel_value(members.get(name, others), each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items") or {}
        return [_cel_value(items, each) for each in value]
    if schema.get("type") == "number" and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and "format" in schema:
        return _formatted(schema["format"], value)
    return value


def _escaped(name: str) -> str:
    if name in _KEYWORDS:
        return f"__{name}__"
    if name.isidentifier() and "__" not in name:
        return name
    for text, word in (("__", "underscores"), (".", "dot"), ("-", "dash"), ("/", "slash")):
        name = name.replace(text, f"__{word}__")
    return name


def _formatted(kind: str, text: str) -> Any:
    try:
        if kind == "date-time":
            return parse_timestamp(text)
        if kind == "duration":
            return _duration(text)
        if kind == "byte":
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return text  # the format is checked elsewhere; the rule then fails by its type
    return text
