"""One pass over a study: observe, decide, apply, one status patch if it differs.

A pass starts from the objects alone. It may be killed between any two lines: what it has written
is found by the next one, and what it has not written has not happened. It reaches the world only
through `Cluster`, `Clock`, `Suggester` and `Metrics`, so a simulation can drive it by hand.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from primo_operator import manifests, names
from primo_operator.cluster import (
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    ForbiddenError,
    Listing,
    Object,
    RefusedError,
    TooLargeError,
)
from primo_operator.failures import obstacle
from primo_operator.memory import Memory, fingerprint
from primo_operator.mirror import Key, Kind, Mirror, version
from primo_operator.notices import one_line
from primo_operator.observe import note_stuck, podless_at, prune
from primo_operator.ports import (
    Answer,
    Clock,
    Metrics,
    Suggester,
    Together,
    at_once,
)
from primo_operator.quota import has_room_later
from primo_operator.runs import ABOUT_THE_OBJECT, REFUSED_RETRY_S, Runs
from primo_operator.settings import Settings
from primo_operator.sources import read_sources
from primo_operator.templates import template_mistakes
from primo_operator.writing import Writer
from primo_optimizer import SpaceExhaustedError
from primo_study import record
from primo_study.ending import ending
from primo_study.phases import NoJob, Reason, TrialPhase
from primo_study.plan import (
    Action,
    Adopt,
    Ask,
    CheckTemplate,
    Expire,
    Launch,
    Look,
    NoteQueuedAgain,
    NoteReported,
    NoteRequest,
    NoteStarted,
    NoteWaiting,
    Query,
    Record,
    RemoveJob,
    Retry,
    RetryAsked,
    Search,
    Stop,
    Suspend,
    affordable,
    decide,
    divided,
    room,
)
from primo_study.queries import Measured, Reading
from primo_study.study import Outcome, Study, Template, TrialRecord, Trouble, Waiting

log = logging.getLogger(__name__)

SHORTEST_WAIT_S = 0.05
# What Prometheus does not know yet is asked for again after 5 s, then twice as long each time.
ASK_AGAIN_S = 5.0
ASK_AGAIN_MAX_S = 60.0
# After a failed ask that left nothing to start the optimizer is asked again after 10 s, then twice
# as long each time; after so many in a row it counts as one that had nothing to propose.
ASK_RETRY_S = 10.0
FAILED_ASKS = 5
NOTED_FOR_S = 60.0
# Of studies that are gone the last ones are remembered.
MAX_GONE = 10_000
# What the API server says (400) where a webhook has not promised to be without side effects.
NO_DRY_RUN = "does not support dry run"


@dataclass(slots=True)
class Reconciler:
    """Passes over studies, one at a time for each."""

    cluster: Cluster
    suggester: Suggester
    metrics: Metrics
    clock: Clock
    settings: Settings
    mirror: Mirror
    together: Together = at_once
    memories: dict[Key, Memory] = field(default_factory=dict)
    _gone: dict[Key, None] = field(default_factory=dict)
    _writer: Writer = field(init=False)
    _runs: Runs = field(init=False)

    def __post_init__(self) -> None:
        self._writer = Writer(self.cluster, self.clock, self.settings, self.mirror, self.memories)
        self._runs = Runs(self._writer)

    async def reconcile(self, key: Key) -> float | None:
        """One pass over a study.

        Returns:
            Seconds after which to look again though nothing happens; 0 for at once; None if there
            is nothing to wait for.

        Raises:
            ClusterError: try again later.
        """
        await self._sync(key)
        study = self._writer.observe(key)
        if study is None:
            self.forget(key)
            return None
        prune(self.mirror.family(key), self.memories[key], study)
        if self._writer.lacks_trials(key, study):
            return 0.0
        if note_stuck(self.memories[key], study, self.clock.now()):
            study = self._writer.observe(key) or study
        seen = study
        study = await self._read_sources(key, study)
        moved = await self._read_podless(key, study)
        planned_at, plan = self.clock.monotonic(), decide(study, self.clock.now())
        if plan.actions == (CheckTemplate(),):
            # Go on at once: in turn, all studies of an operator that starts would be checked first.
            await self._check_template(key, study)
            study = self._writer.observe(key) or study
            planned_at, moved = self.clock.monotonic(), True
            plan = decide(study, self.clock.now())
        if moved or plan.actions or study is not seen or study.degraded:
            moved |= await self._apply_or_say(key, study, plan.actions)
            early_s = await self._writer.study(key)
        else:  # no call was made, and so nothing can have changed since
            early_s = await self._writer.study(key, study)
        if moved:
            return 0.0
        if early_s is None and ending(study, self.clock.now()) and not study.unfinished:
            return None  # it has ended: only an edit starts it again
        return self._wait_s(key, study, plan.wake_at, early_s, planned_at)

    def _wait_s(
        self,
        key: Key,
        study: Study,
        wake_at: float | None,
        early_s: float | None,
        planned_at: float,
    ) -> float:
        """Until the first moment at which something may be due without an event.

        Args:
            planned_at: what was due by then was tried, or waits for something else; by the clock
                that never goes back.
        """
        memory, now, steady = self.memories[key], self.clock.now(), self.clock.monotonic()
        times = list(podless_at(self.mirror.family(key), memory, study).values())
        if wake_at is not None:
            times.append(wake_at)
        retries = [*(refusal.retry_at for refusal in memory.refusals.values()), memory.ask_at]
        again = [retry_at for retry_at in retries if retry_at > planned_at]
        if study.template.problem and not study.template.fatal:
            again.append(memory.template_retry_at)
        again.append(self._listed_at(key) + self.settings.resync_s)
        waits = [time - now for time in times] + [time - steady for time in again]
        if early_s is not None:
            waits.append(early_s)
        return max(min(waits, default=0.0), SHORTEST_WAIT_S)

    def forget(self, key: Key) -> None:
        """The study is gone; its children follow by their owner references."""
        self.memories.pop(key, None)
        self._gone[key] = None
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        self.mirror.forget(key)

    def answered(self, key: Key, job: str, readings: Mapping[str, Reading]) -> None:
        """What Prometheus has said of a run, by objective; the next pass makes something of it."""
        memory = self.memories.get(key)
        if memory is None:
            return
        asked = memory.asked[job] = memory.asked.get(job, 0) + 1
        wait_s = min(ASK_AGAIN_S * 2 ** min(asked - 1, 10), ASK_AGAIN_MAX_S)
        values = {name: r.value for name, r in readings.items() if r.value is not None}
        gaps = [(name, r) for name, r in sorted(readings.items()) if r.gap]
        # One that no repetition can fill decides.
        name, worst = max(gaps, key=lambda g: bool(g[1].gap and g[1].gap.final), default=("", None))
        memory.measured[job] = Measured(
            values={**memory.measured.get(job, Measured()).values, **values},
            gap=worst.gap if worst else None,
            message=f"objective {name}: {worst.message}" if worst else "",
            retry_at=self.clock.now() + wait_s,
        )

    # --- observe

    async def _sync(self, key: Key) -> None:
        """List everything of the study where nobody has of late, or our view was wrong.

        Watches may lose events. As a rule everything of all studies is listed in good time.
        """
        # Where a study went, a watch that is late may still tell of it.
        memory = self.memories.setdefault(key, Memory(doubted=key in self._gone))
        now = self.clock.monotonic()
        if not memory.doubted and now < self._listed_at(key) + self.settings.resync_s:
            return
        known = self.mirror.family(key).study
        study = await self.cluster.get_study(key.namespace, key.name)
        if known and study and _precedes(study, known):
            log.warning("the API server has gone back in time", extra={"study": key.name})
            self.mirror.forget(key)
            memory = self.memories[key] = Memory()
        family = self.mirror.family(key)
        if study is None:
            family.study = None
        else:
            self.mirror.absorb(Kind.STUDY, study)
            place = (key.namespace, key.name)
            trials = await self.cluster.list_trials(*place)
            if trials.version < version(study):
                # Its status speaks of trials that such a list may lack (docs/decisions/0014).
                raise ClusterError(
                    f"the API server lists trials as of version {trials.version}, older than "
                    f"study {key.name} of {version(study)}"
                )
            self.mirror.replace(key, Kind.TRIAL, await self._with_relabelled(key, study, trials))
            self.mirror.replace(key, Kind.JOB, await self.cluster.list_jobs(*place))
            self.mirror.replace(key, Kind.POD, await self.cluster.list_pods(*place))
            memory.podless.clear()  # to be asked again
        memory.synced_at, memory.doubted = now, False

    async def _with_relabelled(self, key: Key, study: Object, listing: Listing) -> Listing:
        """With known trials that the list lacks though they are there: they wear another label."""
        listed = {trial["metadata"]["uid"] for trial in listing.items}
        known = self.mirror.family(key).trials.values()
        lacking = [
            view.name
            for view in known
            if view.uid not in listed and int(view.version or 0) <= listing.version
        ]
        uid = study["metadata"]["uid"]
        found = [await self._labelled_again(key, uid, name) for name in lacking]
        return Listing([*listing.items, *filter(None, found)], listing.version)

    async def _labelled_again(self, key: Key, uid: str, name: str) -> Object | None:
        """A trial asked for by name, with the label of its study, the one of this UID.

        None if it is gone. One of an earlier study is let alone.
        """
        trial = await self.cluster.get_trial(key.namespace, name)
        if trial is None or trial["spec"].get("study") != key.name:
            return None
        metadata = trial["metadata"]
        ours = any(owner["uid"] == uid for owner in metadata.get("ownerReferences") or ())
        if not ours or (metadata.get("labels") or {}).get(names.STUDY_LABEL) == key.name:
            return trial
        patch: Object = {"metadata": {"labels": {names.STUDY_LABEL: key.name}}}
        try:
            return await self.cluster.patch_trial(
                key.namespace, name, patch, metadata["resourceVersion"]
            )
        except RefusedError:  # it is the study's all the same
            return trial

    def _listed_at(self, key: Key) -> float:
        """When all its objects were last listed, for it alone or with everybody's."""
        listed = [self.mirror.listed_at.get(where, float("-inf")) for where in ("", key.namespace)]
        return max(self.memories[key].synced_at, *listed)

    async def _read_sources(self, key: Key, study: Study) -> Study:
        """With the observations of other studies, before anything is suggested from them."""
        memory = self.memories[key]
        current = (self._listed_at(key), study.generation)
        if not (study.spec and study.spec.warm_start) or memory.sources_of == current:
            return study
        if study.has_ended:
            return study  # nothing is suggested any more
        memory.sources = await read_sources(self.cluster, study)
        memory.sources_of = current
        return replace(study, sources=memory.sources)

    async def _read_podless(self, key: Key, study: Study) -> bool:
        """Only the Job's Events say why it may have no pod (quota, Pod Security)."""
        memory, now = self.memories[key], self.clock.now()
        times = podless_at(self.mirror.family(key), memory, study)
        due = [job for job, at in times.items() if at <= now]
        if not due:
            return False
        words = await self.cluster.failed_creates(study.namespace)
        memory.events_read_at = self.clock.now()
        for job in due:
            memory.podless[job] = _podless(words.get(job), memory.events_read_at)
        return True

    # --- apply

    async def _apply_or_say(self, key: Key, study: Study, actions: Sequence[Action]) -> bool:
        """What could be done is in the study's status, beside what could not."""
        memory = self.memories[key]
        try:
            moved = await self._apply_all(key, study, actions)
        except RefusedError as error:
            if trouble := obstacle(error):
                memory.obstacle = trouble
                await self._writer.study(key)
            raise
        memory.obstacle = None
        return moved

    async def _apply_all(self, key: Key, study: Study, actions: Sequence[Action]) -> bool:
        """What is about one trial in order, different trials at once; then the others in order."""
        alone, others = divided(actions)
        try:
            moved = await self.together([self._apply_in_turn(key, study, some) for some in alone])
        except ForbiddenError:
            raise
        except RefusedError as error:
            if obstacle(error):  # what admission denies of one trial keeps no other from its own
                await self._apply_in_turn(key, study, others)
            raise
        return any(moved) | await self._apply_in_turn(key, study, others)

    async def _apply_in_turn(self, key: Key, study: Study, actions: Sequence[Action]) -> bool:
        moved = False
        for action in actions:
            moved |= await self._apply(key, study, action)
        return moved

    async def _apply(self, key: Key, study: Study, action: Action) -> bool:
        """Do one thing. True if it may have changed what the next pass sees."""
        try:
            match action:
                case CheckTemplate():
                    return await self._check_template(key, study)
                case Record(trial, outcome):
                    return await self._record(key, study, trial, outcome)
                case NoteReported(trial, outcome):
                    new = record.reported(trial, outcome, self._writer.stamp())
                    return await self._writer.trial(key, trial, new)
                case Query(trial, questions):
                    self.metrics.ask(key, trial.run.job, questions)
                    return False
                case NoteStarted(trial):
                    return await self._writer.trial(
                        key, trial, record.started(trial, self._writer.stamp())
                    )
                case NoteWaiting(trial, why):
                    return await self._note_waiting(key, trial, why)
                case NoteQueuedAgain(trial, why):
                    return await self._writer.trial(key, trial, record.queued_again(trial, why))
                case Search(trial):
                    memory = self.memories[key]
                    memory.searched[trial.run.job] = memory.doubted = True
                    return True
                case Look(trial):
                    return await self._runs.look(key, study, trial)
                case Launch(trial):
                    return await self._runs.launch(key, study, trial)
                case Retry(trial):
                    return await self._runs.retry(key, study, trial)
                case RetryAsked(trial):
                    return await self._runs.retry_asked(key, study, trial)
                case Adopt(request, fidelity):
                    return await self._runs.adopt(key, request, fidelity)
                case NoteRequest(request, phase, why):
                    return await self._writer.request(key, request.name, phase.value, why)
                case Suspend(trial):
                    return await self._runs.suspend(key, trial)
                case Stop(trial, message):
                    return await self._runs.stop(key, trial, message)
                case RemoveJob(job, uid):
                    await self._runs.remove_job(key, job, uid)
                    return False
                case Expire(job, ttl_s):
                    return await self._runs.expire(key, study, job, ttl_s)
                case Ask():
                    return await self._ask(key, study)
                case _:
                    assert_never(action)
        except ConflictError:
            # Somebody wrote it meanwhile, or our view lags: read anew, and decide anew.
            self.memories[key].doubted = True
            return True
        except TooLargeError:
            if isinstance(action, Ask):
                raise  # there is a trial that cannot be made
            return False  # the writer has noted which: it waits for an edit, and no other does

    async def _note_waiting(self, key: Key, trial: TrialRecord, why: Waiting) -> bool:
        """Not the same again at once: another operator may see it otherwise, and say so."""
        noted, now = self.memories[key].noted, self.clock.monotonic()
        said, at = noted.get(trial.run.job, (None, 0.0))
        if said == why and now < at + NOTED_FOR_S:
            return False
        moved = await self._writer.trial(key, trial, record.waiting(trial, why))
        noted[trial.run.job] = why, now
        return moved

    async def _check_template(self, key: Key, study: Study) -> bool:
        memory = self.memories[key]
        memory.template = await self._said_of_template(study)
        memory.template_generation = study.generation
        memory.template_retry_at = self.clock.monotonic() + REFUSED_RETRY_S
        return True

    async def _said_of_template(self, study: Study) -> Template:
        assert study.spec
        try:
            mistakes = template_mistakes(study.spec)
            job = None if mistakes else manifests.probe_job(study, self.settings)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Most of it has no schema: `env: 5` comes through.
            log.info("template not understood", extra={"study": study.name, "error": repr(error)})
            mistakes = ["spec.trialTemplate.spec: a part of it is of another type than in a Job"]
        if mistakes or job is None:
            return Template(True, "; ".join(mistakes), fatal=True)
        try:
            await self.cluster.create_job(job, dry_run=True)
            await self.cluster.dry_run_pod(manifests.probe_pod(job))
        except AlreadyExistsError:
            pass
        except ForbiddenError as error:
            return Template(True, error.message, unasked=True)
        except RefusedError as error:
            if NO_DRY_RUN in error.message:
                return Template(checked=True, unsaid=Trouble("DryRunNotSupported", error.message))
            if has_room_later(error.message):  # its own pods may fill it
                return Template(checked=True, unsaid=Trouble(NoJob.QUOTA_EXCEEDED, error.message))
            return Template(True, _in_template(error.message), error.status in ABOUT_THE_OBJECT)
        return Template(checked=True)

    async def _record(self, key: Key, study: Study, trial: TrialRecord, outcome: Outcome) -> bool:
        assert study.spec
        new = record.ended(
            trial,
            outcome,
            self._writer.stamp(),
            full_fidelity=study.full_fidelity,
            infrastructure_retries=study.spec.infrastructure_retries,
            application_retries=study.spec.application_retries,
        )
        await self._writer.trial(key, trial, new)
        log.info(
            "run ended",
            extra={"study": study.name, "job": trial.run.job, "reason": outcome.reason.value},
        )
        warning = outcome.reason is not Reason.COMPLETED
        said = one_line(new.message) or _values(outcome)
        what = f"trial {trial.number}{_at(study, trial)}: {said}"
        self._writer.notify(key, f"Trial{outcome.reason.value}", what, warning=warning)
        return True

    # --- ask

    def _room(self, key: Key, study: Study) -> tuple[Study, Ask] | None:
        """The study as it is now, and what may be started now; None if it is another one."""
        now = self._writer.observe(key)
        if now is None or now.spec is None or now.uid != study.uid:
            return None
        fresh = room(now, ending(now, self.clock.now()))
        return (now, fresh) if fresh else None

    async def _ask(self, key: Key, before: Study) -> bool:
        memory = self.memories[key]
        if self.clock.monotonic() < memory.ask_at:
            return False
        found = self._room(key, before)  # with what this pass has recorded
        if found is None or memory.doubted:
            return True
        study, ask = found
        try:
            answer = await self.suggester.suggest(study, ask.count, ask.new_trials)
        except SpaceExhaustedError:
            answer = Answer(())
        memory.suggested, memory.degraded = True, answer.degraded
        # The ask took its time: what may be started is what may be started now.
        found = self._room(key, study)
        if found is None or fingerprint(found[0]) != fingerprint(study):
            return True
        now, fresh = found
        chosen = list(answer.suggestions)[: min(ask.count, fresh.count)]
        paused = {
            trial.number: trial
            for trial in now.in_phase(TrialPhase.PAUSED)
            if trial.name not in memory.too_large
        }
        promotions = [given for given in chosen if given.trial in paused]
        # Numbers above the next one may have been seen in use, too.
        taken = now.used_numbers
        unused = [s for s in chosen if s.trial >= now.next_number and s.trial not in taken]
        new = unused[: min(ask.new_trials, fresh.new_trials)]
        paid = affordable(now, [*promotions, *new])
        promotions, new = list(paid[: len(promotions)]), list(paid[len(promotions) :])
        if promotions or new:
            memory.failed_asks = 0
        elif answer.degraded and memory.failed_asks + 1 < FAILED_ASKS:
            memory.failed_asks += 1
            wait_s = ASK_RETRY_S * 2.0 ** (memory.failed_asks - 1)
            memory.ask_at = self.clock.monotonic() + wait_s
            return False
        else:
            memory.failed_asks = 0
            memory.vain = fingerprint(now)
        promote, start = self._runs.promote, self._runs.start
        await self.together([promote(key, now, paused[s.trial], s) for s in promotions])
        await self.together([start(key, now, s) for s in new])
        return True


def _precedes(study: Object, known: Object) -> bool:
    """Whether it was read later, and is older: it comes from a backup (`etcdctl snapshot restore`).

    What we know besides is then of a future that will not be.
    """
    same = study["metadata"]["uid"] == known["metadata"]["uid"]
    return same and version(study) < version(known)


def _podless(words: str | None, seen_at: float) -> Waiting:
    """Why a Job has no pod. What its controller has not come to yet, and a quota that is full, are
    waited for.
    """
    if words is None:
        message = "the Job controller has made no pod yet"
        return Waiting("NoPod", message, endless=False, seen_at=seen_at)
    endless = not has_room_later(words)
    return Waiting("PodForbidden", words, endless, seen_at)


def _at(study: Study, trial: TrialRecord) -> str:
    """How far its open run goes, where runs go differently far."""
    assert study.spec
    fidelity = study.spec.fidelity
    if fidelity is None or trial.run.fidelity is None:
        return ""
    return f" at {trial.run.fidelity:g} of {fidelity.max:g} {fidelity.name}"


def _values(outcome: Outcome) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in sorted(outcome.values.items()))


def _in_template(message: str) -> str:
    """The API server speaks of fields of the Job that we made; users know the template's."""
    return f"spec.trialTemplate: {message}"
