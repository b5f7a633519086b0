"""One pass over a study: observe, decide, apply, one status patch if it differs.

A pass starts from the objects alone. It may be killed between any two lines: what it has written
is found by the next one, and what it has not written has not happened. It reaches the world only
through `Cluster`, `Clock` and `Suggester`, so a simulation can drive it by hand.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol, assert_never

from primo_operator import manifests, names
from primo_operator.cluster import (
    AlreadyExistsError,
    Cluster,
    ConflictError,
    NotFoundError,
    Notice,
    Object,
    RefusedError,
    merge_patch,
)
from primo_operator.memory import Memory, Refusal, fingerprint
from primo_operator.mirror import Family, Key, Kind, Mirror
from primo_operator.observe import observe, podless_at, prune, trial_objects
from primo_operator.settings import Settings
from primo_operator.sources import read_sources
from primo_optimizer import SpaceExhaustedError, Suggestion
from primo_study import record
from primo_study.plan import (
    Action,
    Ask,
    CheckTemplate,
    Launch,
    Look,
    NoteStarted,
    NoteWaiting,
    Record,
    RemoveJob,
    Retry,
    Stop,
    decide,
    ending,
    room,
)
from primo_study.status import summarise
from primo_study.study import (
    JobState,
    Outcome,
    Reason,
    Study,
    Template,
    TrialPhase,
    TrialRecord,
    Waiting,
)

log = logging.getLogger(__name__)

# A refused create is tried again after 30 s, then twice as long each time, up to 5 minutes.
REFUSED_RETRY_S = 30.0
REFUSED_RETRY_MAX_S = 300.0
# 400 and 422 speak of the object itself; other refusals (quota, admission) may be lifted.
ABOUT_THE_OBJECT = (400, 413, 422)
SHORTEST_WAIT_S = 0.05


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for waiting."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an ask.

    Attributes:
        degraded: why these suggestions are not the algorithm's own; empty if they are.
    """

    suggestions: Sequence[Suggestion]
    degraded: str = ""


class Suggester(Protocol):
    """Runs the optimizer; never raises for the optimizer's own failures."""

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        """What to run next.

        Raises:
            SpaceExhaustedError: there is nothing left to propose.
        """
        ...


@dataclass(slots=True)
class Reconciler:
    """Passes over studies, one at a time for each."""

    cluster: Cluster
    suggester: Suggester
    clock: Clock
    settings: Settings
    mirror: Mirror
    memories: dict[Key, Memory] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> float | None:
        """One pass over a study.

        Returns:
            Seconds after which to look again though nothing happens; 0 for at once; None if there
            is nothing to wait for.

        Raises:
            ClusterError: try again later.
        """
        await self._sync(key)
        study = self._observe(key)
        if study is None:
            self.forget(key)
            return None
        prune(self.mirror.family(key), self.memories[key], study)
        study = await self._read_sources(key, study)
        moved = await self._read_podless(key, study)
        plan = decide(study, self.clock.now())
        for action in plan.actions:
            moved |= await self._apply(key, study, action)
        early_s = await self._write_status(key)
        if moved:
            return 0.0
        if early_s is None and ending(study, self.clock.now()) and not study.unfinished:
            return None  # it has ended: only an edit starts it again
        return self._wait_s(key, study, plan.wake_at, early_s)

    def _wait_s(
        self, key: Key, study: Study, wake_at: float | None, early_s: float | None
    ) -> float:
        """Until the first moment at which something may be due without an event."""
        memory, now = self.memories[key], self.clock.now()
        times = [refusal.retry_at for refusal in memory.refusals.values()]
        times += podless_at(self.mirror.family(key), study).values()
        if wake_at is not None:
            times.append(wake_at)
        if memory.template.problem and not memory.template.fatal:
            times.append(memory.template_retry_at)
        waits = [time - now for time in times]
        if early_s is not None:
            waits.append(early_s)
        if memory.synced_at is not None:
            waits.append(memory.synced_at + self.settings.resync_s - self.clock.monotonic())
        return max(min(waits, default=0.0), SHORTEST_WAIT_S)

    def forget(self, key: Key) -> None:
        """The study is gone; its children follow by their owner references."""
        self.memories.pop(key, None)
        self.mirror.forget(key)

    # --- observe

    async def _sync(self, key: Key) -> None:
        """List everything of the study, at first and now and then: watches may lose events."""
        memory = self.memories.setdefault(key, Memory())
        now = self.clock.monotonic()
        if memory.synced_at is not None and now < memory.synced_at + self.settings.resync_s:
            return
        study = await self.cluster.get_study(key.namespace, key.name)
        family = self.mirror.family(key)
        if study is None:
            family.study = None
        else:
            self.mirror.absorb(Kind.STUDY, study)
            place = (key.namespace, key.name)
            self.mirror.replace(key, Kind.TRIAL, await self.cluster.list_trials(*place))
            self.mirror.replace(key, Kind.JOB, await self.cluster.list_jobs(*place))
            self.mirror.replace(key, Kind.POD, await self.cluster.list_pods(*place))
        memory.synced_at = now

    def _observe(self, key: Key) -> Study | None:
        family, memory = self.mirror.family(key), self.memories[key]
        uid = family.study["metadata"]["uid"] if family.study else ""
        if memory.uid != uid:
            synced = memory.synced_at if not memory.uid else None
            self.memories[key] = memory = Memory(uid=uid, synced_at=synced)
        template = memory.template
        if template.problem and not template.fatal and self.clock.now() >= memory.template_retry_at:
            memory.template_generation = 0  # to be asked again
        return observe(family, memory)

    async def _read_sources(self, key: Key, study: Study) -> Study:
        """With the observations of other studies, before anything is suggested from them."""
        memory = self.memories[key]
        current = (memory.synced_at, study.generation)
        if not (study.spec and study.spec.warm_start) or memory.sources_of == current:
            return study
        memory.sources = await read_sources(self.cluster, study)
        memory.sources_of = current
        return replace(study, sources=memory.sources)

    async def _read_podless(self, key: Key, study: Study) -> bool:
        """Only the Job's Events say why it may have no pod (quota, Pod Security)."""
        memory, family = self.memories[key], self.mirror.family(key)
        moved = False
        for job, due in podless_at(family, study).items():
            if self.clock.now() < due:
                continue
            words = await self.cluster.failed_creates(study.namespace, job)
            text = words[-1] if words else "the Job controller has made no pod"
            memory.podless[job] = Waiting("PodForbidden", text, endless=True)
            moved = True
        return moved

    # --- apply

    async def _apply(self, key: Key, study: Study, action: Action) -> bool:
        """Do one thing. True if it may have changed what the next pass sees."""
        try:
            match action:
                case CheckTemplate():
                    return await self._check_template(key, study)
                case Record(trial, outcome):
                    return await self._record(key, study, trial, outcome)
                case NoteStarted(trial):
                    return await self._write_trial(key, trial, record.started(trial, self._stamp()))
                case NoteWaiting(trial, why):
                    return await self._write_trial(key, trial, record.waiting(trial, why))
                case Look(trial):
                    return await self._look(key, study, trial)
                case Launch(trial):
                    return await self._launch(key, study, trial)
                case Retry(trial):
                    return await self._retry(key, study, trial)
                case Stop(trial, message):
                    return await self._stop(key, study, trial, message)
                case RemoveJob(job):
                    await self.cluster.delete_job(study.namespace, job)
                    return False
                case Ask(count, new_trials):
                    return await self._ask(key, study, count, new_trials)
                case _:
                    assert_never(action)
        except ConflictError:
            # Somebody wrote it meanwhile, or our view lags: read anew, and decide anew.
            self.memories[key].synced_at = None
            return True

    async def _check_template(self, key: Key, study: Study) -> bool:
        memory = self.memories[key]
        job = manifests.probe_job(study, self.settings)
        template = Template(checked=True)
        try:
            await self.cluster.create_job(job, dry_run=True)
            await self.cluster.dry_run_pod(manifests.probe_pod(job))
        except AlreadyExistsError:
            pass
        except RefusedError as error:
            words = _in_template(error.message)
            template = Template(True, words, fatal=error.status in ABOUT_THE_OBJECT)
            memory.template_retry_at = self.clock.now() + REFUSED_RETRY_S
        memory.template, memory.template_generation = template, study.generation
        return True

    async def _record(self, key: Key, study: Study, trial: TrialRecord, outcome: Outcome) -> bool:
        assert study.spec
        new = record.ended(
            trial,
            outcome,
            self._stamp(),
            full_fidelity=study.full_fidelity,
            infrastructure_retries=study.spec.infrastructure_retries,
            application_retries=study.spec.application_retries,
        )
        await self._write_trial(key, trial, new)
        log.info(
            "run ended",
            extra={"study": study.name, "job": trial.run.job, "reason": outcome.reason.value},
        )
        warning = outcome.reason is not Reason.COMPLETED
        what = f"trial {trial.number}: {new.message or _values(outcome)}"
        self._notify(key, outcome.reason.value, what, warning=warning)
        return True

    async def _look(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        job = await self.cluster.get_job(study.namespace, trial.run.job)
        if job is None:
            self.memories[key].jobs[trial.run.job] = JobState.GONE
        else:
            self.mirror.absorb(Kind.JOB, job)
            if not self._is_ours(key, trial, job):
                self._name_taken(key, trial)
        return True

    async def _retry(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        job = names.job(trial.name, trial.run.rung, trial.run.attempt + 1)
        return await self._open_run(key, study, trial, record.attempt(trial, job))

    async def _open_run(
        self, key: Key, study: Study, trial: TrialRecord, opened: TrialRecord
    ) -> bool:
        """Write the run down before its Job is made: a Job name is never used twice."""
        await self._write_trial(key, trial, opened)
        self.memories[key].jobs[opened.run.job] = JobState.UNMADE
        await self._launch(key, study, opened)
        return True

    async def _launch(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        memory, name = self.memories[key], trial.run.job
        refusal = memory.refusals.get(name)
        if refusal and self.clock.now() < refusal.retry_at:
            return False
        uid = self._trial_object(key, trial)["metadata"]["uid"]
        manifest = manifests.job(study, trial, uid, self.settings)
        # From here on it may exist: if no answer comes, the next pass looks.
        memory.jobs.pop(name, None)
        try:
            job = await self.cluster.create_job(manifest)
        except AlreadyExistsError:
            return True
        except RefusedError as error:
            memory.jobs[name] = JobState.UNMADE
            memory.refusals[name] = self._refusal(error, refusal)
            return True
        memory.refusals.pop(name, None)
        self.mirror.absorb(Kind.JOB, job)
        return True

    def _refusal(self, error: RefusedError, before: Refusal | None) -> Refusal:
        count = before.count + 1 if before else 1
        wait_s = min(REFUSED_RETRY_S * 2 ** (count - 1), REFUSED_RETRY_MAX_S)
        reason = "QuotaExceeded" if "exceeded quota" in error.message else "CreateRefused"
        final = None
        if error.status in ABOUT_THE_OBJECT:
            final = Outcome(Reason.START_FAILED, error.message)
        return Refusal(
            Waiting(reason, error.message, endless=False), self.clock.now() + wait_s, final, count
        )

    async def _stop(self, key: Key, study: Study, trial: TrialRecord, message: str) -> bool:
        if trial.run.open and trial.evidence.job is not JobState.UNMADE:
            await self.cluster.delete_job(study.namespace, trial.run.job)
        return await self._write_trial(key, trial, record.stopped(trial, message, self._stamp()))

    # --- ask

    async def _ask(self, key: Key, study: Study, count: int, new_trials: int) -> bool:
        memory = self.memories[key]
        try:
            answer = await self.suggester.suggest(study, count, new_trials)
        except SpaceExhaustedError:
            answer = Answer(())
        memory.degraded = answer.degraded
        # The ask took its time: what may be started is what may be started now.
        now = self._observe(key)
        if now is None or now.uid != study.uid or fingerprint(now) != fingerprint(study):
            return True
        if now.generation != study.generation:
            return True  # a prior may have been added that these suggestions do not know
        fresh = room(now, ending(now, self.clock.now())) if now.spec else None
        if fresh is None:
            return True
        started = 0
        allowed_new = min(new_trials, fresh.new_trials)
        for suggestion in list(answer.suggestions)[: min(count, fresh.count)]:
            paused = next((t for t in now.trials if t.number == suggestion.trial), None)
            if paused is None and allowed_new > 0:
                allowed_new -= 1
                started += 1
                if not await self._start(key, now, suggestion):
                    break
            elif paused is not None and paused.phase is TrialPhase.PAUSED:
                started += 1
                await self._promote(key, now, paused, suggestion)
        if not started:
            memory.vain = fingerprint(now)
        return True

    async def _start(self, key: Key, study: Study, suggestion: Suggestion) -> bool:
        """A new trial and its first Job; False if the number was taken already."""
        manifest = manifests.trial_object(study, suggestion)
        try:
            made = await self.cluster.create_trial(manifest)
        except AlreadyExistsError:
            # An earlier pass got this far and then died, or our view lags: its object holds.
            name = manifest["metadata"]["name"]
            if existing := await self.cluster.get_trial(study.namespace, name):
                self.mirror.absorb(Kind.TRIAL, existing)
            self.memories[key].synced_at = None
            return False
        self.mirror.absorb(Kind.TRIAL, made)
        job = names.job(made["metadata"]["name"], 0, 0)
        self.memories[key].jobs[job] = JobState.UNMADE
        log.info("trial created", extra={"study": study.name, "trial": suggestion.trial})
        grown = self._observe(key)
        trial = grown and next((t for t in grown.trials if t.number == suggestion.trial), None)
        if grown and trial:
            await self._launch(key, grown, trial)
        return True

    async def _promote(
        self, key: Key, study: Study, trial: TrialRecord, suggestion: Suggestion
    ) -> bool:
        job = names.job(trial.name, trial.run.rung + 1, 0)
        opened = record.promoted(trial, job, suggestion.fidelity, suggestion.resume_from)
        log.info("trial promoted", extra={"study": study.name, "trial": trial.number})
        return await self._open_run(key, study, trial, opened)

    # --- write

    async def _write_trial(self, key: Key, old: TrialRecord, new: TrialRecord) -> bool:
        obj = self._trial_object(key, old)
        patch = merge_patch(obj.get("status") or {}, record.status(new))
        if not patch:
            return False
        metadata = obj["metadata"]
        try:
            written = await self.cluster.patch_trial_status(
                metadata["namespace"], metadata["name"], patch, metadata["resourceVersion"]
            )
        except NotFoundError:  # deleted by hand: its Jobs follow it
            self.mirror.absorb(Kind.TRIAL, obj, deleted=True)
            return True
        self.mirror.absorb(Kind.TRIAL, written)
        return True

    async def _write_status(self, key: Key) -> float | None:
        """Patch the study's status if it differs.

        Returns:
            Seconds until it may be written, if it is too early now; None if it is as it should be.
        """
        study, memory = self._observe(key), self.memories[key]
        family = self.mirror.family(key)
        if study is None or study.deleting or family.study is None:
            return None
        before = family.study.get("status") or {}
        after = summarise(study, self.clock.now(), self._stamp(), names.selector(study.name))
        patch = merge_patch(before, after)
        if not patch:
            return None
        early = memory.status_at + self.settings.status_interval_s - self.clock.monotonic()
        if early > 0 and before.get("phase") == after["phase"]:
            return early
        memory.status_at = self.clock.monotonic()
        try:
            written = await self.cluster.patch_study_status(
                study.namespace, study.name, patch, family.study["metadata"]["resourceVersion"]
            )
        except ConflictError:
            memory.synced_at = None
            return 0.0
        except NotFoundError:
            memory.synced_at = None
            return 0.0
        self.mirror.absorb(Kind.STUDY, written)
        self._notify_transition(key, before, after)
        return None

    # --- small things

    def _trial_object(self, key: Key, trial: TrialRecord) -> Object:
        family: Family = self.mirror.family(key)
        return trial_objects(family, self.memories[key].uid)[trial.name]

    def _is_ours(self, key: Key, trial: TrialRecord, job: Object) -> bool:
        uid = self._trial_object(key, trial)["metadata"]["uid"]
        return any(o["uid"] == uid for o in job["metadata"].get("ownerReferences") or ())

    def _name_taken(self, key: Key, trial: TrialRecord) -> None:
        """A Job of this name is not ours: never adopted, never deleted."""
        message = f"a Job named {trial.run.job} exists that does not belong to this trial"
        waiting = Waiting("NameTaken", message, endless=False)
        memory = self.memories[key]
        memory.jobs[trial.run.job] = JobState.UNMADE
        memory.refusals[trial.run.job] = Refusal(waiting, self.clock.now() + REFUSED_RETRY_S)

    def _stamp(self) -> str:
        return datetime.fromtimestamp(int(self.clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _notify(self, key: Key, reason: str, message: str, *, warning: bool = False) -> None:
        if study := self.mirror.family(key).study:
            self.cluster.notify(Notice(study, reason, message, warning))

    def _notify_transition(self, key: Key, before: Object, after: Object) -> None:
        if after["phase"] in (before.get("phase"), "Pending"):
            return
        wanted = after["phase"] if after["phase"] in ("Completed", "Failed") else "Running"
        condition = next((c for c in after["conditions"] if c["type"] == wanted), None)
        message = condition["message"] if condition else ""
        log.info("study phase", extra={"study": key.name, "phase": after["phase"]})
        self._notify(key, after["phase"], message, warning=after["phase"] == "Failed")


def _values(outcome: Outcome) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in sorted(outcome.values.items()))


def _in_template(message: str) -> str:
    """The API server speaks of fields of the Job that we made; users know the template's."""
    return f"spec.trialTemplate: {message}"
