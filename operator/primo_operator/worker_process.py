"""The operator's end of the worker: a process that is started when asked and killed when late.

Questions and answers are lines of JSON. After each failure the next question has a new process.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from primo_optimizer import PrimoError

MAX_ANSWER_BYTES = 8 * 1024 * 1024
WORKER = (sys.executable, "-m", "primo_operator.worker")


class WorkerError(PrimoError):
    """The worker did not answer as it should.

    Attributes:
        reason: what a condition says in one word.
        took_s: how long the worker was kept busy.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.took_s = 0.0


class LateError(WorkerError):
    """It did not answer in time."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__("OptimizerTimedOut", f"no suggestion within {timeout_s:g} s")


class WorkerProcess:
    """One process, one question at a time."""

    def __init__(self, memory_mib: int, program: Sequence[str] = WORKER) -> None:
        self._memory_mib = memory_mib
        self._command = (*program, str(memory_mib))
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """None while none runs."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def ask(self, question: bytes, timeout_s: float) -> dict[str, Any]:
        """What the worker says: an object, with whatever is in it.

        Raises:
            WorkerError: it is late, has died, or talks nonsense.
        """
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._exchange(question + b"\n")
        except TimeoutError:
            await self.close()
            raise LateError(timeout_s) from None
        except asyncio.CancelledError:
            await self.close()
            raise
        except (OSError, ValueError) as error:
            await self.close()
            raise WorkerError("OptimizerDied", f"the worker broke off: {error}") from error
        if not line.endswith(b"\n"):
            raise WorkerError("OptimizerDied", f"the worker died ({await self._end()})")
        answer = _parsed(line)
        if answer is None or "out_of_memory" in answer:
            await self.close()
        if answer is None:
            raise WorkerError("OptimizerMisanswered", f"the worker answered {line[:80]!r}")
        if "out_of_memory" in answer:
            message = f"more than {self._memory_mib} MiB were needed: {answer['out_of_memory']}"
            raise WorkerError("OptimizerOutOfMemory", message)
        return answer

    async def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process and process.returncode is None:
            process.kill()
            await process.wait()

    async def _end(self) -> str:
        """How it ended that has closed its output."""
        process = self._process
        assert process
        try:
            async with asyncio.timeout(1.0):
                code = await process.wait()
        except TimeoutError:
            code = None
        await self.close()
        if code is None:
            return "it closed its output"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    async def _exchange(self, line: bytes) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            self.starts += 1
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_ANSWER_BYTES,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        assert process.stdin
        assert process.stdout
        process.stdin.write(line)
        await process.stdin.drain()
        return await process.stdout.readline()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
