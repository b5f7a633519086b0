"""`${trialParameters.NAME}` in a template, as what Kubernetes expands.

Katib replaces text anywhere in the template. Here a value reaches the trial as an environment
variable, which Kubernetes expands in a container's command, arguments and variables alone; a value
that never changes can stand anywhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from primo_cli.katib.notes import CannotConvertError

_PLACEHOLDER = re.compile(r"(?P<dollars>\$*)\$\{trialParameters\.(?P<name>.+?)\}")
_POD = r"spec\.template\.spec"
_EXPANDED = re.compile(rf"{_POD}\.containers\[\d+\]\.(?:(?:command|args)\[\d+\]|env\[\d+\]\.value)")
_INIT = re.compile(rf"{_POD}\.initContainers\b")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands for a placeholder.

    Attributes:
        expands: it holds `$(NAME)`, so that it only works where Kubernetes expands that.
    """

    text: str
    expands: bool


def replaced(value: Any, replacements: Mapping[str, Replacement], path: str = "") -> Any:
    """A template without placeholders.

    Raises:
        CannotConvertError: one is not known, or stands where its value cannot get to.
    """
    if isinstance(value, Mapping):
        # A placeholder in a key is as good as one in what has no variables: it cannot be.
        return {
            replaced(key, replacements, f"{path}.{key}".lstrip(".")): replaced(
                item, replacements, f"{path}.{key}".lstrip(".")
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [replaced(item, replacements, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: _one(match, replacements, path), value)
    return value


def _one(match: re.Match[str], replacements: Mapping[str, Replacement], path: str) -> str:
    name, dollars = match["name"], match["dollars"]
    replacement = replacements.get(name)
    if replacement is None:
        raise CannotConvertError(
            f"trialTemplate: ${{trialParameters.{name}}} in {path} is not one of trialParameters"
        )
    if not replacement.expands:
        return dollars + replacement.text
    if not _EXPANDED.fullmatch(path):
        why = "Kubernetes expands no variable there"
        if _INIT.match(path):
            why = "an init container has no parameters"
        raise CannotConvertError(
            f"trialTemplate: ${{trialParameters.{name}}} stands in {path}, and {why}"
        )
    # $$ is one $ to Kubernetes: an odd one out would take the $ of $(NAME) with it.
    return dollars + "$" * (len(dollars) % 2) + replacement.text
