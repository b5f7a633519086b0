"""Ask and tell, for notebooks and harnesses: the words of a study's spec, and no cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from primo_optimizer import shapes
from primo_optimizer.errors import InvalidSpecError, PrimoError
from primo_optimizer.optimizer import check, suggest
from primo_optimizer.pareto import hypervolume, non_dominated, reference_point
from primo_optimizer.problem import Problem
from primo_optimizer.reading import read_own, read_trials
from primo_optimizer.shapes import is_number, plain, shown
from primo_optimizer.transforms import bounded
from primo_optimizer.trial import Configuration, Observation, Suggestion, Trial

DIVERGED = "Diverged"

_STATE = shapes.Fields(
    {"spec": shapes.entries, "seed": shapes.whole_number, "trials": shapes.items},
    {"earlier": shapes.items},
)


class TellError(PrimoError, ValueError):
    """What was told does not fit what was asked; nothing has changed."""


class Incumbent(NamedTuple):
    """A trial on the Pareto front.

    Attributes:
        parameters: in user units.
        values: objective name -> value at full fidelity, in the user's unit.
    """

    number: int
    parameters: Configuration
    values: Mapping[str, float]


class AskTell:
    """An optimizer with a memory.

    `ask` gives runs to be done, `tell` takes their results; in between anything may happen, also
    further asks: what runs is reckoned with. Equal seeds, asks and tells give equal suggestions,
    to the bit on one machine.

    Not safe for threads: keep it in one of them, and let the others only run trials.

    Attributes:
        problem: what is optimized.
        seed: of all random draws.
    """

    def __init__(self, spec: Mapping[str, Any], seed: int | None = None) -> None:
        self._spec: dict[str, Any] = plain(spec)
        self.problem = Problem.from_spec(self._spec)
        check(self.problem)
        algorithm = self._spec.get("algorithm") or {}
        self.seed = int(algorithm.get("seed") or 0) if seed is None else _seed(seed)
        # In the order in which they were told of last, on which a derived reference point rests.
        self._trials: dict[int, Trial] = {}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], seed: int | None = None) -> "AskTell":
        """From what a PriMOStudy has below `spec`; budget, template and the like are ignored.

        Args:
            seed: any whole number; by default `algorithm.seed` of the spec, else 0.

        Raises:
            InvalidSpecError: naming each field at fault, its value and what was expected.
        """
        return cls(spec, seed)

    def ask(self, count: int = 1) -> list[Suggestion]:
        """What to run next; it counts as running from now on.

        Returns:
            At most `count`; fewer, or none, when all that is left to do waits for running trials.

        Raises:
            SpaceExhaustedError: nothing is running and there is nothing left to propose.
            DeviceError: torch cannot use the device that the settings name.
            InvalidSpecError: the count is no whole number, or below 0.
        """
        suggestions = suggest(self.problem, self.trials, _count(count), self.seed)
        for suggestion in suggestions:
            self._start(suggestion)
        # Copies, since they are in the user's hands: a promotion has its trial's own configuration.
        return [replace(s, configuration=dict(s.configuration)) for s in suggestions]

    def add(self, parameters: Configuration, fidelity: float | None = None) -> Suggestion:
        """A configuration of one's own; it counts as running, as if it had been asked for.

        Args:
            parameters: a value for every parameter whose condition holds, in user units.
            fidelity: what it is trained to; by default full fidelity.

        Raises:
            InvalidSpecError: a parameter is missing, unknown, outside its range, or against its
                condition.
            TellError: a trial has this configuration, or there is no such fidelity.
        """
        space = self.problem.space
        configuration = space.configuration(parameters)
        for trial in self._trials.values():
            if space.key(trial.configuration) == space.key(configuration):
                raise TellError(f"parameters: trial {trial.number} has the same")
        if fidelity is None:
            fidelity = self.problem.full_fidelity
        else:
            fidelity = self._fidelity(fidelity, self.problem.full_fidelity)
        number = self._next_number
        suggestion = Suggestion(number, configuration, fidelity, None, {"origin": "User"})
        self._start(suggestion)
        return suggestion

    def add_prior(self, prior: Mapping[str, Any]) -> None:
        """What is believed meanwhile, as in `priors` of a spec; it counts from the next new trial.

        Raises:
            InvalidSpecError: naming each field at fault; or the objective has a prior.
        """
        priors = [*(self._spec.get("priors") or ()), plain(prior)]
        if isinstance(priors[-1], Mapping):
            priors[-1] = {**priors[-1], "fromTrial": self._next_number}
        spec = {**self._spec, "priors": priors}
        self.problem = replace(Problem.from_spec(spec), earlier=self.problem.earlier)
        self._spec = spec

    def learn_from(self, trials: Sequence[Trial]) -> None:
        """Take in what others have observed of the same problem, such as `other.trials`.

        The models learn from it, in place of what they learnt from before. It is on no front, and
        what was tried there may be suggested here.

        Raises:
            InvalidSpecError: these are no trials, a configuration is of another space, or a value
                is missing or no finite number.
        """
        if not isinstance(trials, Sequence):
            raise InvalidSpecError(f"trials: {shown(trials)} is not a list, such as other.trials")
        self._learn("trials", [_data(f"trials[{i}]", trial) for i, trial in enumerate(trials)])

    def tell(
        self,
        trial: int,
        fidelity: float | None,
        values: Mapping[str, float] | None = None,
        *,
        failed: str | None = None,
    ) -> None:
        """What a running trial came to.

        Told at the fidelity that was asked for, the run has ended. Told at a lower one, the run
        goes on and the values are one more observation: a learning curve, if you like. A value
        that is NaN or infinite says that the training has diverged: the trial has failed.

        Args:
            trial: its number, `suggestion.trial`.
            fidelity: `suggestion.fidelity` or below; None if the problem has no fidelity.
            values: name -> value of each objective, and of the metric of each constraint, in the
                user's units. Further metrics may be in it, and are left alone.
            failed: instead of values, why there are none. The trial gets no further runs.

        Raises:
            TellError: the trial does not run, was told at this fidelity before, or cannot have
                reached it; or values are missing or no numbers.
        """
        running = self._running(trial, fidelity)
        at = self._fidelity(fidelity, running.fidelity)
        if (values is None) == (failed is None):
            given = "neither" if values is None else "both"
            raise TellError(f"values, failed: {given} given, expected exactly one of them")
        if values is None:
            told = replace(running, running=False, failed=_reason(failed))
        elif running.at(at) is not None:
            raise TellError(f"trial {running.number}: was told at fidelity {at} before")
        else:
            told = self._observed(running, at, self._numbers(values))
        del self._trials[told.number]
        self._trials[told.number] = told

    def stop(self, trial: int) -> None:
        """Give a trial no further runs; what it was told counts.

        Raises:
            TellError: there is no such trial, or it has failed.
        """
        known = self._known(trial)
        if known.failed is not None:
            raise TellError(f"trial {known.number}: has failed ({known.failed})")
        self._trials[known.number] = replace(known, running=False, stopped=True)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All of them, by number."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    def front(self) -> list[Incumbent]:
        """The Pareto front; with one objective the best trial, and those equal to it.

        Trials count that were told at full fidelity and keep all constraints.

        Returns:
            In the order of the objectives' names, best first in the first of them.
        """
        results = self._results()
        losses = self.problem.losses([seen.values for _, seen in results])
        on_front = [i for i, on in enumerate(non_dominated(losses)) if on]
        on_front.sort(key=lambda i: (*losses[i], results[i][0].number))
        return [
            Incumbent(trial.number, dict(trial.configuration), dict(seen.values))
            for trial, seen in (results[i] for i in on_front)
        ]

    def hypervolume(self) -> float:
        """The volume between the front and the reference point; 0.0 without a front.

        The reference point is what the objectives' `referencePoint` say. Where one does not, it
        is derived from the first 20 trials of those that `front` looks at, and moves no more then.
        Exact, which takes long for large fronts of more than four objectives. Values beyond
        ±1e150 count as these; it is infinite where it is too large for a float.
        """
        results = self._results()
        if not results:
            return 0.0
        losses = bounded(self.problem.losses([seen.values for _, seen in results]))
        return hypervolume(losses, reference_point(losses, self.problem.reference))

    def state(self) -> dict[str, Any]:
        """All there is to it as plain JSON data, for `restore`."""
        trials = [trial.to_dict() for trial in self._trials.values()]
        earlier = [trial.to_dict() for trial in self.problem.earlier]
        return {"spec": plain(self._spec), "seed": self.seed, "trials": trials, "earlier": earlier}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "AskTell":
        """Go on where `state` was taken, with the same suggestions to the bit.

        What ran then runs still: tell what it came to, or that it failed.

        Raises:
            InvalidSpecError: the state has another form, or its trials are of another space.
        """
        if wrong := list(_STATE("state", state)):
            raise InvalidSpecError(*wrong)
        restored = cls(state["spec"], state["seed"])
        trials = read_own(restored.problem, "state.trials", state["trials"])
        restored._trials.update({trial.number: trial for trial in trials})
        restored._learn("state.earlier", state.get("earlier") or [])
        return restored

    def __repr__(self) -> str:
        trials = self._trials.values()
        running = sum(trial.running for trial in trials)
        failed = sum(trial.failed is not None for trial in trials)
        goals = ", ".join(f"{o.goal} {o.name}" for o in self.problem.objectives)
        return (
            f"<AskTell {self.problem.algorithm}, seed {self.seed}: {goals}; {len(trials)} trials, "
            f"{running} running, {failed} failed, {len(self.front())} on the front>"
        )

    @property
    def _next_number(self) -> int:
        return max(self._trials, default=-1) + 1

    def _learn(self, at: str, given: Sequence[Any]) -> None:
        trials = enumerate(read_trials(self.problem, at, given))
        earlier = tuple(replace(trial, number=-1 - i, running=False) for i, trial in trials)
        self.problem = replace(self.problem, earlier=earlier)

    def _start(self, suggestion: Suggestion) -> None:
        known = self._trials.get(suggestion.trial)
        # A copy, since the suggestion is in the user's hands.
        trial = known or Trial(suggestion.trial, dict(suggestion.configuration))
        self._trials[trial.number] = replace(trial, running=True, fidelity=suggestion.fidelity)

    def _known(self, number: Any) -> Trial:
        number = plain(number)
        if isinstance(number, bool) or not isinstance(number, int) or number not in self._trials:
            raise TellError(f"trial: {shown(number)} is not the number of a trial")
        return self._trials[number]

    def _running(self, number: Any, fidelity: Any) -> Trial:
        """The trial of this number, if it runs."""
        trial = self._known(number)
        if trial.running:
            return trial
        if trial.failed is not None:
            why = f"has failed ({trial.failed})"
        elif trial.stopped:
            why = "was stopped"
        elif trial.at(plain(fidelity)) is not None:
            why = f"was told at fidelity {fidelity} before"
        else:
            why = "does not run, and has to be asked for first"
        raise TellError(f"trial {trial.number}: {why}")

    def _fidelity(self, fidelity: Any, highest: float | None) -> float | None:
        """A fidelity of the problem up to this one, as a plain number."""
        fidelity = plain(fidelity)
        if self.problem.fidelity is None:
            if fidelity is not None:
                raise TellError(
                    f"fidelity: {shown(fidelity)} given, expected None, and the values after it: "
                    "the problem has no fidelity"
                )
            return None
        assert highest is not None
        lowest = min(self.problem.fidelity.min, highest)
        if not is_number(fidelity) or not lowest <= fidelity <= highest:
            raise TellError(f"fidelity: {shown(fidelity)} is not between {lowest} and {highest}")
        return fidelity

    def _numbers(self, values: Any) -> dict[str, float]:
        """Of the objectives and constraints alone; the float may be NaN or infinite."""
        values = plain(values)
        if not isinstance(values, Mapping):
            raise TellError(f"values: {shown(values)} is not an object")
        wanted = [o.name for o in self.problem.objectives]
        wanted += [c.metric for c in self.problem.constraints if c.metric not in wanted]
        wrong = []
        if missing := [name for name in wanted if name not in values]:
            others = ", ".join(str(name) for name in values if name not in wanted)
            wrong.append(
                f"values: {', '.join(missing)} missing, expected {', '.join(wanted)}"
                + (f" (given, but not expected: {others})" if others else "")
            )
        for name, value in ((name, values[name]) for name in wanted if name in values):
            if isinstance(value, bool) or not isinstance(value, int | float):
                wrong.append(f"values.{name}: {shown(value)} is not a number")
        if wrong:
            raise TellError("; ".join(wrong))
        return {name: values[name] for name in wanted}

    def _observed(self, trial: Trial, at: float | None, numbers: Mapping[str, float]) -> Trial:
        if not all(is_number(value) for value in numbers.values()):
            return replace(trial, running=False, failed=DIVERGED)
        values = {o.name: float(numbers[o.name]) for o in self.problem.objectives}
        constrained = {c.metric: float(numbers[c.metric]) for c in self.problem.constraints}
        seen = [*trial.observations, Observation(at, values, constrained)]
        seen.sort(key=lambda observation: observation.fidelity or 0.0)
        return replace(trial, running=at != trial.fidelity, observations=tuple(seen))

    def _results(self) -> list[tuple[Trial, Observation]]:
        """Feasible ones at full fidelity, in the order in which they were told."""
        problem = self.problem
        seen = ((trial, trial.at(problem.full_fidelity)) for trial in self._trials.values())
        return [(t, o) for t, o in seen if o and problem.violation(o.constrained) == 0.0]


def _seed(seed: Any) -> int:
    if wrong := list(shapes.whole_number("seed", plain(seed))):
        raise InvalidSpecError(*wrong)
    return int(seed)


def _count(count: Any) -> int:
    if wrong := list(shapes.whole_number("count", plain(count))):
        raise InvalidSpecError(*wrong)
    if count < 0:
        raise InvalidSpecError(f"count: {count} is below 0")
    return int(count)


def _data(at: str, trial: Any) -> dict[str, Any]:
    """What a trial says of itself, and whoever made it may have made it of anything."""
    if not isinstance(trial, Trial):
        raise InvalidSpecError(f"{at}: {shown(trial)} is not a Trial")
    try:
        return trial.to_dict()
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidSpecError(f"{at}: {shown(trial)} holds no configuration or values") from error


def _reason(failed: Any) -> str:
    if wrong := list(shapes.text("failed", failed)):
        raise TellError(*wrong)
    return str(failed)
