"""The table of faults names tests that there are, and leaves no fault out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROWS = re.findall(
    r"(?m)^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
    (ROOT / "docs/faults.md").read_text(),
)
COUNTS = {"A": 18, "B": 13, "C": 12, "T": 28, "U": 18, "M": 9}


def test_no_fault_is_left_out_or_numbered_twice() -> None:
    expected = [f"{letter}{n}" for letter, count in COUNTS.items() for n in range(1, count + 1)]
    assert [row[0] for row in ROWS] == expected


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for number, _fault, _promise, shown in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)
        assert named, f"{number} names no test"
        for file, test in named:
            path = ROOT / "tests" / file
            text = path.read_text() if path.exists() else ""
            if not re.search(rf"^ *(def|async def) {test}\b|^{test} = ", text, re.MULTILINE):
                missing.append((number, file, test))
    assert not missing
