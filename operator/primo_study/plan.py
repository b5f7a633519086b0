"""What to do next for a study: `decide` sees everything and does nothing.

The rules hold for any moment, not for an event: "three runs should be open, two are". Whatever was
missed, repeated or lost on the way here, the next pass says what is left to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from primo_optimizer import Suggestion
from primo_study import awaiting
from primo_study.ending import Ending, ending
from primo_study.phases import NoJob, Obstacle, Reason, TrialPhase
from primo_study.queries import Question
from primo_study.requests import judge
from primo_study.study import JobState, Outcome, Request, Study, TrialRecord, Waiting, epoch

# A run whose pod cannot start by itself (no image, no ConfigMap, refused by quota) fails after it.
START_DEADLINE_S = 600.0
LATE_DEADLINE_S = 60.0
# That a run has started is written down once it has lasted so long: most that end at once are
# spared a write, and those who wait for GPUs do not see the difference.
STARTED_AFTER_S = 2.0
# What is written of a run that has no Job yet. One that is gone then was hardly ever made, and its
# attempt is none; but whoever deletes each Job at once must not have them made without end.
BEFORE_ITS_JOB = (None, *NoJob, Obstacle.FORBIDDEN)
NOT_CREATED_MAX = 10
MAX_MESSAGE = 1024  # of one that is written to a trial


@dataclass(frozen=True, slots=True)
class CheckTemplate:
    """Ask the API server whether it would take a Job, and its pod, of this template."""


@dataclass(frozen=True, slots=True)
class Record:
    """Write down how a trial's open run ended."""

    trial: TrialRecord
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class NoteReported:
    """Write down what a trial's pod has said, of a run that Prometheus knows more about."""

    trial: TrialRecord
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Query:
    """Ask Prometheus for what is missing of a trial's open run. The answer comes later."""

    trial: TrialRecord
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class NoteStarted:
    """Write down that a trial's pod runs."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class NoteWaiting:
    """Write down why a trial's run does not start."""

    trial: TrialRecord
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class NoteQueuedAgain:
    """Write down that a trial's run was sent back into its queue."""

    trial: TrialRecord
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the API server itself for the Job of a trial's open run: our view may lag."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class Search:
    """List the pods once more: a run has ended, and one of its may be there with the result."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class Launch:
    """Create the Job of a trial's open run, which is known never to have been made."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class Retry:
    """Write down a new attempt on the same rung, then create its Job."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """The same for a trial that has ended, because the user asks for it."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class Adopt:
    """Give a trial of the user's its number, and create the Job of its first run."""

    request: Request
    fidelity: float | None


@dataclass(frozen=True, slots=True)
class NoteRequest:
    """Write down what a trial of the user's waits for, or what is wrong with it."""

    request: Request
    phase: TrialPhase
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Suspend:
    """Take back a trial's open run, whose pod has not started; it is run again later."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class Stop:
    """End a trial for good: delete the Job of its open run, if there is one, and write it down."""

    trial: TrialRecord
    message: str


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Delete a Job that is no open run of any trial, so that it does not hold a GPU."""

    job: str
    uid: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Say how long the Job of a recorded run is kept.

    Attributes:
        ttl_s: None: as long as its trial.
    """

    job: str
    ttl_s: int | None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the optimizer, and start what it suggests.

    What is recorded before it in the same pass may leave more room, or none.

    Attributes:
        count: runs that may be opened.
        new_trials: how many of them may be new trials; the others are promotions.
    """

    count: int
    new_trials: int


Action = (
    CheckTemplate
    | Record
    | NoteReported
    | Query
    | NoteStarted
    | NoteWaiting
    | NoteQueuedAgain
    | Look
    | Search
    | Launch
    | Retry
    | RetryAsked
    | Adopt
    | NoteRequest
    | Suspend
    | Stop
    | RemoveJob
    | Expire
    | Ask
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again though nothing has happened.

    Attributes:
        wake_at: seconds since the epoch; None if only events can change anything.
    """

    actions: tuple[Action, ...] = ()
    wake_at: float | None = field(default=None)


def divided(actions: Sequence[Action]) -> tuple[list[list[Action]], list[Action]]:
    """Those that concern one trial or Job each, by what they concern; the others, in order.

    The first may be taken in any order, or at once: none of them looks at what another one does.
    """
    alone: dict[int | str, list[Action]] = {}
    others: list[Action] = []
    for action in actions:
        match action:
            case CheckTemplate() | Adopt() | NoteRequest() | Ask():
                others.append(action)
            case RemoveJob(job) | Expire(job):
                alone.setdefault(job, []).append(action)
            case _:
                alone.setdefault(action.trial.number, []).append(action)
    return list(alone.values()), others


def decide(study: Study, now: float) -> Plan:
    """What to do for this study now.

    Args:
        study: as observed; evidence may lag behind the cluster, records are what was written.
        now: seconds since the epoch.

    Returns:
        Actions in the order in which to take them. New runs are asked for last, so that the
        optimizer knows all there is to know. Where many runs end there is always one to record:
        that must not keep the slots of the others empty.
    """
    if study.deleting or study.spec is None:
        return Plan()
    if study.legible and not study.template.checked and not study.has_ended:
        return Plan((CheckTemplate(),))
    end = ending(study, now)
    actions: list[Action] = []
    for trial in study.unfinished_trials:
        actions += _for_trial(study, trial, end, now)
    actions += chain.from_iterable(study.parts(_paused_to_stop))
    actions += [RemoveJob(job, uid) for job, uid in study.leftovers.items()]
    actions += _expiries(study)
    ask = room(study, end)
    # A trial that may be missing comes first, if it is asked for at all.
    slots = 0 if study.has_gap and ask else free_slots(study, end)
    retries = _retries_asked(study, slots)
    requests = _for_requests(study, end, slots - len(retries))
    actions += retries + requests
    if ask and not any(_comes_before_asking(action) for action in actions):
        actions.append(ask)
    return Plan(tuple(actions), _wake_at(study, end, now))


def _for_trial(study: Study, trial: TrialRecord, end: Ending | None, now: float) -> list[Action]:
    evidence = trial.evidence
    if trial.run.open and trial.run.reported:
        return _for_reported(study, trial, now)
    if trial.stop is not None and not evidence.outcome:
        return [_stop(trial, trial.stop)]
    if not trial.run.open:  # a retry is due
        if end:
            return [Stop(trial, end.message)]
        if _held(study):
            return []
        return _note(trial, now) if evidence.lingering else [Retry(trial)]
    if evidence.outcome and evidence.unsearched:
        return [Search(trial)]
    if evidence.outcome:
        return [_for_outcome(study, trial, evidence.outcome)]
    if end and (end.terminate or evidence.job is JobState.UNMADE):
        return [_stop(trial, end.message)]
    assert study.spec
    if _not_started(trial):
        if end and end.at_once:
            return [_stop(trial, end.message)]
        if study.spec.suspend:
            return [Suspend(trial)]
    match evidence.job:
        case JobState.UNSEEN:
            return [Look(trial)]
        case JobState.GONE:
            return [Record(trial, _gone(trial))]
        case JobState.UNMADE:
            launch = not (evidence.lingering or _held(study))
            return [*_note(trial, now), *([Launch(trial)] if launch else [])]
        case JobState.PRESENT:
            if _overdue(trial, now):
                assert evidence.waiting
                message = f"{evidence.waiting.reason}: {evidence.waiting.message}"
                return [Record(trial, Outcome(Reason.START_FAILED, message))]
            if evidence.suspended and evidence.waiting and trial.phase is TrialPhase.RUNNING:
                return [NoteQueuedAgain(trial, evidence.waiting)]
            if evidence.running and trial.phase is TrialPhase.QUEUED:
                return [NoteStarted(trial)] if now >= _noted_at(trial, now) else []
            return _note(trial, now)


def _gone(trial: TrialRecord) -> Outcome:
    """Of an open run whose Job is not there."""
    run = trial.run
    begun = run.started_at is not None or run.reason not in BEFORE_ITS_JOB
    if begun or trial.attempts(Reason.NOT_CREATED) >= NOT_CREATED_MAX:
        return Outcome(Reason.LOST, f"Job {run.job} is not there and left no result")
    message = f"Job {run.job} is not there, and none of its pods was seen to start"
    return Outcome(Reason.NOT_CREATED, run.message or message)


def _paused_to_stop(trials: Sequence[TrialRecord]) -> list[Stop]:
    paused = (trial for trial in trials if trial.phase is TrialPhase.PAUSED)
    return [Stop(trial, trial.stop) for trial in paused if trial.stop is not None]


def _stop(trial: TrialRecord, message: str) -> Stop | Look:
    """Its Job goes with it; one of its name that we have not seen may be somebody else's."""
    run = trial.run
    unseen = run.open and trial.evidence.job is JobState.UNSEEN
    return Look(trial) if unseen else Stop(trial, message)


def _for_outcome(study: Study, trial: TrialRecord, outcome: Outcome) -> Action:
    assert study.spec
    if study.spec.queries and outcome.reason is Reason.COMPLETED:
        return NoteReported(trial, outcome)
    return Record(trial, outcome)


def _for_reported(study: Study, trial: TrialRecord, now: float) -> list[Action]:
    """Its pod has ended well: until Prometheus has answered, or is given up, it waits.

    There is nothing left to stop, and what was trained is not thrown away.
    """
    if outcome := awaiting.outcome(study, trial, now):
        return [Record(trial, outcome)]
    if study.access.refused or now < awaiting.asked_at(study, trial):
        return _note(trial, now)
    return [*_note(trial, now), Query(trial, awaiting.questions(study, trial))]


def _retries_asked(study: Study, slots: int) -> list[RetryAsked]:
    wanted = [trial for trial in study.to_retry if not trial.evidence.lingering]
    return [RetryAsked(trial) for trial in wanted[:slots]]


def _for_requests(study: Study, end: Ending | None, slots: int) -> list[Action]:
    """One is adopted a pass, so that each next one is judged by all there is then."""
    actions: list[Action] = []
    adopted = False
    for request in study.requests:
        verdict = judge(study, request, end, slots)
        if verdict.said:
            phase, why = verdict.said
            if request.said != (phase.value, why.reason, why.message[:MAX_MESSAGE]):
                actions.append(NoteRequest(request, phase, why))
        if verdict.adopt and not adopted:
            adopted = request.refusal is None
            actions.append(Adopt(request, verdict.fidelity))
    return actions


def _comes_before_asking(action: Action) -> bool:
    """It takes a slot, or tells the optimizer something."""
    match action:
        case Search() | RetryAsked():
            return True
        case Adopt(request):
            return request.refusal is None
    return False


def _not_started(trial: TrialRecord) -> bool:
    """A queued run costs nothing yet; one whose script runs may end, so that nothing is lost."""
    queued = trial.phase is TrialPhase.QUEUED and not trial.evidence.running
    return queued and trial.evidence.job in (JobState.PRESENT, JobState.UNMADE)


def _note(trial: TrialRecord, now: float) -> list[Action]:
    why, told = trial.evidence.waiting, trial.run if trial.run.open else trial
    if why is None or now < why.due_at:
        return []
    said = (told.reason, told.message) == (why.reason, why.message[:MAX_MESSAGE])
    return [] if said else [NoteWaiting(trial, why)]


def _held(study: Study) -> bool:
    """New Jobs wait: the study is suspended, or an administrator has to do something first."""
    assert study.spec
    return bool(study.held or study.spec.suspend or study.template.problem or study.blind)


def _expiries(study: Study) -> list[Expire]:
    """Without `retention` the ttl is left to whoever else may set one."""
    assert study.spec
    retention = study.spec.retention
    if retention is None:
        return []
    return [
        Expire(job.name, ttl_s)
        for job in study.ended_jobs
        if (ttl_s := retention.ttl_s(completed=job.completed)) != job.ttl_s
    ]


def _deadline(trial: TrialRecord) -> float | None:
    evidence = trial.evidence
    if evidence.waiting is None or not evidence.waiting.endless or evidence.since is None:
        return None
    return max(evidence.since + START_DEADLINE_S, evidence.waiting.seen_at + LATE_DEADLINE_S)


def _noted_at(trial: TrialRecord, now: float) -> float:
    """When it is written down that its pod runs; at once if the node's clock is not ours."""
    started_at = trial.evidence.started_at
    if started_at is None or epoch(started_at) > now:
        return now
    return epoch(started_at) + STARTED_AFTER_S


def _overdue(trial: TrialRecord, now: float) -> bool:
    deadline = _deadline(trial)
    return deadline is not None and now >= deadline


def free_slots(study: Study, end: Ending | None) -> int:
    """How many runs may be opened.

    A trial that may be missing is asked for alone: it may be there, and hold a slot.
    """
    assert study.spec
    free = 0 if end or _held(study) else max(study.spec.slots - study.unfinished, 0)
    return min(free, 1) if study.has_gap else free


def room(study: Study, end: Ending | None) -> Ask | None:
    """What the optimizer may be asked for: free slots, as far as the budget goes."""
    assert study.spec
    if study.asked_in_vain:
        return None
    count = free_slots(study, end)
    new_trials = count
    if study.spec.budget.trials is not None:
        new_trials = min(count, max(study.spec.budget.trials - study.numbers_used, 0))
    promotable = study.spec.fidelity is not None
    return Ask(count, new_trials) if count > 0 and (new_trials > 0 or promotable) else None


def affordable(study: Study, suggestions: Sequence[Suggestion]) -> Sequence[Suggestion]:
    """The first of them, up to the one with which `budget.fullEvaluations` is used up."""
    assert study.spec
    budget, full = study.spec.budget.full_evaluations, study.full_fidelity
    if budget is None:
        return suggestions
    spent = study.full_evaluations()
    for i, given in enumerate(suggestions):
        if spent >= budget:
            return suggestions[:i]
        resumed = (given.resume_from or 0.0) if study.spec.checkpoints else 0.0
        spent += ((given.fidelity or full) - resumed) / full if full else 1.0
    return suggestions


def _wake_at(study: Study, end: Ending | None, now: float) -> float | None:
    assert study.spec
    unfinished = study.unfinished_trials
    times = [deadline for t in unfinished if (deadline := _deadline(t))]
    times += [due for t in unfinished for due in awaiting.moments(study, t) if due > now]
    told = (t.evidence.waiting.due_at for t in unfinished if t.evidence.waiting)
    times += [due for due in told if due > now]
    starting = (t for t in unfinished if t.evidence.running and t.phase is TrialPhase.QUEUED)
    times += [due for t in starting if (due := _noted_at(t, now)) > now]
    to_end = end is None and not study.held
    if study.spec.duration_s is not None and to_end and study.suspended_since is None:
        times.append(study.created_at + study.spec.duration_s + study.suspended_s(now))
    if study.spec.budget.gpu_hours is not None and to_end:
        holding = (t.run for t in unfinished if t.run.open and not t.run.reported)
        held = sum(run.gpus or 0.0 for run in holding if run.started_at)
        if held:
            left = study.spec.budget.gpu_hours - study.gpu_hours(now)
            times.append(now + 3600 * left / held)
    return min(times, default=None)
