"""PriMO: prior-informed multi-objective optimization (Basu, Hutter, Stoll; arXiv 2511.08371).

Two stages, told apart by what the trials have cost: an initial design over cheap rungs, then
Bayesian optimization whose acquisition function is weighted with the users' priors. Where we
differ from the paper, the module that does so says why; with `paper: true` it is as published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primo_optimizer import initial_design, optimizing, paper
from primo_optimizer.bayesian import load_botorch
from primo_optimizer.history import History, in_turn
from primo_optimizer.problem import Problem
from primo_optimizer.settings import (
    flag_mistakes,
    number_mistakes,
    pattern_mistakes,
    unknown_settings,
)
from primo_optimizer.surrogate import Surrogate
from primo_optimizer.trial import Suggestion, Trial

# Observations below which a model says nothing.
MIN_OBSERVATIONS = 3
# In full evaluations. Fewer see too little of the space, more are late with full evaluations.
# Priors say where to look first.
INITIAL_DESIGN, WITH_PRIORS = 3.0, 2.0
# Without a fidelity: trials elsewhere than at the priors' centres, if one of them holds or none.
ELSEWHERE, UNFOUNDED = 1, 3


@dataclass(frozen=True, slots=True)
class Settings:
    """`algorithm.settings` of primo.

    Attributes:
        epsilon: the share of steps that leave the priors aside.
        initial_design: the budget of the first stage in full evaluations. The paper takes 5.
        adaptive: that budget is the default, and what is seen changes it. Where several workers
            run, the first stage ends with the first trial that comes to the last rung but one:
            nothing else stops them from spending the study's budget at low rungs while they wait
            for a full evaluation. Without a fidelity it takes the centres of the priors and one
            trial elsewhere, or three where all priors are refuted.
        device: where torch computes, as torch names it; one with double precision.
        paper: the algorithm as published, whose defaults are the paper's.
    """

    epsilon: float
    initial_design: float
    adaptive: bool
    device: str
    paper: bool

    @classmethod
    def of(cls, problem: Problem) -> "Settings":
        usual = WITH_PRIORS if problem.priors else INITIAL_DESIGN
        default = min(usual, max(2.0, len(problem.space.parameters)))
        given = {k: v for k, v in problem.settings.items() if v is not None}
        return cls(
            epsilon=float(given.get("epsilon", 0.25)),
            initial_design=float(given.get("initialDesign", default)),
            adaptive="initialDesign" not in given,
            device=str(given.get("device", "cpu")),
            paper=bool(given.get("paper", False)),
        )


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return [
        *unknown_settings("primo", settings, ("device", "epsilon", "initialDesign", "paper")),
        *number_mistakes(settings, "epsilon", 0.0, 1.0),
        *number_mistakes(settings, "initialDesign", 0.0),
        *flag_mistakes(settings, "paper"),
        *pattern_mistakes(settings, "device", r"cpu|(cuda|xpu)(:\d+)?", "such as cpu or cuda:0"),
    ]


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    settings = Settings.of(problem)
    if settings.paper:
        return paper.suggest(problem, trials, count, seed, next_number)
    if settings.device != "cpu":
        _require(settings.device)  # it would come as a surprise with the first model
    fitted: Surrogate | str | None = None

    def propose(history: History, number: int) -> Suggestion | None:
        nonlocal fitted
        if designing(history, settings):
            return initial_design.propose(history, seed, number)
        # Pending trials do not change the fit, so one is enough.
        fitted = optimizing.fit(history, settings.device) if fitted is None else fitted
        return optimizing.propose(
            history, fitted, settings.epsilon, settings.initial_design, seed, number
        )

    return in_turn(History.of(problem, trials), count, next_number, propose)


def load(problem: Problem) -> None:
    settings = Settings.of(problem)
    if settings.paper:
        load_botorch()
    else:
        _require(settings.device)


def _require(device: str) -> None:
    # Torch takes a second to import.
    from primo_optimizer.gp import devices

    devices.require(device)


def designing(history: History, settings: Settings) -> bool:
    """Whether the first stage goes on: its budget is not given out, or a model would be blind.

    Without a full evaluation it knows nothing of what counts. One that runs is enough, and for
    several workers one that is near: they would spend the study's budget at the lowest rung while
    they wait for it. If full evaluations only fail, we stop waiting at twice the budget.
    """
    observations = sum(len(trial.observations) for trial in history.sound())
    if observations < MIN_OBSERVATIONS:
        return True
    if history.spent_earlier() >= settings.initial_design:
        return False  # other studies have made it
    if settings.adaptive and history.running() and history.near_full():
        return False
    if not (history.complete() or history.completing()):
        return history.spent(with_running=False) < 2.0 * settings.initial_design
    budget = settings.initial_design
    if settings.adaptive and history.problem.priors and not history.rungs:
        elsewhere = ELSEWHERE if initial_design.holding(history) else UNFOUNDED
        budget = len(history.problem.priors) + elsewhere
    return history.spent(with_running=True) < budget
