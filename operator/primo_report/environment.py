"""What the operator tells the containers of a trial's pod, through their environment."""

import json
import os
from pathlib import Path
from typing import Any, Final

from primo_report.untrusted import shown
from primo_report.wire import MAX_MESSAGE_BYTES, MIN_MESSAGE_BYTES

PARAMS: Final = "PRIMO_PARAMS"
FIDELITY: Final = "PRIMO_FIDELITY"
RESUME_FROM: Final = "PRIMO_RESUME_FROM"
CHECKPOINT_DIR: Final = "PRIMO_CHECKPOINT_DIR"
REPORT_FILE: Final = "PRIMO_REPORT_FILE"
TENSORBOARD_DIR: Final = "PRIMO_TENSORBOARD_DIR"
TERMINATION_LOG: Final = "PRIMO_TERMINATION_LOG"
MESSAGE_LIMIT: Final = "PRIMO_MESSAGE_LIMIT"
DRAIN_S: Final = "PRIMO_DRAIN_S"
METRICS: Final = "PRIMO_METRICS"
METRICS_ADDRESS: Final = "PRIMO_METRICS_ADDRESS"
METRICS_PORT: Final = "PRIMO_METRICS_PORT"
# Set by torchrun and most launchers, by mpirun, and by launchers that start processes on one host.
RANKS: Final = ("RANK", "OMPI_COMM_WORLD_RANK", "LOCAL_RANK")


class BadEnvironmentError(ValueError):
    """A variable does not hold what the operator puts there."""


def number(name: str) -> int | float | None:
    """None where the variable is unset or empty.

    Raises:
        BadEnvironmentError: it is neither an integer nor a float.
    """
    text = os.environ.get(name)
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise BadEnvironmentError(f"{name}: {shown(text)} is not a number")


def path(name: str) -> Path | None:
    """None where the variable is unset or empty."""
    text = os.environ.get(name)
    return Path(text) if text else None


def params() -> dict[str, Any]:
    """Parameter name to value; empty outside a trial.

    Raises:
        BadEnvironmentError: the variable is no JSON object.
    """
    given = _json(PARAMS, "{}")
    if not isinstance(given, dict):
        raise BadEnvironmentError(f"{PARAMS}: {shown(given)} is not an object")
    return given


def metrics() -> list[str]:
    """The metrics that the study needs; they get room in the message before all others.

    Raises:
        BadEnvironmentError: the variable is no JSON list of strings.
    """
    given = _json(METRICS, "[]")
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise BadEnvironmentError(f"{METRICS}: {shown(given)} is not a list of names")
    return given


def message_limit() -> int:
    """Bytes of a termination message, in the bounds of what can be.

    Raises:
        BadEnvironmentError: the variable is no integer.
    """
    given = number(MESSAGE_LIMIT)
    if given is None:
        return MAX_MESSAGE_BYTES
    if not isinstance(given, int):
        raise BadEnvironmentError(f"{MESSAGE_LIMIT}: {given} is not a number of bytes")
    return min(max(given, MIN_MESSAGE_BYTES), MAX_MESSAGE_BYTES)


def metrics_port(default: int) -> int:
    """0 asks for any free port.

    Raises:
        BadEnvironmentError: the variable is no port.
    """
    given = number(METRICS_PORT)
    if given is None:
        return default
    if not isinstance(given, int) or not 0 <= given < 2**16:
        raise BadEnvironmentError(f"{METRICS_PORT}: {given} is not a port, 0 to {2**16 - 1}")
    return given


def rank() -> int:
    """This process's number among those that train together; 0 where it is alone."""
    for name in RANKS:
        text = os.environ.get(name, "")
        if text:
            return int(text) if text.isascii() and text.isdigit() else 0
    return 0


def _json(name: str, default: str) -> Any:
    try:
        return json.loads(os.environ.get(name) or default)
    except ValueError as error:
        raise BadEnvironmentError(f"{name}: not JSON: {error}") from None
