"""A queue as Kueue's: Jobs start suspended, are admitted later, and may be sent back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from primo_operator.cluster import Object
from primo_operator.mirror import Kind

if TYPE_CHECKING:
    from support.simulation.world import World


@dataclass
class Queue:
    """There is one if the scenario says with which probability it preempts."""

    world: "World"
    preempted: int = 0

    def admission(self, job: Object) -> Object:
        """As the webhook changes a Job that is created."""
        if self.world.scenario.preempt is None:
            return job
        return {**job, "spec": {**job["spec"], "suspend": True}}

    def happened(self, kind: Kind, obj: Object, event: str) -> None:
        if kind is Kind.JOB and event == "ADDED" and obj["spec"].get("suspend"):
            self._admit_later(obj["metadata"]["name"], 0.2, 2.0)

    def preempt(self, pod_name: str, uid: str) -> None:
        """The Job will have another pod."""
        job, pod = pod_name.removesuffix("-pod"), self.world.api.objects[Kind.POD].get(pod_name)
        there = pod and pod["metadata"]["uid"] == uid and job in self.world.api.objects[Kind.JOB]
        if there:
            self.preempted += 1
            self.world.api.edit(Kind.JOB, job, {"spec": {"suspend": True}})
            self._admit_later(job, 1.0, 9.0)

    def _admit_later(self, job: str, low_s: float, high_s: float) -> None:
        self.world.later(float(self.world.rng.uniform(low_s, high_s)), lambda: self._admit(job))

    def _admit(self, job: str) -> None:
        if f"{job}-pod" in self.world.api.objects[Kind.POD]:
            self._admit_later(job, 1.0, 2.0)  # not before its pod is gone
        else:
            self.world.api.edit(Kind.JOB, job, {"spec": {"suspend": False}})
