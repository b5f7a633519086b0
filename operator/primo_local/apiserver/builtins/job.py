"""Jobs: defaults, generated labels and selector, and a template that does not change."""

import datetime
from collections.abc import Iterator, Sequence

from primo_local.apiserver import metadata
from primo_local.apiserver.builtins.podspec import containers, defaulted_spec, validate_spec
from primo_local.apiserver.clock import parse_timestamp
from primo_local.apiserver.errors import (
    Cause,
    invalid_value,
    not_supported,
    required,
)
from primo_local.apiserver.objects import Json, condition, dig, is_deleting
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import AGE, NAME, Column, human_duration

_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_JOB_NAME = "batch.kubernetes.io/job-name"
_DEFAULTS: Json = {
    "backoffLimit": 6,
    "completionMode": "NonIndexed",
    "suspend": False,
    "manualSelector": False,
}
_COUNTS = (
    "activeDeadlineSeconds",
    "backoffLimit",
    "completions",
    "parallelism",
    "ttlSecondsAfterFinished",
)
_FIXED_FIELDS = ("selector", "completionMode", "podFailurePolicy", "managedBy", "successPolicy")
# What a scheduler's queue may change in a template while the Job waits suspended.
_SCHEDULING = ("affinity", "nodeSelector", "tolerations", "schedulingGates")
_ORPHANING = (
    "child pods are preserved by default when jobs are deleted; set "
    "propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress "
    "this warning"
)


def _status(obj: Json, _: datetime.datetime) -> str:
    for kind in ("Complete", "Failed"):
        if condition(obj, kind).get("status") == "True":
            return kind
    if is_deleting(obj):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition(obj, kind).get("status") == "True":
            return kind
    return "Running"


def _completions(obj: Json, _: datetime.datetime) -> str:
    done, wanted = dig(obj, "status", "succeeded") or 0, obj["spec"].get("completions")
    if wanted is not None:
        return f"{done}/{wanted}"
    parallelism = obj["spec"].get("parallelism", 1)
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _duration(obj: Json, now: datetime.datetime) -> str:
    start, end = dig(obj, "status", "startTime"), dig(obj, "status", "completionTime")
    if not start:
        return ""
    failed = condition(obj, "Failed")
    end = end or (failed.get("lastTransitionTime") if failed.get("status") == "True" else None)
    stop = parse_timestamp(end) if end else now
    return human_duration(stop - parse_timestamp(start))


def _of_containers(name: str, field: str) -> Column:
    def cell(obj: Json, _: datetime.datetime) -> str:
        return ",".join(each.get(field, "") for each in containers(obj["spec"]["template"]["spec"]))

    return Column(name, cell, priority=1)


def _selector(obj: Json, _: datetime.datetime) -> str:
    labels = dig(obj, "spec", "selector", "matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"


class JobStrategy(Strategy):
    model = "V1Job"
    counts_generation = True
    # The API's own default: who deletes a Job without saying how keeps its pods.
    default_propagation = "Orphan"
    selectable = ("status.successful",)
    columns = (
        NAME,
        Column("Status", _status),
        Column("Completions", _completions),
        Column("Duration", _duration),
        AGE,
        _of_containers("Containers", "name"),
        _of_containers("Images", "image"),
        Column("Selector", _selector, priority=1),
    )

    def defaulted(self, obj: Json) -> Json:
        given = obj.get("spec", {})
        spec = {**_DEFAULTS, **given}
        if "completions" not in given and "parallelism" not in given:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        policy = "Failed" if "podFailurePolicy" in given else "TerminatingOrFailed"
        spec.setdefault("podReplacementPolicy", policy)
        template = given.get("template", {})
        spec["template"] = {**template, "spec": defaulted_spec(template.get("spec", {}))}
        return {**obj, "spec": spec}

    def prepared_create(self, obj: Json) -> Json:
        fields, spec = obj["metadata"], obj["spec"]
        template = spec["template"]
        labels = dig(template, "metadata", "labels")
        if labels and "labels" not in fields:
            fields = {**fields, "labels": labels}
        if not spec["manualSelector"] and "selector" not in spec:
            spec = {
                **spec,
                "selector": {"matchLabels": {_CONTROLLER_UID: fields["uid"]}},
                "template": _labelled(template, fields),
            }
        return {**obj, "metadata": fields, "spec": spec, "status": {}}

    def validate(self, obj: Json) -> Sequence[Cause]:
        return list(_spec_causes(obj["spec"], obj["metadata"]))

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:
        return list(_changes(new["spec"], old["spec"], dig(old, "status", "startTime") is None))

    def delete_warnings(self, propagation: str | None) -> Sequence[str]:
        return () if propagation else (_ORPHANING,)


def _labelled(template: Json, fields: Json) -> Json:
    generated = {
        _CONTROLLER_UID: fields["uid"],
        _JOB_NAME: fields["name"],
        "controller-uid": fields["uid"],
        "job-name": fields["name"],
    }
    given = template.get("metadata") or {}
    labels = {**given.get("labels", {}), **generated}
    return {**template, "metadata": {**given, "labels": labels}}


def _spec_causes(spec: Json, fields: Json) -> Iterator[Cause]:
    for name in _COUNTS:
        if spec.get(name, 0) < 0:
            yield invalid_value(f"spec.{name}", spec[name], "must be greater than or equal to 0")
    if spec["completionMode"] not in ("NonIndexed", "Indexed"):
        allowed = ("NonIndexed", "Indexed")
        yield not_supported("spec.completionMode", spec["completionMode"], allowed)
    elif spec["completionMode"] == "Indexed" and spec.get("completions") is None:
        detail = "when completion mode is Indexed, completions must be set"
        yield required("spec.completions", detail)
    template = spec["template"]
    selected = dig(spec, "selector", "matchLabels") or {}
    labels = dig(template, "metadata", "labels") or {}
    if not spec["manualSelector"] and selected != {_CONTROLLER_UID: fields["uid"]}:
        yield invalid_value("spec.selector", spec["selector"], "`selector` not auto-generated")
    elif any(labels.get(key) != value for key, value in selected.items()):
        detail = "`selector` does not match template `labels`"
        yield invalid_value("spec.template.metadata.labels", labels, detail)
    yield from metadata.validate_labels(labels, "spec.template.labels")
    yield from validate_spec(template["spec"], "spec.template.spec")
    if template["spec"]["restartPolicy"] == "Always":
        detail = 'valid values: "OnFailure", "Never"'
        yield required("spec.template.spec.restartPolicy", detail)


def _changes(new: Json, old: Json, never_started: bool) -> Iterator[Cause]:
    for name in _FIXED_FIELDS:
        if new.get(name) != old.get(name):
            yield invalid_value(f"spec.{name}", new.get(name), "field is immutable")
    indexed = old["completionMode"] == "Indexed"
    if new.get("completions") != old.get("completions") and not indexed:
        yield invalid_value("spec.completions", new.get("completions"), "field is immutable")
    fixed = _template_part if old["suspend"] and never_started else dict
    if fixed(new["template"]) != fixed(old["template"]):
        yield invalid_value("spec.template", new["template"], "field is immutable")


def _template_part(template: Json) -> Json:
    """What of a template stays fixed even while its Job is suspended and has not started."""
    spec = {name: value for name, value in template["spec"].items() if name not in _SCHEDULING}
    return {"spec": spec}
