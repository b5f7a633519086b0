"""The objects of a study -> the study as data: records as written, evidence as shown now."""

from bisect import bisect_left
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from operator import attrgetter

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.evidence import Traces, evidence, job_of
from primo_operator.memory import Memory, Stuck, fingerprint
from primo_operator.mirror import Family, Kind
from primo_operator.pods import CRASHES, VERDICTS, final_verdict, lingers
from primo_operator.views import TrialView, ttl_s
from primo_optimizer import SearchSpace
from primo_study.blocks import Block
from primo_study.phases import Obstacle, Reason, StudyPhase
from primo_study.queries import Access, Measured
from primo_study.spec import Retention, StudySpec
from primo_study.study import (
    EndedJob,
    Evidence,
    JobState,
    Request,
    Run,
    Study,
    Template,
    TrialRecord,
    Trouble,
    Waiting,
    epoch,
    numbers_from,
)
from primo_study.understanding import Understood, understand

# By the name of their Job, also of those that have outlived it; whether they are gone.
Pods = Mapping[str, Sequence[tuple[Object, bool]]]

# A Job this long without a pod is asked for the Events that say why.
PODLESS_AFTER_S = 30.0
# A Job controller that is behind leaves many without: their Events are read together, at most so
# often, for the pass waits for them.
PODLESS_AGAIN_S = 15.0
# What will pass by itself is asked about anew: there may be more to say.
PODLESS_ANEW_S = 60.0
# Of a trial that cannot be written: nothing that would have to be.
UNWRITABLE = Evidence(JobState.PRESENT, lingering=True)


def observe(family: Family, memory: Memory, access: Access | None = None) -> Study | None:
    """The study as known now; None if it does not exist.

    Only objects that its UID owns are its own: those of an earlier study of this name, and those
    that merely wear its labels, do not count.
    """
    obj = family.study
    if obj is None:
        return None
    metadata = obj["metadata"]
    uid = metadata["uid"]
    generation = metadata.get("generation") or 1
    if memory.spec_generation != generation:
        memory.spec, memory.spec_generation = understand(obj["spec"]), generation
    spec = memory.spec.spec
    held = _held(memory.spec, obj.get("status") or {}, generation)
    jobs, pods = _jobs_by_name(family), _pods_by_job(family)
    rest, moving = _trials(family, jobs, pods, memory, uid, spec)
    if copies := _copies(family, uid, rest, moving):
        rest = tuple(left for block in rest if (left := _without(block, copies)).items)
        moving = tuple(trial for trial in moving if trial.name not in copies)
    counted = (obj.get("status") or {}).get("nextTrial") or 0
    # So that a number is not given again though its trial is deleted before it was counted.
    memory.used_numbers |= numbers_from(counted, rest, moving)
    memory.used_numbers = {number for number in memory.used_numbers if number >= counted}
    checked = memory.template_generation == generation
    template = memory.template if checked else Template()
    study = Study(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=uid,
        generation=generation,
        created_at=epoch(metadata["creationTimestamp"]),
        spec=spec,
        legible=memory.spec.legible,
        problems=memory.spec.problems,
        held=held,
        rest=rest,
        moving=moving,
        status=obj.get("status") or {},
        template=template,
        leftovers=_leftovers(family, pods, moving, uid),
        requests=_requests(family, memory, uid, copies),
        # Without `retention` nobody asks for them.
        ended_jobs=_ended_jobs(family, uid, spec.retention) if spec and spec.retention else (),
        degraded=_trouble(memory, template, held),
        asked=memory.suggested,
        sources=memory.sources if spec and spec.warm_start else (),
        deleting=bool(metadata.get("deletionTimestamp")),
        used_numbers=frozenset(memory.used_numbers),
        access=access or Access(),
    )
    return _with_vain(study, memory)


def _held(understood: Understood, status: Object, generation: int) -> Trouble | None:
    """A spec that our definition would not have let pass, or that an operator has worked with.

    Both are of a later version; what is neither is the user's mistake.
    """
    if understood.unknown:
        words = "the operator is older than the study's definition"
    elif (
        understood.problems
        and status.get("observedGeneration") == generation
        and status.get("phase") != StudyPhase.FAILED
    ):
        words = "an operator of another version has worked with this spec"
    else:
        return None
    lines = "; ".join(understood.unknown or understood.problems)
    message = f"{lines}: {words}; nothing new is started until there is one that knows it"
    return Trouble(Obstacle.OPERATOR_OUTDATED, message)


def _trouble(memory: Memory, template: Template, held: Trouble | None) -> Trouble | None:
    """What keeps the operator from its work comes before what the optimizer lacks."""
    if memory.obstacle or held:
        return memory.obstacle or held
    for words in memory.unkept.values():
        return Trouble(Obstacle.CRD_OUTDATED, words)
    if template.unasked:
        return Trouble(Obstacle.FORBIDDEN, template.problem)
    for name, large in memory.too_large.items():
        return Trouble(Obstacle.OBJECT_TOO_LARGE, f"trial {name}: {large.message}")
    for refusal in memory.refusals.values():
        if refusal.waiting.reason == Obstacle.FORBIDDEN:
            return Trouble(Obstacle.FORBIDDEN, refusal.waiting.message)
    if memory.changed:
        words = "Jobs are changed as they are made, which may cost results"
        return Trouble("JobChanged", f"{words}: {memory.changed}")
    return memory.degraded


def own_trials(views: Iterable[TrialView], study_uid: str) -> Iterator[TrialView]:
    """The study's own that have a number."""
    return (view for view in views if view.record and study_uid in view.owners)


def podless_at(family: Family, memory: Memory, study: Study) -> dict[str, float]:
    """When to read the Events of Jobs that have no pod yet: by the name of an open run's Job."""
    again_at = memory.events_read_at + PODLESS_AGAIN_S
    with_pod = {job_of(pod) for pod in (*family.pods, *family.departed.values())}
    podless = (
        trial
        for trial in study.unfinished_trials
        if trial.run.open
        and trial.evidence.job is JobState.PRESENT
        and trial.run.job not in with_pod
    )
    times = {t.run.job: _asked_at(t.evidence, memory.podless.get(t.run.job)) for t in podless}
    return {job: max(at, again_at) for job, at in times.items() if at is not None}


def _asked_at(evidence: Evidence, said: Waiting | None) -> float | None:
    """When its Events are read; None if there is no need to."""
    if evidence.waiting is None and evidence.since is not None:
        return evidence.since + PODLESS_AFTER_S
    if said and said == evidence.waiting and not said.endless:
        return said.seen_at + PODLESS_ANEW_S
    return None


def note_stuck(memory: Memory, study: Study, now: float) -> bool:
    """Remember since when pods cannot start; True if that has changed.

    From then on their time to start counts: what came before, a long pull say, was no failure.
    """
    before = dict(memory.stuck)
    for trial in study.unfinished_trials:
        job, pod, why = trial.run.job, trial.evidence.pod, trial.evidence.waiting
        known = memory.stuck.get(job)
        if pod and why and why.endless:
            if known is None or known.pod != pod:
                memory.stuck[job] = Stuck(pod, why.reason == CRASHES, now)
        elif known and not (known.crashes and known.pod == pod and not trial.evidence.running):
            del memory.stuck[job]
    return memory.stuck != before


def prune(family: Family, memory: Memory, study: Study) -> None:
    """Forget what concerns no open run, and which trials were too large before an edit."""
    for name in list(memory.too_large):
        if name not in family.trials or memory.fits(name, family.trials[name].version):
            del memory.too_large[name]
    current = {trial.run.job for trial in study.unfinished_trials if trial.run.open}
    current |= {request.name for request in study.requests}
    by_job = (
        memory.jobs,
        memory.gone,
        memory.refusals,
        memory.podless,
        memory.stuck,
        memory.searched,
        memory.noted,
    )
    for known in (*by_job, memory.measured, memory.asked):
        for job in known.keys() - current:
            del known[job]
    for name in memory.traced.keys() - family.trials.moving.keys():
        del memory.traced[name]
    if memory.ttls:
        current_jobs = {job["metadata"]["name"] for job in family.jobs}
        for job in memory.ttls.keys() - family.ended_jobs.by_name.keys() - current_jobs:
            del memory.ttls[job]
    for pod_uid, pod in list(family.departed.items()):
        if job_of(pod) not in current:
            del family.departed[pod_uid]
    _settle(family, current)


def _settle(family: Family, current: Collection[str]) -> None:
    """Put aside what a recorded run has left: its Job once it has ended, and then its pod.

    The pod not before: a Job that is about to end would look like one that nobody wants.
    """
    for uid, job in list(family.objects[Kind.JOB].items()):
        name = job["metadata"]["name"]
        if name not in current and _ended(job):
            family.ended_jobs.put(family.objects[Kind.JOB].pop(uid))
    for uid, pod in list(family.objects[Kind.POD].items()):
        of = job_of(pod)
        done = of in family.ended_jobs.by_name or not family.gone.isdisjoint(_owners(pod))
        if done and of not in current and not lingers(pod):
            del family.objects[Kind.POD][uid]


def _with_vain(study: Study, memory: Memory) -> Study:
    in_vain = memory.vain is not None and memory.vain == fingerprint(study)
    return replace(study, asked_in_vain=True) if in_vain else study


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}


def _made_by(pod: Object) -> str | None:
    """Also of a pod that was left behind when its Job was deleted, and goes on without an owner."""
    return job_of(pod) or (pod["metadata"].get("labels") or {}).get(names.JOB_LABEL)


# --- trials


def _trials(
    family: Family,
    jobs: Mapping[str, Object],
    pods: Pods,
    memory: Memory,
    uid: str,
    spec: StudySpec | None,
) -> tuple[tuple[Block[TrialRecord], ...], tuple[TrialRecord, ...]]:
    """Those at rest, in blocks, and the others; what somebody has made up is neither."""
    space = spec.problem().space if spec else None
    known = [block.made(_records, uid, space) for block in family.trials.blocks]
    for _, passed_over in known:
        memory.used_numbers |= passed_over
    moving = []
    for view in own_trials(family.trials.moving.values(), uid):
        assert view.record
        if view.deleting or not (space is None or _known_to_make_sense(view, memory, space)):
            memory.used_numbers.add(view.record.number)
        elif spec is None:
            moving.append(view.record)
        elif not memory.fits(view.name, view.version):
            moving.append(replace(view.record, evidence=UNWRITABLE))
        else:
            moving.append(_with_evidence(view, jobs, pods, memory, spec))
    moving.sort(key=attrgetter("number"))
    return tuple(block for block, _ in known if block.items), tuple(moving)


def _records(
    views: Iterable[TrialView], uid: str, space: SearchSpace | None
) -> tuple[Block[TrialRecord], frozenset[int]]:
    """Of trials at rest those that count, by number, and the numbers of the study's others."""
    counted, passed_over = [], []
    for view in own_trials(views, uid):
        assert view.record
        if view.deleting or not (space is None or _makes_sense(view.record, space)):
            passed_over.append(view.record.number)
        else:
            counted.append(view.record)
    counted.sort(key=attrgetter("number"))
    return Block(tuple(counted)), frozenset(passed_over)


def _known_to_make_sense(view: TrialView, memory: Memory, space: SearchSpace) -> bool:
    """Neither the configuration of a trial with a number nor the space ever changes."""
    assert view.record
    if view.uid not in memory.sound and _makes_sense(view.record, space):
        memory.sound.add(view.uid)
    return view.uid in memory.sound


def _makes_sense(trial: TrialRecord, space: SearchSpace) -> bool:
    """Whether it has a value for each parameter; one that somebody has made up may have none."""
    try:
        hash(space.key(trial.configuration))
    except (KeyError, TypeError):
        return False
    return True


def lingering(family: Family, view: TrialView) -> bool:
    """Whether a pod of one of a trial's runs so far may still write to its checkpoints."""
    assert view.record
    names_of_jobs = {run.job for run in view.record.runs}
    return _lingering(view.uid, names_of_jobs, _jobs_by_name(family), _pods_by_job(family))


def _jobs_by_name(family: Family) -> Mapping[str, Object]:
    current = {job["metadata"]["name"]: job for job in family.jobs}
    return ChainMap(current, family.ended_jobs.by_name)


def _pods_by_job(family: Family) -> Pods:
    pods: dict[str, list[tuple[Object, bool]]] = {}
    for pod, gone in (
        *((pod, False) for pod in family.pods),
        *((pod, True) for pod in family.departed.values()),
    ):
        pods.setdefault(_made_by(pod) or "", []).append((pod, gone))
    return pods


def _lingering(
    trial_uid: str, of_jobs: Collection[str], jobs: Mapping[str, Object], pods: Pods
) -> bool:
    for name in of_jobs:
        mine = [pod for pod, gone in pods.get(name, ()) if not gone]
        if any(lingers(pod) for pod in mine):
            return True
        job = jobs.get(name)
        if job and not mine and not final_verdict(job) and trial_uid in _owners(job):
            return True  # its controller may be about to make one, or we have not been shown it
    return False


def _copies(
    family: Family,
    uid: str,
    rest: Sequence[Block[TrialRecord]],
    moving: Sequence[TrialRecord],
) -> Collection[str]:
    """Names of trials with a number that another one had before: somebody has copied that."""
    numbers = [trial.number for trial in moving]
    unique = len({*numbers}) == len(numbers) and not any(block.made(_has_twins) for block in rest)
    if unique and not any(_lies_in(rest, number) for number in numbers):
        return ()
    first: dict[int, TrialView] = {}
    own = own_trials(family.trials.values(), uid)
    for view in sorted(own, key=attrgetter("created", "name")):
        assert view.record
        first.setdefault(view.record.number, view)
    trials = chain(*(block.items for block in rest), moving)
    return {trial.name for trial in trials} - {view.name for view in first.values()}


def _has_twins(trials: Sequence[TrialRecord]) -> bool:
    return any(one.number == next_one.number for one, next_one in pairwise(trials))


def _lies_in(rest: Sequence[Block[TrialRecord]], number: int) -> bool:
    """Whether a trial at rest has this number."""
    block = bisect_left(rest, number, key=lambda block: block.items[-1].number)
    trials = rest[block].items if block < len(rest) else ()
    place = bisect_left(trials, number, key=attrgetter("number"))
    return place < len(trials) and trials[place].number == number


def _without(block: Block[TrialRecord], copies: Collection[str]) -> Block[TrialRecord]:
    left = tuple(trial for trial in block.items if trial.name not in copies)
    return block if len(left) == len(block.items) else Block(left)


def _requests(
    family: Family, memory: Memory, uid: str, copies: Collection[str]
) -> tuple[Request, ...]:
    """Trials without a number of their own; those of an earlier study of this name go with it."""
    views = {**family.trials.moving, **{name: family.trials[name] for name in copies}}
    found = [
        view.obj
        for view in views.values()
        if view.obj and not view.deleting and {*view.studies} <= {uid}
        # What somebody has observed stays, whoever wrote it.
        if view.record is None or (view.name in copies and not view.status.get("runs"))
    ]
    found.sort(key=lambda t: (t["metadata"]["creationTimestamp"], t["metadata"]["name"]))
    return tuple(_request(trial, memory) for trial in found)


def _request(trial: Object, memory: Memory) -> Request:
    name, status = trial["metadata"]["name"], trial.get("status") or {}
    refusal = memory.refusals.get(name)
    return Request(
        name=name,
        configuration=trial["spec"].get("parameters") or {},
        fidelity=trial["spec"].get("fidelity"),
        said=(status.get("phase"), status.get("reason"), status.get("message")),
        refusal=refusal.waiting if refusal else None,
        number=trial["spec"].get("number"),
    )


# --- evidence


def _with_evidence(
    view: TrialView, jobs: Mapping[str, Object], pods: Pods, memory: Memory, spec: StudySpec
) -> TrialRecord:
    """It is worked out anew only if what it is made of has changed: of most runs nothing has."""
    assert view.record
    traces = _traces(view, jobs, pods, memory, spec)
    before, found = memory.traced.get(view.name, (None, view.record))
    if before != traces:
        found = replace(view.record, evidence=evidence(traces))
        memory.traced[view.name] = traces, found
    return found


def _traces(
    view: TrialView,
    jobs: Mapping[str, Object],
    pods: Pods,
    memory: Memory,
    spec: StudySpec,
) -> Traces:
    trial = view.record
    assert trial
    name = trial.run.job
    job, refusal = jobs.get(name), memory.refusals.get(name)
    stuck = memory.stuck.get(name)
    earlier = {run.job for run in trial.runs} - ({name} if trial.run.open else set())
    return Traces(
        trial,
        spec,
        lingering=_lingering(view.uid, earlier, jobs, pods),
        job=job if job and view.uid in _owners(job) else None,
        pods=pods.get(name, ()),
        state=_remembered(name, view, memory),
        refused=refusal.waiting if refusal else None,
        final=refusal.final if refusal else None,
        podless=memory.podless.get(name),
        stuck_since=stuck.since if stuck else None,
        searched=name in memory.searched,
        measured=memory.measured.get(name) or Measured(),
    )


def _remembered(job: str, view: TrialView, memory: Memory) -> JobState:
    if view.version and memory.gone.get(job) == view.version:
        return JobState.GONE
    return memory.jobs.get(job, JobState.UNSEEN)


def _leftovers(
    family: Family, pods: Pods, moving: Iterable[TrialRecord], uid: str
) -> dict[str, str]:
    """Jobs that still hold resources and are no open run: of an attempt that was given up."""
    open_runs = {t.run.job for t in moving if t.unfinished and t.run.open}
    unwanted = [
        job
        for job in family.jobs
        if job["metadata"]["name"] not in open_runs
        and not job["metadata"].get("deletionTimestamp")
        and not _ended(job)
        and not _main_ended(job, pods)
    ]
    if not unwanted:
        return {}  # as a rule, and then there is no need to look at all trials
    uids_of_trials = {trial.uid for trial in own_trials(family.trials.values(), uid)}
    return {
        job["metadata"]["name"]: job["metadata"]["uid"]
        for job in unwanted
        if _owners(job) & uids_of_trials
    }


def _ended_jobs(family: Family, uid: str, retention: Retention) -> tuple[EndedJob, ...]:
    # One whose ttl is as it should be, whatever became of its run, needs no closer look.
    wanted = {retention.ttl_s(completed=completed) for completed in (True, False)}
    right = wanted if len(wanted) == 1 else ()
    return tuple(
        EndedJob(run.job, completed=run.reason == Reason.COMPLETED, ttl_s=ttl_s(job))
        for job in (*family.jobs, *family.ended_jobs.but(right))
        if not job["metadata"].get("deletionTimestamp")
        and (run := _ended_run(family, uid, job)) is not None
    )


def _ended_run(family: Family, uid: str, job: Object) -> Run | None:
    """The run that a Job was made for, if it belongs to the study and has been recorded."""
    for owner in job["metadata"].get("ownerReferences") or ():
        view = family.trials.get(owner["name"])
        if view is None or view.uid != owner["uid"] or not any(own_trials((view,), uid)):
            continue
        assert view.record
        for run in view.record.runs:
            # A trial at rest with an open run is one whose status somebody else has written.
            open_run = view.record.unfinished and run.open
            if run.job == job["metadata"]["name"] and not open_run:
                return run
    return None


def _ended(job: Object) -> bool:
    """It has, or ends by itself: the Job controller stops what pods there are."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c["type"] in VERDICTS and c["status"] == "True" for c in conditions)


def _main_ended(job: Object, pods: Pods) -> bool:
    """Its pod has ended, and the Job is about to: we act on the message, before the Job does."""
    name = job["metadata"]["name"]
    mine = [pod for pod, gone in pods.get(name, ()) if not gone and job_of(pod) == name]
    return bool(mine) and not any(lingers(pod) for pod in mine)
