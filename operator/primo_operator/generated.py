"""The command of a module whose files are generated and committed: prints, writes, checks them."""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Files = Callable[[Path], Mapping[Path, str]]


def run(module: str, doc: str | None, files: Files, arguments: Iterable[str] | None) -> int:
    """The exit code: 1 if a check finds differences, and prints them.

    Args:
        files: given where to write, the text of each file, in order.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="WHERE", help="write what is generated")
    action.add_argument("--check", type=Path, metavar="WHERE", help="compare with what is there")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.write:
        for path, text in files(options.write).items():
            path.write_text(text, encoding="utf-8")
        return 0
    if options.check:
        lines = differences(files(options.check))
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return 1 if lines else 0
    sys.stdout.write("---\n".join(files(Path()).values()))
    return 0


def differences(wanted: Mapping[Path, str]) -> list[str]:
    """Lines of a diff from the files to what they should be; empty if all are up to date."""
    lines: list[str] = []
    for path, text in wanted.items():
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        lines += difflib.unified_diff(
            found.splitlines(), text.splitlines(), str(path), "generated", lineterm=""
        )
    return lines
