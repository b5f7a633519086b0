"""Objects of others in the way of a study."""

from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from primo_operator import names
from support.cluster import Operator, study
from support.kube import Kube as Wire
from support.kubectl import kubectl
from support.waiting import eventually

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


def test_a_forged_status_and_a_forged_study_lead_to_nobody_elses_objects(
    kube: Kube, operator: Operator, local_cluster: LocalCluster
) -> None:
    wire = Wire(local_cluster.kubeconfig)
    other = JOBS.replace("default", "kube-public")
    assert wire("POST", JOBS, _job("theirs"))[0] == 201
    assert wire("POST", other, _job("theirs"))[0] == 201
    kube.apply(stray("../primostudies/forged", "stray-one"), "default")
    kube.apply(stray("forged,primo.dev/x=y", "stray-two"), "default")
    parameters = [{"name": "x", "float": {"min": 0, "max": 1}}]
    given = study("forged", parameters=parameters, parallelism=1, budget={"trials": 1})
    (container,) = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "MODE", "value": "slow"}]
    kube.apply(given, "default")

    def running() -> bool:
        trials = kube.trials("forged", "default")
        return any((t.get("status") or {}).get("phase") == "Running" for t in trials)

    eventually(running, "the trial runs")
    operator.stop()
    (trial,) = kube.trials("forged", "default")
    name = trial["metadata"]["name"]
    path = f"/apis/primo.dev/v1alpha1/namespaces/default/primotrials/{name}"
    runs = [
        {**run, "job": job, "attempt": attempt}
        for run in trial["status"]["runs"]
        for attempt, job in enumerate(["theirs", "../../kube-public/jobs/theirs"])
    ]
    code, said = wire("PATCH", f"{path}/status", {"status": {"runs": runs}}, "merge-patch+json")
    assert code == 200, said
    kubectl(local_cluster.kubeconfig, "annotate", "primotrial", name, "primo.dev/stop=true")
    operator.restart()

    def stopped() -> bool:
        found = kube.get("PriMOTrial", name, "default") or {}
        return (found.get("status") or {}).get("phase") == "Stopped"

    eventually(stopped, "it is stopped")
    for jobs in (JOBS, other):
        code, left = wire("GET", f"{jobs}/theirs")
        assert code == 200
        assert "deletionTimestamp" not in left["metadata"]
        wire("DELETE", f"{jobs}/theirs", {"propagationPolicy": "Background"})
    kubectl(local_cluster.kubeconfig, "delete", "primostudy", "forged")


def stray(of: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": "PriMOTrial",
        "metadata": {"name": name},
        "spec": {"study": of, "parameters": {"x": 0.5}},
    }
