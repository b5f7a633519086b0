"""Each end that a trial's pod can have, on a real kubelet, and what the trial says of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from primo_report.wire import newest
from support.real_cluster import RUN_S, Obj, Space, study
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

REPORTS = """
import os, pathlib, signal, sys, time
from primo_report import report
report(step=1, distance=0.5)
print("reported", flush=True)
"""
WAITS = "time.sleep(600)"
# Processes of all containers are seen with shareProcessNamespace.
KILLS_THE_SIDECAR = """
def sidecars():
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        if b"-m\\0primo_report" in (process / "cmdline").read_bytes():
            yield int(process.name)
(before,) = sidecars()
os.kill(before, signal.SIGKILL)
"""
AWAITS_ANOTHER = """
while not [one for one in sidecars() if one != before]:
    time.sleep(0.1)
"""
REPORTS_AGAIN = "report(step=2, distance=0.25)\n"
SHARED = {"pod": {"shareProcessNamespace": True}}
SCRATCH = {
    "pod": {"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]},
    "container": {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
}


@dataclass(frozen=True)
class End:
    """What the script does after a report of 0.5, and what the trial then says.

    Attributes:
        given: to `support.real_cluster.study`.
        value: observed; None if nothing was.
    """

    script: str
    reason: str
    message: str = ""
    value: float | None = None
    given: dict[str, Any] = field(default_factory=dict)


ENDS = {
    "it ends well": End("", "Completed", value=0.5),
    "it raises": End(
        "raise ValueError('a bad rate')", "Failed", r"exit code 1 \(Error\): .*a bad rate"
    ),
    "it ends with a code": End("sys.exit(3)", "Failed", r"exit code 3 \(Error\)"),
    "it is killed": End(
        "os.kill(os.getpid(), signal.SIGKILL)", "Failed", "exit code 137", given=SHARED
    ),
    "it takes too much memory": End("b'x' * 2**30", "OutOfMemory", "exceeded its memory limit"),
    "it takes too long": End(
        WAITS, "DeadlineExceeded", given={"job": {"activeDeadlineSeconds": 20}}
    ),
    "its pod takes too long": End(
        WAITS,
        "DeadlineExceeded",
        "active on the node longer than",
        given={"pod": {"activeDeadlineSeconds": 20}},
    ),
    "it takes too much storage": End(
        f"pathlib.Path('/scratch/x').write_bytes(b'x' * 2**22)\n{WAITS}",
        "Evicted",
        "scratch",
        given=SCRATCH,
    ),
    "its sidecar is killed": End(
        KILLS_THE_SIDECAR + AWAITS_ANOTHER + REPORTS_AGAIN, "Completed", value=0.25, given=SHARED
    ),
    "its sidecar is killed and it ends before there is another": End(
        KILLS_THE_SIDECAR + REPORTS_AGAIN, "Completed", value=0.25, given=SHARED
    ),
    "it ends well and reports nothing": End(
        "", "MetricsUnavailable", "nothing was reported", given={"silent": True}
    ),
    "what is to run before it fails": End(
        "",
        "Failed",
        r"init container before: exit code 1 \(Error\): .*no data",
        given={"silent": True, "init": "raise SystemExit('no data')"},
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_run_ends(space: Space, sidecar: str, end: End) -> None:
    given = dict(end.given)
    reports = "" if given.pop("silent", False) else REPORTS
    space.start(study("ends", sidecar, reports + end.script, **given))
    space.ended("ends")
    (trial,) = space.trials("ends")
    (run,) = trial["status"]["runs"]
    assert run["reason"] == end.reason, run
    assert re.search(end.message, run.get("message", ""), re.DOTALL), run
    seen = [each["values"]["distance"] for each in trial["status"].get("observations", ())]
    assert seen == ([] if end.value is None else [end.value])
    assert len(space.jobs("ends")) == 1
    if reports and end.reason != "Evicted":
        told = [newest(_messages(pod)) for pod in space.pods("ends")]
        assert [each and each.metrics["distance"].last for each in told] in ([], [end.value or 0.5])


def _messages(pod: Obj) -> list[str]:
    """The termination messages of all its containers, now and before."""
    status = pod["status"]
    containers = status["initContainerStatuses"] + status["containerStatuses"]
    states = [c.get(which) or {} for c in containers for which in ("state", "lastState")]
    ends = (state.get("terminated") or {} for state in states)
    return [end["message"] for end in ends if "message" in end]


# --- from outside

Disturb = Callable[[Space, str], object]


def _delete(space: Space, pod: str) -> object:
    return space.wire("DELETE", space.path("pods", pod))


def _delete_at_once(space: Space, pod: str) -> object:
    return space.wire("DELETE", space.path("pods", pod), {"gracePeriodSeconds": 0})


def _evict(space: Space, pod: str) -> object:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    return space.wire.make(f"{space.path('pods', pod)}/eviction", eviction)


def _delete_its_job(space: Space, pod: str) -> object:
    job = pod.rpartition("-")[0]
    return space.wire("DELETE", space.path("jobs", job), {"propagationPolicy": "Background"})


TAKEN = {
    "its pod is deleted": (WAITS, _delete, "deleted"),
    "its pod is deleted at once": (WAITS, _delete_at_once, "deleted|gone"),
    "its pod is evicted": (WAITS, _evict, "EvictionByEvictionAPI"),
    "its pod is evicted and it ends well": (
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n{WAITS}",
        _evict,
        "EvictionByEvictionAPI",
    ),
    "its Job is deleted": (WAITS, _delete_its_job, ""),
}


@pytest.mark.parametrize(("script", "disturb", "message"), TAKEN.values(), ids=TAKEN.keys())
def test_a_run_that_is_taken_away_is_lost_and_repeated(
    space: Space, sidecar: str, script: str, disturb: Disturb, message: str
) -> None:
    """The second attempt goes on where the first one waits."""
    first = "if '-a0-' in os.uname().nodename:\n" + "".join(
        f"    {line}\n" for line in script.splitlines()
    )
    end = "report(step=2, distance=0.25)"
    space.start(study("taken", sidecar, REPORTS + first + end, retries={"infrastructure": 1}))
    disturb(space, space.reporting("taken"))
    assert space.ended("taken")["status"]["phase"] == "Completed"
    (trial,) = space.trials("taken")
    lost, repeated = trial["status"]["runs"]
    assert lost["reason"] == "Lost"
    assert re.search(message, lost["message"]), lost
    assert (repeated["attempt"], repeated["reason"]) == (1, "Completed")
    assert [each["values"] for each in trial["status"]["observations"]] == [{"distance": 0.25}]


def test_a_run_that_a_queue_takes_back_waits_and_goes_on_in_the_same_job(
    space: Space, sidecar: str
) -> None:
    """As Kueue does it: the Job is suspended, and later resumed with a new pod."""
    space.start(study("queued", sidecar, REPORTS + WAITS))
    pod = space.reporting("queued")
    (job,) = space.jobs("queued")
    path = space.path("jobs", job["metadata"]["name"])
    space.wire.change(path, {"spec": {"suspend": True}})
    eventually(lambda: not space.pods("queued"), "its pod is gone", RUN_S)
    (trial,) = space.trials("queued")
    assert (trial["status"]["phase"], trial["status"]["reason"]) == ("Queued", "Suspended")
    space.wire.change(path, {"spec": {"suspend": False}})
    assert space.reporting("queued") != pod
    eventually(lambda: space.trials("queued")[0]["status"]["phase"] == "Running", "it runs", RUN_S)
    assert len(space.trials("queued")[0]["status"]["runs"]) == 1


# --- what never starts


def _no_image(reason: str) -> dict[str, Any]:
    image = "localhost/primo-test-no-such-image:1"
    policy = "Never" if reason == "ErrImageNeverPull" else "IfNotPresent"
    return {"container": {"image": image, "imagePullPolicy": policy}}


MISSING = {"valueFrom": {"configMapKeyRef": {"name": "none", "key": "none"}}}
STUCK: dict[str, dict[str, Any]] = {
    "ErrImageNeverPull": _no_image("ErrImageNeverPull"),
    "ErrImagePull|ImagePullBackOff": _no_image("ErrImagePull"),
    "CreateContainerConfigError": {"container": {"env": [{"name": "X", **MISSING}]}},
    "Unschedulable": {"pod": {"nodeSelector": {"primo.dev/no-such-node": "x"}}},
}


@pytest.mark.parametrize(("reason", "given"), STUCK.items(), ids=STUCK.keys())
def test_a_run_that_cannot_start_says_why_and_can_be_stopped(
    space: Space, sidecar: str, reason: str, given: dict[str, Any]
) -> None:
    space.start(study("stuck", sidecar, REPORTS, **given))

    def said() -> bool:
        reasons = [t.get("status", {}).get("reason") or "" for t in space.trials("stuck")]
        return len(reasons) == 1 and bool(re.fullmatch(reason, reasons[0]))

    eventually(said, f"the trial says {reason}", RUN_S)
    assert space.trials("stuck")[0]["status"]["phase"] == "Queued"
    space.wire.change(space.path("primostudies", "stuck"), {"spec": {"suspend": True}})
    eventually(lambda: not space.pods("stuck"), "its pod is gone", RUN_S)
