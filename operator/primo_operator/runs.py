"""A trial's runs: opening one, making its Job, finding out what became of it, ending it.

A run is written to its trial before its Job is created: a Job name is never used twice.
"""

import contextlib
import logging
from dataclasses import dataclass

from primo_operator import admission, manifests, names
from primo_operator.cluster import (
    AlreadyExistsError,
    ClusterError,
    ForbiddenError,
    NotFoundError,
    Object,
    RefusedError,
    TooLargeError,
)
from primo_operator.memory import Refusal
from primo_operator.mirror import Key, Kind
from primo_operator.observe import lingering
from primo_operator.writing import Writer
from primo_optimizer import Suggestion
from primo_study import record
from primo_study.ending import ending
from primo_study.phases import NoJob, Obstacle, Reason
from primo_study.plan import free_slots
from primo_study.study import JobState, Outcome, Request, Study, TrialRecord, Waiting

log = logging.getLogger(__name__)

# A refused create is tried again after 30 s, then twice as long each time, up to 5 minutes.
REFUSED_RETRY_S = 30.0
REFUSED_RETRY_MAX_S = 300.0
# 400 and 422 speak of the object itself; other refusals (quota, admission) may be lifted.
ABOUT_THE_OBJECT = (400, 413, 422)


@dataclass(slots=True)
class Runs:
    """Each method does one thing, and says whether the next pass may see something new."""

    writer: Writer

    async def start(self, key: Key, study: Study, suggestion: Suggestion) -> bool:
        """A new trial and its first Job; False if there is an object of its name already."""
        writer, memory = self.writer, self.writer.memories[key]
        manifest = manifests.trial_object(study, suggestion)
        try:
            with writer.in_doubt(key):
                made = await writer.cluster.create_trial(manifest)
        except AlreadyExistsError:
            memory.doubted = True
            await self._pass_over(key, study, suggestion.trial, manifest["metadata"]["name"])
            return False
        log.info("trial created", extra={"study": study.name, "trial": suggestion.trial})
        if trial := self._announced(key, study, made):
            await self.launch(key, study, trial)
        return True

    async def _pass_over(self, key: Key, study: Study, number: int, name: str) -> None:
        """A number whose name is taken is used up, unless it is the study's own trial.

        Then an earlier pass got this far and died, or our view lags: its object holds.

        Raises:
            ClusterError: it was that, until somebody took its owner off.
        """
        found = await self.writer.cluster.get_trial(study.namespace, name)
        if found is None or _is_trial(found, study, number):
            return
        if (found["spec"]["study"], found["spec"].get("number")) == (study.name, number):
            # Somebody has taken its owner off. If that is done to each, one must be enough.
            raise ClusterError(f"trial {name} has lost its owner, the study: delete it")
        self.writer.memories[key].used_numbers.add(number)
        message = f"there is no trial {number}: an object of its name, {name}, is somebody else's"
        log.warning("name taken", extra={"study": study.name, "trial": number})
        self.writer.notify(key, "NameTaken", message, warning=True)

    async def adopt(self, key: Key, request: Request, fidelity: float | None) -> bool:
        """A trial of the user's gets its number; that announces its first run."""
        writer, memory = self.writer, self.writer.memories[key]
        study = writer.observe(key)
        refusal = memory.refusals.get(request.name)
        if study is None or (refusal and writer.clock.monotonic() < refusal.retry_at):
            return False
        if free_slots(study, ending(study, writer.clock.now())) < 1:
            return False  # another took it in this pass, that was refused before and is not now
        view, number = writer.mirror.family(key).trials.get(request.name), study.next_number
        if view is None or view.obj is None:
            return True
        patch = manifests.adoption(study, view.obj, number, fidelity)
        try:
            with writer.in_doubt(key):
                made = await writer.cluster.patch_trial(
                    study.namespace, request.name, patch, view.version
                )
        except NotFoundError:
            writer.mirror.deleted(key, view)
            return True
        except RefusedError as error:
            if error.status not in (*ABOUT_THE_OBJECT, 401, 403):
                raise  # a conflict, or a server that is busy: it is next in turn
            memory.refusals[request.name] = self._refusal(error, refusal)
            return True
        memory.refusals.pop(request.name, None)
        log.info("trial adopted", extra={"study": study.name, "trial": number})
        writer.notify(key, "TrialAdopted", f"{request.name} is trial {number}")
        if trial := self._announced(key, study, made):
            await self.launch(key, study, trial)
        return True

    def _announced(self, key: Key, study: Study, made: Object) -> TrialRecord | None:
        """As it was made: its first Job cannot exist yet."""
        self.writer.mirror.absorb(Kind.TRIAL, made)
        memory, number = self.writer.memories[key], made["spec"]["number"]
        if _is_trial(made, study, number):
            memory.used_numbers.add(number)  # it may be deleted before the next pass
        memory.jobs[_job(study, number, 0)] = JobState.UNMADE
        view = self.writer.mirror.family(key).trials.get(made["metadata"]["name"])
        return view.record if view else None

    async def promote(
        self, key: Key, study: Study, trial: TrialRecord, suggestion: Suggestion
    ) -> bool:
        assert study.spec
        job = _job(study, trial.number, trial.run.rung + 1)
        # Without checkpoints there is nothing to resume: the run begins anew, and is paid in full.
        resume_from = suggestion.resume_from if study.spec.checkpoints else None
        opened = record.promoted(trial, job, suggestion.fidelity, resume_from)
        log.info("trial promoted", extra={"study": study.name, "trial": trial.number})
        try:
            return await self._open(key, study, trial, opened)
        except TooLargeError:
            return False  # the writer has noted it, and the others of this ask go on

    async def retry(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        job = _job(study, trial.number, trial.run.rung, trial.run.attempt + 1)
        return await self._open(key, study, trial, record.attempt(trial, job))

    async def retry_asked(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        job = _job(study, trial.number, trial.run.rung, trial.run.attempt + 1)
        log.info("retry asked for", extra={"study": study.name, "trial": trial.number})
        self.writer.notify(key, "TrialRetried", f"trial {trial.number}: as its annotation asks")
        return await self._open(key, study, trial, record.retried(trial, job))

    async def _open(self, key: Key, study: Study, trial: TrialRecord, opened: TrialRecord) -> bool:
        await self.writer.trial(key, trial, opened)
        self.writer.memories[key].jobs[opened.run.job] = JobState.UNMADE
        view = self.writer.trial_view(key, trial)
        # Else the next pass launches it that finds the earlier run's pod gone.
        if view and not lingering(self.writer.mirror.family(key), view):
            await self.launch(key, study, opened)
        return True

    async def launch(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        """Create the Job of an open run that is known never to have been made."""
        writer, memory, name = self.writer, self.writer.memories[key], trial.run.job
        refusal = memory.refusals.get(name)
        if refusal and writer.clock.monotonic() < refusal.retry_at:
            return False
        view = writer.trial_view(key, trial)
        if view is None:
            return True
        manifest = manifests.job(study, trial, view.uid, writer.settings)
        # From here on it may exist: if no answer comes, the next pass looks.
        memory.jobs.pop(name, None)
        try:
            job = await writer.cluster.create_job(manifest)
        except AlreadyExistsError:
            return True
        except RefusedError as error:
            memory.jobs[name] = JobState.UNMADE
            memory.refusals[name] = self._refusal(error, refusal)
            return True
        memory.refusals.pop(name, None)
        writer.mirror.absorb(Kind.JOB, job)
        await self._check_made(key, manifest, job)
        return True

    async def _check_made(self, key: Key, asked: Object, made: Object) -> None:
        """Say what admission has made of a Job that may cost its result; correct what can be."""
        writer, name = self.writer, made["metadata"]["name"]
        if admission.goes_too_early(made):
            patch = {"spec": {"ttlSecondsAfterFinished": admission.READ_WITHIN_S}}
            with contextlib.suppress(ClusterError):
                made = await writer.cluster.patch_job(key.namespace, name, patch)
                writer.mirror.absorb(Kind.JOB, made)
        memory = writer.memories[key]
        before, memory.changed = memory.changed, "; ".join(admission.changes(asked, made))
        if memory.changed and not before:
            message = f"Job {name} was changed as it was made: {memory.changed}"
            writer.notify(key, "JobChanged", message, warning=True)

    async def look(self, key: Key, study: Study, trial: TrialRecord) -> bool:
        """Ask the API server itself for the Job of an open run."""
        view = self.writer.trial_view(key, trial)
        job = await self.writer.cluster.get_job(study.namespace, trial.run.job)
        if job is None:
            memory = self.writer.memories[key]
            if view:
                memory.gone[trial.run.job] = view.version
            # Its pod may be there still, though we have not seen it: none may start beside it.
            memory.doubted = True
        else:
            owners = {o["uid"] for o in job["metadata"].get("ownerReferences") or ()}
            if view and view.uid not in owners:
                self._name_taken(key, trial)
            else:
                await self._see(study, job)
        return True

    async def _see(self, study: Study, job: Object) -> None:
        """Take in a Job of ours; lists and watches do not show one with other labels, or none."""
        if (job["metadata"].get("labels") or {}).get(names.STUDY_LABEL) != study.name:
            labels = job["spec"]["template"]["metadata"]["labels"]
            job = await self.writer.cluster.patch_job(
                study.namespace, job["metadata"]["name"], {"metadata": {"labels": labels}}
            )
            # Else one whose labels somebody changes each time would be looked for without end.
            job = {**job, "metadata": {**job["metadata"], "labels": labels}}
        self.writer.mirror.found(Kind.JOB, job)

    async def suspend(self, key: Key, trial: TrialRecord) -> bool:
        """Take back a run before its pod starts.

        First written, then deleted: after a crash between the two the Job is one of no open run,
        and is removed as such. The other way round the run would be taken for lost.
        """
        suspended = record.suspended(trial, self.writer.stamp())
        await self.writer.trial(key, trial, suspended)
        await self._remove_open(key, trial)
        return True

    async def stop(self, key: Key, trial: TrialRecord, message: str) -> bool:
        """End a trial for good."""
        if not trial.run.reported:  # else its pod has ended by itself
            await self._remove_open(key, trial)
        stopped = record.stopped(trial, message, self.writer.stamp())
        moved = await self.writer.trial(key, trial, stopped)
        self.writer.notify(key, "TrialStopped", f"trial {trial.number}: {message}")
        return moved

    async def _remove_open(self, key: Key, trial: TrialRecord) -> None:
        """The open run's Job, if it is there; if it comes to be later, it is one of no open run."""
        if uid := trial.evidence.job_uid:
            await self.remove_job(key, trial.run.job, uid)

    async def remove_job(self, key: Key, name: str, uid: str) -> None:
        """Delete a Job, and forget it: nobody may tell us that it has gone."""
        await self.writer.cluster.delete_job(key.namespace, name, uid)
        self.writer.mirror.removed(key, Kind.JOB, uid)

    async def expire(self, key: Key, study: Study, job: str, ttl_s: int | None) -> bool:
        """Say how long a Job is kept: by its ttl, which counts from its end, when that has come."""
        memory = self.writer.memories[key]
        if job in memory.ttls and memory.ttls[job] == ttl_s:
            return False
        patch = {"spec": {"ttlSecondsAfterFinished": ttl_s}}
        try:
            patched = await self.writer.cluster.patch_job(study.namespace, job, patch)
        except NotFoundError:
            return False
        except RefusedError as error:
            if isinstance(error, ForbiddenError) or error.status not in (*ABOUT_THE_OBJECT, 403):
                raise
            log.warning("Job not expired", extra={"job": job, "error": error.message})
            memory.ttls[job] = ttl_s  # it stays: nothing depends on that
            return False
        memory.ttls[job] = ttl_s  # not before: a call that failed is to be repeated
        self.writer.mirror.absorb(Kind.JOB, patched)
        return False

    def _refusal(self, error: RefusedError, before: Refusal | None) -> Refusal:
        count = before.count + 1 if before else 1
        wait_s = min(REFUSED_RETRY_S * 2 ** (count - 1), REFUSED_RETRY_MAX_S)
        final = None
        if error.status in ABOUT_THE_OBJECT:
            large = isinstance(error, TooLargeError)
            message = f"{_why(error)}: {error.message}" if large else error.message
            final = Outcome(Reason.START_FAILED, message)
        retry_at = self.writer.clock.monotonic() + wait_s
        waiting = Waiting(_why(error), error.message, endless=False)
        return Refusal(waiting, retry_at, final, count)

    def _name_taken(self, key: Key, trial: TrialRecord) -> None:
        """A Job of this name is not ours: never adopted, never deleted."""
        message = f"a Job named {trial.run.job} exists that does not belong to this trial"
        waiting = Waiting("NameTaken", message, endless=False)
        memory = self.writer.memories[key]
        memory.jobs[trial.run.job] = JobState.UNMADE
        retry_at = self.writer.clock.monotonic() + REFUSED_RETRY_S
        memory.refusals[trial.run.job] = Refusal(waiting, retry_at)


def _is_trial(obj: Object, study: Study, number: int) -> bool:
    owners = {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}
    return study.uid in owners and obj["spec"].get("number") == number


def _why(error: RefusedError) -> str:
    if isinstance(error, ForbiddenError):
        return Obstacle.FORBIDDEN
    if isinstance(error, TooLargeError):
        return Obstacle.OBJECT_TOO_LARGE
    full = "exceeded quota" in error.message
    return NoJob.QUOTA_EXCEEDED if full else NoJob.CREATE_REFUSED


def _job(study: Study, number: int, rung: int, attempt: int = 0) -> str:
    return names.job(names.trial(study.name, study.uid, number), rung, attempt)
