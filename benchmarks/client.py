"""The runner's end of an optimizer's process, see serve.py."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from peers import OPTIMIZERS
from peers.adapter import Proposal, UnsupportedError

HERE = Path(__file__).parent


class PeerError(Exception):
    """The optimizer raised, or its process died."""


class MissingEnvironmentError(Exception):
    """The optimizer's environment has not been made."""


def interpreter(name: str) -> Path:
    """The Python that runs this optimizer.

    Raises:
        MissingEnvironmentError: naming the make target.
    """
    environment = OPTIMIZERS[name].environment
    if environment is None:
        return Path(sys.executable)
    python = HERE / ".envs" / environment / "bin" / "python"
    if not python.exists():
        raise MissingEnvironmentError(f"{name}: run `make -C benchmarks .envs/{environment}`")
    return python


class Peer:
    """An optimizer in a process of its own, with one thread.

    Attributes:
        versions: package -> version, once a run has started.
        seconds: what each suggestion of the run took: the ask, and what was told since the last.
        started: what making the optimizer took.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self.seconds: list[float] = []
        self.started = 0.0
        self._told = 0.0
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [interpreter(name), HERE / "serve.py", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )

    def start(self, spec: Mapping[str, Any], seed: int, settings: Mapping[str, Any]) -> None:
        """Begin a run; an earlier one is forgotten.

        Raises:
            UnsupportedError: the optimizer cannot do such a problem.
            PeerError: as for `ask` and `tell`.
        """
        reply = self._call(do="start", spec=spec, seed=seed, settings=settings)
        self.versions, self.seconds, self._told = reply["versions"], [], 0.0
        self.started = reply["seconds"]

    def ask(self) -> Proposal | None:
        reply = self._call(do="ask")
        self.seconds.append(self._told + reply["seconds"])
        self._told = 0.0
        return None if reply["proposal"] is None else Proposal(*reply["proposal"])

    def tell(self, trial: int, values: Mapping[str, float] | None) -> None:
        reply = self._call(do="tell", trial=trial, values=values)
        self._told += reply["seconds"]

    def add(self, evaluations: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]) -> None:
        """(configuration, values) each, at full fidelity, before the first ask."""
        self._call(do="add", evaluations=evaluations)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_words()) from None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "unsupported" in reply:
            raise UnsupportedError(f"{self.name}: {reply['unsupported']}")
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().strip().splitlines() or ["no message"]
        return f"process ended: {lines[-1][:300]}"
