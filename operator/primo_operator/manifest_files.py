"""Manifests as kubectl reads them from YAML or JSON.

kubectl and PyYAML are both of YAML 1.1, and differ in what a plain word means: `1e-5` is a number
to kubectl and a string to PyYAML, `1:30` and `2026-01-01` are strings to kubectl and a number and a
date to PyYAML. The table below is that of kubectl's parser (sigs.k8s.io/yaml, its goyaml.v2), which
then writes JSON: a whole number loses its point, keys become strings, and NaN cannot be said.

On purpose one thing differs: a key given twice is an error, where kubectl takes the last.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from primo_optimizer import InvalidSpecError

_BOOLEANS = {
    **dict.fromkeys(
        ("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"), True
    ),
    **dict.fromkeys(
        ("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"), False
    ),
}
_NULLS = ("", "~", "null", "Null", "NULL")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# From here on Go's JSON, too, writes an exponent.
_EXPONENT_FROM = 1e21

_NULL, _BOOL, _INT, _FLOATING = (f"tag:yaml.org,2002:{t}" for t in ("null", "bool", "int", "float"))


class ManifestError(InvalidSpecError):
    """A file is not a list of manifests."""


def load_all(text: str) -> list[dict[str, Any]]:
    """Read every document that is not empty.

    Raises:
        ManifestError: it is not YAML, holds what JSON cannot say, or not a mapping of fields.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise ManifestError(_text(error)) from error
    manifests = [document for document in documents if document is not None]
    for i, manifest in enumerate(manifests):
        if not isinstance(manifest, dict):
            raise ManifestError(f"document {i + 1}: {manifest!r:.80} is not a mapping of fields")
    return manifests


def _text(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return f"{where}{getattr(error, 'problem', None) or error}"


class _Loader(yaml.SafeLoader):
    """A SafeLoader with kubectl's meaning of plain words."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  set so by PyYAML's base class

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        self._refuse_doubles(node)
        self.flatten_mapping(node)  # `<<`: what is merged comes first, and gives way
        return {self._key(key): self.construct_object(value, deep) for key, value in node.value}

    def _refuse_doubles(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self._key(key)
            if name in seen:
                raise ConstructorError(
                    problem=f"key {name!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(name)

    def _key(self, node: yaml.Node) -> str:
        """A key as JSON has it, that 1, true and "1" stay apart from each other."""
        key = self.construct_object(node, True) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, str | int | float):
            return str(key)
        raise ConstructorError(problem="a key is not a word", problem_mark=node.start_mark)


def _word(loader: _Loader, node: yaml.ScalarNode, *tags: str) -> str:
    """The text of a value, whether it was told by its look or by a tag such as !!int."""
    word = loader.construct_scalar(node)
    if _tag(word) not in tags:
        kind = tags[0].rpartition(":")[2]
        raise ConstructorError(
            problem=f"{word!r} does not read as !!{kind}", problem_mark=node.start_mark
        )
    return word


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return _BOOLEANS[_word(loader, node, _BOOL)]


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = _word(loader, node, _INT).replace("_", "").lower()
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if digits.startswith("0") and digits[1:].isdigit():
        return sign * int(digits, 8)  # 010 is eight
    return sign * int(digits, 0)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    word = _word(loader, node, _FLOATING, _INT)
    if _tag(word) == _INT:  # !!float 1
        return _construct_int(loader, node)
    text = word.replace("_", "")
    if _NOT_FINITE.fullmatch(text):
        raise ConstructorError(
            problem=f"{text} is not a number that JSON can hold", problem_mark=node.start_mark
        )
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < _EXPONENT_FROM else value


class _Plain:
    """Tells a plain word's type; PyYAML asks it as it asks a regular expression."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def match(self, word: str) -> bool:
        return _tag(word) == self.tag


def _tag(word: str) -> str | None:
    if word in _NULLS:
        return _NULL
    if word in _BOOLEANS:
        return _BOOL
    if _NOT_FINITE.fullmatch(word):
        return _FLOATING
    if not word[0].isdigit() and word[0] not in "+-.":
        return None
    digits = word.replace("_", "")
    if _INTEGER.fullmatch(digits):
        return _INT
    # A number too large for a double is left a word.
    if _FLOAT.fullmatch(digits) and abs(float(digits)) != float("inf"):
        return _FLOATING
    return None


_Loader.yaml_implicit_resolvers = {
    None: [(tag, _Plain(tag)) for tag in (_NULL, _BOOL, _INT, _FLOATING)],
    "<": [("tag:yaml.org,2002:merge", re.compile("^<<$"))],
}
# Dates, sets and bytes are nothing that JSON can hold: with such a tag a value is refused.
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "str", "seq", "map")
}
_Loader.add_constructor(_BOOL, _construct_bool)
_Loader.add_constructor(_INT, _construct_int)
_Loader.add_constructor(_FLOATING, _construct_float)
