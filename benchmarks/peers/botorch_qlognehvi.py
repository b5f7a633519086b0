"""The loop of BoTorch's tutorials with qLogNoisyExpectedHypervolumeImprovement (Ament et al. 2023).

At full fidelity, from a Sobol start. Integers are relaxed and rounded, categoricals one-hot.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from botorch import fit_gpytorch_mll
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from gpytorch.mlls import SumMarginalLogLikelihood
from torch import Tensor
from torch.quasirandom import SobolEngine

from peers.adapter import Proposal, Spec, UnsupportedError, full_fidelity, losses, violations

PACKAGES = ("botorch", "gpytorch", "torch", "numpy")
SAMPLES, RESTARTS, RAW_SAMPLES = 64, 5, 128


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


class Loop:
    """Fits new models at each ask."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self._spec, self._seed = spec, seed
        self._parameters = [_Parameter.of(p) for p in spec["parameters"]]
        self._width = sum(p.width for p in self._parameters)
        # A dimension and one more, as far as a budget of 20 goes.
        self._start = len(self._parameters) + 1
        self._sobol = SobolEngine(self._width, scramble=True, seed=seed)
        self._points: list[Tensor] = []
        self._running: set[int] = set()
        self._results: dict[int, list[float]] = {}

    def ask(self) -> Proposal:
        number = len(self._points)
        torch.manual_seed(self._seed * 10_000 + number)
        few = len(self._results) < 2
        raw = self._sobol.draw(1).double()[0] if number < self._start or few else self._optimal()
        configuration, point = self._rounded(raw)
        self._points.append(point)
        self._running.add(number)
        return Proposal(number, configuration, full_fidelity(self._spec))

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        self._running.remove(trial)
        if values is not None:
            broken = violations(self._spec, values)
            self._results[trial] = [*losses(self._spec, values), *broken]

    def add(self, configuration: Mapping[str, Any], values: Mapping[str, float]) -> None:
        self._running.add(len(self._points))
        self._points.append(torch.cat([p.encode(configuration[p.name]) for p in self._parameters]))
        self.tell(len(self._points) - 1, values)

    def _optimal(self) -> Tensor:
        X = torch.stack([self._points[number] for number in self._results])
        # Gains, and then how far inside the constraints are kept: higher is better in all.
        Y = -torch.tensor(list(self._results.values()), dtype=torch.double)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            acquisition = self._acquisition(X, Y)
            limits = torch.stack([torch.zeros(self._width), torch.ones(self._width)]).double()
            point, _ = optimize_acqf(
                acquisition,
                bounds=limits,
                q=1,
                num_restarts=RESTARTS,
                raw_samples=RAW_SAMPLES,
                options={"batch_limit": RESTARTS, "maxiter": 200},
            )
        return point[0]

    def _acquisition(self, X: Tensor, Y: Tensor) -> qLogNoisyExpectedHypervolumeImprovement:
        models = [
            SingleTaskGP(X, Y[:, [k]], outcome_transform=Standardize(m=1))
            for k in range(Y.shape[1])
        ]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        m = len(self._spec["objectives"])
        pending = [self._points[number] for number in sorted(self._running)]
        return qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=_reference(Y, m),
            X_baseline=X,
            X_pending=torch.stack(pending) if pending else None,
            sampler=SobolQMCNormalSampler(torch.Size([SAMPLES])),
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(m))),
            constraints=[_broken(k) for k in range(m, Y.shape[1])] or None,
            prune_baseline=True,
        )

    def _rounded(self, raw: Tensor) -> tuple[dict[str, Any], Tensor]:
        configuration, columns, start = {}, [], 0
        for parameter in self._parameters:
            part = raw[start : start + parameter.width]
            configuration[parameter.name] = parameter.decode(part)
            columns.append(parameter.encode(configuration[parameter.name]))
            start += parameter.width
        return configuration, torch.cat(columns)


def _reference(Y: Tensor, m: int) -> Tensor:
    """Of the feasible gains, or of all if none is."""
    feasible = (Y[:, m:] >= 0).all(dim=-1)
    gains = Y[feasible, :m] if feasible.any() else Y[:, :m]
    return infer_reference_point(gains[is_non_dominated(gains)])


def _broken(k: int) -> Callable[[Tensor], Tensor]:
    """Above zero where constraint k is broken."""
    return lambda samples: -samples[..., k]


class _Parameter:
    """One column of the unit cube, or one for each choice."""

    def __init__(self, name: str, values: list[Any] | None, width: int) -> None:
        self.name, self.values, self.width = name, values, width

    @classmethod
    def of(cls, spec: Spec) -> "_Parameter":
        if "categorical" in spec:
            choices = spec["categorical"]["choices"]
            return cls(spec["name"], choices, len(choices))
        if "ordinal" in spec:
            return _Number(spec["name"], 0, len(spec["ordinal"]["values"]) - 1, **spec["ordinal"])
        kind = "int" if "int" in spec else "float"
        body = spec[kind]
        return _Number(spec["name"], body["min"], body["max"], body["log"], kind == "int")

    def decode(self, part: Tensor) -> Any:
        assert self.values is not None
        return self.values[int(part.argmax())]

    def encode(self, value: Any) -> Tensor:
        assert self.values is not None
        hot = torch.tensor(self.values.index(value))
        return torch.nn.functional.one_hot(hot, self.width).double()


class _Number(_Parameter):
    """On a line, whole if it is an int or the index of an ordinal's value."""

    def __init__(
        self,
        name: str,
        low: float,
        high: float,
        log: bool = False,
        whole: bool = True,
        values: list[Any] | None = None,
    ) -> None:
        super().__init__(name, values, 1)
        self._low, self._high, self._log, self._whole = low, high, log, whole

    def decode(self, part: Tensor) -> Any:
        unit = float(part[0])
        if self._log:
            value = self._low * math.exp(unit * math.log(self._high / self._low))
        else:
            value = self._low + unit * (self._high - self._low)
        value = min(max(value, self._low), self._high)
        if not self._whole:
            return value
        return round(value) if self.values is None else self.values[round(value)]

    def encode(self, value: Any) -> Tensor:
        number = value if self.values is None else self.values.index(value)
        if self._log:
            unit = math.log(number / self._low) / math.log(self._high / self._low)
        else:
            unit = (number - self._low) / (self._high - self._low)
        return torch.tensor([unit], dtype=torch.double)


def make(variant: str, spec: Spec, seed: int, settings: Mapping[str, Any]) -> Loop:  # noqa: ARG001
    if len(spec["objectives"]) < 2:
        raise UnsupportedError("several objectives are needed")
    if settings:
        raise UnsupportedError("there are no settings")
    return Loop(spec, seed)
