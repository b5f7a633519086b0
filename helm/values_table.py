"""The table of the chart's values, from the comments in values.yaml.

python helm/values_table.py          writes it into the chart's README.md, between two marks
python helm/values_table.py --check  exits with 1 if the README holds another
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "primo-operator"
VALUES, README = CHART / "values.yaml", CHART / "README.md"
BEGIN, END = "<!-- values: written by `make chart` -->\n", "<!-- end of values -->\n"


class UndocumentedError(ValueError):
    """A value has no comment."""


@dataclass(frozen=True, slots=True)
class Value:
    """One row: a value that is not a map of other documented values."""

    key: str
    default: str
    comment: str


def values(text: str) -> list[Value]:
    """In their order.

    Raises:
        UndocumentedError: naming the value.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return list(_rows(root, text.splitlines(), ""))


def _rows(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        comment = _comment_above(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and value.value and not comment:
            yield from _rows(value, lines, f"{name}.")
            continue
        if not comment:
            raise UndocumentedError(f"values.yaml: {name} has no comment")
        default = yaml.safe_dump(
            yaml.SafeLoader("").construct_document(value), default_flow_style=True, width=1000
        )
        yield Value(name, default.removesuffix("...\n").strip(), comment)


def _comment_above(lines: list[str], line: int) -> str:
    found: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].lstrip().removeprefix("#").strip())
    return " ".join(found)


def table(text: str) -> str:
    rows = [f"| `{v.key}` | `{v.default}` | {v.comment} |" for v in values(text)]
    return "\n".join(["| value | default | |", "|---|---|---|", *rows]) + "\n"


def with_table(readme: str, table: str) -> str:
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"README.md lacks {BEGIN}"
    assert end, f"README.md lacks {END}"
    return before + BEGIN + table + END + after


def main() -> int:
    found = README.read_text(encoding="utf-8")
    wanted = with_table(found, table(VALUES.read_text(encoding="utf-8")))
    if "--check" in sys.argv[1:]:
        return int(found != wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
