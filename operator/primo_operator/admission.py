"""What admission has made of a Job that we asked for, as far as it may cost a run its result."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from primo_operator import names
from primo_operator.cluster import Object

# Its pods say how a run has ended: so long, at least, they must be there after its end.
READ_WITHIN_S = 300
_DECIDED = ("backoffLimit", "completions", "parallelism")
_POLICIES = ("podFailurePolicy", "successPolicy")
_OF_SIDECAR = ("command", "restartPolicy", "terminationMessagePath")
_NEEDED = frozenset({"PRIMO_PARAMS", "PRIMO_REPORT_FILE"})


def goes_too_early(made: Object) -> bool:
    """It is deleted so soon after its end that its pods may not have been read."""
    ttl_s = made["spec"].get("ttlSecondsAfterFinished")
    return ttl_s is not None and ttl_s < READ_WITHIN_S


def changes(asked: Object, made: Object) -> list[str]:
    """Each as `field is value, not value`."""
    return [*_of_job(asked["spec"], made["spec"]), *_of_pod(*map(_pod, (asked, made)))]


def _pod(job: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = job["spec"]["template"]["spec"]
    return found


def _of_job(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    yield from _differ("spec", asked, made, _DECIDED)
    yield from (f"spec.{field} is set" for field in _POLICIES if made.get(field))
    if goes_too_early({"spec": made}):
        yield f"spec.ttlSecondsAfterFinished is {made['ttlSecondsAfterFinished']}"


def _of_pod(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    yield from _differ("the pod's spec", asked, made, ("restartPolicy",))
    ours = _named(made.get("initContainers"))
    (sidecar,) = (c for c in asked["initContainers"] if c["name"] == names.SIDECAR)
    yield from _differ(names.SIDECAR, sidecar, ours.get(names.SIDECAR, {}), _OF_SIDECAR)
    theirs = _named(made["containers"])
    for container in asked["containers"]:
        found = theirs.get(container["name"], {})
        if lost := _NEEDED - {variable["name"] for variable in found.get("env") or ()}:
            yield f"container {container['name']} has no {', '.join(sorted(lost))}"


def _named(containers: Iterable[Mapping[str, Any]] | None) -> Mapping[str, Mapping[str, Any]]:
    return {container["name"]: container for container in containers or ()}


def _differ(
    at: str, asked: Mapping[str, Any], made: Mapping[str, Any], fields: Iterable[str]
) -> Iterator[str]:
    for field in fields:
        if made.get(field) != asked[field]:
            yield f"{at}.{field} is {made.get(field)!r}, not {asked[field]!r}"
