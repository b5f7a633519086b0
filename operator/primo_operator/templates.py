"""What the API server lets through in a trial's template, and would still go wrong.

Two dry-runs, of a Job and of its pod, find the rest: what is said here they do not see, because it
is a rule of ours (fields that the study decides, names that we take, references to variables that
we do not set), or because a cluster may evaluate no CEL.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from primo_operator import names
from primo_operator.gpus import gpus
from primo_study.spec import StudySpec

_TEMPLATE = "spec.trialTemplate.spec"
_ENVIRONMENT = "PRIMO_"
# More in one message hides the mistake instead of explaining it.
_SHOWN = 12

DECIDED_BY_THE_STUDY = {
    "backoffLimit": "spec.retries says how often a run is started again",
    "completions": "a run is one pod",
    "parallelism": "spec.parallelism says how many runs are under way at once",
    "completionMode": "a run is one pod",
    "selector": "the API server makes it",
    "manualSelector": "the API server makes the selector",
    "suspend": "spec.suspend, or the queue that a label names, says when runs start",
    "ttlSecondsAfterFinished": "a Job is kept until its result is recorded",
    "podFailurePolicy": "a run's end is read from its pod, and spec.retries says what follows",
    "podReplacementPolicy": "a run is one pod",
    "successPolicy": "a run is one pod",
}

# Kubernetes expands $(NAME); $$ stands for one $, so that $$(NAME) is no reference.
_REFERENCE = re.compile(r"\$\$|\$\((?P<name>[^)]*)\)")


def template_mistakes(spec: StudySpec) -> list[str]:
    """Each mistake as `field: value expectation`, in the order of the template."""
    return [
        *_reports_mistakes(spec),
        *_job_mistakes(spec.trial_template.spec, _variables(spec)),
        *_budget_mistakes(spec),
    ]


def _reports_mistakes(spec: StudySpec) -> Iterator[str]:
    if spec.reports and _is_ours(spec.reports.tensorboard):
        yield (
            f"spec.reports.tensorboard: {spec.reports.tensorboard!r} is not outside"
            f" {names.REPORT_MOUNT}, where the report is"
        )


def _budget_mistakes(spec: StudySpec) -> Iterator[str]:
    hours = spec.budget.gpu_hours
    if hours is None:
        return
    template = spec.trial_template.spec.get("template")
    pod = template.get("spec") if isinstance(template, Mapping) else None
    if isinstance(pod, Mapping) and not gpus(pod):
        yield (
            f"spec.budget.gpuHours: {hours:g} could not be spent: no container of the template has"
            " a GPU in its limits, such as nvidia.com/gpu"
        )


def _variables(spec: StudySpec) -> dict[str, bool]:
    """What a trial's containers find in their environment, parameters first; and if all do."""
    parameters = {names.parameter_variable(p.name): not p.when for p in spec.parameters}
    others = ["PRIMO_PARAMS", "PRIMO_STUDY", "PRIMO_TRIAL", "PRIMO_REPORT_FILE"]
    if spec.fidelity:
        others += ["PRIMO_FIDELITY", "PRIMO_RESUME_FROM"]
    if spec.checkpoints:
        others += ["PRIMO_CHECKPOINT_DIR"]
    if spec.reports:
        others += ["PRIMO_TENSORBOARD_DIR"]
    return dict(sorted(parameters.items())) | dict.fromkeys(others, True)


def _job_mistakes(job: Mapping[str, Any], variables: Mapping[str, bool]) -> Iterator[str]:
    for field, reason in DECIDED_BY_THE_STUDY.items():
        if job.get(field) is not None:
            yield f"{_TEMPLATE}.{field}: {job[field]!r} is not the template's to say: {reason}"
    template = job.get("template")
    if isinstance(template, Mapping):
        yield from _metadata_mistakes(f"{_TEMPLATE}.template.metadata", template.get("metadata"))
    pod = template.get("spec") if isinstance(template, Mapping) else None
    at = f"{_TEMPLATE}.template.spec"
    if not isinstance(pod, Mapping):
        yield f"{at}: is missing"
        return
    yield from _pod_mistakes(at, pod, variables)


def _metadata_mistakes(at: str, metadata: Any) -> Iterator[str]:
    if metadata is not None and not isinstance(metadata, Mapping):
        yield f"{at}: {metadata!r} is not an object"
        return
    for field in ("labels", "annotations"):
        value = (metadata or {}).get(field)
        if value is not None and not isinstance(value, Mapping):
            yield f"{at}.{field}: {value!r} is not an object"


def _pod_mistakes(at: str, pod: Mapping[str, Any], variables: Mapping[str, bool]) -> Iterator[str]:
    policy = pod.get("restartPolicy")
    if policy is not None and policy != "Never":
        yield (
            f"{at}.restartPolicy: {policy!r} is not Never: spec.retries says how often a run is"
            " started again"
        )
    if not pod.get("containers"):
        yield f"{at}.containers: is missing, expected at least one"
    yield from _list_mistakes(at, pod, ("containers", "initContainers", "volumes"))
    for field, known in (("initContainers", {}), ("containers", variables)):
        for here, container in _items(f"{at}.{field}", pod.get(field)):
            yield from _container_mistakes(here, container, known)
    for here, volume in _items(f"{at}.volumes", pod.get("volumes")):
        yield from _name_mistakes(here, volume)


def _container_mistakes(
    at: str, container: Mapping[str, Any], variables: Mapping[str, bool]
) -> Iterator[str]:
    yield from (
        f"{at}.{field}: is missing" for field in ("name", "image") if not container.get(field)
    )
    yield from _name_mistakes(at, container)
    yield from _list_mistakes(at, container, ("env", "volumeMounts"))
    path = container.get("terminationMessagePath")
    if path is not None and not isinstance(path, str):
        yield f"{at}.terminationMessagePath: {path!r} is not a path"
    for here, variable in _items(f"{at}.env", container.get("env")):
        name = variable.get("name")
        if isinstance(name, str) and name.startswith(_ENVIRONMENT):
            yield (
                f"{here}.name: {name!r} begins with {_ENVIRONMENT}, which is kept for what the"
                " study sets"
            )
    for here, text in _expanded(at, container):
        yield from _reference_mistakes(here, text, variables)
    for here, mount in _items(f"{at}.volumeMounts", container.get("volumeMounts")):
        yield from _mount_mistakes(here, mount)


def _list_mistakes(at: str, holder: Mapping[str, Any], fields: Iterable[str]) -> Iterator[str]:
    """Of the lists that we add to: no Job could be made to be dry-run."""
    for field in fields:
        value = holder.get(field)
        if value and not isinstance(value, list):
            yield f"{at}.{field}: {value!r:.80} is not a list"


def _name_mistakes(at: str, named: Mapping[str, Any]) -> Iterator[str]:
    name = named.get("name")
    if isinstance(name, str) and name.startswith(names.OURS):
        yield (
            f"{at}.name: {name!r} begins with {names.OURS}, which is kept for what is added to"
            " the pod"
        )


def _mount_mistakes(at: str, mount: Mapping[str, Any]) -> Iterator[str]:
    path = mount.get("mountPath")
    if isinstance(path, str) and _is_ours(path):
        yield (f"{at}.mountPath: {path!r} is not outside {names.REPORT_MOUNT}, where the report is")


def _is_ours(path: str) -> bool:
    # Two leading slashes are kept by normpath, and are one to Linux.
    normal = "/" + posixpath.normpath(path).lstrip("/")
    return f"{normal}/".startswith(f"{names.REPORT_MOUNT}/")


def _expanded(at: str, container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts in which Kubernetes expands references, and where they stand."""
    for field in ("command", "args"):
        words = container.get(field)
        for i, word in enumerate(words if isinstance(words, list) else ()):
            if isinstance(word, str):
                yield f"{at}.{field}[{i}]", word
    for here, variable in _items(f"{at}.env", container.get("env")):
        if isinstance(variable.get("value"), str):
            yield f"{here}.value", variable["value"]


def _reference_mistakes(at: str, text: str, variables: Mapping[str, bool]) -> Iterator[str]:
    for match in _REFERENCE.finditer(text):
        name = match["name"] or ""
        if not name.startswith(_ENVIRONMENT) or variables.get(name):
            continue
        if name in variables:
            # Kubernetes would hand it on as it stands where the variable is missing.
            yield (
                f"{at}: '$({name})' is not set in every trial, since the parameter has a condition:"
                " read it from the environment"
            )
        elif variables:
            shown = ", ".join(list(variables)[:_SHOWN])
            more = f" and {len(variables) - _SHOWN} more" if len(variables) > _SHOWN else ""
            yield f"{at}: '$({name})' is not set for this study (there are: {shown}{more})"
        else:
            yield f"{at}: '$({name})' is not set in an init container"


def _items(at: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a list and where they stand; items of another type the dry-run refuses."""
    for i, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, Mapping):
            yield f"{at}[{i}]", item
