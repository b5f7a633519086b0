"""A study and its trials as known now.

A trial's record (its runs and observations) is what has been written to its object; the evidence
beside it is what the cluster shows now and nobody has written down yet.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain, takewhile
from operator import attrgetter
from typing import Any, TypeVar, TypeVarTuple

from primo_optimizer import Observation, Trial
from primo_study.blocks import Block
from primo_study.phases import BLAMELESS, UNFINISHED, Reason, StudyPhase, TrialPhase
from primo_study.queries import Access, Measured
from primo_study.spec import StudySpec
from primo_study.warm_start import Source

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def epoch(stamp: str) -> float:
    """RFC 3339 text in seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp()


class JobState(StrEnum):
    """What is known of the Job of a trial's open run."""

    PRESENT = "Present"
    UNSEEN = "Unseen"  # not in our view, which may lag: no licence to make another
    GONE = "Gone"  # the API server was asked and has none; it may have existed
    UNMADE = "Unmade"  # it was never made: we know that no create can have reached the server


@dataclass(frozen=True, slots=True)
class Reported:
    """What is known of a run whose pod has ended well, and whose other values Prometheus has.

    It is written before the pod may vanish: a question can be asked with this alone.
    """

    pod: str
    ended_at: str
    values: Mapping[str, float] = field(default_factory=dict)
    constrained: Mapping[str, float] = field(default_factory=dict)
    feasible: bool | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One Job of a trial. It is open until `finished_at` is written.

    Attributes:
        rung: 0 for the trial's first fidelity, 1 for the one it was promoted to, and so on.
        reason: how it ended; while it is open, what it waits for.
        template: hash of the trial template it was made from; None if its Job was never seen.
        gpus: that its pod holds while it runs.
        reported: its pod has ended, and it waits for Prometheus.
        asked: the user wanted it after the trial had ended; retries are counted anew from here.
    """

    job: str
    rung: int
    attempt: int
    fidelity: float | None = None
    resume_from: float | None = None
    started_at: str | None = None
    finished_at: str | None = None
    reason: str | None = None
    message: str | None = None
    template: str | None = None
    gpus: float | None = None
    reported: Reported | None = None
    asked: bool = False

    @property
    def open(self) -> bool:
        return self.finished_at is None

    @property
    def pod_ended_at(self) -> str | None:
        return self.reported.ended_at if self.reported else self.finished_at

    def gpu_hours(self, now: float) -> float:
        """What it has used until now, or in all if it has ended."""
        if not self.gpus or self.started_at is None:
            return 0.0
        end = epoch(self.pod_ended_at) if self.pod_ended_at else now
        return self.gpus * max(end - epoch(self.started_at), 0.0) / 3600


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        values: objective -> value, finite, if the reason is Completed; else empty. All of them, but
            in a pod's verdict those that Prometheus is asked for.
        constrained: likewise, the metric of each constraint -> value.
        feasible: whether they keep the constraints; None without constraints.
        step: the last step reported.
    """

    reason: Reason
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    constrained: Mapping[str, float] = field(default_factory=dict)
    feasible: bool | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a run does not start.

    Attributes:
        endless: it cannot cure itself, so that a deadline applies; waiting for a free GPU or in a
            queue is not of this kind.
        seen_at: when it was found by asking, in seconds since the epoch; what is found late, after
            the API server was away, may be about to cure itself.
        due_at: not told before, in seconds since the epoch: most get over it by then.
    """

    reason: str
    message: str
    endless: bool
    seen_at: float = float("-inf")
    due_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a study does not go on as it should, though it goes on."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the cluster shows of a trial's open run.

    Attributes:
        job_uid: of its Job, if that is there.
        since: when it last came closer to its start, in seconds since the epoch; of a pod that
            cannot start, when that was first seen, None before that is remembered.
        suspended: its Job is: it waits in a queue, or was sent back into it.
        lingering: a pod of an earlier run still exists, or may come to be; it may still write
            checkpoints.
        template: hash of the trial template that its Job is made from.
        gpus: that its pod holds.
        started_at: when the first of its containers started, as its pod tells.
        ended_at: when the last of them ended.
        pod: its name.
        unsearched: its Job has ended, and no pod of it is in our view, which may lag.
        measured: what Prometheus has said of it.
    """

    job: JobState = JobState.UNSEEN
    job_uid: str | None = None
    running: bool = False
    suspended: bool = False
    waiting: Waiting | None = None
    outcome: Outcome | None = None
    since: float | None = None
    lingering: bool = False
    template: str | None = None
    gpus: float | None = None
    started_at: str | None = None
    ended_at: str | None = None
    pod: str | None = None
    unsearched: bool = False
    measured: Measured = field(default_factory=Measured)


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation as recorded."""

    fidelity: float | None
    values: Mapping[str, float]
    observed_at: str
    step: int | None = None
    constrained: Mapping[str, float] = field(default_factory=dict)
    feasible: bool | None = None


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial as its object holds it, and the evidence about its open run.

    Attributes:
        stop: the user wants it to get no further runs, for this reason.
        retry: the user wants another attempt; each word is one wish.
        retried: the last such wish that was granted.
    """

    number: int
    name: str
    configuration: Mapping[str, Any]
    phase: TrialPhase
    runs: tuple[Run, ...]
    observations: tuple[Seen, ...] = ()
    reason: str | None = None
    message: str | None = None
    explanation: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence = Evidence()
    stop: str | None = None
    retry: str | None = None
    retried: str | None = None

    @property
    def run(self) -> Run:
        """The latest; a trial is created for its first, so there is always one."""
        return self.runs[-1]

    @property
    def unfinished(self) -> bool:
        return self.phase in UNFINISHED

    @property
    def tried(self) -> bool:
        """It has been observed, or has ended without; once so, always so."""
        return bool(self.observations or not self.unfinished or any(r.asked for r in self.runs))

    @property
    def to_retry(self) -> bool:
        """It has ended without a result, and the user wants another attempt."""
        ended = self.phase in (TrialPhase.FAILED, TrialPhase.STOPPED)
        without = ended and self.run.reason != Reason.COMPLETED and self.stop is None
        return without and self.retry is not None and self.retry != self.retried

    @property
    def at_rest(self) -> bool:
        """The cluster has nothing to tell of it: no run of it is due, and nobody asks for one."""
        return not (self.unfinished or self.to_retry)

    @property
    def feasible(self) -> bool:
        """Its latest observation keeps the constraints, or there are none."""
        return not self.observations or self.observations[-1].feasible is not False

    def measures(self, objectives: Collection[str]) -> bool:
        """Its latest observation has all these; one that somebody else wrote may not."""
        return bool(self.observations) and self.observations[-1].values.keys() >= set(objectives)

    @property
    def priors(self) -> Sequence[str]:
        """Objectives whose priors were known when it was suggested."""
        given = self.explanation.get("priors")
        return given if isinstance(given, list) else ()

    def attempts(self, *reasons: Reason) -> int:
        """How many attempts on the current rung ended so, from the last that the user asked for."""
        count = 0
        for run in self.runs:
            if run.asked:
                count = 0
            count += run.rung == self.run.rung and not run.open and run.reason in reasons
        return count

    def fidelity_spent(self, full: float) -> float:
        """What its runs add: each rung is paid once, whatever its attempts."""
        if len(self.runs) == 1:
            return (self.run.fidelity or full) - (self.run.resume_from or 0.0)
        reached = {(run.rung, run.fidelity, run.resume_from) for run in self.runs}
        return sum((to or full) - (since or 0.0) for _, to, since in reached)

    def as_trial(self) -> Trial:
        """As the optimizer sees it: what the cluster did is no failure of the configuration."""
        failed, blameless = self.phase is TrialPhase.FAILED, self.reason in BLAMELESS
        return Trial(
            number=self.number,
            configuration=self.configuration,
            observations=tuple(
                Observation(o.fidelity, o.values, o.constrained) for o in self.observations
            ),
            running=self.unfinished,
            fidelity=self.run.fidelity,
            failed=(self.reason or "Failed") if failed and not blameless else None,
            stopped=self.phase is TrialPhase.STOPPED or (failed and blameless),
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A trial that a user has made by hand, and that has no number yet.

    Attributes:
        configuration: as she wrote it.
        said: phase, reason and message, as written last.
        refusal: why the API server did not let us give it its number.
        number: that it should not have: she gave it, or it is a copy; None without one.
    """

    name: str
    configuration: Mapping[str, Any]
    fidelity: float | None = None
    said: tuple[str | None, str | None, str | None] = (None, None, None)
    refusal: Waiting | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class EndedJob:
    """The Job of a run whose end has been recorded.

    Attributes:
        ttl_s: after so many seconds it is deleted; None: it stays.
    """

    name: str
    completed: bool
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """What the API server said of the trial template when asked by dry-run.

    Attributes:
        checked: it has been asked for this spec.
        problem: its words; empty if the template is good.
        fatal: no other answer can be expected without an edit.
        unasked: it does not let the operator ask: that says nothing of the template.
        unsaid: why that cannot be said, if something in its way takes no dry run, or has no room
            now: it shows when a Job is made of it.
    """

    checked: bool = False
    problem: str = ""
    fatal: bool = False
    unasked: bool = False
    unsaid: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """Everything known about a study now.

    Attributes:
        spec: if it is not legible, what tells how its runs have ended, or None if not even that can
            be read; `problems` or `held` then says why.
        held: why nothing new is started and no end is come to; runs under way are recorded.
        created_at: seconds since the epoch, by the API server's clock.
        rest: the trials at rest, in blocks, by number.
        moving: the others, by number.
        status: as last written; what it holds may be older than the trials.
        leftovers: Jobs of this study that are no open run of a trial: name -> UID.
        requests: trials of the user's own that have no number yet, the oldest first.
        ended_jobs: Jobs of recorded runs that still exist, without those that are certainly kept
            for as long as they should be.
        asked_in_vain: the optimizer has nothing to start for exactly this spec and these trials.
        degraded: what keeps the operator from its work, or why the latest suggestions are not the
            algorithm's own; None if all is well.
        asked: the optimizer has been asked since the operator started.
        sources: what the studies that it is warm started from have observed.
        deleting: its deletion has begun.
        used_numbers: trial numbers seen in use that `status` does not count yet, though no trial
            may have them now.
        access: to Prometheus, where objectives need it.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: float
    spec: StudySpec | None
    legible: bool = True
    problems: tuple[str, ...] = ()
    held: Trouble | None = None
    rest: tuple[Block[TrialRecord], ...] = ()
    moving: tuple[TrialRecord, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    template: Template = Template()
    leftovers: Mapping[str, str] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    ended_jobs: tuple[EndedJob, ...] = ()
    asked_in_vain: bool = False
    degraded: Trouble | None = None
    asked: bool = False
    sources: tuple[Source, ...] = ()
    deleting: bool = False
    used_numbers: Collection[int] = ()
    access: Access = field(default_factory=Access)

    @property
    def trials(self) -> Sequence[TrialRecord]:
        """All of them, by number. There may be ten thousand: what is made of them `parts` makes."""
        at_rest = chain.from_iterable(block.items for block in self.rest)
        return sorted(chain(at_rest, self.moving), key=attrgetter("number"))

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(len(block.items) for block in self.rest) + len(self.moving)

    @property
    def latest(self) -> int:
        """The highest number of a trial; -1 if there is none."""
        at_rest = self.rest[-1].items[-1].number if self.rest else -1
        return max(at_rest, self.moving[-1].number if self.moving else -1)

    def parts(self, make: Callable[[Sequence[TrialRecord], *Ts], R], *given: *Ts) -> Iterator[R]:
        """What a function makes of each part of the trials; of those at rest it is known.

        Args:
            make, given: as for `Block.made`.
        """
        yield from (block.made(make, *given) for block in self.rest)
        yield make(self.moving, *given)

    def in_phase(self, *phases: TrialPhase) -> Iterator[TrialRecord]:
        """The trials in one of these phases, by phase, then by number."""
        return chain.from_iterable(map(self._of_phase, phases))

    def _of_phase(self, phase: TrialPhase) -> Iterator[TrialRecord]:
        moving = [trial for trial in self.moving if trial.phase is phase]
        if phase in UNFINISHED:
            return iter(moving)  # none of them is at rest
        at_rest = chain.from_iterable(block.made(_phases)[phase] for block in self.rest)
        return iter(sorted(chain(at_rest, moving), key=attrgetter("number"))) if moving else at_rest

    def count(self, phase: TrialPhase) -> int:
        return sum(len(found[phase]) for found in self.parts(_phases))

    def condition(self, kind: str) -> Mapping[str, Any] | None:
        """As last written."""
        conditions: Sequence[Mapping[str, Any]] = self.status.get("conditions") or ()
        return next((c for c in conditions if c["type"] == kind), None)

    @property
    def next_number(self) -> int:
        """The lowest number a new trial may get: also those of deleted trials are used up.

        Trials are made several at once, so that some may be there and a lower one not.
        """
        number, used = self._counted, self._uncounted
        while number in used:
            number += 1
        return number

    @property
    def numbers_used(self) -> int:
        """How many numbers have been given to trials: what a budget of trials counts."""
        return self._counted + len(self._uncounted)

    @property
    def _counted(self) -> int:
        """Numbers below this are used up, as written."""
        counted: int = self.status.get("nextTrial") or 0
        return counted

    @property
    def _uncounted(self) -> Collection[int]:
        """The others that are."""
        counted = self._counted
        used = numbers_from(counted, self.rest, self.moving)
        return used | {number for number in self.used_numbers if number >= counted}

    @property
    def has_gap(self) -> bool:
        """A trial may be missing below others: the call that was to make it has failed, or not."""
        return self.latest > self.next_number

    @property
    def unfinished_trials(self) -> Sequence[TrialRecord]:
        """Those that hold a slot, by number: queued ones too."""
        return [trial for trial in self.moving if trial.unfinished]

    @property
    def has_ended(self) -> bool:
        """As written, of the spec as it is: whatever a view that lags shows of its trials."""
        ended = self.status.get("phase") in (StudyPhase.COMPLETED, StudyPhase.FAILED)
        return ended and self.status.get("observedGeneration") == self.generation

    @property
    def unfinished(self) -> int:
        """How many hold a slot."""
        return len(self.unfinished_trials)

    @property
    def to_retry(self) -> Sequence[TrialRecord]:
        """Those whose user has asked for another attempt, by number."""
        return [trial for trial in self.moving if trial.to_retry]

    @property
    def settled(self) -> bool:
        """Nothing runs or waits to run, and nobody has asked for another attempt."""
        return not (self.unfinished or self.to_retry)

    @property
    def under_way(self) -> int:
        """Runs that have a Job, or are about to: those of a suspended study may have none."""
        return sum(trial.run.open for trial in self.unfinished_trials)

    @property
    def blind(self) -> bool:
        """An objective is to be asked of Prometheus, and may not be."""
        return bool(self.spec and self.spec.queries and self.access.refused)

    @property
    def suspended_since(self) -> float | None:
        """When its phase became Suspended, in seconds since the epoch; None if it is not."""
        said = self.condition("Suspended")
        holds = said is not None and said["status"] == "True"
        return epoch(said["lastTransitionTime"]) if said and holds else None

    def suspended_s(self, now: float) -> float:
        """For how long it has been suspended since its creation, as its status tells."""
        before = float(self.status.get("suspendedSeconds") or 0)
        since = self.suspended_since
        return before + (max(now - since, 0.0) if since is not None else 0.0)

    def active_s(self, now: float) -> float:
        """Time since its creation, without the time for which it was suspended."""
        return now - self.created_at - self.suspended_s(now)

    @property
    def full_fidelity(self) -> float | None:
        return self.spec.fidelity.max if self.spec and self.spec.fidelity else None

    def prior_starts(self) -> dict[str, int]:
        """Objective of each prior -> the lowest number of a trial for which it counts.

        As once written; before that, the first trial that was suggested with it; before that, the
        next one.
        """
        written = {p["objective"]: p["fromTrial"] for p in self.status.get("priors") or ()}
        starts = {}
        for prior in (self.spec and self.spec.priors) or ():
            name = prior.objective
            if name in written:
                starts[name] = written[name]
                continue
            knowing = (trial.number for trial in self.trials if name in trial.priors)
            starts[name] = next(knowing, self.next_number)
        return starts

    def full_evaluations(self) -> float:
        """What has been spent, in full runs: each run pays for what it adds, open ones in full.

        Never less than was once written, even if trials have been deleted since. Without a
        fidelity each trial that there ever was pays for one; what others have paid goes with them.
        """
        full = self.full_fidelity
        spent = sum(self.parts(_fidelity_spent, full)) / full if full else float(self.numbers_used)
        return max(_finite(spent), self._written("fullEvaluations"))

    def gpu_hours(self, now: float | None = None) -> float:
        """What runs have used that have ended; with `now` also what those under way have.

        Never less than was once written, even if trials have been deleted since.
        """
        used = max(_finite(sum(self.parts(_gpu_hours))), self._written("gpuHours"))
        if now is None:
            return used
        holding = chain.from_iterable(self.parts(_holding))
        return used + _finite(sum(run.gpu_hours(now) for run in holding))

    def _written(self, budget: str) -> float:
        return float((self.status.get("budgetUsed") or {}).get(budget) or 0.0)


def _finite(spent: float) -> float:
    """A trial's status may have been faked: what adds up to no number counts as nothing."""
    return round(spent, 6) if math.isfinite(spent) else 0.0


def numbers_from(
    first: int, rest: Sequence[Block[TrialRecord]], moving: Sequence[TrialRecord]
) -> set[int]:
    """The numbers of trials from this one on; as a rule few, and so the last are looked at."""
    backwards = chain.from_iterable(reversed(block.items) for block in reversed(rest))
    recent = takewhile(lambda trial: trial.number >= first, backwards)
    return {t.number for t in chain(recent, moving) if t.number >= first}


# --- what is made of some trials


def _phases(trials: Sequence[TrialRecord]) -> Mapping[TrialPhase, Sequence[TrialRecord]]:
    found: dict[TrialPhase, list[TrialRecord]] = {phase: [] for phase in TrialPhase}
    for trial in trials:
        found[trial.phase].append(trial)
    return found


def _fidelity_spent(trials: Sequence[TrialRecord], full: float) -> float:
    return sum(trial.fidelity_spent(full) for trial in trials)


def _gpu_hours(trials: Sequence[TrialRecord]) -> float:
    """Of runs that have ended."""
    runs = (run for trial in trials for run in trial.runs if run.gpus and not run.open)
    return sum(run.gpu_hours(0.0) for run in runs)


def _holding(trials: Sequence[TrialRecord]) -> Sequence[Run]:
    """Open runs with GPUs; of a trial at rest only somebody else can have written one."""
    return [trial.run for trial in trials if trial.unfinished and trial.run.gpus and trial.run.open]
