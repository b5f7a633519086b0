"""What pods and users wrote is shown in a terminal, and neither obeyed nor tripped over."""

import io

import pytest
from rich.console import Console

from primo_cli.view import last_words, plain


def shown(words: str) -> str:
    out = io.StringIO()
    condition = {"type": "Failed", "reason": "TooManyFailures", "message": words}
    study = {"status": {"phase": "Failed", "conditions": [condition]}}
    Console(file=out, width=300, force_terminal=True).print(last_words(study))
    return out.getvalue()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("[/home/me/train.py]", "[/home/me/train.py]", id="no closing tag"),
        pytest.param("[red]loss[/red]", "[red]loss[/red]", id="no colour"),
        pytest.param("\x1b[2J\x1b]0;title\x07", "?[2J?]0;title?", id="no escapes"),
        pytest.param("a\r\nb\u202ec", "a?\n  b?c", id="lines of theirs, and one direction"),
        pytest.param(":smiley: https://x.example", ":smiley: https://x.example", id="no emoji"),
    ],
)
def test_the_last_words_are_shown_as_they_are(words: str, expected: str) -> None:
    assert shown(words) == f"Failed: TooManyFailures: {expected}\n"


def test_whatever_is_plain_is_one_line() -> None:
    assert plain("a\nb\u2028c").plain == "a?b?c"
