"""Reads trials that come from elsewhere: out of a state, or from another search."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from primo_optimizer.errors import InvalidSpecError
from primo_optimizer.mistakes import MAX_FIDELITY_RATIO
from primo_optimizer.problem import Problem
from primo_optimizer.shapes import (
    Check,
    Fields,
    flag,
    is_number,
    items_of,
    number,
    plain,
    text,
    whole_number,
)
from primo_optimizer.trial import Trial


def read_trials(problem: Problem, at: str, given: Any) -> list[Trial]:
    """Trials of this problem, with the numbers that they have there.

    Args:
        at: the field where they are.
        given: what `Trial.to_dict` says of each. Values that the problem does not ask for may be
            there.

    Raises:
        InvalidSpecError: naming each field at fault, its value and what was expected.
    """
    given = plain(given)
    if wrong := list(items_of(_shape(problem))(at, given)):
        raise InvalidSpecError(*wrong)
    return [
        replace(
            Trial.from_dict(data),
            number=int(data["number"]),
            configuration=problem.space.configuration(data["configuration"]),
        )
        for data in given
    ]


def read_own(problem: Problem, at: str, given: Any) -> list[Trial]:
    """Likewise, all trials of one search.

    Raises:
        InvalidSpecError: naming each field at fault, its value and what was expected.
    """
    trials = read_trials(problem, at, given)
    if wrong := list(_own_rules(problem, at, trials)):
        raise InvalidSpecError(*wrong)
    return trials


def _shape(problem: Problem) -> Fields:
    required: dict[str, Check] = {
        "values": Fields({o.name: number for o in problem.objectives}).misshapen
    }
    optional: dict[str, Check] = {}
    (required if problem.fidelity else optional)["fidelity"] = _fidelity(problem)
    (required if problem.constraints else optional)["constrained"] = Fields(
        {c.metric: number for c in problem.constraints}
    ).misshapen
    return Fields(
        {
            "number": whole_number,
            "configuration": problem.space.check,
            "observations": items_of(Fields(required, optional)),
            "running": flag,
            "stopped": flag,
        },
        {"fidelity": _fidelity(problem), "failed": text},
    )


def _fidelity(problem: Problem) -> Check:
    def check(at: str, value: Any) -> Iterator[str]:
        yield from number(at, value)
        if not is_number(value):
            return
        if value <= 0:
            yield f"{at}: {value} is not above 0"
        # What is spent is squared.
        full = problem.full_fidelity
        if full is not None and value > MAX_FIDELITY_RATIO * full:
            yield f"{at}: {value} is more than {MAX_FIDELITY_RATIO:g} times fidelity.max, {full}"

    return check


def _own_rules(problem: Problem, at: str, trials: Sequence[Trial]) -> Iterator[str]:
    numbers: set[int] = set()
    for i, trial in enumerate(trials):
        if trial.number < 0:
            yield f"{at}[{i}].number: {trial.number} is below 0"
        if trial.number in numbers:
            yield f"{at}[{i}].number: {trial.number} is used twice, expected unique numbers"
        numbers.add(trial.number)
        if trial.running and trial.fidelity is None and problem.fidelity:
            yield f"{at}[{i}].fidelity: is missing, and the trial runs"
