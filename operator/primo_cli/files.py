"""Files as kubectl takes them: paths, folders, and - for standard input."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_SUFFIXES = (".yaml", ".yml", ".json")
_STDIN = "-"


def read_texts(names: Sequence[str]) -> Iterator[tuple[str, str | OSError | UnicodeError]]:
    """Each file's name and its text, or why it cannot be read. Folders are not gone down into."""
    for name in names:
        if name == _STDIN:
            yield "stdin", sys.stdin.read()
            continue
        path = Path(name)
        paths = [path]
        if path.is_dir():
            paths = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
            if not paths:
                yield name, FileNotFoundError(2, f"no {', '.join(_SUFFIXES)} files in it")
        for each in paths:
            try:
                yield str(each), each.read_text(encoding="utf-8")
            except (OSError, UnicodeError) as error:
                yield str(each), error
