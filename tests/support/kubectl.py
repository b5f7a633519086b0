"""The real kubectl: from the virtual environment, or the PATH."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def binary() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")
    return found


def kubectl(kubeconfig: Path, *arguments: str, check: bool = True) -> str:
    """Its output; raises CalledProcessError with `stderr` if it fails."""
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(
        [binary(), *arguments],
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    return done.stdout
