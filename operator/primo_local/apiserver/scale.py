"""The scale subresource: autoscaling/v1 Scale as a view of fields of a custom resource."""

from primo_local.apiserver.crd import CustomStrategy, ScalePaths
from primo_local.apiserver.errors import bad_request, invalid, invalid_value, no_such_path
from primo_local.apiserver.jsonpath import find
from primo_local.apiserver.objects import Json, dig
from primo_local.apiserver.registry import Resource


def paths_of(resource: Resource) -> ScalePaths:
    strategy = resource.strategy
    if not isinstance(strategy, CustomStrategy) or strategy.scale is None:
        raise no_such_path()
    return strategy.scale


def scale_of(resource: Resource, obj: Json) -> Json:
    paths = paths_of(resource)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    fields = {name: obj["metadata"][name] for name in kept if name in obj["metadata"]}
    status: Json = {"replicas": _first(paths.status_replicas, obj) or 0}
    if paths.selector and (selector := _first(paths.selector, obj)):
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": fields,
        "spec": {"replicas": _first(paths.replicas, obj) or 0},
        "status": status,
    }


def scaled(resource: Resource, obj: Json, scale: Json) -> Json:
    """The object with a Scale's replicas; its resourceVersion stays a precondition."""
    replicas = dig(scale, "spec", "replicas")
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request(f"spec.replicas: {replicas!r} is not an integer")
    if replicas < 0:
        detail = "should be a non-negative integer"
        cause = invalid_value("spec.replicas", replicas, detail)
        raise invalid(resource, obj["metadata"]["name"], [cause])
    names = paths_of(resource).replicas.lstrip(".").split(".")
    changed = _with(obj, names, replicas)
    version = dig(scale, "metadata", "resourceVersion")
    if version:
        changed["metadata"] = {**changed["metadata"], "resourceVersion": version}
    return changed


def _with(obj: Json, names: list[str], value: int) -> Json:
    if len(names) == 1:
        return {**obj, names[0]: value}
    return {**obj, names[0]: _with(obj.get(names[0]) or {}, names[1:], value)}


def _first(path: str, obj: Json) -> int | str | None:
    found = find(path, obj)
    return found[0] if found else None
