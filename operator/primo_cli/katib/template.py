"""The trial's template: one pod, whatever kind of job it was written as."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primo_cli.katib.experiment import Spec, TrialTemplate
from primo_cli.katib.notes import CannotConvertError, Notes
from primo_cli.katib.placeholders import Replacement, replaced
from primo_cli.katib.space import Space
from primo_operator import names
from primo_operator.manifest_files import ManifestError, load_all
from primo_operator.templates import DECIDED_BY_THE_STUDY

Json = dict[str, Any]

# Jobs of the Kubeflow training operator, by the field that holds their replicas.
_REPLICAS = {
    "JAXJob": "jaxReplicaSpecs",
    "PaddleJob": "paddleReplicaSpecs",
    "PyTorchJob": "pytorchReplicaSpecs",
    "TFJob": "tfReplicaSpecs",
    "XGBoostJob": "xgbReplicaSpecs",
}
_WHY_NOT = {
    "MPIJob": "its launcher and workers are several pods, and a PriMO trial is one",
    "PipelineRun": "a PriMO trial is one pod, not a pipeline",
    "TrainJob": "its pod stands in a TrainingRuntime of the cluster, not in this manifest",
    "Workflow": "a PriMO trial is one pod, not a workflow",
}
_NAMESPACE = "KATIB_TRIAL_NAMESPACE"
_BACKOFF_LIMIT = 6  # of a Job that says none
# Kept by the API server, or put there by what the template was applied with.
_NOT_OURS = ("kubectl.kubernetes.io/last-applied-configuration",)


@dataclass(frozen=True, slots=True)
class ConfigMaps:
    """The ConfigMaps given beside the Experiment."""

    found: Sequence[Mapping[str, Any]] = ()

    def text(self, namespace: str, name: str, key: str) -> str | None:
        for each in self.found:
            metadata = _mapping(each.get("metadata"))
            if metadata.get("name") == name and metadata.get("namespace", namespace) == namespace:
                text = _mapping(each.get("data")).get(key)
                return text if isinstance(text, str) else None
        return None


@dataclass(frozen=True, slots=True)
class Template:
    """The trialTemplate of a study; its Job's `backoffLimit` is the study's own to say."""

    manifest: Json
    application_retries: int


def convert_template(
    spec: Spec,
    space: Space,
    resource: str | None,
    namespace: str | None,
    config_maps: ConfigMaps,
    notes: Notes,
) -> Template:
    """The template of an Experiment, with the study's variables for its placeholders.

    Args:
        resource: the parameter that became the study's fidelity.

    Raises:
        CannotConvertError: it is more than one pod, or cannot be told from what is given.
    """
    template = spec.trial_template
    if template is None:
        raise CannotConvertError("trialTemplate: is missing")
    source = _source(template, config_maps)
    job = _job(source, notes)
    values = _replacements(template, source, space, resource, namespace)
    replacing: Json = {"metadata": _metadata(source), "spec": job}
    converted = replaced(replacing, values)
    _add_namespace(converted["spec"])
    retries = _take_what_the_study_decides(converted["spec"], notes)
    _tell_rest(template, notes)
    metadata = {key: value for key, value in converted["metadata"].items() if value}
    manifest = {"spec": converted["spec"]}
    return Template({"metadata": metadata, **manifest} if metadata else manifest, retries)


def pod_of(template: Json) -> Json:
    """The pod's spec in a trialTemplate."""
    pod: Json = template["spec"]["template"]["spec"]
    return pod


def primary(template: Json, name: str) -> Json:
    """The container that the metrics come from."""
    containers: list[Json] = pod_of(template)["containers"]
    return next((each for each in containers if each.get("name") == name), containers[0])


# --- where it stands


def _source(template: TrialTemplate, config_maps: ConfigMaps) -> Json:
    if template.trial_spec is not None:
        return template.trial_spec
    wanted = template.config_map
    if wanted is None:
        raise CannotConvertError("trialTemplate: neither trialSpec nor configMap is given")
    namespace, name = wanted.config_map_namespace, wanted.config_map_name
    text = config_maps.text(namespace, name, wanted.template_path)
    if text is None:
        raise CannotConvertError(
            f"trialTemplate.configMap: the template is {wanted.template_path} of the ConfigMap"
            f" {namespace}/{name}: give that manifest as another FILE"
        )
    try:
        (found,) = load_all(text)
    except (ManifestError, ValueError) as error:
        raise CannotConvertError(
            f"trialTemplate.configMap: {wanted.template_path} is not one manifest: {error}"
        ) from error
    return found


def _job(source: Json, notes: Notes) -> Json:
    """The spec of a batch/v1 Job."""
    kind, spec = str(source.get("kind")), source.get("spec")
    if why := _WHY_NOT.get(kind):
        raise CannotConvertError(f"trialTemplate.trialSpec.kind: {kind}: {why}")
    if kind != "Job" and kind not in _REPLICAS:
        known = ", ".join(("Job", *_REPLICAS))
        raise CannotConvertError(f"trialTemplate.trialSpec.kind: {kind!r} is not one of {known}")
    if not isinstance(spec, Mapping):
        raise CannotConvertError("trialTemplate.trialSpec.spec: is missing")
    whole = {"backoffLimit": _BACKOFF_LIMIT, **spec}
    job = copy.deepcopy(whole) if kind == "Job" else _only_replica(kind, spec, notes)
    containers = _mapping(_mapping(job.get("template")).get("spec")).get("containers")
    listed = containers if isinstance(containers, list) else []
    if not listed or not all(isinstance(container, dict) for container in listed):
        raise CannotConvertError("trialTemplate.trialSpec: there is no pod with containers in it")
    return job


def _only_replica(kind: str, spec: Mapping[str, Any], notes: Notes) -> Json:
    field = _REPLICAS[kind]
    given = _mapping(spec.get(field))
    roles = {role: replica for role, replica in given.items() if isinstance(replica, Mapping)}
    count = sum(_count(replica.get("replicas", 1)) for replica in roles.values())
    if count != 1:
        many = ", ".join(f"{role} {r.get('replicas', 1)}" for role, r in roles.items()) or "none"
        raise CannotConvertError(
            f"trialTemplate.trialSpec.spec.{field}: {many} are {count} pods, and a PriMO trial is"
            " one"
        )
    if _count(_mapping(spec.get("elasticPolicy")).get("maxReplicas")) > 1:
        raise CannotConvertError(
            "trialTemplate.trialSpec.spec.elasticPolicy: up to"
            f" {spec['elasticPolicy']['maxReplicas']} pods, and a PriMO trial is one"
        )
    replica = next(r for r in roles.values() if _count(r.get("replicas", 1)))
    rest = [f"spec.{key}" for key in spec if key not in (field, "runPolicy")]
    rest += [f"spec.{field}.restartPolicy"] if replica.get("restartPolicy") else []
    for part in rest:
        notes.left_out(
            f"trialTemplate.trialSpec.{part}",
            f"it is {kind}'s: if the training needs it, say it in its command, its env or"
            " spec.retries",
        )
    notes.approximated(
        "trialTemplate.trialSpec.kind",
        f"{kind} of one replica is its pod as a Job. What the training operator set (MASTER_ADDR,"
        " RANK, WORLD_SIZE, TF_CONFIG, ...) is not set; nothing else of its runPolicy is taken"
        " over than activeDeadlineSeconds",
    )
    job: Json = {"template": copy.deepcopy(replica.get("template"))}
    deadline = _mapping(spec.get("runPolicy")).get("activeDeadlineSeconds")
    return {"activeDeadlineSeconds": deadline, **job} if deadline else job


def _count(replicas: Any) -> int:
    return replicas if isinstance(replicas, int) else 0


# --- what stands for the placeholders


def _replacements(
    template: TrialTemplate,
    source: Json,
    space: Space,
    resource: str | None,
    namespace: str | None,
) -> dict[str, Replacement]:
    found = {}
    for i, parameter in enumerate(template.trial_parameters):
        at, reference = f"trialTemplate.trialParameters[{i}].reference", parameter.reference
        if reference.startswith("${trialSpec."):
            found[parameter.name] = _of_metadata(at, reference, source, namespace)
        elif reference == resource:
            found[parameter.name] = Replacement("$(PRIMO_FIDELITY)", expands=True)
        elif reference in space.constants:
            found[parameter.name] = Replacement(space.constants[reference], expands=False)
        elif reference in space.names:
            variable = names.parameter_variable(space.names[reference])
            found[parameter.name] = Replacement(f"$({variable})", expands=True)
        else:
            raise CannotConvertError(f"{at}: {reference!r} is not one of parameters")
    return found


def _of_metadata(at: str, reference: str, source: Json, namespace: str | None) -> Replacement:
    key = reference.removeprefix("${trialSpec.").removesuffix("}")
    match key:
        case "Name":
            return Replacement("$(PRIMO_STUDY)-$(PRIMO_TRIAL)", expands=True)
        case "Namespace":
            if namespace:
                return Replacement(namespace, expands=False)
            return Replacement(f"$({_NAMESPACE})", expands=True)
        case "Kind":
            return Replacement("Job", expands=False)
        case "APIVersion":
            return Replacement("batch/v1", expands=False)
    kind, _, rest = key.partition("[")
    values = _mapping(_mapping(source.get("metadata")).get(kind.lower()))
    value = values.get(rest.removesuffix("]")) if kind in ("Labels", "Annotations") else None
    if not isinstance(value, str):
        raise CannotConvertError(f"{at}: {reference} is not in trialSpec.metadata")
    return Replacement(value, expands=False)


def _add_namespace(job: Json) -> None:
    """A variable with the trial's namespace, for the containers that ask for it."""
    reference = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    for container in job["template"]["spec"]["containers"]:
        environment = container.get("env") or []
        if f"$({_NAMESPACE})" in str(container) and isinstance(environment, list):
            variable = {"name": _NAMESPACE, "valueFrom": reference}
            # In front: a value sees only the variables before it.
            container["env"] = [variable, *environment]


# --- what is not a template's to say


def _metadata(source: Json) -> Json:
    given = _mapping(source.get("metadata"))
    annotations = given.get("annotations")
    if isinstance(annotations, Mapping):
        annotations = {key: text for key, text in annotations.items() if key not in _NOT_OURS}
    return {"labels": given.get("labels"), "annotations": annotations}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _take_what_the_study_decides(job: Json, notes: Notes) -> int:
    """Remove from a Job what belongs to the study; how often Kubernetes would have run it again."""
    at = "trialTemplate.trialSpec.spec"
    for field in ("completions", "parallelism"):
        if job.get(field, 1) not in (None, 1):
            raise CannotConvertError(f"{at}.{field}: {job[field]} pods, and a PriMO trial is one")
        job.pop(field, None)
    retries = job.pop("backoffLimit", None)
    if isinstance(retries, int) and retries > 0:
        notes.mapped(f"{at}.backoffLimit", f"{retries} is spec.retries.application")
    for field, why in DECIDED_BY_THE_STUDY.items():
        if job.pop(field, None) is not None:
            notes.left_out(f"{at}.{field}", why)
    pod = job["template"]["spec"]
    policy = pod.get("restartPolicy")
    if policy not in (None, "Never"):
        pod["restartPolicy"] = "Never"
        notes.approximated(
            "trialTemplate: restartPolicy",
            f"{policy} is Never: spec.retries says how often a run is started again",
        )
    return retries if isinstance(retries, int) else 0


def _tell_rest(template: TrialTemplate, notes: Notes) -> None:
    conditions = " ".join((template.success_condition, template.failure_condition))
    if conditions.strip():
        notes.left_out(
            "trialTemplate.successCondition, failureCondition",
            "a run's end is read from its pod: exit code 0 and a report of every objective",
        )
    if template.primary_pod_labels:
        notes.left_out("trialTemplate.primaryPodLabels", "a trial has one pod")
    if template.retain is not None:
        notes.mapped(
            "trialTemplate.retain",
            "is the default: Jobs and logs are kept as long as their trial"
            if template.retain
            else "is spec.retention.jobs None: Jobs are deleted once their result is written",
        )
    for i, parameter in enumerate(template.trial_parameters):
        if parameter.reference == "${trialSpec.Name}":
            notes.approximated(
                f"trialTemplate.trialParameters[{i}]",
                "the trial's name is $(PRIMO_STUDY)-$(PRIMO_TRIAL): the same for each of its runs",
            )
