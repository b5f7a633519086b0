"""A right that the operator lacks is named, and nobody has to restart it when it is back."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from support.cluster import Operator, study
from support.rights import Authorizer, Right
from support.waiting import eventually

pytestmark = pytest.mark.cluster
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
RESOURCES = [
    ("primo.dev", "primostudies"),
    ("primo.dev", "primostudies/status"),
    ("primo.dev", "primotrials"),
    ("primo.dev", "primotrials/status"),
    ("batch", "jobs"),
    ("", "pods"),
    ("", "events"),
    ("coordination.k8s.io", "leases"),
]
LIST_STUDIES: Right = ("list", "primo.dev", "primostudies")
CREATE_TRIALS: Right = ("create", "primo.dev", "primotrials")


def status(kube: Kube, name: str) -> Any:
    return (kube.get("PriMOStudy", name, "default") or {}).get("status") or {}


def degraded(kube: Kube, name: str) -> Any:
    conditions = status(kube, name).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "Degraded"), {})


def test_the_operator_goes_on_when_it_gets_the_right_that_it_named(
    local_cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"
    all_rights = {((verb, *what), "") for verb, what in product(VERBS, RESOURCES)}
    with Authorizer(local_cluster.kubeconfig, tmp_path / "authorizer", all_rights) as authorizer:
        authorizer.take(LIST_STUDIES, CREATE_TRIALS)
        operator = Operator(authorizer.kubeconfig, log, PRIMO_LEASE_NAME="")
        try:
            eventually(lambda: "cannot list resource" in log.read_text(), "it is in the log")
            authorizer.give(LIST_STUDIES)
            kube.apply(study("lacking", budget={"trials": 2}), "default")
            eventually(lambda: degraded(kube, "lacking").get("status") == "True", "said")
            said = degraded(kube, "lacking")
            assert said["reason"] == "Forbidden"
            assert 'cannot create resource "primotrials"' in said["message"]
            authorizer.give(CREATE_TRIALS)
            eventually(lambda: status(kube, "lacking").get("phase") == "Completed", "completes")
            assert degraded(kube, "lacking")["status"] == "False"
            assert operator.exit_code is None
            assert "Traceback" not in log.read_text()
        finally:
            operator.stop()


def test_a_namespace_that_is_gone_with_its_rights_holds_up_no_other(
    local_cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"
    here = {((verb, *what), "default") for verb, what in product(VERBS, RESOURCES)}
    with Authorizer(local_cluster.kubeconfig, tmp_path / "authorizer", here) as authorizer:
        operator = Operator(authorizer.kubeconfig, log, also=["gone"])
        try:
            eventually(lambda: 'in the namespace \\"gone\\"' in log.read_text(), "it is in the log")
            kube.apply(study("neighbour", budget={"trials": 2}), "default")
            eventually(lambda: status(kube, "neighbour").get("phase") == "Completed", "completes")
            assert "gone" not in str(status(kube, "neighbour"))
        finally:
            operator.stop()
