"""Words of pods end in conditions and Events, and so in somebody's terminal."""

from typing import Any

import pytest

from primo_operator.pods import outcome, waiting
from support.builders import run, spec

RED = "\x1b[31mred\x07\r"


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


def failed(message: str) -> dict[str, Any]:
    ended = {"exitCode": 1, "reason": "Error", "message": message}
    return pod(
        phase="Failed", containerStatuses=[{"name": "train", "state": {"terminated": ended}}]
    )


def stuck(message: str) -> dict[str, Any]:
    why = {"reason": "ImagePullBackOff", "message": message}
    return pod(phase="Pending", containerStatuses=[{"name": "train", "state": {"waiting": why}}])


@pytest.mark.parametrize("hostile", [RED, "\x9b2J", "a\x00b", "\u202eevil"])
def test_control_characters_are_replaced(hostile: str) -> None:
    why = waiting(stuck(hostile))
    assert why is not None
    end = outcome(failed(hostile), False, None, False, run(), spec())
    assert end is not None
    for said in (why.message, end.message):
        assert said
        assert all(character.isprintable() or character == "\n" for character in said)
