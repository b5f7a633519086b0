"""Gives pending pods a node: the most important first, then the oldest, wherever they fit.

Looks at resources, node selectors, readiness and claims. Left out, and documented for users:
affinity, taints other than "not ready", topology spread, preemption and dynamic resources.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from primo_local.apiserver.clock import timestamp, utc_now
from primo_local.client import (
    PODS,
    STRATEGIC_PATCH,
    ApiError,
    Client,
    ClientError,
    Obj,
    key_of,
)
from primo_local.controllers.events import Recorder
from primo_local.controllers.informer import Informer
from primo_local.controllers.resources import (
    Amounts,
    left_on,
    occupies,
    requests_of_pod,
)

log = logging.getLogger(__name__)

NAME = "default-scheduler"
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Bind:
    pod: Obj
    node: str


@dataclass(frozen=True, slots=True)
class Unschedulable:
    pod: Obj
    message: str


Decision = Bind | Unschedulable


def decide(pods: Sequence[Obj], nodes: Sequence[Obj], claims: Sequence[Obj]) -> list[Decision]:
    """Where each pending pod goes, or why nowhere; pure.

    A pod that does not fit never holds up a smaller one behind it.
    """
    left = {
        node["metadata"]["name"]: left_on(node, _pods_on(node["metadata"]["name"], pods))
        for node in nodes
    }
    known_claims = {key_of(claim): claim for claim in claims}
    decisions: list[Decision] = []
    for pod in in_order(filter(is_pending, pods)):
        wanted = requests_of_pod(pod)
        problems = {
            node["metadata"]["name"]: why_not(pod, wanted, node, left[node["metadata"]["name"]])
            for node in nodes
        }
        fitting = [name for name, reasons in problems.items() if not reasons]
        if missing := _missing_claim(pod, known_claims):
            decisions.append(Unschedulable(pod, f"0/{len(nodes)} nodes are available: {missing}"))
        elif fitting:
            node_name = fitting[0]
            for name, amount in wanted.items():
                left[node_name][name] = left[node_name].get(name, Fraction(0)) - amount
            decisions.append(Bind(pod, node_name))
        else:
            decisions.append(Unschedulable(pod, _explain(list(problems.values()))))
    return decisions


def is_pending(pod: Obj) -> bool:
    """Waiting for us: no node, not going away, not for another scheduler, not gated."""
    spec = pod["spec"]
    return not (
        spec.get("nodeName")
        or pod["metadata"].get("deletionTimestamp")
        or spec.get("schedulingGates")
        or spec.get("schedulerName", NAME) != NAME
        or not occupies(pod)
    )


def in_order(pods: Iterable[Obj]) -> list[Obj]:
    """Pods of one second, which is all that timestamps tell, keep the order they are given in."""
    return sorted(
        pods,
        key=lambda pod: (
            -int(pod["spec"].get("priority") or 0),
            str(pod["metadata"]["creationTimestamp"]),
        ),
    )


def why_not(pod: Obj, wanted: Amounts, node: Obj, left: Amounts) -> list[str]:
    """What keeps a pod off a node, in the scheduler's words; nothing if it fits."""
    conditions = (node.get("status") or {}).get("conditions") or []
    if node["spec"].get("unschedulable"):
        return ["node(s) were unschedulable"]
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        return ["node(s) had untolerated taint(s)"]  # a node that is not ready is tainted so
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(name) != value for name, value in selector.items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    lacking = [name for name, amount in wanted.items() if amount > left.get(name, Fraction(0))]
    return ["Too many pods" if name == "pods" else f"Insufficient {name}" for name in lacking]


def _pods_on(node_name: str, pods: Iterable[Obj]) -> list[Obj]:
    return [pod for pod in pods if pod["spec"].get("nodeName") == node_name and occupies(pod)]


def _missing_claim(pod: Obj, claims: dict[tuple[str, str], Obj]) -> str:
    for volume in pod["spec"].get("volumes") or []:
        source = volume.get("persistentVolumeClaim")
        if not source:
            continue
        name = source["claimName"]
        claim = claims.get((pod["metadata"]["namespace"], name))
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found.'
        if claim["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{name}" is being deleted.'
        if (claim.get("status") or {}).get("phase") != "Bound":
            return "pod has unbound immediate PersistentVolumeClaims."
    return ""


def _explain(problems: Sequence[list[str]]) -> str:
    if not problems:
        return "no nodes available to schedule pods"
    counted = Counter(reason for reasons in problems for reason in reasons)
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
    return f"0/{len(problems)} nodes are available: {listed}."


class Scheduler:
    """Decides again whenever something changes that could matter."""

    def __init__(
        self, client: Client, pods: Informer, nodes: Informer, claims: Informer, recorder: Recorder
    ) -> None:
        self._client = client
        self._pods = pods
        self._nodes = nodes
        self._claims = claims
        self._recorder = recorder
        self._bound: dict[str, str] = {}  # uid -> node, until the cache shows it
        self._changed = asyncio.Event()
        for informer in (pods, nodes, claims):
            informer.on_change(lambda *_: self._changed.set())

    async def run(self) -> None:
        for informer in (self._pods, self._nodes, self._claims):
            await informer.synced.wait()
        while True:
            self._changed.clear()
            try:
                await self._pass()
            except ClientError as error:
                log.warning("scheduling interrupted", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)
                continue
            await self._changed.wait()

    async def _pass(self) -> None:
        for decision in decide(self._view(), list(self._nodes), list(self._claims)):
            if isinstance(decision, Bind):
                await self._bind(decision)
            else:
                await self._refuse(decision)

    def _view(self) -> list[Obj]:
        """The pods, with the nodes that we gave them a moment ago."""
        seen = []
        open_bindings: dict[str, str] = {}
        for pod in self._pods:
            uid = pod["metadata"]["uid"]
            if uid in self._bound and not pod["spec"].get("nodeName"):
                open_bindings[uid] = self._bound[uid]
                pod = {**pod, "spec": {**pod["spec"], "nodeName": self._bound[uid]}}
            seen.append(pod)
        self._bound = open_bindings
        return seen

    async def _bind(self, decision: Bind) -> None:
        namespace, name = key_of(decision.pod)
        uid = decision.pod["metadata"]["uid"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": decision.node},
        }
        try:
            await self._client.create(PODS, namespace, binding, name, "binding")
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or bound by someone else: fine
                raise
            return
        self._bound[uid] = decision.node
        words = f"Successfully assigned {namespace}/{name} to {decision.node}"
        self._recorder.record(decision.pod, "Normal", "Scheduled", words)

    async def _refuse(self, decision: Unschedulable) -> None:
        pod = decision.pod
        conditions = (pod.get("status") or {}).get("conditions") or []
        said = next((c for c in conditions if c["type"] == "PodScheduled"), None)
        if said and (said["status"], said.get("message")) == ("False", decision.message):
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": decision.message,
            "lastProbeTime": None,
            "lastTransitionTime": (
                said["lastTransitionTime"]
                if said and said["status"] == "False"
                else timestamp(utc_now())
            ),
        }
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(PODS, key_of(pod), body, "status", STRATEGIC_PATCH)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return
        self._recorder.record(pod, "Warning", "FailedScheduling", decision.message)
