"""What every optimizer looks like to the benchmark."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

Spec = Mapping[str, Any]


class Proposal(NamedTuple):
    """A run to be done.

    Attributes:
        trial: its number; one that was proposed before goes on from where it got to.
        fidelity: to train up to; None if the problem has no fidelity.
    """

    trial: int
    configuration: Mapping[str, Any]
    fidelity: float | None


class UnsupportedError(Exception):
    """The optimizer has no means for such a problem."""


class Bound(NamedTuple):
    """One side of a constraint."""

    metric: str
    limit: float
    sign: float

    def violation(self, values: Mapping[str, float]) -> float:
        """Above zero where it is broken."""
        return self.sign * (values[self.metric] - self.limit)


def bounds(spec: Spec) -> list[Bound]:
    sides = (("atMost", 1.0), ("atLeast", -1.0))
    constraints = spec.get("constraints", ())
    return [Bound(c["metric"], c[k], sign) for c in constraints for k, sign in sides if k in c]


def violations(spec: Spec, values: Mapping[str, float]) -> list[float]:
    return [bound.violation(values) for bound in bounds(spec)]


def losses(spec: Spec, values: Mapping[str, float]) -> list[float]:
    """In the order of the spec, lower is better."""
    return [
        -values[o["name"]] if o.get("goal") == "Maximize" else values[o["name"]]
        for o in spec["objectives"]
    ]


def full_fidelity(spec: Spec) -> float | None:
    return spec["fidelity"]["max"] if "fidelity" in spec else None


class Optimizer(Protocol):
    """One run's optimizer. Any number of proposals may be asked for before one is told."""

    def ask(self) -> Proposal | None:
        """The next run; None if all that is left to do waits for running trials."""

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        """What a proposal came to: objectives and constrained metrics; None if it failed."""

    def add(self, configuration: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """An evaluation at full fidelity that was not asked for; only before the first ask."""


class Make(Protocol):
    """What a module of this package gives.

    Raises:
        UnsupportedError: the problem asks for what this optimizer cannot do.
    """

    def __call__(
        self, variant: str, spec: Spec, seed: int, settings: Mapping[str, Any]
    ) -> Optimizer: ...
