"""A pod's spec, in a Pod as in a Job's template: its defaults and what is wrong with it."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from primo_local.apiserver import metadata, quantity
from primo_local.apiserver.errors import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    reference_missing,
    required,
)
from primo_local.apiserver.objects import Json, dig

_SPEC_DEFAULTS: Json = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "terminationGracePeriodSeconds": 30,
    "schedulerName": "default-scheduler",
    "securityContext": {},
}
_CONTAINER_DEFAULTS: Json = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_PROBE_DEFAULTS: Json = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_FILE_MODE = 0o644
_WITH_MODE = ("configMap", "secret", "projected", "downwardAPI")
_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
}
_CONTAINER_CHOICES = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}


def defaulted_spec(spec: Json) -> Json:
    result = {**_SPEC_DEFAULTS, **spec}
    for name in _CONTAINER_LISTS:
        if name in spec:
            result[name] = [_container(each) for each in spec[name]]
    if "volumes" in spec:
        result["volumes"] = [_volume(each) for each in spec["volumes"]]
    return result


def with_requests(spec: Json) -> Json:
    """Limits stand for requests that are not given; in a Pod only, not in a template."""
    result = dict(spec)
    for name in _CONTAINER_LISTS:
        if name in spec:
            result[name] = [_requested(each) for each in spec[name]]
    return result


def _requested(container: Json) -> Json:
    resources = container.get("resources") or {}
    if "limits" not in resources:
        return container
    requests = {**resources["limits"], **resources.get("requests", {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _container(container: Json) -> Json:
    result = {"imagePullPolicy": _pull_policy(container), **_CONTAINER_DEFAULTS, **container}
    if "ports" in result:
        result["ports"] = [{"protocol": "TCP", **port} for port in result["ports"]]
    if "env" in result:
        result["env"] = [_variable(each) for each in result["env"]]
    for name in _PROBES:
        if name in result:
            result[name] = _probe(result[name])
    return result


def _pull_policy(container: Json) -> str:
    image = container.get("image") or ""
    tag = image.rpartition("/")[2].partition(":")[2]
    pinned = "@" in image or (tag and tag != "latest")
    return "IfNotPresent" if pinned else "Always"


def _variable(variable: Json) -> Json:
    source = dig(variable, "valueFrom", "fieldRef")
    if source is None:
        return variable
    field = {"fieldRef": {"apiVersion": "v1", **source}}
    return {**variable, "valueFrom": {**variable["valueFrom"], **field}}


def _probe(probe: Json) -> Json:
    result = {**_PROBE_DEFAULTS, **probe}
    if "httpGet" in result:
        result["httpGet"] = {"path": "/", "scheme": "HTTP", **result["httpGet"]}
    return result


def _volume(volume: Json) -> Json:
    if set(volume) == {"name"}:
        return {**volume, "emptyDir": {}}
    result = dict(volume)
    for source in _WITH_MODE:
        if source in result:
            result[source] = {"defaultMode": _FILE_MODE, **result[source]}
    if "hostPath" in result:
        result["hostPath"] = {"type": "", **result["hostPath"]}
    return result


def validate_spec(spec: Json, path: str) -> list[Cause]:
    """Everything is reported, in the order of the spec."""
    causes = list(_choices(spec, _CHOICES, path))
    for name, minimum in (("terminationGracePeriodSeconds", 0), ("activeDeadlineSeconds", 1)):
        value = spec.get(name)
        if value is not None and value < minimum:
            detail = f"must be greater than or equal to {minimum}"
            causes.append(invalid_value(f"{path}.{name}", value, detail))
    causes += _volumes(spec.get("volumes") or [], f"{path}.volumes")
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    causes += _all_containers(spec, path)
    return causes


def _choices(obj: Json, choices: dict[str, tuple[str, ...]], path: str) -> Iterator[Cause]:
    for name, allowed in choices.items():
        if name in obj and obj[name] not in allowed:
            yield not_supported(f"{path}.{name}", obj[name], allowed)


def _volumes(volumes: list[Json], path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        yield from _name(volume.get("name"), seen, here)
        sources = sorted(set(volume) - {"name"})
        for extra in sources[1:]:
            yield forbidden_field(f"{here}.{extra}", "may not specify more than 1 volume type")


def _name(name: str | None, seen: set[str], path: str) -> Iterator[Cause]:
    if not name:
        yield required(f"{path}.name")
    elif name in seen:
        yield duplicate(f"{path}.name", name)
    elif problem := metadata.label(name):
        yield invalid_value(f"{path}.name", name, problem)
    seen.add(name or "")


def _all_containers(spec: Json, path: str) -> Iterator[Cause]:
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for name in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(name) or ()):
            here = f"{path}.{name}[{index}]"
            yield from _name(container.get("name"), seen, here)
            yield from _one_container(container, volumes, here)
            policy = container.get("restartPolicy")
            if name == "initContainers" and policy not in (None, "Always", "Never", "OnFailure"):
                yield not_supported(
                    f"{here}.restartPolicy", policy, ("Always", "Never", "OnFailure")
                )


def _one_container(container: Json, volumes: set[Any], path: str) -> Iterator[Cause]:
    if not container.get("image"):
        yield required(f"{path}.image")
    elif container["image"] != container["image"].strip():
        detail = "must not have leading or trailing whitespace"
        yield invalid_value(f"{path}.image", container["image"], detail)
    yield from _choices(container, _CONTAINER_CHOICES, path)
    for index, variable in enumerate(container.get("env") or ()):
        yield from _environment(variable, f"{path}.env[{index}]")
    yield from _mounts(container.get("volumeMounts") or [], volumes, f"{path}.volumeMounts")
    yield from _ports(container.get("ports") or [], f"{path}.ports")
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


def _environment(variable: Json, path: str) -> Iterator[Cause]:
    if not variable.get("name"):
        yield required(f"{path}.name")
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        detail = "may not be specified when `value` is not empty"
        yield invalid_value(f"{path}.valueFrom", "", detail)
    if len(source) != 1:
        detail = (
            "must specify exactly one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` "
            "or `secretKeyRef`"
        )
        yield invalid_value(f"{path}.valueFrom", "", detail)


def _mounts(mounts: list[Json], volumes: set[Any], path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        if not mount.get("name"):
            yield required(f"{here}.name")
        elif mount["name"] not in volumes:
            yield reference_missing(f"{here}.name", mount["name"])
        target = mount.get("mountPath")
        if not target:
            yield required(f"{here}.mountPath")
        elif target in seen:
            yield invalid_value(f"{here}.mountPath", target, "must be unique")
        seen.add(target or "")


def _ports(ports: list[Json], path: str) -> Iterator[Cause]:
    for index, port in enumerate(ports):
        number = port.get("containerPort", 0)
        if not 1 <= number <= 65535:
            detail = "must be between 1 and 65535, inclusive"
            yield invalid_value(f"{path}[{index}].containerPort", number, detail)


def _resources(resources: Json, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for words, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            yield from _amount(name, amount, f"{path}.{words}")
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is None:
            if is_extended(name):
                yield required(
                    f"{path}.limits", f"Limit must be set for non overcommitable resources: {name}"
                )
            continue
        asked, allowed = quantity.parse(amount), quantity.parse(limit)
        if is_extended(name) and asked != allowed:
            detail = f"must be equal to {name} limit of {limit}"
            yield invalid_value(f"{path}.requests", amount, detail)
        elif asked > allowed:
            detail = f"must be less than or equal to {name} limit of {limit}"
            yield invalid_value(f"{path}.requests", amount, detail)


def _amount(name: str, amount: str, path: str) -> Iterator[Cause]:
    value = quantity.parse(amount)
    if value < 0:
        yield invalid_value(f"{path}[{name}]", amount, "must be greater than or equal to 0")
    if is_extended(name) and value.denominator != 1:
        yield invalid_value(f"{path}[{name}]", amount, "must be an integer")
    if "/" not in name and not name.startswith("hugepages-") and name not in _STANDARD:
        detail = "must be a standard resource type or fully qualified"
        yield invalid_value(f"{path}[{name}]", name, detail)


def is_extended(name: str) -> bool:
    """A device such as nvidia.com/gpu: whole numbers, never overcommitted."""
    return "/" in name and not name.startswith("kubernetes.io/")


def quality_of_service(spec: Json) -> str:
    containers = [*spec.get("containers", ()), *spec.get("initContainers", ())]
    amounts = [
        (_positive(container, "requests"), _positive(container, "limits"))
        for container in containers
    ]
    if not any(requests or limits for requests, limits in amounts):
        return "BestEffort"
    if all(set(limits) == {"cpu", "memory"} and requests == limits for requests, limits in amounts):
        return "Guaranteed"
    return "Burstable"


def _positive(container: Json, which: str) -> dict[str, Fraction]:
    amounts = dig(container, "resources", which) or {}
    parsed = {name: quantity.parse(amounts[name]) for name in ("cpu", "memory") if name in amounts}
    return {name: amount for name, amount in parsed.items() if amount}


def containers(spec: Json) -> Sequence[Json]:
    return spec.get("containers") or ()
