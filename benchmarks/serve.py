"""The process of one optimizer: answers a JSON line with a JSON line, run after run.

Started by `client.Peer` with the Python of the optimizer's own environment, so it imports nothing
but the standard library and that optimizer's module.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from peers import OPTIMIZERS
from peers.adapter import Optimizer, UnsupportedError


class Server:
    """Handles one request after the other.

    `seconds` are those of the optimizer alone, on the processor: it has one thread, and what else
    the machine does must not count.
    """

    def __init__(self, name: str) -> None:
        self._entry = OPTIMIZERS[name]
        self._module = import_module(f"peers.{self._entry.module}")
        self._optimizer: Optimizer | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Whatever an optimizer raises is a result of the benchmark."""
        handle = getattr(self, f"_{request.pop('do')}")
        begin = time.process_time()
        try:
            reply: dict[str, Any] = handle(**request)
        except UnsupportedError as error:
            reply = {"unsupported": str(error)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        return {**reply, "seconds": time.process_time() - begin}

    def _start(self, spec: dict[str, Any], seed: int, settings: dict[str, Any]) -> dict[str, Any]:
        self._optimizer = self._module.make(self._entry.variant, spec, seed, settings)
        return {"versions": self._module.versions()}

    def _ask(self) -> dict[str, Any]:
        assert self._optimizer is not None
        proposal = self._optimizer.ask()
        return {"proposal": None if proposal is None else list(proposal)}

    def _tell(self, trial: int, values: dict[str, float] | None) -> dict[str, Any]:
        assert self._optimizer is not None
        self._optimizer.tell(trial, values)
        return {}

    def _add(self, evaluations: list[tuple[dict[str, Any], dict[str, float]]]) -> dict[str, Any]:
        assert self._optimizer is not None
        for configuration, values in evaluations:
            self._optimizer.add(configuration, values)
        return {}


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main(name: str) -> None:
    # Whatever an optimizer prints must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(name)
    for request in _requests():
        answers.write(json.dumps(server.answer(request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
