"""The algorithms of primo_optimizer, through its pure function."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

# Imported by algorithms when they need it; seconds that belong to no suggestion.
import torch  # noqa: F401

from peers.adapter import Proposal, Spec
from primo_optimizer import Observation, Problem, Trial, suggest

# Of an algorithm: its name, and settings that differ from the defaults.
VARIANTS: dict[str, tuple[str, Mapping[str, Any]]] = {"primo-cuda": ("primo", {"device": "cuda"})}
PACKAGES = ("primo-operator", "torch", "numpy", "scipy")


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


class Ours:
    """Keeps the trials between asks; the algorithm itself keeps nothing."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem, self._seed = problem, seed
        self._trials: dict[int, Trial] = {}

    def ask(self) -> Proposal | None:
        suggestions = suggest(self._problem, tuple(self._trials.values()), 1, self._seed)
        for s in suggestions:
            trial = self._trials.get(s.trial) or Trial(s.trial, s.configuration)
            self._trials[s.trial] = replace(trial, running=True, fidelity=s.fidelity)
            return Proposal(s.trial, s.configuration, s.fidelity)
        return None

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        told = replace(self._trials[trial], running=False)
        if values is None:
            self._trials[trial] = replace(told, failed="Diverged")
            return
        seen = self._observation(told.fidelity, values)
        self._trials[trial] = replace(told, observations=(*told.observations, seen))

    def add(self, configuration: Mapping[str, Any], values: Mapping[str, float]) -> None:
        number, full = len(self._trials), self._problem.full_fidelity
        seen = self._observation(full, values)
        self._trials[number] = Trial(number, configuration, (seen,), fidelity=full)

    def _observation(self, fidelity: float | None, values: Mapping[str, float]) -> Observation:
        return Observation(
            fidelity,
            {o.name: values[o.name] for o in self._problem.objectives},
            {c.metric: values[c.metric] for c in self._problem.constraints},
        )


def make(variant: str, spec: Spec, seed: int, settings: Mapping[str, Any]) -> Ours:
    name, own = VARIANTS.get(variant, (variant, {}))
    algorithm = {"name": name, "settings": {**own, **settings}}
    return Ours(Problem.from_spec({**spec, "algorithm": algorithm}), seed)
