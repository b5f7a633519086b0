"""Parameters that are there only where others have certain values: `when: {optimizer: [sgd]}`.

All parents named must have one of the choices named, and be there themselves. Parents are
categorical, so that a condition is about words and never about what a number is rounded to. They
may have conditions of their own, as long as none depends on itself.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primo_optimizer.shapes import items_of, shown, text, there_are


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a parameter to be there.

    Attributes:
        needs: name of each parent, and the choices of which it must have one.
    """

    parameter: str
    needs: tuple[tuple[str, tuple[str, ...]], ...]

    def holds(self, configuration: Mapping[str, Any], there: Container[str]) -> bool:
        """In a configuration of which these parameters are there."""
        return all(
            parent in there and configuration.get(parent) in choices
            for parent, choices in self.needs
        )


def conditions(parameters: Sequence[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Of a search space without mistakes; of parents before those of their children."""
    needs = {
        parameter["name"]: tuple(
            (parent, tuple(sorted(choices)))
            for parent, choices in sorted(parameter["when"].items())
        )
        for parameter in parameters
        if parameter.get("when")
    }
    ordered: dict[str, Condition] = {}

    def add(name: str) -> None:
        if name in ordered or name not in needs:
            return
        for parent, _ in needs[name]:
            add(parent)
        ordered[name] = Condition(name, needs[name])

    for name in sorted(needs):
        add(name)
    return tuple(ordered.values())


def mistakes(parameters: Any) -> Iterator[str]:
    """In what the parameters say of each other; what is wrong with one alone is not looked at."""
    named = list(_named(parameters))
    known = {parameter["name"]: parameter for _, parameter in named}
    for i, parameter in named:
        if isinstance(parameter.get("when"), Mapping):
            yield from _when_mistakes(f"parameters[{i}].when", parameter["when"], known)
        if circle := _circle(parameter["name"], known):
            yield f"parameters[{i}].when: {' needs '.join(circle)}, and so is never there"


def _when_mistakes(
    at: str, when: Mapping[Any, Any], known: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    if not when:
        yield f"{at}: none given, expected a parameter and its choices"
    for parent, choices in when.items():
        here = f"{at}.{parent}" if isinstance(parent, str) else at
        wrong = list(items_of(text)(here, choices))
        if parent not in known:
            yield f"{at}: {shown(parent)} is not a parameter {there_are(sorted(known))}"
        elif known[parent].get("categorical") is None:
            yield f"{at}: {parent!r} is not categorical, and only choices can be a condition"
        elif wrong:
            yield from wrong
        else:
            yield from _choices_mistakes(here, choices, known[parent]["categorical"])


def _choices_mistakes(at: str, given: Sequence[str], parent: Any) -> Iterator[str]:
    if not given:
        yield f"{at}: none given, expected at least one choice"
    known = parent.get("choices") if isinstance(parent, Mapping) else None
    if list(items_of(text)(at, known)):
        return  # a mistake of the parent's own
    assert isinstance(known, list)
    for choice in given:
        if choice not in known:
            yield f"{at}: {choice!r} is not one of {', '.join(sorted(known))}"


def _circle(name: str, known: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
    """The way by which a parameter depends on itself."""
    ways = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        when = known.get(way[-1], {}).get("when")
        for parent in sorted(map(str, when)) if isinstance(when, Mapping) else ():
            if parent == name:
                return [*way, parent]
            if parent not in seen:
                seen.add(parent)
                ways.append([*way, parent])
    return None


def _named(parameters: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Position and parameter, of those that have a name, in what may be anything."""
    for i, parameter in enumerate(parameters if isinstance(parameters, list) else ()):
        if isinstance(parameter, Mapping) and isinstance(parameter.get("name"), str):
            yield i, parameter
