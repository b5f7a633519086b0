"""What the guides show can be applied, and what they name is there."""

import re
from pathlib import Path
from typing import Any

import pytest

from primo_cli.checks import Checker, UnknownKindError
from primo_operator.manifest_files import load_all
from support.examples import ROOT, example

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Of other projects, of which we know no schema.
FOREIGN = {"kubeflow.org/v1beta1"}


def blocks() -> list[Any]:
    found = []
    for page in PAGES:
        parts = re.findall(
            r"^ *```yaml\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        found += [pytest.param(part, id=f"{page.stem}-{i}") for i, part in enumerate(parts)]
    return found


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


def whole(document: Any) -> Any:
    """The manifest; of fields of a spec a study that has them."""
    if "kind" in document:
        return document
    manifest = example("minimal").manifest
    template = manifest["spec"]["trialTemplate"]
    given = document.get("trialTemplate")
    fields = {**document, "trialTemplate": {**template, **given}} if given else document
    return {**manifest, "spec": {**manifest["spec"], **fields}}


@pytest.mark.parametrize("block", blocks())
def test_a_block_can_be_applied(block: str, checker: Checker) -> None:
    documents = load_all(block)
    if not documents:
        assert all(line.startswith("#") for line in block.splitlines())
    for document in documents:
        try:
            assert checker.check(whole(document)) == []
        except UnknownKindError:
            assert document["apiVersion"] in FOREIGN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose):
        file, _, part = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if part:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert part in anchors, link
