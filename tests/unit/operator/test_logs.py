"""What a line of the log says."""

import logging
import sys
from typing import Any

import pytest
from kopf._cogs.clients.errors import APIForbiddenError, APIServerError

from primo_operator.logs import FieldsFormatter, _is_news


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


FORBIDDEN = APIForbiddenError("no right", status=403, headers={})
TRIES = "Request attempt #2/9 failed; will retry: GET https://a/b -> {!r}"


@pytest.mark.parametrize(
    ("name", "message", "error", "news"),
    [
        ("kopf._core.reactor.running", "Watcher has failed", FORBIDDEN, False),
        ("kopf._cogs.clients.watching", TRIES.format(FORBIDDEN), None, False),
        (
            "kopf._cogs.clients.watching",
            TRIES.format(APIServerError("busy", status=503, headers={})),
            None,
            True,
        ),
        ("kopf._core.reactor.running", "Handler has failed", RuntimeError("a bug"), True),
        ("primo_operator.queue", "pass failed", FORBIDDEN, True),
    ],
    ids=["an end of kopf's", "its tries", "a busy server", "a bug", "ours"],
)
def test_what_kopf_says_of_a_refusal_is_left_to_us(
    name: str, message: str, error: Exception | None, news: bool
) -> None:
    exc_info = (type(error), error, None) if error else None
    record = logging.Logger(name).makeRecord(name, logging.ERROR, "f", 1, message, (), exc_info)
    assert _is_news(record) == news
