"""The objects of a study -> the study as data: records as written, evidence as shown now."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.gpus import gpus
from primo_operator.memory import Memory, fingerprint
from primo_operator.mirror import Family
from primo_operator.pods import VERDICTS, lingers, main_started, outcome, times, waiting
from primo_operator.reading import read_trial
from primo_optimizer import InvalidSpecError
from primo_study.phases import Reason
from primo_study.queries import Access, Measured
from primo_study.spec import StudySpec, parse
from primo_study.study import (
    EndedJob,
    Evidence,
    JobState,
    Request,
    Run,
    Study,
    Template,
    TrialRecord,
    Waiting,
    epoch,
)

# A Job this long without a pod is asked for the Events that say why.
PODLESS_AFTER_S = 30.0


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
        memory.spec, memory.spec_generation = _spec(obj), generation
    spec, problems = memory.spec
    trials = _trials(family, memory, uid, spec)
    memory.used_numbers = max([memory.used_numbers, *(trial.number + 1 for trial in trials)])
    checked = memory.template_generation == generation
    study = Study(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=uid,
        generation=generation,
        created_at=epoch(metadata["creationTimestamp"]),
        spec=spec,
        problems=problems,
        trials=trials,
        status=obj.get("status") or {},
        template=memory.template if checked else Template(),
        leftovers=_leftovers(family, trials, uid),
        requests=_requests(family, memory, uid),
        ended_jobs=_ended_jobs(family, trials),
        degraded=memory.degraded,
        asked=memory.suggested,
        sources=memory.sources if spec and spec.warm_start else (),
        deleting=bool(metadata.get("deletionTimestamp")),
        used_numbers=memory.used_numbers,
        access=access or Access(),
    )
    return _with_vain(study, memory)


def trial_objects(family: Family, study_uid: str) -> dict[str, Object]:
    """The study's own trials, by name."""
    return {
        trial["metadata"]["name"]: trial
        for trial in family.trials
        if study_uid in _owners(trial) and "number" in trial["spec"]
    }


def podless_at(family: Family, study: Study) -> dict[str, float]:
    """When to read the Events of Jobs that have no pod yet: by the name of an open run's Job."""
    with_pod = {_job_of(pod) for pod in (*family.pods, *family.departed.values())}
    return {
        trial.run.job: trial.evidence.since + PODLESS_AFTER_S
        for trial in study.trials
        if trial.unfinished
        and trial.run.open
        and trial.evidence.job is JobState.PRESENT
        and trial.run.job not in with_pod
        and trial.evidence.waiting is None
        and trial.evidence.since is not None
    }


def prune(family: Family, memory: Memory, study: Study) -> None:
    """Forget what concerns no open run."""
    current = {trial.run.job for trial in study.trials if trial.unfinished and trial.run.open}
    current |= {request.name for request in study.requests}
    for known in (memory.jobs, memory.refusals, memory.podless, memory.measured, memory.asked):
        for job in known.keys() - current:
            del known[job]
    for uid in memory.records.keys() - {trial["metadata"]["uid"] for trial in family.trials}:
        del memory.records[uid]
    for job in memory.ttls.keys() - {job["metadata"]["name"] for job in family.jobs}:
        del memory.ttls[job]
    for pod_uid, pod in list(family.departed.items()):
        if _job_of(pod) not in current:
            del family.departed[pod_uid]


def _with_vain(study: Study, memory: Memory) -> Study:
    return replace(study, asked_in_vain=memory.vain == fingerprint(study))


def _spec(obj: Object) -> tuple[StudySpec | None, tuple[str, ...]]:
    try:
        return parse(obj["spec"]), ()
    except InvalidSpecError as error:
        return None, error.problems


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}


def _job_of(pod: Object) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner["name"] for owner in owners if owner["kind"] == "Job"), None)


# --- trials


def _trials(
    family: Family, memory: Memory, uid: str, spec: StudySpec | None
) -> tuple[TrialRecord, ...]:
    pods: dict[str, list[tuple[Object, bool]]] = {}
    for pod, gone in (
        *((pod, False) for pod in family.pods),
        *((pod, True) for pod in family.departed.values()),
    ):
        pods.setdefault(_job_of(pod) or "", []).append((pod, gone))
    jobs = {job["metadata"]["name"]: job for job in family.jobs}
    records = [
        _trial(obj, jobs, pods, memory, spec)
        for obj in trial_objects(family, uid).values()
        if not obj["metadata"].get("deletionTimestamp")
    ]
    return tuple(sorted(records, key=lambda trial: trial.number))


def _trial(
    obj: Object,
    jobs: Mapping[str, Object],
    pods: Mapping[str, list[tuple[Object, bool]]],
    memory: Memory,
    spec: StudySpec | None,
) -> TrialRecord:
    record = _read(obj, memory)
    if spec is None or not (record.unfinished or record.to_retry):
        return record
    return replace(record, evidence=_evidence(obj, record, jobs, pods, memory, spec))


def _read(obj: Object, memory: Memory) -> TrialRecord:
    """Its record; read once for each version, since most trials of a large study have ended."""
    uid = obj["metadata"]["uid"]
    known = memory.records.get(uid)
    if known is None or known[0] is not obj:
        memory.records[uid] = known = obj, read_trial(obj, memory.uid)
    return known[1]


def _requests(family: Family, memory: Memory, uid: str) -> tuple[Request, ...]:
    """Trials without a number; those of an earlier study of this name go with it."""
    found = [
        trial
        for trial in family.trials
        if "number" not in trial["spec"]
        and not trial["metadata"].get("deletionTimestamp")
        and _studies(trial) <= {uid}
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
    )


def _studies(trial: Object) -> set[str]:
    owners = trial["metadata"].get("ownerReferences") or ()
    return {owner["uid"] for owner in owners if owner["kind"] == names.STUDY_KIND}


# --- evidence


def _evidence(
    trial_object: Object,
    trial: TrialRecord,
    jobs: Mapping[str, Object],
    pods: Mapping[str, list[tuple[Object, bool]]],
    memory: Memory,
    spec: StudySpec,
) -> Evidence:
    run = trial.run
    job = jobs.get(run.job) if run.open else None
    if job and trial_object["metadata"]["uid"] not in _owners(job):
        job = None
    earlier = {r.job for r in trial.runs} - ({run.job} if run.open else set())
    lingering = any(
        lingers(pod) for name in earlier for pod, gone in pods.get(name, ()) if not gone
    )
    if not run.open:
        return Evidence(lingering=lingering)
    if run.reported:  # what its pod had to say has been written; it may be gone
        measured = memory.measured.get(run.job, Measured())
        return Evidence(waiting=_missing(measured), measured=measured)
    state = JobState.PRESENT if job else memory.jobs.get(run.job, JobState.UNSEEN)
    newest = max(
        pods.get(run.job, ()),
        key=lambda pair: (pair[0]["metadata"]["creationTimestamp"], not pair[1]),
        default=None,
    )
    pod, gone = newest or (None, False)
    suspended = bool(job and job["spec"].get("suspend"))
    started_at, ended_at = times(pod) if pod else (None, None)
    refusal = memory.refusals.get(run.job) if state is JobState.UNMADE else None
    return Evidence(
        job=state,
        running=pod is not None and not gone and not suspended and main_started(pod),
        suspended=suspended,
        waiting=refusal.waiting if refusal else _waiting(job, pod, gone, memory, run),
        outcome=(refusal.final if refusal else None)
        or outcome(pod, gone, job, state is JobState.GONE, run, spec),
        since=epoch((pod or job)["metadata"]["creationTimestamp"]) if job else None,
        lingering=lingering,
        template=_template(job, state, spec),
        gpus=(gpus(job["spec"]["template"]["spec"]) or None) if job else None,
        started_at=started_at,
        ended_at=ended_at,
        pod=pod["metadata"]["name"] if pod else None,
    )


def _missing(measured: Measured) -> Waiting | None:
    return Waiting(measured.gap, measured.message, endless=False) if measured.gap else None


def _template(job: Object | None, state: JobState, spec: StudySpec) -> str | None:
    """The Job says it; one that the API server refuses to make is of the template as it is now."""
    if job:
        return (job["metadata"].get("labels") or {}).get(names.TEMPLATE_LABEL)
    return spec.template_hash if state is JobState.UNMADE else None


def _waiting(
    job: Object | None, pod: Object | None, gone: bool, memory: Memory, run: Run
) -> Waiting | None:
    if job is None:
        return None
    if job["spec"].get("suspend"):
        return Waiting("Suspended", "the Job is suspended: it waits in a queue", endless=False)
    if pod is None or gone:
        return memory.podless.get(run.job)
    return waiting(pod)


def _leftovers(family: Family, trials: Iterable[TrialRecord], uid: str) -> tuple[str, ...]:
    """Jobs that still hold resources and are no open run: of an attempt that was given up."""
    names_of_trials = {t["metadata"]["uid"] for t in trial_objects(family, uid).values()}
    open_runs = {t.run.job for t in trials if t.unfinished and t.run.open}
    return tuple(
        sorted(
            job["metadata"]["name"]
            for job in family.jobs
            if _owners(job) & names_of_trials
            and job["metadata"]["name"] not in open_runs
            and not job["metadata"].get("deletionTimestamp")
            and not _ended(job)
            and not _main_ended(family, job)
        )
    )


def _ended_jobs(family: Family, trials: Iterable[TrialRecord]) -> tuple[EndedJob, ...]:
    runs = {run.job: run for trial in trials for run in trial.runs if not run.open}
    return tuple(
        EndedJob(
            name,
            completed=runs[name].reason == Reason.COMPLETED,
            ttl_s=job["spec"].get("ttlSecondsAfterFinished"),
        )
        for job in family.jobs
        if (name := job["metadata"]["name"]) in runs
        and not job["metadata"].get("deletionTimestamp")
    )


def _ended(job: Object) -> bool:
    """It has, or ends by itself: the Job controller stops what pods there are."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c["type"] in VERDICTS and c["status"] == "True" for c in conditions)


def _main_ended(family: Family, job: Object) -> bool:
    """Its pod has ended, and the Job is about to: we act on the message, before the Job does."""
    mine = [pod for pod in family.pods if _job_of(pod) == job["metadata"]["name"]]
    return bool(mine) and not any(lingers(pod) for pod in mine)
