"""The shape of the repository that other things rely on."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


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
