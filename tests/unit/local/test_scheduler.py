"""Which pod goes where, and what is said when none does."""

from typing import Any

import pytest

from primo_local.controllers.scheduler import Bind, Unschedulable, decide

Obj = dict[str, Any]
GPU = "nvidia.com/gpu"


def node(name: str = "n", *, ready: bool = True, **allocatable: str) -> Obj:
    given = {"cpu": "4", "memory": "8Gi", "pods": "110", GPU: "2"}
    given |= {key.replace("gpu", GPU): value for key, value in allocatable.items()}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": name, "labels": {"disk": "ssd"}},
        "spec": {},
        "status": {"allocatable": given, "conditions": [condition]},
    }


def pod(name: str = "p", *, on: str = "", phase: str = "Pending", **facts: Any) -> Obj:
    gpus = facts.pop("gpus", 0)
    created = facts.pop("created", "2026-01-01T00:00:00Z")
    requests = facts.pop("requests", {})
    limits = {GPU: str(gpus)} if gpus else {}
    container = {"name": "c", "resources": {"limits": limits, "requests": requests}}
    spec: Obj = {"containers": [container], **facts}
    if on:
        spec["nodeName"] = on
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": created},
        "spec": spec,
        "status": {"phase": phase},
    }


def outcome(pods: list[Obj], nodes: list[Obj], claims: list[Obj] | None = None) -> dict[str, str]:
    said = {}
    for decision in decide(pods, nodes, claims or []):
        name = decision.pod["metadata"]["name"]
        match decision:
            case Bind(_, chosen):
                said[name] = chosen
            case Unschedulable(_, message):
                said[name] = message
    return said


@pytest.mark.parametrize(
    ("spec", "nodes", "message"),
    [
        pytest.param(
            {"gpus": 3},
            [node()],
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
            id="more devices than there are",
        ),
        pytest.param(
            {"requests": {"cpu": "9", "memory": "9Gi"}},
            [node()],
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
            id="all that lacks is listed",
        ),
        pytest.param(
            {"requests": {"example.com/tpu": "1"}},
            [node("a"), node("b")],
            "0/2 nodes are available: 2 Insufficient example.com/tpu.",
            id="nodes are counted",
        ),
        pytest.param({}, [], "no nodes available to schedule pods", id="no nodes"),
        pytest.param(
            {},
            [node(ready=False)],
            "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
            id="not ready",
        ),
        pytest.param(
            {"nodeSelector": {"disk": "hdd"}},
            [node()],
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            id="another kind of node",
        ),
        pytest.param(
            {},
            [node(pods="0")],
            "0/1 nodes are available: 1 Too many pods.",
            id="no room for pods",
        ),
        pytest.param(
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "no"}}]},
            [node()],
            '0/1 nodes are available: persistentvolumeclaim "no" not found.',
            id="no such claim",
        ),
    ],
)
def test_a_pod_that_fits_nowhere_is_told_why(spec: Obj, nodes: list[Obj], message: str) -> None:
    assert outcome([pod(**spec)], nodes) == {"p": message}


def test_devices_are_given_out_until_there_are_none_left() -> None:
    pods = [pod(name, gpus=1) for name in ("a", "b", "c")]
    said = outcome(pods, [node()])
    assert (said["a"], said["b"]) == ("n", "n")
    assert said["c"].endswith("1 Insufficient nvidia.com/gpu.")


@pytest.mark.parametrize(
    ("phase", "fits"),
    [("Running", False), ("Pending", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_holds_its_devices_until_it_has_ended(phase: str, fits: bool) -> None:
    said = outcome([pod("old", on="n", phase=phase, gpus=2), pod("new", gpus=1)], [node()])
    assert (said["new"] == "n") == fits


def test_priority_goes_before_age_and_age_before_the_rest() -> None:
    pods = [
        pod("young", gpus=2, created="2026-01-01T00:00:02Z"),
        pod("old", gpus=2, created="2026-01-01T00:00:01Z"),
        pod("urgent", gpus=2, created="2026-01-01T00:00:03Z", priority=10),
    ]
    assert [name for name, said in outcome(pods, [node()]).items() if said == "n"] == ["urgent"]
    assert outcome(pods[:2], [node()])["old"] == "n"


def test_a_large_pod_in_front_does_not_hold_up_a_small_one() -> None:
    pods = [pod("large", gpus=5), pod("small", gpus=1, created="2026-01-02T00:00:00Z")]
    assert outcome(pods, [node()])["small"] == "n"


@pytest.mark.parametrize(
    "pending",
    [
        pytest.param(pod(on="n"), id="has a node"),
        pytest.param(pod(schedulerName="other"), id="another scheduler's"),
        pytest.param(pod(schedulingGates=[{"name": "g"}]), id="gated"),
        pytest.param(pod(phase="Failed"), id="ended"),
    ],
)
def test_other_pods_are_left_alone(pending: Obj) -> None:
    assert outcome([pending], [node()]) == {}


def test_sidecars_add_to_the_main_containers_and_init_containers_do_not() -> None:
    def asks(cpu: str, **facts: str) -> Obj:
        return {"name": f"c{cpu}", "resources": {"requests": {"cpu": cpu}}, **facts}

    inits = [asks("1", restartPolicy="Always"), asks("3")]
    pending = pod(initContainers=inits)
    pending["spec"]["containers"] = [asks("2")]
    assert outcome([pending], [node(cpu="4")]) == {"p": "n"}, "1 + max(3, 2)"
    assert "Insufficient cpu" in outcome([pending], [node(cpu="3900m")])["p"]


def test_a_claim_must_be_bound_first() -> None:
    waiting = pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    claim: Obj = {"metadata": {"name": "c", "namespace": "ns"}, "status": {"phase": "Pending"}}
    assert "unbound" in outcome([waiting], [node()], [claim])["p"]
    claim["status"]["phase"] = "Bound"
    assert outcome([waiting], [node()], [claim]) == {"p": "n"}
