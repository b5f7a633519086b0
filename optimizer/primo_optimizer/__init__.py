"""Prior-guided multi-objective hyperparameter optimization (PriMO, arXiv 2511.08371)."""

from primo_optimizer.ask_tell import AskTell, Incumbent, TellError
from primo_optimizer.errors import DeviceError, InvalidSpecError, PrimoError
from primo_optimizer.optimizer import (
    ALGORITHMS,
    SpaceExhaustedError,
    check,
    learns_from_earlier,
    load,
    suggest,
)
from primo_optimizer.parameters import Categorical, Float, Int, Ordinal
from primo_optimizer.problem import (
    Belief,
    Constraint,
    Fidelity,
    Goal,
    Objective,
    Preference,
    Prior,
    Problem,
    Scalarization,
)
from primo_optimizer.space import SearchSpace
from primo_optimizer.trial import Observation, Suggestion, Trial

__all__ = [
    "ALGORITHMS",
    "AskTell",
    "Belief",
    "Categorical",
    "Constraint",
    "DeviceError",
    "Fidelity",
    "Float",
    "Goal",
    "Incumbent",
    "Int",
    "InvalidSpecError",
    "Objective",
    "Observation",
    "Ordinal",
    "Preference",
    "PrimoError",
    "Prior",
    "Problem",
    "Scalarization",
    "SearchSpace",
    "SpaceExhaustedError",
    "Suggestion",
    "TellError",
    "Trial",
    "check",
    "learns_from_earlier",
    "load",
    "suggest",
]
