"""The Job controller: makes a Job's pod, and says how the Job ended."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.mirror import Kind
from support.simulation.scenario import NAMESPACE

if TYPE_CHECKING:
    from support.simulation.world import World

BATCH_S = 1.0


@dataclass
class JobController:
    """Level-triggered, as the real one: it looks at a Job and its pod whenever either changes.

    Attributes:
        made: Jobs that have a pod, or had one: by UID.
        refused: why a Job may not have a pod yet, by name.
    """

    world: "World"
    made: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)

    def happened(self, kind: Kind, obj: Object, event: str) -> None:
        name = obj["metadata"]["name"]
        if kind is Kind.JOB and event == "ADDED":
            delay = float(self.world.rng.uniform(0.2, 2.0))
            if self.world.chance(self.world.scenario.forbidden):
                self.refused[name] = f'pods "{name}-pod" is forbidden: exceeded quota: pods'
                delay += float(self.world.rng.uniform(20, 120))
            self.world.later(delay, lambda: self._sync(name))
        elif kind is Kind.JOB and event == "MODIFIED":
            self.world.later(BATCH_S, lambda: self._sync(name))
            self._expire(obj)
        elif kind is Kind.POD and event != "ADDED":
            for owner in obj["metadata"].get("ownerReferences") or ():
                self.world.later(BATCH_S, lambda owner=owner["name"]: self._sync(owner))

    def pod_of(self, job: Object) -> Object | None:
        pod = self.world.api.objects[Kind.POD].get(f"{job['metadata']['name']}-pod")
        uid = job["metadata"]["uid"]
        owners = pod["metadata"].get("ownerReferences") or () if pod else ()
        mine = any(owner["uid"] == uid for owner in owners)
        return pod if mine else None

    def _sync(self, name: str) -> None:
        job = self.world.api.objects[Kind.JOB].get(name)
        if job is None or _conditions(job) & {"Complete", "Failed"}:
            return
        pod, uid = self.pod_of(job), job["metadata"]["uid"]
        if "FailureTarget" in _conditions(job):  # it makes no other pod, and waits for this one
            if pod is None or pod["status"]["phase"] in ("Succeeded", "Failed"):
                self._say(name, "FailureTarget", "Failed")
        elif job["spec"].get("suspend"):
            if pod:
                self.world.api.delete(Kind.POD, pod["metadata"]["name"])
            self.made.discard(uid)
        elif pod is None and uid not in self.made:
            self._make_pod(job)
        elif pod is None:
            self._say(name, "FailureTarget", "Failed")
        elif pod["status"]["phase"] == "Succeeded":
            self._say(name, "SuccessCriteriaMet", "Complete")
        elif pod["status"]["phase"] == "Failed":
            self._say(name, "FailureTarget", "Failed")
        elif pod["metadata"].get("deletionTimestamp"):
            self._say(name, "FailureTarget")

    def _say(self, name: str, *kinds: str) -> None:
        conditions = [{"type": kind, "status": "True", "reason": kinds[0]} for kind in kinds]
        self.world.api.edit(Kind.JOB, name, {"status": {"conditions": conditions}})

    def _expire(self, job: Object) -> None:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        ttl_s = job["spec"].get("ttlSecondsAfterFinished")
        if ttl_s is None or not _conditions(job) & {"Complete", "Failed"}:
            return

        def expire() -> None:
            now = self.world.api.objects[Kind.JOB].get(name)
            if now and now["metadata"]["uid"] == uid:
                self.world.api.delete(Kind.JOB, name)

        self.world.later(ttl_s + 0.2, expire)

    def _make_pod(self, job: Object) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        if f"{name}-pod" in self.world.api.objects[Kind.POD]:
            self.world.later(BATCH_S, lambda: self._sync(name))  # of a Job of that name before
            return
        self.made.add(job["metadata"]["uid"])
        self.refused.pop(name, None)
        metadata = {
            "name": f"{name}-pod",
            "namespace": NAMESPACE,
            "labels": {**(template["metadata"].get("labels") or {}), names.JOB_LABEL: name},
            "ownerReferences": [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}],
        }
        pod = {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.world.api.create(Kind.POD, pod)


def _conditions(job: Object) -> set[str]:
    return {c["type"] for c in (job.get("status") or {}).get("conditions") or ()}
