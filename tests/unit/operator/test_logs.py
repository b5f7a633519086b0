"""What a line of the log says."""

import logging
import sys
from typing import Any

import pytest

from primo_operator.logs import FieldsFormatter


def line(message: str, exc_info: Any = None, **fields: Any) -> str:
    logger = logging.Logger("primo")
    record = logger.makeRecord(
        "primo", logging.INFO, "file", 1, message, (), exc_info, extra=fields
    )
    return FieldsFormatter("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        pytest.param({}, "INFO trial created", id="no fields"),
        pytest.param(
            {"trial": 17, "study": "digits"},
            "INFO trial created study=digits trial=17",
            id="sorted by name",
        ),
        pytest.param(
            {"reason": "no GPU is free"}, 'INFO trial created reason="no GPU is free"', id="words"
        ),
        pytest.param(
            {"reason": "a\nb\x1b[1m"},
            'INFO trial created reason="a\\nb\\u001b[1m"',
            id="what a user wrote breaks no line",
        ),
        pytest.param({"k8s_skip": True}, "INFO trial created", id="kopf's own are left out"),
    ],
)
def test_a_line_has_its_fields(fields: dict[str, Any], text: str) -> None:
    assert line("trial created", **fields) == text


def test_a_traceback_follows_the_line() -> None:
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        text = line("pass failed", sys.exc_info(), study="digits")
    assert text.splitlines()[0] == "INFO pass failed study=digits"
    assert text.endswith("RuntimeError: a bug")
