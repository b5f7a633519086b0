"""Objects of others in the way of a study."""

from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from primo_operator import names
from support.cluster import Operator, eventually, study
from support.kube import Kube as Wire
from support.kubectl import kubectl

pytestmark = pytest.mark.cluster
JOBS = "/apis/batch/v1/namespaces/default/jobs"


def _job(name: str) -> dict[str, Any]:
    container = {"name": "theirs", "image": "none", "command": ["true"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    return {"metadata": {"name": name}, "spec": {"suspend": True, "template": {"spec": pod}}}


def test_a_job_of_a_trials_name_is_neither_adopted_nor_deleted(
    kube: Kube, operator: Operator, local_cluster: LocalCluster
) -> None:
    wire = Wire(local_cluster.kubeconfig)
    kube.apply(study("taken", budget={"trials": 1}, suspend=True), "default")
    found = kube.get("PriMOStudy", "taken", "default")
    assert found
    name = names.job(names.trial("taken", found["metadata"]["uid"], 0), 0, 0)
    code, theirs = wire("POST", JOBS, _job(name))
    assert code == 201, theirs
    kube.apply(study("taken", budget={"trials": 1}, suspend=False), "default")

    def told() -> bool:
        trials = kube.trials("taken", "default")
        return any((t.get("status") or {}).get("reason") == "NameTaken" for t in trials)

    eventually(told, "the trial says whose Job is in its way")
    kubectl(local_cluster.kubeconfig, "delete", "primostudy", "taken")
    eventually(lambda: not kube.trials("taken", "default"), "the trial is gone")
    code, left = wire("GET", f"{JOBS}/{name}")
    assert code == 200
    assert left["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert left["spec"] == theirs["spec"]
    wire("DELETE", f"{JOBS}/{name}", {"propagationPolicy": "Background"})
