"""The operator's release and studies of real pods, in namespaces that enforce `restricted`."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primo_operator import selftest
from support.apiserver import Wire
from support.chart import CHART, RELEASE, Helm
from support.waiting import eventually

Obj = dict[str, Any]

# A pod is scheduled, its containers start and end, all on a busy machine.
RUN_S = 120.0
NAMESPACES = "/api/v1/namespaces"

# A training of some seconds.
DISTANCE = """
import time
from primo_report import params, report
time.sleep(3)
report(step=1, distance=abs(params()["x"] - 0.3))
"""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace with studies."""

    wire: Wire
    name: str

    def path(self, kind: str, name: str = "") -> str:
        """Of pods, Jobs, Leases, studies or trials."""
        root = {
            "pods": "/api/v1",
            "jobs": "/apis/batch/v1",
            "leases": "/apis/coordination.k8s.io/v1",
        }.get(kind, "/apis/primo.dev/v1alpha1")
        return f"{root}/namespaces/{self.name}/{kind}" + (f"/{name}" if name else "")

    def start(self, study: Obj) -> None:
        self.wire.make(self.path("primostudies"), study, fieldValidation="Strict")

    def study(self, name: str) -> Obj:
        return self.wire.found(self.path("primostudies", name))

    def trials(self, study: str) -> list[Obj]:
        """By number."""
        found = self._of(study, "primotrials")
        return sorted(found, key=lambda trial: int(trial["spec"]["number"]))

    def condition(self, study: str, kind: str) -> Obj:
        """Empty if there is none."""
        conditions = self.study(study).get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["type"] == kind), {})

    def jobs(self, study: str) -> list[Obj]:
        return self._of(study, "jobs")

    def pods(self, study: str) -> list[Obj]:
        return self._of(study, "pods")

    def _of(self, study: str, kind: str) -> list[Obj]:
        selector = f"primo.dev/study={study}"
        items: list[Obj] = self.wire("GET", self.path(kind), labelSelector=selector)[1]["items"]
        return items

    def reporting(self, study: str) -> str:
        """Wait until its only pod has said `reported`; the pod's name."""
        eventually(
            lambda: any(self._said(pod) for pod in self.pods(study)), "it has reported", RUN_S
        )
        return next(pod["metadata"]["name"] for pod in self.pods(study) if self._said(pod))

    def _said(self, pod: Obj) -> bool:
        path = f"{self.path('pods', pod['metadata']['name'])}/log"
        return b"reported" in self.wire.raw("GET", path, container="trial").data

    def ended(self, study: str, timeout_s: float = RUN_S) -> Obj:
        """Wait until it has; the study."""

        def over() -> bool:
            phase = self.study(study).get("status", {}).get("phase")
            return phase in ("Completed", "Failed")

        eventually(over, f"{study} has ended", timeout_s)
        return self.study(study)

    def completed(self, study: str, trials: int, timeout_s: float = 2 * RUN_S) -> None:
        """Wait until it is, and see that no run was lost or ran twice, and each value is its own.

        What runs is DISTANCE.
        """
        ended = self.ended(study, timeout_s)
        assert ended["status"]["phase"] == "Completed", ended["status"]["conditions"]
        found = self.trials(study)
        assert [trial["spec"]["number"] for trial in found] == list(range(trials))
        # An operator that ends between the record of an attempt and its Job leaves one without.
        runs = [run for trial in found for run in trial["status"]["runs"]]
        ran = {run["job"] for run in runs if run["reason"] == "Completed"}
        assert {job["metadata"]["name"] for job in self.jobs(study)} == ran
        assert len(ran) == len(self.pods(study)) == trials
        for trial in found:
            (seen,) = trial["status"]["observations"]
            distance = abs(trial["spec"]["parameters"]["x"] - 0.3)
            assert abs(seen["values"]["distance"] - distance) < 1e-9


@dataclass(frozen=True, slots=True)
class Release:
    """The operator's release, in a namespace of its own.

    Attributes:
        registry: where the cluster finds our images.
    """

    helm: Helm
    kubeconfig: Path
    space: Space
    registry: str

    def __call__(self, verb: str, *arguments: str) -> str:
        """helm for the release; `install` and `upgrade` wait until its pods are ready."""
        where = ["--namespace", self.space.name, "--kubeconfig", str(self.kubeconfig)]
        chart: list[str] = []
        if verb in ("install", "upgrade"):
            # Kept definitions are of an earlier release in another namespace.
            wait = ["--wait", "--timeout=110s", "--take-ownership"]
            chart = [str(CHART), f"--set=imageRegistry={self.registry}", *wait]
        return self.helm(verb, RELEASE, *chart, *where, *arguments)

    def pods(self) -> list[str]:
        """The operator's, those that are about to end left out."""
        selector = "app.kubernetes.io/component=operator"
        _, found = self.space.wire("GET", self.space.path("pods"), labelSelector=selector)
        pods = (pod["metadata"] for pod in found["items"])
        return [pod["name"] for pod in pods if "deletionTimestamp" not in pod]

    def leader(self) -> str:
        """The pod that holds the Lease; empty if none of them does."""
        code, lease = self.space.wire("GET", self.space.path("leases", RELEASE))
        holder = lease["spec"].get("holderIdentity") or "" if code == 200 else ""
        return next((name for name in self.pods() if holder.startswith(name)), "")


@contextmanager
def restricted(wire: Wire, purpose: str) -> Iterator[Space]:
    """A new namespace; it is deleted at the end."""
    name = f"primo-test-{purpose}-{os.getpid()}-{next(_numbers)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    wire.make(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    try:
        yield Space(wire, name)
    finally:
        wire("DELETE", f"{NAMESPACES}/{name}")


def study(
    name: str,
    image: str,
    script: str,
    *,
    init: str = "",
    pod: Mapping[str, Any] | None = None,
    job: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Obj:
    """One trial that runs a script, after another one in an init container if there is one."""
    made = selftest.study(name, image)
    template = made["spec"]["trialTemplate"]["spec"]
    template.update(job or {})
    template["template"]["spec"] |= {"terminationGracePeriodSeconds": 5, **(pod or {})}
    (main,) = template["template"]["spec"]["containers"]
    if init:
        before = {**main, "name": "before", "command": ["python", "-c", init]}
        template["template"]["spec"]["initContainers"] = [before]
    main |= {"command": ["python", "-c", script], **(container or {})}
    made["spec"] |= {
        "budget": {"trials": 1},
        "parallelism": 1,
        "algorithm": {"name": "random"},
        **spec,
    }
    return made
