"""The version is that of pyproject.toml; whoever must repeat it says the same."""

import re
import tomllib
from pathlib import Path

import pytest

from primo_operator.settings import Settings

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("helm/primo-operator/Chart.yaml", r"^version: (.+)$"),
        ("helm/primo-operator/Chart.yaml", r"^appVersion: (.+)$"),
        ("images/example-trial/study.yaml", r"primo-example-trial:(\S+)"),
        ("README.md", r"primo-example-trial:(\S+)"),
    ],
)
def test_files_that_name_the_version(file: str, pattern: str) -> None:
    found = re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert found
    assert set(found) == {VERSION}


def test_the_operator_takes_the_sidecar_of_its_own_version() -> None:
    assert Settings().sidecar_image == f"primo-sidecar:{VERSION}"
