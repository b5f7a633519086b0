"""Optuna's samplers for several objectives, at full fidelity: its pruners take one objective."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState

from peers.adapter import Proposal, Spec, full_fidelity, losses, violations

PACKAGES = ("optuna", "torch", "numpy", "scipy")


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


class Optuna:
    """A study in memory."""

    def __init__(self, spec: Spec, sampler: optuna.samplers.BaseSampler) -> None:
        self._spec = spec
        directions = ["minimize"] * len(spec["objectives"])
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._distributions = {p["name"]: _distribution(p) for p in spec["parameters"]}
        self._running: dict[int, Trial] = {}

    def ask(self) -> Proposal:
        trial = self._study.ask(self._distributions)
        self._running[trial.number] = trial
        configuration = {p["name"]: _value(p, trial.params) for p in self._spec["parameters"]}
        return Proposal(trial.number, configuration, full_fidelity(self._spec))

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        running = self._running.pop(trial)
        if values is None:
            self._study.tell(running, state=TrialState.FAIL)
            return
        running.set_user_attr("violations", violations(self._spec, values))
        self._study.tell(running, losses(self._spec, values))

    def add(self, configuration: Mapping[str, Any], values: Mapping[str, float]) -> None:
        params = {p["name"]: _drawn(p, configuration) for p in self._spec["parameters"]}
        trial = optuna.create_trial(
            values=losses(self._spec, values),
            params=params,
            distributions=self._distributions,
            user_attrs={"violations": violations(self._spec, values)},
        )
        self._study.add_trial(trial)


def make(variant: str, spec: Spec, seed: int, settings: Mapping[str, Any]) -> Optuna:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given: dict[str, Any] = {"seed": seed, **settings}
    if "constraints" in spec:
        given["constraints_func"] = _violations
    match variant:
        case "tpe":
            sampler: Any = optuna.samplers.TPESampler(constant_liar=True, **given)
        case "gp":
            sampler = optuna.samplers.GPSampler(**given)
        case _:
            sampler = optuna.samplers.NSGAIISampler(**given)
    return Optuna(spec, sampler)


def _violations(trial: FrozenTrial) -> list[float]:
    found: list[float] = trial.user_attrs["violations"]
    return found


def _distribution(spec: Spec) -> BaseDistribution:
    """An ordinal is the index of its value."""
    if body := spec.get("float"):
        return FloatDistribution(body["min"], body["max"], log=body.get("log", False))
    if body := spec.get("int"):
        return IntDistribution(body["min"], body["max"], log=body.get("log", False))
    if body := spec.get("ordinal"):
        return IntDistribution(0, len(body["values"]) - 1)
    return CategoricalDistribution(spec["categorical"]["choices"])


def _drawn(spec: Spec, configuration: Mapping[str, Any]) -> Any:
    value = configuration[spec["name"]]
    return spec["ordinal"]["values"].index(value) if "ordinal" in spec else value


def _value(spec: Spec, drawn: Mapping[str, Any]) -> Any:
    value = drawn[spec["name"]]
    return spec["ordinal"]["values"][value] if "ordinal" in spec else value
