"""The reference page says what the schemas say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from primo_operator.crds import KINDS, definition
from primo_operator.generated import differences
from primo_operator.reference import files, main, render
from support.examples import ROOT

PAGE = ROOT / "docs" / "reference.md"


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in KINDS:
        (version,) = definition(kind)["spec"]["versions"]
        yield kind.kind, version["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    children = [*schema.get("properties", {}).values(), schema.get("items")]
    for child in (*children, schema.get("additionalProperties")):
        if isinstance(child, dict):
            yield from nodes(child)


def test_the_committed_page_is_what_is_generated() -> None:
    """If not: make crds."""
    assert differences(files(PAGE)) == []


def test_every_field_has_a_row_and_every_rule_a_line() -> None:
    lines = render().splitlines()
    for _, schema in schemas():
        for part in ("spec", "status"):
            for node in nodes(schema["properties"][part]):
                for name in node.get("properties", {}):
                    assert any(line.startswith(f"| `{name}` | ") for line in lines)
        for node in nodes(schema):
            for rule in node.get("x-kubernetes-validations", ()):
                assert any(line.startswith("- ") and rule["message"] in line for line in lines)


def test_links_lead_to_headings_and_headings_are_unique() -> None:
    text = render()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9_-]", "", heading.lower()) for heading in headings]
    assert len(anchors) == len(set(anchors))
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) > 20
    assert set(links) <= set(anchors)


@pytest.mark.parametrize(
    "row",
    [
        "| `parallelism` | integer, 1 to 1000 | 1 |",
        "| `min` | number, above 0 | *required* |",
        "| `goal` | `Minimize` or `Maximize` | *required* |",
        "| `choices` | list of (string, 1 to 128 characters), 2 to 32 items, unique | *required* |",
        "| `labels` | map to string |  |",
        "| `confidence` | number, 0 to 1 | 0.75 |",
        "| `objectives` | list of [object](#primostudyspecobjectives), 1 to 8 items, unique by",
    ],
)
def test_types_limits_and_defaults_are_in_words(row: str) -> None:
    assert any(line.startswith(row) for line in render().splitlines())


def test_a_row_has_as_many_cells_as_its_table() -> None:
    rows = [line for line in render().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_the_command_writes_checks_and_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reference.md"
    assert main(["--check", str(path)]) == 1
    assert main(["--write", str(path)]) == 0
    capsys.readouterr()
    assert main(["--check", str(path)]) == 0
    assert main([]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")
