"""The shape of the repository that other things rely on."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# What a dependency is made of, and what it hands out or takes of its own dependencies.
BROUGHT = {
    "gpytorch": "botorch",
    "jsonpointer": "jsonpatch",
    "linear-operator": "botorch",
    "pydantic-core": "pydantic",
    "urllib3": "kubernetes",
}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def required(extra: str) -> set[str]:
    """Distributions, those of other extras of ours that it names included."""
    found: set[str] = set()
    for line in EXTRAS[extra]:
        name, given = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])?.*", line).groups()  # type: ignore[union-attr]
        if name == "primo-operator":
            found.update(*(required(each) for each in given.split(",")))
        else:
            found.add(normal(name))
    return found


def imported(folder: Path) -> Iterator[str]:
    """Top-level modules, also those that are imported late."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("operator/primo_cli", ("cli", "plots")),
        ("operator/primo_local", ("local",)),
        ("operator/primo_operator", ("operator",)),
        ("operator/primo_study", ("operator",)),
        ("optimizer/primo_optimizer", ("optimizer",)),
    ],
)
def test_what_a_package_imports_comes_with_its_extra(package: str, extras: tuple[str, ...]) -> None:
    distributions = packages_distributions()
    foreign = {
        normal(distributions[module][0])
        for module in imported(ROOT / package)
        if module not in sys.stdlib_module_names and not module.startswith("primo_")
    }
    given = set[str]().union(*map(required, extras))
    assert {BROUGHT.get(each, each) for each in foreign} <= given


@pytest.mark.parametrize("folder", ["operator", "optimizer"])
def test_folders_that_hold_packages_are_none(folder: str) -> None:
    """With operator/__init__.py, `import operator` finds our folder and Python itself breaks."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_the_operator_module_of_python_stays_reachable_from_the_root() -> None:
    code = "import operator, typing; assert operator.add(1, 2) == 3"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_report_client_imports_the_standard_library_only() -> None:
    code = (
        "import sys, primo_report\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        "foreign = roots - sys.stdlib_module_names - {'primo_report', '__main__'}\n"
        "print(sorted(r for r in foreign if not r.startswith(('_', 'sitecustom', 'distutils'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_nothing_but_the_gp_package_imports_torch() -> None:
    code = "import sys, primo_optimizer.primo, primo_study.plan; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
