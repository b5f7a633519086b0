"""Ax, Meta's platform over BoTorch, with the strategy it chooses by itself; at full fidelity."""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from peers.adapter import Proposal, Spec, full_fidelity

PACKAGES = ("ax-platform", "botorch", "gpytorch", "torch", "numpy")


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


class Ax:
    """A client in memory."""

    def __init__(self, spec: Spec, client: Client) -> None:
        self._spec, self._client = spec, client

    def ask(self) -> Proposal | None:
        for number, configuration in self._client.get_next_trials(max_trials=1).items():
            return Proposal(number, dict(configuration), full_fidelity(self._spec))
        return None

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        if values is None:
            self._client.mark_trial_failed(trial)
        else:
            self._client.complete_trial(trial, raw_data=dict(values))

    def add(self, configuration: Mapping[str, Any], values: Mapping[str, float]) -> None:
        self.tell(self._client.attach_trial(dict(configuration)), values)


def make(variant: str, spec: Spec, seed: int, settings: Mapping[str, Any]) -> Ax:  # noqa: ARG001
    logging.getLogger("ax").setLevel(logging.ERROR)
    client = Client(random_seed=seed)
    client.configure_experiment(parameters=[_parameter(p) for p in spec["parameters"]])
    client.configure_optimization(
        objective=", ".join(_objective(o) for o in spec["objectives"]),
        outcome_constraints=[c for spec in spec.get("constraints", ()) for c in _limits(spec)],
    )
    if settings:
        client.configure_generation_strategy(**settings)
    return Ax(spec, client)


def _objective(spec: Spec) -> str:
    """It maximises, unless there is a minus sign."""
    return spec["name"] if spec.get("goal") == "Maximize" else f"-{spec['name']}"


def _limits(spec: Spec) -> list[str]:
    given = [("<=", spec.get("atMost")), (">=", spec.get("atLeast"))]
    return [f"{spec['metric']} {sign} {bound}" for sign, bound in given if bound is not None]


def _parameter(spec: Spec) -> RangeParameterConfig | ChoiceParameterConfig:
    name = spec["name"]
    if "ordinal" in spec:
        values = spec["ordinal"]["values"]
        kind = "int" if all(isinstance(value, int) for value in values) else "float"
        return ChoiceParameterConfig(name, values, kind, is_ordered=True)
    if "categorical" in spec:
        return ChoiceParameterConfig(name, spec["categorical"]["choices"], "str", is_ordered=False)
    kind = "int" if "int" in spec else "float"
    body = spec[kind]
    scaling = "log" if body.get("log") else "linear"
    return RangeParameterConfig(name, (body["min"], body["max"]), kind, scaling=scaling)
