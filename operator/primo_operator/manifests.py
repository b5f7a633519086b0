"""A trial's object and the Job of a run: data in, dict out.

The Job is the user's template with as little added as possible: our environment before the
template's own (a value sees only variables before it), the report volume, the checkpoint volume,
and one native sidecar. Commands are never touched.
"""

import copy
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from primo_operator import names
from primo_operator.settings import Settings
from primo_optimizer import Suggestion
from primo_study.spec import StudySpec
from primo_study.study import Run, Study, TrialRecord

# What the kubelet reads of one message, and of all the messages of a pod.
MESSAGE_BYTES = 4096
POD_MESSAGE_BYTES = 12288
# Kubernetes' default of a pod's grace period, and what is left of it for the sidecar's own end.
GRACE_S, GRACE_LEFT_S = 30, 5

Manifest = dict[str, Any]


def trial_object(study: Study, suggestion: Suggestion) -> Manifest:
    """The object of a new trial. Creating it announces its first run: rung 0, attempt 0."""
    spec: Manifest = {
        "study": study.name,
        "number": suggestion.trial,
        "parameters": dict(suggestion.configuration),
        "suggestion": dict(suggestion.explanation),
    }
    if starts := study.prior_starts():
        # From here on it is on record that these priors counted for this trial.
        spec["suggestion"]["priors"] = sorted(starts)
    if suggestion.fidelity is not None:
        spec["fidelity"] = suggestion.fidelity
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.TRIAL_KIND,
        "metadata": {
            "name": names.trial(study.name, study.uid, suggestion.trial),
            "namespace": study.namespace,
            "labels": _trial_labels(study, suggestion.trial),
            "ownerReferences": [_owner(names.STUDY_KIND, study.name, study.uid)],
        },
        "spec": spec,
    }


def adoption(study: Study, given: Manifest, number: int, fidelity: float | None) -> Manifest:
    """The patch that makes a trial of the user's one of the study's."""
    owners = [
        owner
        for owner in given["metadata"].get("ownerReferences") or ()
        if owner["uid"] != study.uid
    ]
    ours = _owner(names.STUDY_KIND, study.name, study.uid)
    ours["controller"] = not any(owner.get("controller") for owner in owners)
    # What a copied trial says of its own suggestion is not true of this one.
    said = dict.fromkeys(given["spec"].get("suggestion") or ())
    spec: Manifest = {"number": number, "suggestion": {**said, "origin": "User"}}
    if fidelity is not None:
        spec["fidelity"] = fidelity
    metadata = {"labels": _trial_labels(study, number), "ownerReferences": [*owners, ours]}
    return {"metadata": metadata, "spec": spec}


def job(study: Study, trial: TrialRecord, trial_uid: str, settings: Settings) -> Manifest:
    """The Job of a trial's open run."""
    assert study.spec
    run = trial.run
    labels = {
        names.STUDY_LABEL: study.name,
        names.TRIAL_LABEL: str(trial.number),
        names.RUNG_LABEL: str(run.rung),
        names.ATTEMPT_LABEL: str(run.attempt),
        names.TEMPLATE_LABEL: study.spec.template_hash,
        names.COMPONENT_LABEL: names.COMPONENT,
        names.MANAGED_BY_LABEL: names.MANAGER,
    }
    manifest = _job(study.spec, _environment(study, trial, run), labels, settings)
    manifest["metadata"] |= {
        "name": run.job,
        "namespace": study.namespace,
        "ownerReferences": [_owner(names.TRIAL_KIND, trial.name, trial_uid)],
    }
    return manifest


def probe_job(study: Study, settings: Settings) -> Manifest:
    """A Job like those of the trials, to be dry-run: parameters are empty words."""
    assert study.spec
    variables = {
        "PRIMO_STUDY": study.name,
        "PRIMO_TRIAL": "0",
        "PRIMO_PARAMS": "{}",
        **{names.parameter_variable(p.name): "" for p in study.spec.parameters},
    }
    labels = {names.STUDY_LABEL: study.name, names.COMPONENT_LABEL: names.COMPONENT}
    manifest = _job(study.spec, variables, labels, settings)
    probe = names.job(names.trial(study.name, study.uid, 99999), 9, 99)  # the longest there can be
    manifest["metadata"] |= {"name": probe, "namespace": study.namespace}
    return manifest


def probe_pod(job_manifest: Manifest) -> Manifest:
    """The pod that the Job controller would make: admission of pods shows only on a pod."""
    template = job_manifest["spec"]["template"]
    metadata = {
        "name": job_manifest["metadata"]["name"],
        "namespace": job_manifest["metadata"]["namespace"],
        **template["metadata"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def message_limit(containers: int) -> int:
    """What the kubelet keeps of each termination message in a pod of so many containers."""
    return min(MESSAGE_BYTES, POD_MESSAGE_BYTES // max(containers, 1))


def number_text(value: float) -> str:
    """A number as users write it: 9, not 9.0."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


# --- the parts


def _trial_labels(study: Study, number: int) -> Manifest:
    return {
        names.STUDY_LABEL: study.name,
        names.TRIAL_LABEL: str(number),
        names.MANAGED_BY_LABEL: names.MANAGER,
    }


def _owner(kind: str, name: str, uid: str) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _environment(study: Study, trial: TrialRecord, run: Run) -> dict[str, str]:
    assert study.spec
    variables = {
        "PRIMO_STUDY": study.name,
        "PRIMO_TRIAL": str(trial.number),
        "PRIMO_PARAMS": json.dumps(dict(trial.configuration), sort_keys=True),
    }
    for name, value in sorted(trial.configuration.items()):
        text = value if isinstance(value, str) else number_text(value)
        variables[names.parameter_variable(name)] = text
    if run.fidelity is not None:
        variables["PRIMO_FIDELITY"] = number_text(run.fidelity)
        # 0 on the first rung: $(PRIMO_RESUME_FROM) in a command would stay as it stands otherwise.
        variables["PRIMO_RESUME_FROM"] = number_text(run.resume_from or 0)
    if study.spec.checkpoints:
        # The study's UID: two studies may share a claim, and one may be made anew.
        variables["PRIMO_CHECKPOINT_DIR"] = posixpath.join(
            study.spec.checkpoints.mount_path,
            f"{study.name}-{names.short_uid(study.uid)}",
            str(trial.number),
        )
    return variables


def _job(
    spec: StudySpec, variables: Mapping[str, str], labels: Mapping[str, str], settings: Settings
) -> Manifest:
    template = spec.trial_template
    given = template.metadata
    user_labels = dict(given.labels or {}) if given else {}
    user_annotations = dict(given.annotations or {}) if given else {}
    job_spec: Manifest = copy.deepcopy(template.spec)
    # The deadline is the user's; how often, how many and how long it is kept are the study's.
    job_spec |= {"backoffLimit": 0, "completions": 1, "parallelism": 1}
    pod = job_spec["template"]
    metadata = pod.setdefault("metadata", {}) or {}
    pod["metadata"] = {
        **metadata,
        "labels": {**user_labels, **(metadata.get("labels") or {}), **labels},
        "annotations": {
            names.SAFE_TO_EVICT: ",".join(volume["name"] for volume in _scratch(spec)),
            **user_annotations,
            **(metadata.get("annotations") or {}),
        },
    }
    _fill_pod(pod["spec"], spec, variables, settings)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": {**user_labels, **labels}, "annotations": user_annotations},
        "spec": job_spec,
    }


def _fill_pod(
    pod: Manifest, spec: StudySpec, variables: Mapping[str, str], settings: Settings
) -> None:
    _default(pod, "restartPolicy", "Never")
    _default(pod, "automountServiceAccountToken", False)
    _default(pod, "enableServiceLinks", False)
    init = pod.get("initContainers") or []
    limit = message_limit(len(pod["containers"]) + len(init) + 1)
    volumes = _scratch(spec)
    mounts: list[Manifest] = [{"name": names.REPORT_VOLUME, "mountPath": names.REPORT_MOUNT}]
    if spec.checkpoints:
        claim = {"claimName": spec.checkpoints.claim_name}
        volumes.append({"name": names.CHECKPOINT_VOLUME, "persistentVolumeClaim": claim})
        mounts.append({"name": names.CHECKPOINT_VOLUME, "mountPath": spec.checkpoints.mount_path})
    if spec.reports:
        path = spec.reports.tensorboard
        mounts.append({"name": names.TENSORBOARD_VOLUME, "mountPath": path})
        variables = {**variables, "PRIMO_TENSORBOARD_DIR": path}
    for container in pod["containers"]:
        log = container.get("terminationMessagePath") or names.TERMINATION_LOG
        ours = {
            **variables,
            "PRIMO_REPORT_FILE": names.REPORT_FILE,
            "PRIMO_TERMINATION_LOG": log,
            "PRIMO_MESSAGE_LIMIT": str(limit),
            "PRIMO_METRICS": _metrics(spec),
        }
        container["env"] = [*_env(ours), *(container.get("env") or [])]
        container["volumeMounts"] = [*mounts, *(container.get("volumeMounts") or [])]
    for container in (*pod["containers"], *init):
        _default(container, "terminationMessagePolicy", "FallbackToLogsOnError")
    pod["volumes"] = [*volumes, *(pod.get("volumes") or [])]
    sidecar = _sidecar(spec, limit, _drain_s(pod), settings)
    # In the node's network a port that is declared is one that no other pod of the node may have.
    if settings.sidecar_metrics_port and not pod.get("hostNetwork"):
        sidecar["ports"] = [{"name": "metrics", "containerPort": settings.sidecar_metrics_port}]
    pod["initContainers"] = [sidecar, *init]


def _default(of: Manifest, field: str, value: Any) -> None:
    """Null is as good as absent, to the API server too."""
    if of.get(field) is None:
        of[field] = value


def _scratch(spec: StudySpec) -> list[Manifest]:
    """The volumes that live and die with the pod."""
    volumes: list[Manifest] = [{"name": names.REPORT_VOLUME, "emptyDir": {"sizeLimit": "256Mi"}}]
    if spec.reports:
        # Event files may hold images and histograms.
        volumes.append({"name": names.TENSORBOARD_VOLUME, "emptyDir": {"sizeLimit": "2Gi"}})
    return volumes


def _env(variables: Mapping[str, str]) -> list[Manifest]:
    # Kubernetes expands $(NAME) in values; a doubled $ stands for itself.
    return [{"name": name, "value": text.replace("$", "$$")} for name, text in variables.items()]


def _metrics(spec: StudySpec) -> str:
    """What must be reported, each once; where a message is too long, the others go first."""
    return json.dumps(list(dict.fromkeys(each.metric for each in spec.reported)))


def _drain_s(pod: Manifest) -> int:
    """How long the sidecar reads after the training's end: it has the pod's grace period to itself.

    Where the training was told to end it may have used most of that up, and the kubelet kills in
    the midst; each batch that was read till then counts.
    """
    given = pod.get("terminationGracePeriodSeconds")
    grace_s = (
        given if isinstance(given, int) else GRACE_S
    )  # what is no number the API server refuses
    return max(grace_s - GRACE_LEFT_S, 1)


def _sidecar(spec: StudySpec, limit: int, drain_s: int, settings: Settings) -> Manifest:
    """Follows the report file and keeps its own termination message current.

    With restartPolicy Always an init container starts before the others and is stopped after them,
    and its end never decides how the pod ended (Kubernetes 1.29 or later).
    """
    variables = {
        "PRIMO_REPORT_FILE": names.REPORT_FILE,
        "PRIMO_TERMINATION_LOG": names.TERMINATION_LOG,
        "PRIMO_MESSAGE_LIMIT": str(limit),
        "PRIMO_METRICS": _metrics(spec),
        "PRIMO_DRAIN_S": str(drain_s),
        "PRIMO_METRICS_ADDRESS": settings.sidecar_metrics_address,
        "PRIMO_METRICS_PORT": str(settings.sidecar_metrics_port),
    }
    mounts = [{"name": names.REPORT_VOLUME, "mountPath": names.REPORT_MOUNT, "readOnly": True}]
    if spec.reports:
        path = names.TENSORBOARD_MOUNT
        mounts.append({"name": names.TENSORBOARD_VOLUME, "mountPath": path, "readOnly": True})
        variables["PRIMO_TENSORBOARD_DIR"] = path
    user = {"runAsUser": settings.sidecar_user} if settings.sidecar_user else {}
    return {
        "name": names.SIDECAR,
        "image": settings.sidecar_image,
        "command": ["python", "-m", "primo_report"],
        "restartPolicy": "Always",
        "env": _env(variables),
        "volumeMounts": mounts,
        "terminationMessagePath": names.TERMINATION_LOG,
        # Namespaces with a quota refuse pods of which a container has none.
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
        # What the Pod Security standard "restricted" asks for.
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            **user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
