"""The images: how their files are written, and, where they can be built, that they run restricted.

Building needs buildah, podman, runc and root. The base is PRIMO_TEST_BASE_IMAGE, any image with
Python 3.11 or later and its venv; without it, one is made by debootstrap, once.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from primo_report.wire import parse_summary
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
BASE = "localhost/primo-test-base:bookworm"
MIB = 1024**2
# crun does not run on hybrid cgroups, nor runc with more than some hosts allow.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
RESTRICTED = [
    "--network",
    "none",
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
]

image_files = pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)


@image_files
def test_hadolint_finds_nothing(file: Path) -> None:
    beside = Path(sys.executable).parent / "hadolint"
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: PyPI has it for Linux on x86_64 only")
    done = subprocess.run(
        [program, "--failure-threshold", "warning", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def _instructions(file: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", file.read_text()))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in text.splitlines())
        if word
    ]


@image_files
def test_nothing_runs_through_a_shell(file: Path) -> None:
    for word, rest in _instructions(file):
        if word in ("RUN", "CMD", "ENTRYPOINT"):
            assert isinstance(json.loads(rest), list)


@image_files
def test_it_is_made_in_stages_from_a_base_of_your_choice(file: Path) -> None:
    found = _instructions(file)
    assert found[0] == ("ARG", "BASE_IMAGE=python:3.12-slim")
    assert [rest for word, rest in found if word == "FROM"] == [
        "${BASE_IMAGE} AS build",
        "${BASE_IMAGE}",
    ]


@image_files
def test_it_runs_as_a_user_with_a_number_who_is_not_root(file: Path) -> None:
    """Kubernetes cannot tell of a name whether it is root's."""
    assert [rest for word, rest in _instructions(file) if word == "USER"] == ["65532:65532"]


@image_files
def test_it_says_what_it_is(file: Path) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', file.read_text()))
    assert labels.keys() == {"title", "description", "licenses", "version", "revision"}
    assert f"-t {labels['title']} ." in file.read_text()


# --- building


@pytest.fixture(scope="module", autouse=True)
def _containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    conf = tmp_path_factory.mktemp("containers") / "containers.conf"
    conf.write_text(CONTAINERS_CONF)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(conf))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        yield


def _run(*command: str, timeout_s: float = 600, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    if check:
        assert done.returncode == 0, (
            f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    missing = [name for name in ("buildah", "podman", "runc") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"images cannot be built: no {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("images cannot be built: needs root")
    if given := os.environ.get("PRIMO_TEST_BASE_IMAGE"):
        return given
    if subprocess.run(["podman", "image", "exists", BASE]).returncode == 0:
        return BASE
    if shutil.which("debootstrap") is None:
        pytest.skip("no base: PRIMO_TEST_BASE_IMAGE is not set, and there is no debootstrap")
    root = tmp_path_factory.mktemp("base")
    packages = "--include=ca-certificates,python3,python3-venv"
    _run("debootstrap", "--variant=minbase", packages, "bookworm", str(root / "root"))
    _run("tar", "-C", str(root / "root"), "-cf", str(root / "base.tar"), ".")
    _run("podman", "import", "--quiet", str(root / "base.tar"), BASE)
    return BASE


def _build(name: str, base: str, *options: str) -> str:
    tag = f"localhost/primo-test-{name}:latest"
    file = str(ROOT / "images" / name / "Dockerfile")
    arguments = ["--build-arg", f"BASE_IMAGE={base}", "--file", file, "--tag", tag, *options]
    _run("buildah", "bud", *arguments, str(ROOT))
    return tag


def _size(image: str) -> int:
    return int(_run("podman", "image", "inspect", "--format", "{{.Size}}", image))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_sidecar_is_small_and_carries_a_report_out_restricted(
    base: str, tmp_path: Path
) -> None:
    image = _build("sidecar", base)
    assert _size(image) - _size(base) < 60 * MIB
    reports, message = tmp_path / "primo", tmp_path / "message"
    reports.mkdir()
    (reports / "report.jsonl").write_text('{"step": 1, "metrics": {"loss": 0.5}}\n')
    message.touch()
    message.chmod(0o666)
    settings = {
        "PRIMO_REPORT_FILE": "/primo/report.jsonl",
        "PRIMO_TERMINATION_LOG": "/dev/termination-log",
        "PRIMO_MESSAGE_LIMIT": "4096",
    }
    container = _run(
        "podman", "run", "--detach", *RESTRICTED,
        "--volume", f"{reports}:/primo:ro", "--volume", f"{message}:/dev/termination-log",
        *(f"--env={name}={value}" for name, value in settings.items()), image,
    )  # fmt: skip
    try:
        eventually(lambda: "loss" in message.read_text(), "the report is in the message")
        assert parse_summary(message.read_text()).step == 1
        began = time.monotonic()
        _run("podman", "stop", "--time", "20", container)
        assert time.monotonic() - began < 20, "it ignores SIGTERM"
        state = "{{.State.ExitCode}}"
        assert _run("podman", "container", "inspect", "--format", state, container) == "0"
    finally:
        _run("podman", "rm", "--force", container, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_operator_starts_restricted(base: str) -> None:
    """With a CPU wheel of torch, since the default index has it with CUDA only."""
    wheels = os.environ.get("PRIMO_TEST_WHEELS")
    if wheels is None:
        pytest.skip("PRIMO_TEST_WHEELS does not name a folder with a CPU wheel of torch")
    certificates = "/etc/ssl/certs:/etc/ssl/certs:ro"
    options = ["--volume", certificates, "--volume", f"{wheels}:/wheels:ro"]
    image = _build("operator", base, *options, "--build-arg", "PIP_FIND_LINKS=/wheels")
    run = ["podman", "run", "--rm", *RESTRICTED, "--tmpfs", "/tmp", "--env", "HOME=/tmp"]
    assert "--all-namespaces" in _run(*run, image, "--help")
    said = _run(*run, "--entrypoint", "python3", image, "-c", SUGGEST)
    assert said.splitlines()[-1] == "3 suggestions"


# Past the initial design, so that torch and botorch are imported and fit a model.
SUGGEST = """
from primo_optimizer import AskTell
study = AskTell.from_spec({
    "objectives": [{"name": "a", "goal": "Minimize"}, {"name": "b", "goal": "Minimize"}],
    "parameters": [{"name": "x", "float": {"min": 0, "max": 1}}],
})
for _ in range(12):
    (s,) = study.ask()
    x = s.parameters["x"]
    study.tell(s.trial, s.fidelity, {"a": x, "b": 1 - x})
print(len(study.ask(3)), "suggestions")
"""
