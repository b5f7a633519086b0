"""The kubelets: pods start, run, report and end; some are evicted, and some nodes die."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.mirror import Kind
from primo_report.wire import Reduced, Summary, format_summary
from support.simulation.scenario import ViolationError, stamp

if TYPE_CHECKING:
    from support.simulation.world import World

GRACE_S = 5
DEAD_FOR_S = (60.0, 300.0)


@dataclass
class Kubelet:
    """All nodes' kubelets.

    Attributes:
        failing: whoever ends now fails.
        stuck: pods by UID whose node is dead: nobody there says that they are gone.
    """

    world: "World"
    failing: bool = False
    stuck: set[str] = field(default_factory=set)

    def happened(self, kind: Kind, obj: Object, event: str) -> None:
        if kind is Kind.POD and event == "ADDED":
            name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
            delay = float(self.world.rng.uniform(0.1, 3.0))
            self.world.later(delay, lambda: self._start(name, uid))

    def terminates(self, pod: Object) -> bool:
        """Tell a pod to stop. False if there is nothing to stop, and it is gone at once."""
        metadata = pod["metadata"]
        name, uid = metadata["name"], metadata["uid"]
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            return False
        if metadata.get("deletionTimestamp"):
            return True
        self._condemn(name, {})
        if uid not in self.stuck:
            grace = float(self.world.rng.uniform(0.1, GRACE_S))
            self.world.later(grace, lambda: self._kill(name, uid))
        return True

    def _pod(self, name: str, uid: str) -> Object | None:
        pod = self.world.api.objects[Kind.POD].get(name)
        return pod if pod and pod["metadata"]["uid"] == uid else None

    def _start(self, name: str, uid: str) -> None:
        pod = self._pod(name, uid)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return
        self._holds_alone(pod)
        running: dict[str, Any] = {"state": {"running": {}}}
        status = {
            "phase": "Running",
            "containerStatuses": [{"name": "train", **running}],
            "initContainerStatuses": [{"name": names.SIDECAR, **running}],
        }
        self.world.api.edit(Kind.POD, name, {"status": status})
        # 9 epochs take longer than 1, and no two runs equally long.
        delay = float(self.world.rng.uniform(1.0, 20.0))
        scenario = self.world.scenario
        if self.world.chance(scenario.disrupt):
            self.world.later(delay / 2, lambda: self._evict(name, uid))
        elif self.world.chance(scenario.node_dies):
            self.world.later(delay / 2, lambda: self._lose_node(name, uid))
        elif self.world.chance(scenario.preempt or 0.0):
            self.world.later(delay / 2, lambda: self.world.queue.preempt(name, uid))
        else:
            self.world.later(delay, lambda: self._finish(name, uid))

    def _holds_alone(self, pod: Object) -> None:
        """I12: two pods never write to one checkpoint directory.

        Of two operators that both work one may send late what the other has given up: that is what
        the Lease is for. And a pod that no watch and no list has shown is not waited for (0014).
        """
        trial, scenario = _trial_of(pod), self.world.scenario
        alone = scenario.lease or scenario.operators == 1
        if trial is None or trial in self.world.user.erased or not alone:
            return
        job = pod["metadata"]["name"].removesuffix("-pod")
        hidden = self.world.checker.made_blindly.get(job, ())
        for other in self.world.api.objects[Kind.POD].values():
            if other is pod or _trial_of(other) != trial or other["metadata"]["uid"] in hidden:
                continue
            states = (other["status"].get("containerStatuses") or [{}])[0].get("state") or {}
            if "running" in states and other["status"]["phase"] == "Running":
                message = (
                    f"I12: {pod['metadata']['name']} starts beside {other['metadata']['name']}"
                )
                raise ViolationError(message)

    def _condemn(self, name: str, status: Object) -> None:
        times = {
            "deletionTimestamp": stamp(self.world.now + GRACE_S),
            "deletionGracePeriodSeconds": GRACE_S,
        }
        self.world.api.edit(Kind.POD, name, {"metadata": times, "status": status})

    def _kill(self, name: str, uid: str) -> None:
        """Its containers have stopped, and it is gone."""
        pod = self._pod(name, uid)
        if pod is None or uid in self.stuck:
            return
        if pod["status"]["phase"] not in ("Succeeded", "Failed"):
            status = self._ended(pod, code=143, message="")
            self.world.api.edit(Kind.POD, name, {"status": status})
        self.world.api.delete(Kind.POD, name)

    def _evict(self, name: str, uid: str) -> None:
        if pod := self._pod(name, uid):
            self.world.api.edit(Kind.POD, name, {"status": _disrupted("EvictionByEvictionAPI")})
            self.terminates(self._pod(name, uid) or pod)

    def _lose_node(self, name: str, uid: str) -> None:
        """The pod is marked for deletion, and its kubelet never answers."""
        if not self._pod(name, uid):
            return
        self.stuck.add(uid)
        self.world.say(f"node of {name} dies")
        self._condemn(name, _disrupted("DeletionByTaintManager"))
        delay = float(self.world.rng.uniform(*DEAD_FOR_S))

        def collected() -> None:
            if self._pod(name, uid):
                self.world.api.remove(Kind.POD, name)

        self.world.later(delay, collected)

    def _finish(self, name: str, uid: str) -> None:
        pod = self._pod(name, uid)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return
        environment = _environment(pod)
        number = int(environment.get("PRIMO_TRIAL", 0))  # somebody else's says nothing
        scenario = self.world.scenario
        failed = self.failing or number % 5 == scenario.fails
        fidelity = float(environment.get("PRIMO_FIDELITY", 9))
        error = 1.0 / (1 + number % 7) / fidelity
        cost = float(1 + number % 7)
        metrics = {"val_error": Reduced(error, error, error, error)}
        if scenario.prometheus is None:
            metrics["kmacs"] = Reduced(*[cost] * 4)
        message = format_summary(Summary(seq=1, metrics=metrics), 4096, ["val_error"]).decode()
        status = self._ended(pod, code=1 if failed else 0, message=message)
        self.world.api.edit(Kind.POD, name, {"status": status})

    def _ended(self, pod: Object, *, code: int, message: str) -> Object:
        now = stamp(self.world.now)
        end = {"exitCode": code, "finishedAt": now, "reason": "Error" if code else "Completed"}
        ours = {"exitCode": 0, "finishedAt": now, "message": message}
        return {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "train", "state": {"terminated": end}}],
            "initContainerStatuses": [{"name": names.SIDECAR, "state": {"terminated": ours}}],
        }


def _disrupted(reason: str) -> Object:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]}


def _environment(pod: Object) -> dict[str, str]:
    given = pod["spec"]["containers"][0].get("env") or ()
    return {variable["name"]: variable["value"] for variable in given}


def _trial_of(pod: Object) -> str | None:
    """The object of its trial, by which its checkpoints lie."""
    job = pod["metadata"]["labels"][names.JOB_LABEL]
    return job.rpartition("-r")[0] if "PRIMO_TRIAL" in _environment(pod) else None
