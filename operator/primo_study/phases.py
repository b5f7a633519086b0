"""The phases of a trial and of a study, which may follow which, and how a run may end."""

from collections.abc import Mapping
from enum import StrEnum


class TrialPhase(StrEnum):
    QUEUED = "Queued"  # a run is wanted; its pod does not run
    RUNNING = "Running"
    PAUSED = "Paused"  # observed below full fidelity; may be promoted
    COMPLETED = "Completed"  # observed at full fidelity
    FAILED = "Failed"
    STOPPED = "Stopped"  # ended by the user or with the study


class StudyPhase(StrEnum):
    PENDING = "Pending"
    INITIAL_DESIGN = "InitialDesign"
    OPTIMIZING = "Optimizing"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    FAILED = "Failed"


UNFINISHED = frozenset({TrialPhase.QUEUED, TrialPhase.RUNNING})

# A run may end before it is ever seen running. Running -> Queued: it was lost and is run again, or
# was sent back into its queue.
TRIAL_TRANSITIONS: Mapping[TrialPhase, frozenset[TrialPhase]] = {
    TrialPhase.QUEUED: frozenset(
        {
            TrialPhase.RUNNING,
            TrialPhase.PAUSED,
            TrialPhase.COMPLETED,
            TrialPhase.FAILED,
            TrialPhase.STOPPED,
        }
    ),
    TrialPhase.RUNNING: frozenset(
        {
            TrialPhase.QUEUED,
            TrialPhase.PAUSED,
            TrialPhase.COMPLETED,
            TrialPhase.FAILED,
            TrialPhase.STOPPED,
        }
    ),
    TrialPhase.PAUSED: frozenset({TrialPhase.QUEUED, TrialPhase.STOPPED}),
    TrialPhase.COMPLETED: frozenset(),
    # Only when the user asks for another attempt.
    TrialPhase.FAILED: frozenset({TrialPhase.QUEUED}),
    TrialPhase.STOPPED: frozenset({TrialPhase.QUEUED}),
}

# Out of Completed and Failed leads only an edit of the spec, such as a raised budget.
STUDY_TRANSITIONS: Mapping[StudyPhase, frozenset[StudyPhase]] = {
    StudyPhase.PENDING: frozenset(StudyPhase) - {StudyPhase.PENDING},
    StudyPhase.INITIAL_DESIGN: frozenset(
        {
            StudyPhase.OPTIMIZING,
            StudyPhase.SUSPENDED,
            StudyPhase.COMPLETED,
            StudyPhase.FAILED,
        }
    ),
    StudyPhase.OPTIMIZING: frozenset(
        {StudyPhase.SUSPENDED, StudyPhase.COMPLETED, StudyPhase.FAILED}
    ),
    StudyPhase.SUSPENDED: frozenset(StudyPhase) - {StudyPhase.SUSPENDED},
    StudyPhase.COMPLETED: frozenset(StudyPhase) - {StudyPhase.COMPLETED},
    StudyPhase.FAILED: frozenset(StudyPhase) - {StudyPhase.FAILED},
}


class Reason(StrEnum):
    """How a run ended, in one word that stays the same from release to release."""

    COMPLETED = "Completed"
    DIVERGED = "Diverged"  # an objective is NaN or infinite
    FAILED = "Failed"  # the training script ended with an error
    OUT_OF_MEMORY = "OutOfMemory"
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # activeDeadlineSeconds
    EVICTED = "Evicted"  # for the pod's own use of storage
    LOST = "Lost"  # the cluster's doing: preemption, drain, node, a deleted pod or Job
    START_FAILED = "StartFailed"  # it waited too long to start, or has no such command
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    STOPPED = "Stopped"
    NOT_CREATED = "NotCreated"  # it has no Job, and hardly ever had one; no attempt
    SUSPENDED = "Suspended"  # taken back before its pod had started; it runs when the study does


class NoJob(StrEnum):
    """Why a run has no Job yet, as its trial says it; a missing right is an `Obstacle`."""

    QUOTA_EXCEEDED = "QuotaExceeded"
    CREATE_REFUSED = "CreateRefused"
    POD_LINGERS = "PodLingers"  # that of an earlier run


class Obstacle(StrEnum):
    """Why the operator cannot go on with a study; a pass that succeeds takes it back."""

    INTERNAL_ERROR = "InternalError"  # a bug of ours
    FORBIDDEN = "Forbidden"  # it lacks a right
    CRD_OUTDATED = "CRDOutdated"  # the definitions are older than the operator
    OPERATOR_OUTDATED = "OperatorOutdated"  # the study's spec is of a later version
    REFUSED = "Refused"  # a policy, a webhook or a quota does not let something be written
    OBJECT_TOO_LARGE = "ObjectTooLarge"  # an object is more than the API server keeps


# Reasons that say nothing of the configuration.
BLAMELESS = frozenset({Reason.LOST, Reason.START_FAILED})
# Reasons that another attempt may cure and that are the script's own doing.
APPLICATION_REASONS = frozenset(
    {Reason.FAILED, Reason.OUT_OF_MEMORY, Reason.EVICTED, Reason.METRICS_UNAVAILABLE}
)
