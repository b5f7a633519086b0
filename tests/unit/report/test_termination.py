import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from primo_report.termination import write_message


def test_a_message_is_rewritten_in_place_over_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "message"
    write_message(path, b"a long one")
    inode = path.stat().st_ino
    write_message(path, b"short")
    assert path.read_bytes() == b"short     "
    write_message(path, b"an even longer one")
    assert path.read_bytes() == b"an even longer one"
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("message", [b"short", b"as long as", b"a longer one than before"])
def test_between_any_two_steps_there_is_one_of_the_messages(tmp_path: Path, message: bytes) -> None:
    """Where a kill may come."""
    path = tmp_path / "message"
    write_message(path, b"the before")
    found: list[bytes] = []

    def look(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        found.append(path.read_bytes().rstrip())
        return look

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: look if frame.f_code is write_message.__code__ else None)
    try:
        write_message(path, message)
    finally:
        sys.settrace(before)
    assert set(found) == {b"the before", message}


def test_what_somebody_else_wrote_does_not_push_the_message_out_of_the_kubelets_sight(
    tmp_path: Path,
) -> None:
    path = tmp_path / "message"
    path.write_bytes(b"x" * 10_000)
    write_message(path, b"ours")
    assert path.read_bytes() == b"ours".ljust(4096)


def test_a_message_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_message(tmp_path, b"message")


HALF = """
import resource, sys
from pathlib import Path
from primo_report.termination import write_message
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_message(Path(sys.argv[1]), b"x" * 2000)
except OSError as error:
    print(error.strerror)
"""


def test_half_a_message_is_an_error_too(tmp_path: Path) -> None:
    """Of a full disk a write says first how much it took; then it is tried again."""
    path = tmp_path / "message"
    done = subprocess.run([sys.executable, "-c", HALF, path], capture_output=True, text=True)
    assert done.stdout == "No space left on device\n", done.stderr
    assert len(path.read_bytes()) == 1000
