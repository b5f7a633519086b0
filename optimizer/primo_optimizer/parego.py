"""ParEGO: each step improves on another weighted Chebyshev scalarization (Knowles 2006).

As qLogNParEGO in BoTorch (doi 10.1109/TEVC.2005.851274; Daulton et al. 2020, arXiv 2006.05078): one
Gaussian process for each objective and constraint, and a noisy expected improvement of the
scalarized posterior. The weights are drawn for each trial; where the user prefers a trade-off, they
are the user's. Every evaluation is at full fidelity (`bayesian.py`), priors are not used.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from primo_optimizer.bayesian import Learnt, load_botorch, mistakes, search
from primo_optimizer.problem import Problem, Scalarization
from primo_optimizer.trial import Suggestion, Trial, rounded

if TYPE_CHECKING:
    from primo_optimizer.gp.botorch_models import Acquisition, Step


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return mistakes("parego", settings)


def load(_: Problem) -> None:
    load_botorch()


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    return search(problem, trials, count, seed, next_number, improve_scalarized)


def improve_scalarized(
    problem: Problem, learnt: Learnt, step: "Step", rng: np.random.Generator
) -> tuple["Acquisition", dict[str, Any]]:
    """With the user's weights, or else weights drawn uniformly from the simplex."""
    from primo_optimizer.gp.botorch_models import Scalar

    m, preference = len(problem.objectives), problem.preference
    weights = np.array(preference.weights) if preference else rng.dirichlet(np.ones(m))
    losses = learnt.evidence.losses[:, learnt.columns]
    scalar = Scalar(
        weights=weights[learnt.columns],
        ideal=losses.min(axis=0),
        span=losses.max(axis=0) - losses.min(axis=0),
        linear=preference is not None and preference.scalarization is Scalarization.LINEAR,
    )
    words = {o.name: rounded(w) for o, w in zip(problem.objectives, weights, strict=True)}
    return learnt.models.improvement(step, scalar), {"weights": words} if m > 1 else {}
