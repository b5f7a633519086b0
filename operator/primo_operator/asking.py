"""Runs the optimizer outside the event loop: in processes with limits of time and memory.

An ask that fails is answered by a quasi-random suggestion, and says so. What keeps one study from
the others' turns (docs/decisions/0013): each has one ask waiting at most, in the order in which
they came; one that takes long is put off to a second worker, for long ones; and a study whose asks
fail time and again is answered without the worker for a while.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from primo_operator.ports import Answer
from primo_operator.told import Notebook, Told
from primo_operator.worker_process import WORKER, LateError, WorkerError, WorkerProcess
from primo_optimizer import SpaceExhaustedError, Suggestion, Trial, suggest
from primo_optimizer.rungs import ladder
from primo_study.study import Study, Trouble
from primo_study.warm_start import together

log = logging.getLogger(__name__)

# This part of the time limit is what an ask may keep the others waiting for.
SHORT = 0.25
PUT_OFF_MAX_S = 900.0
MAX_STANDINGS = 10_000


@dataclass(slots=True)
class _Standing:
    """What is remembered of a study whose latest ask was long or failed.

    Attributes:
        failures: in a row.
        put_off_until: by the event loop's clock; until then its asks are not given to a worker.
        trouble: of the latest failure.
    """

    failures: int = 0
    put_off_until: float = 0.0
    trouble: Trouble | None = None


class _Lane:
    """A worker and who waits for it, in order."""

    def __init__(self, worker: WorkerProcess, timeout_s: float, *, keep: bool) -> None:
        """Args:
        keep: the worker stays when nobody waits for it.
        """
        self.worker = worker
        self._timeout_s = timeout_s
        self._keep = keep
        self._turn = asyncio.Lock()
        self._asks = 0
        self.notebook = Notebook()

    async def ask(
        self, study: Study, count: int, new_trials: int
    ) -> tuple[dict[str, Any], Told, float]:
        """The answer, what the worker knew, and the seconds that it took.

        A WorkerError has the seconds too.
        """
        clock = asyncio.get_running_loop().time
        self._asks += 1
        try:
            async with self._turn:
                begin = clock()
                if self.worker.pid is None:
                    self.notebook.clear()
                told = self.notebook.of(study)
                question = _question(study, told, self.notebook.forget(), count, new_trials)
                try:
                    line = json.dumps(question).encode()
                    answer = await self.worker.ask(line, self._timeout_s)
                    return answer, told, clock() - begin
                except WorkerError as error:
                    error.took_s = clock() - begin
                    raise
        finally:
            self._asks -= 1
            if not (self._keep or self._asks):
                await self.worker.close()


class WorkerSuggester:
    """`Suggester` by a worker process, and a second one while an ask takes long."""

    def __init__(
        self, timeout_s: float, memory_mib: int = 0, program: Sequence[str] = WORKER
    ) -> None:
        """Args:
        timeout_s: of one ask; its wait for a worker does not count.
        memory_mib: of each worker; 0: no limit.
        """
        self._short_s = SHORT * timeout_s
        self._short = _Lane(WorkerProcess(memory_mib, program), self._short_s, keep=True)
        self._long = _Lane(WorkerProcess(memory_mib, program), timeout_s, keep=False)
        self._standings: dict[str, _Standing] = {}

    @property
    def restarts(self) -> int:
        """Starts of workers after the first."""
        return max(self._short.worker.starts + self._long.worker.starts - 1, 0)

    @property
    def pid(self) -> int | None:
        """Of the worker for short asks, which stays; None while there is none."""
        return self._short.worker.pid

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        standing = self._standings.get(study.uid)
        if standing and standing.trouble and standing.put_off_until > _now():
            return _fallback(study, new_trials, standing.trouble)
        try:
            answer, told, took_s = await self._ask(study, count, new_trials)
            suggestions = _read(answer)
            _check(study, told, suggestions)
        except WorkerError as error:
            for lane in (self._short, self._long):
                lane.notebook.drop(study.uid)  # who knows how much of it was understood
            trouble = self._note_failure(study, error)
            return _fallback(study, new_trials, trouble)
        self._note_success(study, took_s)
        return Answer(suggestions)

    async def close(self) -> None:
        """End the workers."""
        await self._short.worker.close()
        await self._long.worker.close()

    async def _ask(
        self, study: Study, count: int, new_trials: int
    ) -> tuple[dict[str, Any], Told, float]:
        if study.uid not in self._standings:
            try:
                return await self._short.ask(study, count, new_trials)
            except LateError:
                log.info("a suggestion takes long", extra={"study": study.name})
        return await self._long.ask(study, count, new_trials)

    def _note_success(self, study: Study, took_s: float) -> None:
        if took_s < self._short_s:
            self._standings.pop(study.uid, None)
        else:
            self._standings[study.uid] = _Standing()

    def _note_failure(self, study: Study, error: WorkerError) -> Trouble:
        """The next ask is given to a worker at once; one after a second failure in a row waits."""
        log.warning("optimizer failed", extra={"study": study.name, "error": str(error)})
        known = self._standings.pop(study.uid, _Standing())
        pause_s = min(error.took_s * (2.0 ** min(known.failures, 20) - 1), PUT_OFF_MAX_S)
        trouble = Trouble(error.reason, str(error))
        self._standings[study.uid] = _Standing(known.failures + 1, _now() + pause_s, trouble)
        if len(self._standings) > MAX_STANDINGS:  # of studies that are long gone
            del self._standings[next(iter(self._standings))]
        return trouble


def _now() -> float:
    return asyncio.get_running_loop().time()


def _question(
    study: Study, told: Told, forget: Sequence[str], count: int, new_trials: int
) -> dict[str, Any]:
    """With what is new of the study's trials."""
    assert study.spec
    anew = not told.trials
    changed, gone = told.update(study)
    return {
        "study": study.uid,
        "anew": anew,
        "spec": _spec(study),
        "trials": [trial.as_trial().to_dict() for trial in changed],
        "gone": gone,
        "forget": forget,
        "earlier": [trial.to_dict() for trial in together(study.sources)],
        "count": count,
        "seed": study.spec.seed,
        "next_number": study.next_number,
        "new_trials": new_trials,
    }


def _read(answer: dict[str, Any]) -> list[Suggestion]:
    if "exhausted" in answer:
        raise SpaceExhaustedError(answer["exhausted"])
    if "error" in answer:
        raise WorkerError("OptimizerFailed", str(answer["error"]))
    try:
        return [Suggestion.from_dict(given) for given in answer["suggestions"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkerError("OptimizerMisanswered", f"the answer is none: {error!r}") from error


def _spec(study: Study) -> dict[str, Any]:
    """With each prior the number of the trial from which it counts."""
    assert study.spec
    spec = study.spec.model_dump(by_alias=True, exclude_none=True, mode="json")
    starts = study.prior_starts()
    for prior in spec.get("priors") or ():
        prior["fromTrial"] = starts[prior["objective"]]
    return spec


def _check(study: Study, told: Told, suggestions: Sequence[Suggestion]) -> None:
    """What leaves the optimizer is what a trial can run; a bug there must not reach the cluster."""
    proposed = set()
    for given in suggestions:
        known = told.trials.get(given.trial)
        if known is not None:
            if dict(known.configuration) != dict(given.configuration):
                raise WorkerError(
                    "OptimizerMisanswered",
                    f"trial {given.trial} was promoted with another configuration",
                )
            continue
        if given.trial < study.next_number:
            raise WorkerError("OptimizerMisanswered", f"trial number {given.trial} is used up")
        key = told.space.key(given.configuration)
        if key in told.keys or key in proposed:
            raise WorkerError(
                "OptimizerMisanswered", f"configuration of trial {given.trial} was proposed before"
            )
        proposed.add(key)


def _fallback(study: Study, new_trials: int, trouble: Trouble) -> Answer:
    """One random configuration at the lowest rung: enough to go on with, and cheap.

    Without room for a new trial one is promoted that has earned it by successive halving.
    """
    assert study.spec
    problem = replace(study.spec.problem(), algorithm="random", settings={})
    lower = (trial for trial in study.trials if trial.number < study.next_number)
    trials: list[Trial] = [trial.as_trial() for trial in lower]
    try:
        found = suggest(problem, trials, 1, study.spec.seed, study.next_number, new_trials)
    except SpaceExhaustedError:
        found = []
    lowest = ladder(problem.fidelity)[0] if problem.fidelity else None
    why = {"fallback": trouble.message[:200]}
    return Answer(
        [
            replace(
                given,
                fidelity=lowest if given.trial >= study.next_number else given.fidelity,
                explanation={**given.explanation, **why},
            )
            for given in found
        ],
        degraded=trouble,
    )
