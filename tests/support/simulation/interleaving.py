"""Several coroutines of a simulated pass at once: whose call comes next is drawn."""

from collections.abc import Coroutine, Generator, Sequence
from typing import Any

import numpy as np

from support.simulation.cluster import Call


class Interleaved:
    """`Together` without an event loop: a seed replays to the letter."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    async def __call__(self, calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        return await _Turns(calls, self._rng)


class _Turns:
    def __init__(self, calls: Sequence[Coroutine[Any, Any, Any]], rng: np.random.Generator) -> None:
        self._calls, self._rng = calls, rng
        self._waiting: dict[int, Call] = {}
        self._results: list[Any] = [None] * len(calls)
        self._errors: list[BaseException] = []

    def __await__(self) -> Generator[Call, Any, list[Any]]:
        try:
            for turn in range(len(self._calls)):
                self._step(turn, None, None)
            while self._waiting:
                turn = int(self._rng.choice(sorted(self._waiting)))
                call, answer, error = self._waiting.pop(turn), None, None
                try:
                    answer = yield call
                except Exception as raised:
                    error = raised
                self._step(turn, answer, error)
        finally:
            for each in self._calls:
                each.close()
        if self._errors:
            raise self._errors[0]
        return self._results

    def _step(self, turn: int, answer: Any, error: Exception | None) -> None:
        each = self._calls[turn]
        try:
            self._waiting[turn] = each.throw(error) if error else each.send(answer)
        except StopIteration as stop:
            self._results[turn] = stop.value
        except Exception as raised:
            self._errors.append(raised)
