"""Runs the optimizer outside the event loop: in a process of its own, with a time limit.

Questions and answers are lines of JSON. A worker that is late, dies or talks nonsense is killed
and replaced at the next ask; this ask is answered by a quasi-random suggestion, and says so.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from primo_operator.ports import Answer
from primo_optimizer import PrimoError, SpaceExhaustedError, Suggestion, Trial, suggest
from primo_optimizer.rungs import ladder
from primo_study.study import Study
from primo_study.warm_start import together

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 8 * 1024 * 1024


class WorkerError(PrimoError):
    """The worker did not answer as it should."""


class WorkerSuggester:
    """`Suggester` by a worker process; one ask at a time."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Of the worker; None while there is none."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        assert study.spec
        question = {
            "spec": _spec(study),
            "trials": [trial.as_trial().to_dict() for trial in study.trials],
            "earlier": [trial.to_dict() for trial in together(study.sources)],
            "count": count,
            "seed": study.spec.seed,
            "next_number": study.next_number,
            "new_trials": new_trials,
        }
        async with self._turn:
            try:
                suggestions = await self._ask(question)
                _check(study, suggestions)
            except WorkerError as error:
                log.warning("optimizer failed", extra={"study": study.name, "error": str(error)})
                return _fallback(study, new_trials, str(error))
        return Answer(suggestions)

    async def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process and process.returncode is None:
            process.kill()
            await process.wait()

    async def _ask(self, question: dict[str, Any]) -> list[Suggestion]:
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._exchange(json.dumps(question).encode() + b"\n")
        except TimeoutError:
            await self.close()
            raise WorkerError(f"no suggestion within {self._timeout_s:g} s") from None
        except asyncio.CancelledError:
            await self.close()
            raise
        except (OSError, ValueError) as error:
            await self.close()
            raise WorkerError(f"the worker broke off: {error}") from error
        return await self._read(line)

    async def _exchange(self, line: bytes) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            self.starts += 1
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "primo_operator.worker",
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

    async def _read(self, line: bytes) -> list[Suggestion]:
        if not line:
            process, self._process = self._process, None
            code = await process.wait() if process else None
            raise WorkerError(f"the worker died (exit code {code})")
        try:
            answer = json.loads(line)
            if "exhausted" in answer:
                raise SpaceExhaustedError(answer["exhausted"])
            if "error" in answer:
                raise WorkerError(answer["error"])
            return [Suggestion.from_dict(given) for given in answer["suggestions"]]
        except (ValueError, TypeError, KeyError) as error:
            await self.close()
            raise WorkerError(f"the worker answered nonsense: {error}") from error


def _spec(study: Study) -> dict[str, Any]:
    """With each prior the number of the trial from which it counts."""
    assert study.spec
    spec = study.spec.model_dump(by_alias=True, exclude_none=True, mode="json")
    starts = study.prior_starts()
    for prior in spec.get("priors") or ():
        prior["fromTrial"] = starts[prior["objective"]]
    return spec


def _check(study: Study, suggestions: Sequence[Suggestion]) -> None:
    """What leaves the optimizer is what a trial can run; a bug there must not reach the cluster."""
    assert study.spec
    space = study.spec.problem().space
    by_number = {trial.number: trial for trial in study.trials}
    taken = {space.key(trial.configuration) for trial in study.trials}
    for given in suggestions:
        known = by_number.get(given.trial)
        if known is not None:
            if dict(known.configuration) != dict(given.configuration):
                raise WorkerError(f"trial {given.trial} was promoted with another configuration")
            continue
        if given.trial < study.next_number:
            raise WorkerError(f"trial number {given.trial} is used up")
        key = space.key(given.configuration)
        if key in taken:
            raise WorkerError(f"configuration of trial {given.trial} was proposed before")
        taken.add(key)


def _fallback(study: Study, new_trials: int, why: str) -> Answer:
    """One random configuration at the lowest rung: enough to go on with, and cheap."""
    assert study.spec
    if new_trials < 1:
        return Answer((), degraded=why)
    problem = replace(study.spec.problem(), algorithm="random", settings={})
    trials: list[Trial] = [trial.as_trial() for trial in study.trials]
    found = suggest(problem, trials, 1, study.spec.seed, study.next_number)
    lowest = ladder(problem.fidelity)[0] if problem.fidelity else None
    return Answer(
        [
            replace(
                given, fidelity=lowest, explanation={**given.explanation, "fallback": why[:200]}
            )
            for given in found
        ],
        degraded=why,
    )
