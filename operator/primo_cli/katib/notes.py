"""What became of each part of an Experiment, told at the head of the study."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from primo_optimizer import PrimoError

_WIDTH = 100


class CannotConvertError(PrimoError):
    """There is no study that does what the Experiment did; the message is one line."""


class Fate(StrEnum):
    """What became of a part, in the order in which a reader should care."""

    TO_DO = "To do before it runs"
    APPROXIMATED = "Approximated"
    LEFT_OUT = "Left out"
    MAPPED = "Mapped"


@dataclass(frozen=True, slots=True)
class Note:
    """One part, by its field in the Experiment's spec."""

    fate: Fate
    field: str
    text: str


@dataclass(slots=True)
class Notes:
    """Collects them."""

    notes: list[Note] = field(default_factory=list)

    def to_do(self, part: str, text: str) -> None:
        self.notes.append(Note(Fate.TO_DO, part, text))

    def approximated(self, part: str, text: str) -> None:
        self.notes.append(Note(Fate.APPROXIMATED, part, text))

    def left_out(self, part: str, text: str) -> None:
        self.notes.append(Note(Fate.LEFT_OUT, part, text))

    def mapped(self, part: str, text: str) -> None:
        self.notes.append(Note(Fate.MAPPED, part, text))

    def of(self, fate: Fate) -> list[Note]:
        return [note for note in self.notes if note.fate is fate]


def comments(title: str, notes: Notes) -> str:
    """The notes as YAML comments."""
    lines = [f"# {title}", *_sections(notes)]
    return "\n".join(lines) + "\n"


def _sections(notes: Notes) -> Iterator[str]:
    for fate in Fate:
        found: Sequence[Note] = notes.of(fate)
        if found:
            yield "#"
            yield f"# {fate.value}:"
        for note in found:
            yield from textwrap.wrap(
                "".join(c if c.isprintable() else " " for c in f"{note.field}: {note.text}"),
                _WIDTH,
                initial_indent="# - ",
                subsequent_indent="#   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
