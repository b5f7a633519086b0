"""What the cluster shows of a trial's open run, and nobody has written down yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.gpus import gpus
from primo_operator.pods import (
    final_verdict,
    lingers,
    main_started,
    outcome,
    starting_since,
    times,
    waiting,
)
from primo_study.phases import NoJob
from primo_study.queries import Measured
from primo_study.spec import StudySpec
from primo_study.study import Evidence, JobState, Outcome, TrialRecord, Waiting, epoch

TERMINATING = Waiting(
    "PodTerminating",
    "its pod is being deleted, and has not ended: is its node gone?",
    endless=False,
)
LINGERS = Waiting(
    NoJob.POD_LINGERS,
    "a pod of an earlier run has not ended, or may come to be: two might write to one checkpoint",
    endless=False,
)


@dataclass(frozen=True, slots=True)
class Traces:
    """All that evidence is made of: with equal ones it is the same.

    Attributes:
        trial: as written.
        lingering: a pod of an earlier run may still write to its checkpoints.
        job: of the open run, if it is the trial's own.
        pods: that name this Job, and whether they are gone.
        state: what is remembered of a Job that is not in our view.
        refused: why the Job could not be made.
        final: how the run ends for that reason, if no retry can help.
        podless: why the Job has no pod.
        stuck_since: when its pod was first seen to wait for what cannot cure itself.
        searched: the Job has ended, and pods were listed since then.
        measured: what Prometheus has said of the run.
    """

    trial: TrialRecord
    spec: StudySpec
    lingering: bool
    job: Object | None = None
    pods: Sequence[tuple[Object, bool]] = ()
    state: JobState = JobState.UNSEEN
    refused: Waiting | None = None
    final: Outcome | None = None
    podless: Waiting | None = None
    stuck_since: float | None = None
    searched: bool = False
    measured: Measured = field(default_factory=Measured)


def evidence(traces: Traces) -> Evidence:
    """What they say."""
    run, job, lingering = traces.trial.run, traces.job, traces.lingering
    if not run.open:
        return Evidence(lingering=lingering, waiting=LINGERS if lingering else None)
    if run.reported:  # what its pod had to say has been written; it may be gone
        return Evidence(waiting=_missing(traces.measured), measured=traces.measured)
    state = JobState.PRESENT if job else traces.state
    newest = max(
        (pair for pair in traces.pods if job_of(pair[0])),  # anybody may wear a label
        key=lambda pair: (pair[0]["metadata"]["creationTimestamp"], not pair[1]),
        default=None,
    )
    pod, gone = newest or (None, False)
    suspended = bool(job and job["spec"].get("suspend"))
    started_at, ended_at = times(pod) if pod else (None, None)
    unmade = state is JobState.UNMADE
    waits = (
        (traces.refused if unmade else None)
        or (LINGERS if unmade and lingering else None)
        or _waiting(traces, pod, gone)
    )
    stuck = pod is not None and not gone and waits is not None and waits.endless
    return Evidence(
        job=state,
        job_uid=job["metadata"]["uid"] if job else None,
        running=pod is not None and not gone and not suspended and main_started(pod),
        suspended=suspended,
        waiting=waits,
        outcome=(traces.final if unmade else None)
        or outcome(pod, gone, job, state is JobState.GONE, run, traces.spec),
        since=traces.stuck_since if stuck else _since(job, pod) if job else None,
        lingering=lingering,
        template=_template(job, state, traces.spec),
        gpus=(gpus(job["spec"]["template"]["spec"]) or None) if job else None,
        started_at=started_at,
        ended_at=ended_at,
        pod=pod["metadata"]["name"] if pod else None,
        unsearched=bool(job and not pod and final_verdict(job)) and not traces.searched,
    )


def job_of(pod: Object) -> str | None:
    """The name of the Job that owns a pod."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner["name"] for owner in owners if owner["kind"] == "Job"), None)


def _since(job: Object, pod: Object | None) -> float:
    """Without the time in a queue, and that in which the pod waited for a node."""
    started_at = (job.get("status") or {}).get("startTime")
    return epoch(starting_since(pod) if pod else started_at or job["metadata"]["creationTimestamp"])


def _missing(measured: Measured) -> Waiting | None:
    return Waiting(measured.gap, measured.message, endless=False) if measured.gap else None


def _template(job: Object | None, state: JobState, spec: StudySpec) -> str | None:
    """The Job says it; one that the API server refuses to make is of the template as it is now."""
    if job:
        return (job["metadata"].get("labels") or {}).get(names.TEMPLATE_LABEL)
    return spec.template_hash if state is JobState.UNMADE else None


def _waiting(traces: Traces, pod: Object | None, gone: bool) -> Waiting | None:
    if traces.job is None:
        return None
    if traces.job["spec"].get("suspend"):
        return Waiting("Suspended", "the Job is suspended: it waits in a queue", endless=False)
    if pod is None or gone:
        return traces.podless
    if pod["metadata"].get("deletionTimestamp") and lingers(pod):
        return TERMINATING
    return waiting(pod)
