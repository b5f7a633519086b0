"""Manifests as kubectl reads them from YAML or JSON.

kubectl and PyYAML are both of YAML 1.1, and differ in what a plain word means: `1e-5` is a number
to kubectl and a string to PyYAML, `1:30` and `2026-01-01` are strings to kubectl and a number and a
date to PyYAML. The table below is that of kubectl's parser (sigs.k8s.io/yaml, its goyaml.v2), which
then writes JSON: a whole number loses its point, keys become strings, and NaN cannot be said.

On purpose one thing differs: a key given twice is an error, where kubectl takes the last.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
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
# More than an object of Kubernetes can hold.
MAX_VALUES = 1_000_000
# From here on Go's JSON, too, writes an exponent.
_EXPONENT_FROM = 1e21

_NULL, _BOOL, _INT, _FLOATING = (f"tag:yaml.org,2002:{t}" for t in ("null", "bool", "int", "float"))


class ManifestError(InvalidSpecError):
    """A file is not a list of manifests."""


@dataclass(frozen=True, slots=True)
class Document:
    """One manifest and where it stands.

    Attributes:
        number: of the documents in its file that are not empty, from 1.
    """

    manifest: dict[str, Any]
    number: int
    node: yaml.Node

    def items(self) -> "list[Document]":
        """The manifests of a List; of anything else, itself.

        Raises:
            ManifestError: an item is not a mapping of fields.
        """
        items = self.manifest.get("items")
        if not str(self.manifest.get("kind")).endswith("List") or not isinstance(items, list):
            return [self]
        (node,) = (n for key, n in self.node.value if key.value == "items")
        found = [
            Document(each, self.number, at) for each, at in zip(items, node.value, strict=True)
        ]
        for i, document in enumerate(found):
            _require_fields(document, f"document {self.number}: items[{i}]")
        return found

    def line_of(self, field: str) -> int:
        """The line of a field such as `spec.parameters[0].float`; of what is nearest above it if
        it is not there. Lines count from 1.
        """
        node, line = self.node, self.node.start_mark.line
        for part in path_parts(field):
            key, child = _child(node, part)
            if child is None:
                break
            node, line = child, key.start_mark.line
        return line + 1


def path_parts(field: str) -> list[str | int]:
    """`spec.parameters[0].float` as `spec`, `parameters`, 0, `float`."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", field)
    return [int(index) if index else name for index, name in parts]


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node | None]:
    """The node of a key and that of its value; an item of a list is both."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    return node, None


def load_all(text: str) -> list[dict[str, Any]]:
    """Read every document that is not empty.

    Raises:
        ManifestError: it is not YAML, holds what JSON cannot say, or not a mapping of fields.
    """
    return [document.manifest for document in load_documents(text)]


def load_documents(text: str) -> list[Document]:
    """The same, with where each field stands; raises the same."""
    documents: list[Document] = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            _require_finite(node)
            manifest = loader.construct_document(node) if node else None
            if node and manifest is not None:
                documents.append(Document(manifest, len(documents) + 1, node))
    except yaml.YAMLError as error:
        raise ManifestError(_text(error)) from error
    except RecursionError as error:
        raise ManifestError("it is nested too deeply") from error
    for document in documents:
        _require_fields(document, f"document {document.number}")
    return documents


def _require_finite(root: yaml.Node | None) -> None:
    """Aliases may stand for more than there is memory for, or for themselves.

    Raises:
        ConstructorError: they do.
    """
    sizes: dict[int, int | None] = {}  # None while we are within it

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            pairs = (each if isinstance(each, tuple) else (each,) for each in inner)
            sizes[id(node)] = 1 + sum(size(child) for pair in pairs for child in pair)
        found = sizes[id(node)]
        if found is None:
            problem = "it holds itself by an alias"
        elif found > MAX_VALUES:
            problem = f"with its aliases it holds more than {MAX_VALUES} values"
        else:
            return found
        raise ConstructorError(problem=problem, problem_mark=node.start_mark)

    if root is not None:
        size(root)


def _require_fields(document: Document, what: str) -> None:
    if not isinstance(document.manifest, dict):
        line = document.line_of("")
        raise ManifestError(
            f"line {line}: {what}: {document.manifest!r:.80} is not a mapping of fields"
        )


def dump(manifest: Mapping[str, Any]) -> str:
    """Write a manifest so that `load_all` and kubectl read it as it is."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


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


class _Dumper(yaml.SafeDumper):
    """Quotes what kubectl would take for something else, such as the word 1e-5."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  PyYAML calls it so
        return True  # the same part twice is written twice


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
