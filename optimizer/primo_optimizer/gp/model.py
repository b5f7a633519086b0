"""Gaussian processes over configuration and fidelity, one for each output, by maximum a posteriori.

Kernel: v · Matérn-5/2(x, ARD) · Matérn-5/2(s) + s·s', where s runs from 0 at the lowest rung to
1 at full fidelity: what is learnt cheaply carries over, and a trend common to all configurations
is linear in s. Lengthscales have the dimension-scaled log-normal kernel priors of Hvarfner et al.
(2024), as in BoTorch. Written in plain torch, with the gradient by hand, and not as a BoTorch
model, for time: we refit at each ask (docs/decisions/0005).
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

JITTER = 1e-6
TREND_VARIANCE = 1.0
SQRT5 = math.sqrt(5.0)

# Kernel priors: normal on the logarithm, (mean, std); and the range that the fit may use.
FIDELITY_LENGTHSCALE = (0.7, 1.0)
# So many times shorter than the median of Hvarfner's prior for d dimensions: on a study's few dozen
# points that makes everything look linear, and the model too sure of it. Most of all where no cheap
# observations lie between the full ones.
SHORTER_WITH_FIDELITY, SHORTER = 3.3, 6.0
LENGTHSCALE_STD = 1.0
VARIANCE = (0.0, 1.0)
NOISE = (-6.0, 1.5)
LENGTHSCALE_RANGE, VARIANCE_RANGE, NOISE_RANGE = (-4.0, 5.0), (-3.0, 4.0), (-11.0, 0.0)

# Hyperparameters are found on at most so many rows: more of them move little and cost cubically.
FIT_ROWS = 128
MAX_ITERATIONS = 60
# Of the loss, relative: hyperparameters need not be sharper than the data make them.
TOLERANCE = 1e-6
IMPOSSIBLE = 1e10


class SingularModelError(Exception):
    """No finite likelihood was found. For the search to fall back on; users never see it."""


@dataclass(frozen=True, slots=True)
class Model:
    """Posterior of m independent processes; make it with `fit`.

    Attributes:
        embedding: of configurations.
        X: (n, e) embedded configurations.
        s: (n,) in [0, 1], or None without a fidelity.
        Z: (m, n) outputs, standardized.
        mean, std: (m,) of the outputs before that.
        theta: (m, p) log hyperparameters: lengthscales, (fidelity's,) variance, noise.
        root: (m, n, n) Cholesky factors of the covariance.
        weights: (m, n) Z solved by it.
    """

    embedding: "Embedding"
    X: Tensor
    s: Tensor | None
    Z: Tensor
    mean: Tensor
    std: Tensor
    theta: Tensor
    root: Tensor
    weights: Tensor

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation, without noise, at full fidelity; each (n, m)."""
        mean, std = self._predict(self._points(X))
        return mean.T.cpu().numpy(), std.T.cpu().numpy()

    def given(self, X: NDArray[np.float64]) -> "Model":
        """As if X had been observed at full fidelity with its predicted mean (Kriging believer).

        The mean stays where it is, the uncertainty around X goes.

        Raises:
            SingularModelError: with them the covariance is singular.
        """
        if not len(X):
            return self
        points = self._points(X)
        mean, _ = self._predict(points)
        s = None if self.s is None else torch.cat([self.s, torch.ones_like(points[:, 0])])
        grown = replace(
            self,
            X=torch.cat([self.X, points]),
            s=s,
            Z=torch.cat([self.Z, (mean - self.mean[:, None]) / self.std[:, None]], dim=1),
        )
        return grown._factored()

    def _points(self, X: NDArray[np.float64]) -> Tensor:
        return _on(self.X.device, self.embedding(X))

    def _predict(self, X: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.exp(self.theta[:, -2])[:, None]
        ones = None
        if self.s is not None:
            ones, own = torch.ones_like(X[:, 0]), own + TREND_VARIANCE
        cross = self._kernel(X, ones)  # (m, q, n)
        mean = (cross @ self.weights[:, :, None]).squeeze(-1)
        solved = torch.linalg.solve_triangular(self.root, cross.transpose(1, 2), upper=False)
        variance = (own - (solved * solved).sum(dim=1)).clamp_min(1e-9)
        return (
            mean * self.std[:, None] + self.mean[:, None],
            variance.sqrt() * self.std[:, None],
        )

    def _factored(self) -> "Model":
        covariance = self._kernel(self.X, self.s)
        noise = torch.exp(self.theta[:, -1]) + JITTER
        covariance.diagonal(dim1=1, dim2=2).add_(noise[:, None])
        root, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()) or not bool(torch.isfinite(root).all()):
            raise SingularModelError("the covariance of the observations is singular")
        weights = torch.cholesky_solve(self.Z[:, :, None], root).squeeze(-1)
        return replace(self, root=root, weights=weights)

    def _kernel(self, X: Tensor, s: Tensor | None) -> Tensor:
        """(m, q, n) covariance with the observations, without noise."""
        d = len(self.embedding.choices)
        scales = torch.exp(-self.theta[:, self.embedding.origins])
        ours, theirs = X * scales[:, None, :], self.X * scales[:, None, :]
        squared = torch.baddbmm(
            (theirs * theirs).sum(dim=2)[:, None, :], ours, theirs.transpose(1, 2), alpha=-2.0
        )
        squared += (ours * ours).sum(dim=2)[:, :, None]
        kernel = _matern(squared.clamp_min_(0.0)) * torch.exp(self.theta[:, -2])[:, None, None]
        if self.s is None or s is None:
            return kernel
        # Of the few different fidelities, not of all points.
        levels, level = torch.unique(s, return_inverse=True)
        gaps = (levels[:, None] - self.s[None, :]) ** 2
        along = _matern(gaps * torch.exp(-2.0 * self.theta[:, d])[:, None, None])  # (m, levels, n)
        trend = TREND_VARIANCE * levels[:, None] * self.s[None, :]
        if len(levels) == 1:
            return kernel.mul_(along).add_(trend)
        return kernel.mul_(along[:, level]).add_(trend[level])


def fit(
    X: NDArray[np.float64],
    s: NDArray[np.float64] | None,
    Y: NDArray[np.float64],
    choices: NDArray[np.int64],
    device: str = "cpu",
    learn_from: int | None = None,
) -> Model:
    """Maximum a posteriori, from the mode of the kernel priors on. Deterministic.

    Args:
        X: (n, d) in the unit cube.
        s: (n,) in [0, 1], or None.
        Y: (n, m), no column constant.
        choices: (d,) as in `Embedding`.
        learn_from: the hyperparameters come from so many first rows alone; by default from all.
            Equal first rows give equal hyperparameters, which are then remembered.

    Raises:
        SingularModelError: no finite likelihood.
    """
    head = Y[:learn_from]
    mean, std = head.mean(axis=0), head.std(axis=0)
    Z = (Y - mean) / std
    rows = _telling_rows(Z[:learn_from])
    theta = [
        _hyperparameters(
            _Data.of(X[rows], None if s is None else s[rows], z[rows]), tuple(choices), device
        )
        for z in Z.T
    ]
    embedding = Embedding(choices)
    nothing = torch.empty(0, dtype=torch.double)
    model = Model(
        embedding=embedding,
        X=_on(device, embedding(X)),
        s=None if s is None else _on(device, s),
        Z=_on(device, np.ascontiguousarray(Z.T)),
        mean=_on(device, mean),
        std=_on(device, std),
        theta=_on(device, np.array(theta)),
        root=nothing,
        weights=nothing,
    )
    return model._factored()


def _telling_rows(Z: NDArray[np.float64]) -> NDArray[np.int64]:
    """All if few; else half of them the best ones, where it matters, and half spread over all."""
    n = len(Z)
    if n <= FIT_ROWS:
        return np.arange(n)
    by_rank = np.argsort(Z.argsort(axis=0).argsort(axis=0).sum(axis=1), kind="stable")
    best, rest = by_rank[: FIT_ROWS // 2], np.sort(by_rank[FIT_ROWS // 2 :])
    spread = rest[np.linspace(0, len(rest) - 1, FIT_ROWS // 2).astype(np.int64)]
    return np.sort(np.concatenate([best, spread]))


@dataclass(frozen=True, slots=True)
class _Data:
    """Rows that hyperparameters are found on, such that equal ones are found to be equal."""

    X: bytes
    s: bytes | None
    z: bytes

    @classmethod
    def of(
        cls, X: NDArray[np.float64], s: NDArray[np.float64] | None, z: NDArray[np.float64]
    ) -> "_Data":
        return cls(X.tobytes(), None if s is None else s.tobytes(), z.tobytes())

    def arrays(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
        # Copies, because torch wants memory that it could write to.
        z = np.frombuffer(self.z).copy()
        s = None if self.s is None else np.frombuffer(self.s).copy()
        return np.frombuffer(self.X).copy().reshape(len(z), -1), s, z


@lru_cache(maxsize=64)
def _hyperparameters(data: _Data, choices: tuple[int, ...], device: str) -> NDArray[np.float64]:
    """(p,) of one output; remembered, since most asks come with the rows of the one before."""
    likelihood = _Likelihood.of(Embedding(np.array(choices)), *data.arrays(), device)
    found = minimize(
        likelihood.loss_and_gradient,
        likelihood.center,
        jac=True,
        method="L-BFGS-B",
        bounds=likelihood.bounds,
        options={"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "ftol": TOLERANCE},
    )
    if not math.isfinite(found.fun) or found.fun >= IMPOSSIBLE:
        raise SingularModelError("no hyperparameters give the observations a finite likelihood")
    return np.asarray(found.x, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Likelihood:
    """The negative log posterior of the hyperparameters of one output, and its gradient.

    By hand (Rasmussen and Williams 2006, eq. 5.9): autograd takes four times as long.

    Attributes:
        squares: (d, n·n) squared distances in each column.
        gaps: (n, n) the same of the fidelity, or None without; trend: (n, n) its linear part.
        z: (n,).
        center, spread, bounds: (p,) of the kernel priors; the range for the search.
    """

    squares: Tensor
    gaps: Tensor | None
    trend: Tensor | None
    z: Tensor
    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    bounds: list[tuple[float, float]]

    @classmethod
    def of(
        cls,
        embedding: "Embedding",
        X: NDArray[np.float64],
        s: NDArray[np.float64] | None,
        z: NDArray[np.float64],
        device: str,
    ) -> "_Likelihood":
        center, spread, bounds = _kernel_priors(X.shape[1], s is not None)
        return cls(
            squares=_on(device, embedding.squares(X)),
            gaps=None if s is None else _on(device, (s[:, None] - s[None, :]) ** 2),
            trend=None if s is None else _on(device, TREND_VARIANCE * np.outer(s, s)),
            z=_on(device, z),
            center=center,
            spread=spread,
            bounds=bounds,
        )

    def loss_and_gradient(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        d, n = len(self.squares), len(self.z)
        rates = np.exp(-2.0 * theta)
        variance = math.exp(theta[-2])
        kernel, slope = _matern_and_slope(
            (_on(self.z.device, rates[:d]) @ self.squares).reshape(n, n)
        )
        along = along_slope = None
        if self.gaps is not None:
            along, along_slope = _matern_and_slope(self.gaps * rates[d])
            slope, along_slope = slope * along, along_slope * kernel
            kernel = kernel * along
        covariance = kernel * variance
        if self.trend is not None:
            covariance += self.trend
        noise = math.exp(theta[-1])
        covariance.diagonal().add_(noise + JITTER)
        root, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            return IMPOSSIBLE, np.zeros_like(theta)
        # Symmetric, and by columns: transposed it lies in memory like the rest.
        inverse = torch.cholesky_inverse(root).mT
        weights = inverse @ self.z
        away = (theta - self.center) / self.spread
        loss = (
            0.5 * float(self.z @ weights)
            + float(root.diagonal().log().sum())
            + 0.5 * float(away @ away)
        )
        pull = inverse.addr_(weights, weights, alpha=-1.0)  # twice the loss by the covariance
        gradient = away / self.spread
        moved = (pull * slope).reshape(-1)
        gradient[:d] -= variance * rates[:d] * (self.squares @ moved).cpu().numpy()
        if self.gaps is not None and along_slope is not None:
            gradient[d] -= variance * rates[d] * float((pull * along_slope * self.gaps).sum())
        gradient[-2] += 0.5 * variance * float((pull * kernel).sum())
        gradient[-1] += 0.5 * noise * float(pull.trace())
        return loss, gradient


def _kernel_priors(
    d: int, with_fidelity: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[float, float]]]:
    """Mean and std of each log hyperparameter, (p,), and their ranges."""
    shorter = SHORTER_WITH_FIDELITY if with_fidelity else SHORTER
    lengthscale = math.sqrt(2.0) + 0.5 * math.log(d) - math.log(shorter)
    rows = [(lengthscale, LENGTHSCALE_STD, LENGTHSCALE_RANGE)] * d
    if with_fidelity:
        rows.append((*FIDELITY_LENGTHSCALE, LENGTHSCALE_RANGE))
    rows += [(*VARIANCE, VARIANCE_RANGE), (*NOISE, NOISE_RANGE)]
    center, spread = np.array([row[:2] for row in rows]).T
    return center, spread, [row[2] for row in rows]


@dataclass(frozen=True, slots=True)
class Embedding:
    """Points such that squared distances are plain sums: categories become corners of a simplex.

    Attributes:
        choices: (d,) how many values a categorical column has; 0 for a numeric one.
    """

    choices: NDArray[np.int64]

    def __call__(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, d) as (n, e); two different choices of a column end up at a distance of 1."""
        columns = [
            self._corners(x, k) if k else x[:, None] for x, k in zip(X.T, self.choices, strict=True)
        ]
        return np.concatenate(columns, axis=1)

    @property
    def origins(self) -> NDArray[np.int64]:
        """(e,) the column of X that each embedded one comes from."""
        return np.repeat(np.arange(len(self.choices)), np.maximum(self.choices, 1))

    def squares(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """(d, n·n) squared distances in each column."""
        gap = X.T[:, :, None] - X.T[:, None, :]
        differ = (np.abs(gap) > 1e-9).astype(np.float64)
        squares = np.where((self.choices > 0)[:, None, None], differ, gap**2)
        return squares.reshape(len(squares), -1)

    @staticmethod
    def _corners(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        chosen = np.clip((x * k).astype(np.int64), 0, k - 1)
        return np.asarray(np.eye(k)[chosen] * math.sqrt(0.5), dtype=np.float64)


def _matern(squared: Tensor) -> Tensor:
    """Matérn-5/2 at a squared scaled distance. In place where it can: memory is what it costs."""
    distance = (5.0 * squared).sqrt_()
    polynomial = squared.mul(5.0 / 3.0).add_(distance).add_(1.0)
    return polynomial.mul_(distance.neg_().exp_())


def _matern_and_slope(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Matérn-5/2 at a squared scaled distance, and its derivative by that."""
    distance = SQRT5 * squared.sqrt()
    decay = torch.exp(-distance)
    linear = (1.0 + distance) * decay
    return linear + (5.0 / 3.0) * squared * decay, (-5.0 / 6.0) * linear


def _on(device: str | torch.device, values: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.double, device=device)
