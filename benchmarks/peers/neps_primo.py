"""The reference implementation of PriMO, and its MOASHA: NePS (neural-pipeline-search)."""

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import neps
import numpy as np
import torch

from peers.adapter import Proposal, Spec, UnsupportedError, losses

PACKAGES = ("neural-pipeline-search", "torch", "botorch", "gpytorch", "numpy")
# As the paper ran it.
INITIAL_DESIGN, ETA = 5, 3


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


class Neps:
    """Behind its own ask and tell.

    While it climbs rungs, identifiers are `<configuration>_rung_<k>`; later ones are plain numbers,
    which it may give again.
    """

    def __init__(self, spec: Spec, algorithm: Any) -> None:
        self._spec, self._asked = spec, neps.AskAndTell(algorithm)
        self._numbers: dict[str, int] = {}
        self._identifiers: list[str] = []

    def ask(self) -> Proposal:
        asked = self._asked.ask()
        configuration = dict(asked.config)
        fidelity = configuration.pop(self._spec["fidelity"]["name"])
        number = self._number(asked.id)
        self._identifiers[number] = asked.id
        return Proposal(number, configuration, fidelity)

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        result: Any = RuntimeError("Diverged")
        if values is not None:
            result = {"objective_to_minimize": losses(self._spec, values)}
        self._asked.tell(self._identifiers[trial], result)

    def add(self, configuration: Mapping[str, Any], values: Mapping[str, float]) -> None:
        fidelity = self._spec["fidelity"]
        number = len(self._identifiers)
        self._identifiers.append(f"{number}_rung_{_top_rung(fidelity)}")
        self._numbers[str(number)] = number
        self._asked.tell_custom(
            config_id=self._identifiers[number],
            config={**configuration, fidelity["name"]: fidelity["max"]},
            result={"objective_to_minimize": losses(self._spec, values)},
        )

    def _number(self, identifier: str) -> int:
        configuration, _, rung = identifier.partition("_rung_")
        number = len(self._identifiers)
        if rung:
            number = self._numbers.setdefault(configuration, number)
        if number == len(self._identifiers):
            self._identifiers.append(identifier)
        return number


def make(variant: str, spec: Spec, seed: int, settings: Mapping[str, Any]) -> Neps:
    if "fidelity" not in spec:
        raise UnsupportedError("a fidelity is needed")
    if "constraints" in spec:
        raise UnsupportedError("there are no constraints")
    if len(spec["objectives"]) == 1:
        raise UnsupportedError("several objectives are needed")
    # It takes no seed, and draws from these two.
    np.random.seed(seed)
    torch.manual_seed(seed)
    if variant == "moasha":
        return Neps(spec, neps.algorithms.moasha(_space(spec), eta=ETA, **settings))
    centers, confidences = _priors(spec)
    algorithm = neps.algorithms.primo(
        _space(spec),
        prior_centers=centers,
        prior_confidences=confidences,
        initial_design_size=INITIAL_DESIGN,
        eta=ETA,
        **settings,
    )
    return Neps(spec, algorithm)


def _top_rung(fidelity: Mapping[str, Any]) -> int:
    return int(math.log(fidelity["max"] / fidelity["min"], ETA) + 1e-9)


def _space(spec: Spec) -> neps.SearchSpace:
    fidelity = spec["fidelity"]
    elements: dict[str, Any] = {p["name"]: _parameter(p) for p in spec["parameters"]}
    elements[fidelity["name"]] = neps.HPOInteger(fidelity["min"], fidelity["max"], is_fidelity=True)
    return neps.SearchSpace(elements)


def _parameter(spec: Spec) -> Any:
    """It knows no ordinals; as categoricals they lose their order."""
    if body := spec.get("float"):
        return neps.HPOFloat(body["min"], body["max"], log=body.get("log", False))
    if body := spec.get("int"):
        return neps.HPOInteger(body["min"], body["max"], log=body.get("log", False))
    if body := spec.get("ordinal"):
        return neps.HPOCategorical(list(body["values"]))
    return neps.HPOCategorical(list(spec["categorical"]["choices"]))


def _priors(spec: Spec) -> tuple[dict[str, Any], dict[str, Any]]:
    centers, confidences = {}, {}
    for prior in spec.get("priors", ()):
        beliefs = prior["parameters"]
        centers[prior["objective"]] = {b["name"]: b.get("center", b.get("choice")) for b in beliefs}
        confidences[prior["objective"]] = {b["name"]: prior["confidence"] for b in beliefs}
    return centers, confidences
