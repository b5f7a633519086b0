"""Reading an algorithm's settings, `algorithm.settings` of a study."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from primo_optimizer.shapes import is_number, shown, there_are


def unknown_settings(
    algorithm: str, settings: Mapping[str, Any], known: Iterable[str]
) -> list[str]:
    """A message for each setting that the algorithm does not have."""
    names = sorted(known)
    return [
        f"algorithm.settings.{name}: is not a setting of {algorithm} {there_are(names)}"
        for name in settings
        if name not in names
    ]


def number_mistakes(
    settings: Mapping[str, Any], name: str, low: float, high: float = math.inf
) -> list[str]:
    """A message if the setting is there and is no number in [low, high]."""
    value = settings.get(name)
    if value is None:
        return []
    at = f"algorithm.settings.{name}"
    if not is_number(value):
        return [f"{at}: {shown(value)} is not a finite number"]
    if low <= value <= high:
        return []
    expected = f"between {low:g} and {high:g}" if math.isfinite(high) else f"{low:g} or more"
    return [f"{at}: {value:g} is not {expected}"]


def flag_mistakes(settings: Mapping[str, Any], name: str) -> list[str]:
    """A message if the setting is there and is neither true nor false."""
    value = settings.get(name)
    if value is None or isinstance(value, bool):
        return []
    return [f"algorithm.settings.{name}: {shown(value)} is not true or false"]


def pattern_mistakes(
    settings: Mapping[str, Any], name: str, pattern: str, expectation: str
) -> list[str]:
    """A message if the setting is there and is no text that the whole pattern fits."""
    value = settings.get(name)
    if value is None or (isinstance(value, str) and re.fullmatch(pattern, value)):
        return []
    return [f"algorithm.settings.{name}: {shown(value)} is not {expectation}"]
