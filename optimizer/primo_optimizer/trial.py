"""Trials as the optimizer sees them: what was tried, what was observed, what is proposed next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = float | int | str
Configuration = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a trial reported at one fidelity.

    Attributes:
        fidelity: in the user's unit; None where the problem has no fidelity.
        values: objective name -> value in the user's unit and direction; always finite.
        constrained: metric -> value of each constraint, in the user's unit; always finite.
    """

    fidelity: float | None
    values: Mapping[str, float]
    constrained: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration on its way through the rungs.

    Attributes:
        number: from 0; numbers may have gaps, none is used twice.
        configuration: parameter name -> value in user units; every parameter of the space whose
            condition holds.
        observations: at most one for each fidelity, in ascending order of it.
        running: a run is under way (or queued): the trial is pending at `fidelity`.
        fidelity: of the run under way, else of the last one; None without a fidelity.
        failed: the reason, if the trial failed; it gets no further runs.
        stopped: it gets no further runs, and has not failed.
    """

    number: int
    configuration: Configuration
    observations: tuple[Observation, ...] = ()
    running: bool = False
    fidelity: float | None = None
    failed: str | None = None
    stopped: bool = False

    def at(self, fidelity: float | None) -> Observation | None:
        """The observation at exactly this fidelity, if there is one."""
        return next((seen for seen in self.observations if seen.fidelity == fidelity), None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data; `Trial.from_dict` reads it back equal."""
        return {
            "number": self.number,
            "configuration": dict(self.configuration),
            "observations": [
                {
                    "fidelity": seen.fidelity,
                    "values": dict(seen.values),
                    "constrained": dict(seen.constrained),
                }
                for seen in self.observations
            ],
            "running": self.running,
            "fidelity": self.fidelity,
            "failed": self.failed,
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Trial":
        seen = tuple(
            Observation(o.get("fidelity"), o["values"], o.get("constrained") or {})
            for o in data["observations"]
        )
        return cls(**{**data, "observations": seen})


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A configuration and a fidelity to run next: a new trial, or a further run of a paused one.

    Attributes:
        trial: its number; a new one is above every number known so far.
        configuration: every parameter of the space whose condition holds, in user units.
        fidelity: to train up to, in the user's unit; None without a fidelity.
        resume_from: the fidelity already reached by this trial; None for a new one.
        explanation: why this one, as plain JSON data. Always holds `stage` (`InitialDesign` or
            `Optimizing`) and `origin` (`Uniform`, `Prior`, `PriorCenter`, `Promotion`, `Model`);
            of a configuration of the user's own only the `origin`, `User`.
    """

    trial: int
    configuration: Configuration
    fidelity: float | None = None
    resume_from: float | None = None
    explanation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Configuration:
        """The configuration, by the word that a spec has for it."""
        return self.configuration

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data; `Suggestion.from_dict` reads it back equal."""
        return {
            "trial": self.trial,
            "configuration": dict(self.configuration),
            "fidelity": self.fidelity,
            "resume_from": self.resume_from,
            "explanation": dict(self.explanation),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Suggestion":
        return cls(**data)


def rounded(value: float) -> float:
    """Six digits: explanations are for people, and stay small."""
    return float(f"{value:.6g}")
