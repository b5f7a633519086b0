"""Every label, annotation, field manager and child name: derived, never drawn.

A name is made here and nowhere else, from the study's UID, the trial's number, the rung and the
attempt. So a repeated create meets what the first one made.
"""

import re
from typing import Final

GROUP: Final = "primo.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
STUDY_KIND: Final = "PriMOStudy"
STUDIES: Final = "primostudies"
TRIAL_KIND: Final = "PriMOTrial"
TRIALS: Final = "primotrials"

STUDY_LABEL: Final = f"{GROUP}/study"
TRIAL_LABEL: Final = f"{GROUP}/trial"
RUNG_LABEL: Final = f"{GROUP}/rung"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
TEMPLATE_LABEL: Final = f"{GROUP}/template"
# Kubernetes's own, on the pods of a Job.
JOB_LABEL: Final = "batch.kubernetes.io/job-name"
# Trials that users have made by hand wear no label of ours before they have their number.
UNLABELLED: Final = f"!{STUDY_LABEL}"
# What a user asks of a trial. Any word is a reason to stop but "false"; each new word is one retry.
STOP_ANNOTATION: Final = f"{GROUP}/stop"
RETRY_ANNOTATION: Final = f"{GROUP}/retry"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "primo-operator"
COMPONENT: Final = "trial"

# What we add to a trial's pod. Users may not take these names: templates.py says so.
OURS: Final = "primo-"
SIDECAR: Final = "primo-report"
REPORT_VOLUME: Final = "primo-report"
CHECKPOINT_VOLUME: Final = "primo-checkpoints"
TENSORBOARD_VOLUME: Final = "primo-tensorboard"
# In the sidecar; the user's containers have it where the study says.
TENSORBOARD_MOUNT: Final = "/primo-tensorboard"
REPORT_MOUNT: Final = "/primo"
REPORT_FILE: Final = f"{REPORT_MOUNT}/report.jsonl"
TERMINATION_LOG: Final = "/dev/termination-log"

# The kubelet copies pods' emptyDirs nowhere: this lets the autoscaler remove such a node anyway.
SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"


# Of any object (RFC 1123); of a Job, whose name is its pods' label.
SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def short_uid(uid: str) -> str:
    """Eight hex digits that tell a study from an earlier one of the same name."""
    return uid.replace("-", "")[:8]


def trial(study: str, uid: str, number: int) -> str:
    """Name of a trial's object: at most 57 characters for a study of 40."""
    return f"{study}-{short_uid(uid)}-{number}"


def job(trial_name: str, rung: int, attempt: int) -> str:
    """Name of the Job of one run: at most 63 characters, as a label value must be."""
    return f"{trial_name}-r{rung}-a{attempt}"


def parameter_variable(parameter: str) -> str:
    """The environment variable that holds a parameter's value."""
    return f"PRIMO_PARAM_{parameter.upper()}"


def selector(study: str) -> str:
    """Labels of a study's Jobs and pods."""
    return f"{STUDY_LABEL}={study}"
