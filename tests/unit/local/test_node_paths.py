"""Rewriting of declared paths."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_local.node.paths import PathMap

PATHS = PathMap(
    {
        "/data": Path("/node/v/data"),
        "/data/inner/": Path("/node/v/inner"),
        "/dev/termination-log": Path("/node/c/log"),
    }
)


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        pytest.param("/data", "/node/v/data", id="the mount itself"),
        pytest.param("/data/", "/node/v/data/", id="with a slash at the end"),
        pytest.param("/data/x.pt", "/node/v/data/x.pt", id="a file below it"),
        pytest.param("--dir=/data/x", "--dir=/node/v/data/x", id="in an option"),
        pytest.param("cat /data/a >/data/b", "cat /node/v/data/a >/node/v/data/b", id="in a shell"),
        pytest.param("a:/data:/b", "a:/node/v/data:/b", id="in a list of paths"),
        pytest.param("open('/data/x')", "open('/node/v/data/x')", id="quoted, in code"),
        pytest.param("one\n/data/x", "one\n/node/v/data/x", id="on a later line"),
        pytest.param("/data/inner/y", "/node/v/inner/y", id="the inner of nested mounts"),
        pytest.param("/data/inner2", "/node/v/data/inner2", id="a sibling of the inner mount"),
        pytest.param("/dev/termination-log", "/node/c/log", id="the termination message"),
        pytest.param("/database", "/database", id="not a longer name"),
        pytest.param("/data-2/x", "/data-2/x", id="not a name with a dash"),
        pytest.param("/data.bak", "/data.bak", id="not a name with a dot"),
        pytest.param("/srv/data", "/srv/data", id="not the end of another path"),
        pytest.param("https://host/data", "https://host/data", id="not a URL"),
        pytest.param("file:///data/x", "file:///data/x", id="not a file URL either"),
        pytest.param("$HOME/data", "$HOME/data", id="not below a shell variable"),
        pytest.param("${X}/data", "${X}/data", id="not below a braced variable"),
        pytest.param("../data/x", "../data/x", id="not a relative path"),
    ],
)
def test_whole_declared_paths_are_rewritten(text: str, rewritten: str) -> None:
    assert PATHS.rewrite(text) == rewritten


def test_a_real_place_that_itself_begins_like_a_mount_is_not_rewritten_again() -> None:
    paths = PathMap({"/tmp": Path("/tmp/state/volumes/t"), "/x": Path("/tmp/state/volumes/x")})
    assert paths.rewrite("/x/f /tmp/g") == "/tmp/state/volumes/x/f /tmp/state/volumes/t/g"


def test_without_declared_paths_nothing_changes() -> None:
    assert PathMap({}).rewrite("/data /x") == "/data /x"


@given(st.text(alphabet="abc /=.-_\n'\"", max_size=40))
def test_text_that_names_no_mount_is_left_alone(text: str) -> None:
    assert PathMap({"/mnt/q": Path("/real")}).rewrite(text) == text


@pytest.mark.parametrize(
    ("path", "place"),
    [
        pytest.param("/data/sub", Path("/node/v/data/sub"), id="below a mount"),
        pytest.param("/workspace", None, id="elsewhere"),
        pytest.param("", None, id="not set"),
    ],
)
def test_a_working_directory_is_located_only_below_a_mount(path: str, place: Path | None) -> None:
    assert PATHS.locate(path) == place
