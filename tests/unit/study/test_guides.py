"""What the guides show can be applied."""

import re
from pathlib import Path
from typing import Any

import pytest

from primo_operator.crds import STUDY, definition
from primo_operator.manifest_files import load_all
from primo_study.spec import parse
from support.cel_rules import broken_rules
from support.examples import example

DOCS = Path(__file__).parents[3] / "docs"
GUIDES = ("constraints-and-preferences", "parameters", "priors")


def blocks() -> list[Any]:
    found = []
    for guide in GUIDES:
        text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
        parts = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert parts, guide
        found += [pytest.param(part, id=f"{guide}-{i}") for i, part in enumerate(parts)]
    return found


@pytest.mark.parametrize("block", blocks())
def test_fields_of_a_spec_make_a_study(block: str) -> None:
    (fields,) = load_all(block)
    manifest = example("minimal").manifest
    manifest = {**manifest, "spec": {**manifest["spec"], **fields}}
    parse(manifest["spec"])
    schema = definition(STUDY)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert broken_rules(schema, manifest) == []
