"""Many things in blocks that never change: what is made of a block is made once.

Of a study's ten thousand trials few have changed since the last pass. What is said of all of them
is put together from what is said of their blocks, of which one or two are new.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, TypeVarTuple

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

# A new block costs as many steps, and each sum as many as there are blocks.
SIZE = 128


@dataclass(frozen=True, slots=True)
class Block(Generic[T]):
    """Some of many, in their order. One that differs is another block."""

    items: tuple[T, ...] = ()
    _made: dict[Any, tuple[tuple[Any, ...], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def made(self, make: Callable[[tuple[T, ...], *Ts], R], *given: *Ts) -> R:
        """What `make` makes of the items.

        Args:
            make: a function of a module, and so the same one each time; its result depends on its
                arguments alone, and nobody changes it.
            given: its other arguments. The result for the latest ones is kept.
        """
        known = self._made.get(make)
        if known is None or known[0] != given:
            known = self._made[make] = given, make(self.items, *given)
        result: R = known[1]
        return result
