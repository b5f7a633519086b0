"""A Gaussian process for each objective over configuration and fidelity, fitted all at once.

Kernel: v · Matérn-5/2(x, ARD) · Matérn-5/2(s) + 4·s·s', where s runs from 0 at the lowest rung to
1 at full fidelity: what is learnt cheaply carries over, and a trend common to all configurations
is linear in s. Lengthscales have the dimension-scaled log-normal kernel priors of Hvarfner et al.
(2024), as in BoTorch. Written in plain torch, and not as a BoTorch model, for time: one batched
MAP fit takes tens of milliseconds, and we refit at each ask.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

JITTER = 1e-6
TREND_VARIANCE = 4.0
SQRT5 = math.sqrt(5.0)

# Kernel priors: normal on the logarithm, (mean, std); and the range that the fit may use.
FIDELITY_LENGTHSCALE = (0.7, 1.0)
LENGTHSCALE_STD = 1.0
VARIANCE = (0.0, 1.0)
NOISE = (-6.0, 1.5)
LENGTHSCALE_RANGE, VARIANCE_RANGE, NOISE_RANGE = (-4.0, 5.0), (-3.0, 4.0), (-11.0, 0.0)

MAX_ITERATIONS = 60


class SingularModelError(Exception):
    """No finite likelihood was found. For the search to fall back on; users never see it."""


@dataclass(frozen=True, slots=True)
class Model:
    """Posterior of m independent processes; make it with `fit`.

    Attributes:
        X: (n, d) in the unit cube.
        s: (n,) in [0, 1], or None without a fidelity.
        Z: (m, n) outputs, standardized.
        mean, std: (m,) of the outputs before that.
        theta: (m, p) log hyperparameters: lengthscales, (fidelity's,) variance, noise.
        categorical: (d,); such columns are equal or one apart.
    """

    X: Tensor
    s: Tensor | None
    Z: Tensor
    mean: Tensor
    std: Tensor
    theta: Tensor
    categorical: Tensor
    root: Tensor
    weights: Tensor

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation, without noise, at full fidelity; each (n, m)."""
        mean, std = self._predict(torch.from_numpy(X))
        return mean.T.numpy(), std.T.numpy()

    def given(self, X: NDArray[np.float64]) -> "Model":
        """As if X had been observed at full fidelity with its predicted mean (Kriging believer).

        The mean stays where it is, the uncertainty around X goes.
        """
        if not len(X):
            return self
        points = torch.from_numpy(X)
        mean, _ = self._predict(points)
        s = None if self.s is None else torch.cat([self.s, torch.ones(len(X), dtype=torch.double)])
        grown = replace(
            self,
            X=torch.cat([self.X, points]),
            s=s,
            Z=torch.cat([self.Z, (mean - self.mean[:, None]) / self.std[:, None]], dim=1),
        )
        return grown._factored()

    def _predict(self, X: Tensor) -> tuple[Tensor, Tensor]:
        squares = _squares(X, self.X, self.categorical)
        fidelity, own = None, torch.exp(self.theta[:, -2])[:, None]
        if self.s is not None:
            fidelity = (torch.ones(len(X), dtype=torch.double), self.s)
            own = own + TREND_VARIANCE
        cross = _kernel(self.theta, squares, fidelity)  # (m, q, n)
        mean = (cross @ self.weights[:, :, None]).squeeze(-1)
        solved = torch.linalg.solve_triangular(self.root, cross.transpose(1, 2), upper=False)
        variance = (own - (solved**2).sum(dim=1)).clamp_min(1e-9)
        return (
            mean * self.std[:, None] + self.mean[:, None],
            variance.sqrt() * self.std[:, None],
        )

    def _factored(self) -> "Model":
        fidelity = None if self.s is None else (self.s, self.s)
        covariance = _covariance(self.theta, _squares(self.X, self.X, self.categorical), fidelity)
        root, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()) or not bool(torch.isfinite(root).all()):
            raise SingularModelError("the covariance of the observations is singular")
        weights = torch.cholesky_solve(self.Z[:, :, None], root).squeeze(-1)
        return replace(self, root=root, weights=weights)


def fit(
    X: NDArray[np.float64],
    s: NDArray[np.float64] | None,
    Y: NDArray[np.float64],
    categorical: NDArray[np.bool_],
) -> Model:
    """Maximum a posteriori, from the mode of the kernel priors on. Deterministic.

    Args:
        X: (n, d) in the unit cube.
        s: (n,) in [0, 1], or None.
        Y: (n, m), no column constant.
        categorical: (d,).

    Raises:
        SingularModelError: no finite likelihood.
    """
    mean, std = Y.mean(axis=0), Y.std(axis=0)
    Z = torch.from_numpy(np.ascontiguousarray(((Y - mean) / std).T))
    points, mask = torch.from_numpy(X), torch.from_numpy(categorical)
    fidelity = None if s is None else torch.from_numpy(s)
    theta = _maximize(points, fidelity, Z, mask)
    nothing = torch.empty(0, dtype=torch.double)
    model = Model(
        points,
        fidelity,
        Z,
        torch.from_numpy(mean),
        torch.from_numpy(std),
        theta,
        mask,
        nothing,
        nothing,
    )
    return model._factored()


def _maximize(X: Tensor, s: Tensor | None, Z: Tensor, categorical: Tensor) -> Tensor:
    center, spread, bounds = _kernel_priors(X.shape[1], s is not None)
    squares = _squares(X, X, categorical)
    fidelity = None if s is None else (s, s)
    shape = (len(Z), len(center))

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta = torch.from_numpy(flat.reshape(shape)).requires_grad_()
        covariance = _covariance(theta, squares, fidelity)
        root, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()):
            return 1e10, np.zeros_like(flat)
        solved = torch.linalg.solve_triangular(root, Z[:, :, None], upper=False)
        value = (
            0.5 * (solved**2).sum()
            + torch.diagonal(root, dim1=1, dim2=2).log().sum()
            + 0.5 * (((theta - center) / spread) ** 2).sum()
        )
        value.backward()
        assert theta.grad is not None
        return float(value.detach()), theta.grad.numpy().ravel()

    start = center.repeat(len(Z), 1).numpy().ravel()
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds * len(Z),
        options={"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS},
    )
    if not math.isfinite(found.fun) or found.fun >= 1e10:
        raise SingularModelError("no hyperparameters give the observations a finite likelihood")
    return torch.from_numpy(np.array(found.x, dtype=np.float64).reshape(shape))


def _kernel_priors(d: int, with_fidelity: bool) -> tuple[Tensor, Tensor, list[tuple[float, float]]]:
    """Mean and std of each log hyperparameter, (p,), and their ranges."""
    # Half the median of Hvarfner's prior for d dimensions: on the few dozen points of a study the
    # full one makes everything look linear.
    lengthscale = math.sqrt(2.0) + 0.5 * math.log(d) - math.log(2.0)
    rows = [(lengthscale, LENGTHSCALE_STD, LENGTHSCALE_RANGE)] * d
    if with_fidelity:
        rows.append((*FIDELITY_LENGTHSCALE, LENGTHSCALE_RANGE))
    rows += [(*VARIANCE, VARIANCE_RANGE), (*NOISE, NOISE_RANGE)]
    center = torch.tensor([row[0] for row in rows], dtype=torch.double)
    spread = torch.tensor([row[1] for row in rows], dtype=torch.double)
    return center, spread, [row[2] for row in rows]


def _squares(A: Tensor, B: Tensor, categorical: Tensor) -> Tensor:
    """(a, b, d) squared distances in each column."""
    gap = A[:, None, :] - B[None, :, :]
    return torch.where(categorical, (gap.abs() > 1e-9).double(), gap**2)


def _matern(squared: Tensor) -> Tensor:
    # Away from 0, where the root has no derivative.
    distance = (squared + 1e-12).sqrt()
    return (1.0 + SQRT5 * distance + 5.0 / 3.0 * squared) * torch.exp(-SQRT5 * distance)


def _kernel(theta: Tensor, squares: Tensor, fidelity: tuple[Tensor, Tensor] | None) -> Tensor:
    """(m, a, b) without noise."""
    d = squares.shape[-1]
    scaled = torch.einsum("abk,mk->mab", squares, torch.exp(-2.0 * theta[:, :d]))
    kernel = torch.exp(theta[:, -2])[:, None, None] * _matern(scaled)
    if fidelity is None:
        return kernel
    ours, theirs = fidelity
    gaps = (ours[:, None] - theirs[None, :]) ** 2
    along = _matern(gaps * torch.exp(-2.0 * theta[:, d])[:, None, None])
    return kernel * along + TREND_VARIANCE * ours[:, None] * theirs[None, :]


def _covariance(theta: Tensor, squares: Tensor, fidelity: tuple[Tensor, Tensor] | None) -> Tensor:
    noise = torch.exp(theta[:, -1]) + JITTER
    eye = torch.eye(len(squares), dtype=torch.double)
    return _kernel(theta, squares, fidelity) + noise[:, None, None] * eye
