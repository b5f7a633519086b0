"""qLogNEHVI: expected improvement of the hypervolume under noise, as in BoTorch.

Daulton et al. 2021 (arXiv 2105.08195), Ament et al. 2023 (arXiv 2310.20708). Everything but the
acquisition function is as for `parego`: full fidelity only, a space-filling start, no priors.

The cost of exact hypervolumes is exponential in the number of objectives. With more than three, and
where the user prefers one trade-off, a step improves on a scalarization, and is one of `parego`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from primo_optimizer.bayesian import Learnt, load_botorch, mistakes, search
from primo_optimizer.parego import improve_scalarized
from primo_optimizer.problem import Problem
from primo_optimizer.trial import Suggestion, Trial

if TYPE_CHECKING:
    from primo_optimizer.gp.botorch_models import Acquisition, Step

# With four, making the acquisition function takes five seconds and more.
MAX_HYPERVOLUME_OBJECTIVES = 3
# Of the best observations, those that may be on the true front: pruning them is quadratic.
MAX_BASELINE = 64


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return mistakes("qlognehvi", settings)


def load(_: Problem) -> None:
    load_botorch()


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    return search(problem, trials, count, seed, next_number, improve)


def improve(
    problem: Problem, learnt: Learnt, step: "Step", rng: np.random.Generator
) -> tuple["Acquisition", dict[str, Any]]:
    """On the hypervolume, or on a scalarization where that is too dear or not what is wanted."""
    if problem.preference or not 2 <= len(learnt.columns) <= MAX_HYPERVOLUME_OBJECTIVES:
        return improve_scalarized(problem, learnt, step, rng)
    front = learnt.evidence.front()[:, learnt.columns]
    step = replace(step, baseline=step.baseline[:MAX_BASELINE])
    reference = problem.reference[learnt.columns]
    return learnt.models.hypervolume_improvement(step, reference, front), {}
