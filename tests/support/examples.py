"""The manifests of crds/examples, with what each of them expects."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from primo_operator.manifest_files import load_all

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"


@dataclass(frozen=True)
class Example:
    """A manifest; `expect` and `parse` are the words of a refusal, None where it is taken."""

    name: str
    text: str
    expect: str | None = None
    parse: str | None = None

    @cached_property
    def manifest(self) -> dict[str, Any]:
        (manifest,) = load_all(self.text)
        return manifest


def _read(folder: str) -> list[Example]:
    paths = sorted((CRDS / "examples" / folder).glob("*.yaml"))
    assert paths, f"no manifests in {folder}"
    return [_example(path) for path in paths]


def _example(path: Path) -> Example:
    text = path.read_text(encoding="utf-8")
    head = dict(
        line.removeprefix("# ").split(": ", 1)
        for line in text.splitlines()
        if line.startswith(("# expect: ", "# parse: ", "# schema: "))
    )
    expect = head.get("expect")
    parse = head.get("parse", expect)
    if parse and parse.startswith("pass, "):
        parse = None
    assert path.parent.name == "valid" or expect or head["schema"].startswith("pass, ")
    return Example(path.stem, text, expect, parse)


VALID = _read("valid")
INVALID = _read("invalid")


def example(name: str) -> Example:
    """A valid manifest by its file's name."""
    return next(e for e in VALID if e.name == name)
