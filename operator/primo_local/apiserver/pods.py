"""What can be done to one pod beside editing it: bind it to a node, evict it."""

from primo_local.apiserver.api import Api, WriteOptions
from primo_local.apiserver.deletion import DeleteOptions, delete, parse_delete_options
from primo_local.apiserver.errors import bad_request, conflict
from primo_local.apiserver.objects import Json, Key, dig, is_deleting
from primo_local.apiserver.registry import Resource

_FINISHED = ("Succeeded", "Failed")


def bind(api: Api, pods: Resource, key: Key, binding: Json, options: WriteOptions) -> Json:
    """Give a pod its node, once; what a scheduler posts."""
    node = dig(binding, "target", "name")
    if not isinstance(node, str) or not node:
        raise bad_request("target.name: Required value: the node to bind the pod to")
    annotations = dig(binding, "metadata", "annotations") or {}

    def assign(pod: Json) -> Json:
        if is_deleting(pod):
            raise conflict(pods, key.name, f"pod {key.name} is being deleted, cannot be assigned")
        if pod["spec"].get("nodeName"):
            assigned = pod["spec"]["nodeName"]
            why = f'pod {key.name} is already assigned to node "{assigned}"'
            raise conflict(pods, key.name, why)
        fields = {**pod["metadata"]}
        if annotations:
            fields["annotations"] = {**fields.get("annotations", {}), **annotations}
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": api.now()}
        return {
            **pod,
            "metadata": fields,
            "spec": {**pod["spec"], "nodeName": node},
            "status": _with_condition(pod.get("status") or {}, scheduled),
        }

    # Straight to the store: a spec that is immutable to clients changes here.
    pod = assign(api.get(pods, key).obj)
    if not options.dry_run:
        api.store.put(pods.shelf, key, pod)
    return _success()


def evict(api: Api, pods: Resource, key: Key, eviction: Json) -> Json:
    """Delete a pod as `kubectl drain` does; there are no disruption budgets to ask."""
    options = parse_delete_options(eviction.get("deleteOptions") or {}, {})
    pod = api.get(pods, key).obj
    if dig(pod, "status", "phase") not in _FINISHED and not options.dry_run:
        disrupted = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": api.now(),
        }
        status = _with_condition(pod.get("status") or {}, disrupted)
        api.store.put(pods.shelf, key, {**pod, "status": status})
    delete(api, pods, key, _of_pod(options, pod))
    return _success()


def _of_pod(options: DeleteOptions, pod: Json) -> DeleteOptions:
    uid = options.uid or pod["metadata"]["uid"]
    return DeleteOptions(options.propagation, options.grace_period_s, uid, None, options.dry_run)


def _with_condition(status: Json, condition: Json) -> Json:
    others = [each for each in status.get("conditions", ()) if each["type"] != condition["type"]]
    return {**status, "conditions": [*others, condition]}


def _success() -> Json:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
