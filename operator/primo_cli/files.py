"""Files as kubectl takes them: paths, folders, and - for standard input."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

_SUFFIXES = (".yaml", ".yml", ".json")
_STDIN = "-"


def read_texts(names: Sequence[str]) -> Iterator[tuple[str, str | OSError | UnicodeError]]:
    """Each file's name and its text, or why it cannot be read. Folders are not gone down into."""
    for name in names:
        if name == _STDIN:
            yield "stdin", _text(sys.stdin.read)
            continue
        try:
            paths = _paths(Path(name))
        except OSError as error:
            yield name, error
            continue
        for path in paths:
            yield str(path), _text(partial(path.read_text, encoding="utf-8"))


def _paths(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    paths = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
    if not paths:
        raise FileNotFoundError(2, f"no {', '.join(_SUFFIXES)} files in it")
    return paths


def _text(read: Callable[[], str]) -> str | OSError | UnicodeError:
    try:
        return read()
    except (OSError, UnicodeError) as error:
        return error
