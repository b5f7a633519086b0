"""BoTorch's Gaussian processes and noisy expected improvement, as its documentation has them.

For the algorithms that go by BoTorch's names: one `SingleTaskGP` for each output, standardized,
with the dimension-scaled kernel priors of Hvarfner et al. (2024), and the acquisition functions
qLogNEHVI (Daulton et al. 2021, arXiv 2105.08195) and qLogNEI (Ament et al. 2023, arXiv 2310.20708).
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction, qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import WeightedMCMultiOutputObjective
from botorch.acquisition.multi_objective.utils import prune_inferior_points_multi_objective
from botorch.acquisition.objective import GenericMCObjective
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.model import Model
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.errors import NanError, NotPSDError
from numpy.typing import NDArray
from torch import Tensor

from primo_optimizer.gp.model import Embedding, SingularModelError
from primo_optimizer.gp.threads import single_thread

# Fits and climbs are stopped here; sharper ones do not find better configurations.
FIT_ITERATIONS, CLIMB_ITERATIONS = 50, 10
# Points scored together, for memory.
CHUNK = 128
WORST = -1e10
# Knowles (2006), equation 2: what tells apart points that are equal in their worst loss.
AUGMENTATION = 0.05
GIVEN_UP = (ModelFittingError, NotPSDError, NanError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Data:
    """What models are learnt from; no column is constant.

    Attributes:
        X: (n, d) in the unit cube.
        losses: (n, v).
        slacks: (n, bounds), above 0 where a bound is broken.
        failed: (f, d) where there is nothing but a failure to be seen.
    """

    X: NDArray[np.float64]
    losses: NDArray[np.float64]
    slacks: NDArray[np.float64]
    failed: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scalar:
    """Losses as one, which is the larger the worse: the largest of them, or their sum.

    The largest one has a twentieth of the sum added, so that only Pareto-optimal points are best.

    Attributes:
        weights, ideal, span: (v,) of the losses; each is scaled to (loss - ideal) / span first.
        linear: the sum.
    """

    weights: NDArray[np.float64]
    ideal: NDArray[np.float64]
    span: NDArray[np.float64]
    linear: bool = False

    def __call__(self, losses: Tensor) -> Tensor:
        """(..., v) as (...)."""
        scaled = (losses - _tensor(self.ideal)) * _tensor(self.weights / self.span)
        total = scaled.sum(dim=-1)
        return total if self.linear else scaled.amax(dim=-1) + AUGMENTATION * total


@dataclass(frozen=True, slots=True)
class Step:
    """What an acquisition function is made from, beside the models.

    Attributes:
        baseline: (b, d) observed points that may be the best, the best first; b at least 1.
        pending: (p, d).
        samples: of the posterior.
    """

    baseline: NDArray[np.float64]
    pending: NDArray[np.float64]
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Models:
    """Independent processes for v losses, then for each bound, then for failures if there are any.

    What is made of them raises `SingularModelError` where BoTorch gives up.

    Attributes:
        mean, std: (outputs,), before they were standardized.
    """

    embedding: Embedding
    model: Model
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    v: int

    @classmethod
    def fit(cls, data: Data, choices: NDArray[np.int64], matern: bool = False) -> "Models":
        """Maximum a posteriori.

        Args:
            choices: (d,) as in `Embedding`.
            matern: a Matérn-5/2 kernel in place of BoTorch's default, which is Gaussian.
        """
        embedding = Embedding(choices)
        parts = [(data.X, np.concatenate([data.losses, data.slacks], axis=1))]
        if len(data.failed):
            labels = np.repeat([-1.0, 1.0], [len(data.X), len(data.failed)])
            parts.append((np.concatenate([data.X, data.failed]), labels[:, None]))
        mean, std = (np.concatenate([f(Y, axis=0) for _, Y in parts]) for f in (np.mean, np.std))
        with _alone(seed=0):
            fitted = [_fit(embedding(X), Y, matern) for X, Y in parts]
        model = fitted[0] if len(fitted) == 1 else ModelListGP(*fitted)
        return cls(embedding, model, mean, std, data.losses.shape[1])

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the losses, without noise; each (n, v)."""
        with _alone(seed=0), torch.no_grad():
            posterior = self.model.posterior(_tensor(self.embedding(X)))
            mean, std = posterior.mean.numpy(), posterior.variance.sqrt().numpy()
        scale, shift = self.std[: self.v], self.mean[: self.v]
        return mean[:, : self.v] * scale + shift, std[:, : self.v] * scale

    def hypervolume_improvement(
        self, step: Step, reference: NDArray[np.float64], front: NDArray[np.float64]
    ) -> "Acquisition":
        """qLogNEHVI; v is at least 2.

        Args:
            reference: (v,) losses; NaN where it is to be inferred.
            front: (k, v) losses reached, to infer it from and to tell what is within reach.
        """
        objective = WeightedMCMultiOutputObjective(
            -torch.ones(self.v, dtype=torch.double), outcomes=list(range(self.v))
        )
        worst = infer_reference_point(
            -self._standardized(front), max_ref_point=-self._standardized(reference)
        )
        constraints = self._constraints() or None
        with _alone(step.seed):
            baseline = _tensor(self.embedding(step.baseline))
            likely = prune_inferior_points_multi_objective(
                self.model, baseline, worst, objective=objective, constraints=constraints
            )
            function = logei.qLogNoisyExpectedHypervolumeImprovement(
                self.model,
                ref_point=worst,
                # Nothing may be feasible and below the reference point yet; it wants one point.
                X_baseline=likely if len(likely) else baseline[:1],
                sampler=_sampler(step),
                objective=objective,
                constraints=constraints,
                X_pending=self._pending(step),
            )
        return Acquisition(self.embedding, function, step.seed)

    def improvement(self, step: Step, scalar: Scalar | None = None) -> "Acquisition":
        """qLogNEI of the scalarized losses, or else of the first one."""
        mean, std = _tensor(self.mean[: self.v]), _tensor(self.std[: self.v])

        def objective(samples: Tensor, X: Tensor | None = None) -> Tensor:  # noqa: ARG001
            if scalar is None:
                return -samples[..., 0]
            return -scalar(samples[..., : self.v] * std + mean)

        with _alone(step.seed):
            function = qLogNoisyExpectedImprovement(
                self.model,
                X_baseline=_tensor(self.embedding(step.baseline)),
                sampler=_sampler(step),
                objective=GenericMCObjective(objective),
                constraints=self._constraints() or None,
                X_pending=self._pending(step),
            )
        return Acquisition(self.embedding, function, step.seed)

    def _standardized(self, losses: NDArray[np.float64]) -> Tensor:
        return _tensor((losses - self.mean[: self.v]) / self.std[: self.v])

    def _pending(self, step: Step) -> Tensor | None:
        return _tensor(self.embedding(step.pending)) if len(step.pending) else None

    def _constraints(self) -> list[Any]:
        """Of posterior samples, at most 0 where they are kept."""
        zeros = (self.mean / self.std)[self.v :]
        return [
            lambda samples, k=k, zero=zero: samples[..., k] + zero
            for k, zero in enumerate(zeros.tolist(), start=self.v)
        ]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """The logarithm of an expected improvement over what was observed and what is pending."""

    embedding: Embedding
    function: AcquisitionFunction
    seed: int

    def __call__(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) of (n, d) points; finite."""
        points = _tensor(self.embedding(X))[:, None, :]
        with _alone(self.seed), torch.no_grad():
            parts = [self.function(part).numpy() for part in torch.split(points, CHUNK)]
        values = np.nan_to_num(np.concatenate(parts), nan=WORST, posinf=-WORST, neginf=WORST)
        return np.asarray(values, dtype=np.float64)

    def climbed(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Local maxima near (k, d) points, found by gradient as if all parameters were real.

        Only valid up to `SearchSpace.snap`, which may take back what was gained.
        """
        starts = _tensor(self.embedding(X))[:, None, :]
        categorical = (self.embedding.choices > 0)[self.embedding.origins]
        top = _tensor(np.where(categorical, np.sqrt(0.5), 1.0))
        with _alone(self.seed):
            found, _ = optimize_acqf(
                self.function,
                bounds=torch.stack([torch.zeros_like(top), top]),
                q=1,
                num_restarts=len(starts),
                batch_initial_conditions=starts,
                options={"maxiter": CLIMB_ITERATIONS},
                return_best_only=False,
                retry_on_optimization_warning=False,
            )
        return self._in_unit_cube(np.asarray(found[:, 0, :].numpy(), dtype=np.float64))

    def _in_unit_cube(self, embedded: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, e) as (n, d): a category is the one whose corner is nearest."""
        columns = []
        for j, k in enumerate(self.embedding.choices):
            block = embedded[:, self.embedding.origins == j]
            columns.append((block.argmax(axis=1) + 0.5) / k if k else block[:, 0])
        return np.stack(columns, axis=1)


def _fit(X: NDArray[np.float64], Y: NDArray[np.float64], matern: bool) -> SingleTaskGP:
    """Of (n, k) outputs, each with hyperparameters of its own."""
    k = Y.shape[1]
    kernel = get_covar_module_with_dim_scaled_prior(
        X.shape[1], batch_shape=torch.Size([k] if k > 1 else []), use_rbf_kernel=not matern
    )
    Z = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    model = SingleTaskGP(_tensor(X), _tensor(Z), covar_module=kernel, outcome_transform=None)
    likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": FIT_ITERATIONS}})
    return model


def _sampler(step: Step) -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(torch.Size([step.samples]), seed=step.seed)


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.double)


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Neither depends on torch's global state nor leaves a trace in it, and does not warn.

    Raises:
        SingularModelError: BoTorch gives up on what is done inside.
    """
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(single_thread())
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(_interpreted())
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(torch.double)
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")
        try:
            yield
        except GIVEN_UP as error:
            raise SingularModelError(str(error)) from error


@contextmanager
def _interpreted() -> Iterator[None]:
    """Without the C++ that BoTorch 0.18 compiles at the first qLogNEHVI if there is a compiler.

    That takes half a minute, leaves a lock behind if killed at which all others wait for ever, and
    rounds otherwise than on a machine without a compiler.
    """
    switches = {"_load_attempted": True, "_C": None}
    before = {name: getattr(logei, name, None) for name in switches}
    for name, value in switches.items():
        setattr(logei, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(logei, name, value)
