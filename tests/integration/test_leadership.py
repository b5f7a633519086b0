"""Two operators on the local cluster: one works, the other waits, and takes over."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from support.cluster import Operator, study
from support.kubectl import kubectl
from support.waiting import eventually

pytestmark = pytest.mark.cluster
# Long enough for a leader that is starved of CPU to stay one.
SOON = {"PRIMO_LEASE_DURATION_S": "9", "PRIMO_LEASE_RENEW_S": "7", "PRIMO_LEASE_RETRY_S": "0.5"}
NEVER = {"PRIMO_LEASE_DURATION_S": "3600", "PRIMO_LEASE_RENEW_S": "60"}

Start = Callable[..., Operator]
Holder = Callable[[str], str | None]


@pytest.fixture
def start(local_cluster: LocalCluster, kube: Kube, tmp_path: Path) -> Iterator[Start]:
    started: list[Operator] = []

    def operator(identity: str, lease: str, timing: dict[str, str]) -> Operator:
        settings = {"PRIMO_LEASE_NAME": lease, "PRIMO_LEASE_IDENTITY": identity, **timing}
        log = tmp_path / f"{identity}.log"
        started.append(Operator(local_cluster.kubeconfig, log, **settings))
        return started[-1]

    yield operator
    for each in started:
        each.stop()


@pytest.fixture(scope="module")
def holder(local_cluster: LocalCluster) -> Holder:
    """Who holds a Lease."""
    path = str(local_cluster.kubeconfig)
    api = client.CoordinationV1Api(config.new_client_from_config(path))

    def find(lease: str) -> str | None:
        try:
            held = api.read_namespaced_lease(lease, "default")
        except client.ApiException as error:
            if error.status != 404:
                raise
            return None
        return str(held.spec.holder_identity)

    return find


def waits(tmp_path: Path, identity: str) -> None:
    log = tmp_path / f"{identity}.log"
    eventually(lambda: "leads" in log.read_text(), f"{identity} waits")


def observed(kube: Kube, name: str) -> int:
    return sum(
        bool((t.get("status") or {}).get("observations")) for t in kube.trials(name, "default")
    )


def check_all_ran_once(kube: Kube, name: str, trials: int) -> None:
    def completed() -> Any:
        found = kube.get("PriMOStudy", name, "default")
        return found and (found.get("status") or {}).get("phase") == "Completed"

    eventually(completed, f"{name} completes")
    found = kube.trials(name, "default")
    assert [t["spec"]["number"] for t in found] == list(range(trials))
    assert {t["status"]["phase"] for t in found} == {"Completed"}
    for trial in found:
        # One that was announced and never made is no attempt, or is lost if that is not known.
        made = [
            run
            for run in trial["status"]["runs"]
            if run.get("reason") not in ("Lost", "NotCreated")
        ]
        assert len(made) == len(trial["status"]["observations"]) == 1


def test_the_second_finishes_what_the_first_was_killed_over(
    kube: Kube, start: Start, holder: Holder, tmp_path: Path
) -> None:
    first = start("first", "kill", SOON)
    eventually(lambda: holder("kill") == "first", "the first leads")
    start("second", "kill", SOON)
    waits(tmp_path, "second")
    kube.apply(study("taken-over", budget={"trials": 8}), "default")
    eventually(lambda: observed(kube, "taken-over") >= 2, "two trials are observed")
    first.kill()
    assert holder("kill") == "first"
    check_all_ran_once(kube, "taken-over", 8)
    assert holder("kill") == "second"


def test_the_second_need_not_wait_for_a_first_that_was_told_to_stop(
    kube: Kube, start: Start, holder: Holder, tmp_path: Path
) -> None:
    first = start("first", "stop", NEVER)
    eventually(lambda: holder("stop") == "first", "the first leads")
    start("second", "stop", NEVER)
    waits(tmp_path, "second")
    kube.apply(study("handed-over", budget={"trials": 6}), "default")
    eventually(lambda: observed(kube, "handed-over") >= 1, "a trial is observed")
    first.stop()
    assert first.exit_code == 0
    check_all_ran_once(kube, "handed-over", 6)
    assert holder("stop") == "second"


def test_one_that_was_paused_ends_when_it_finds_the_other_at_work(
    kube: Kube, start: Start, holder: Holder, tmp_path: Path
) -> None:
    first = start("first", "pause", SOON)
    eventually(lambda: holder("pause") == "first", "the first leads")
    start("second", "pause", SOON)
    waits(tmp_path, "second")
    kube.apply(study("paused-over", budget={"trials": 20}), "default")
    eventually(lambda: observed(kube, "paused-over") >= 2, "two trials are observed")
    first.signal(signal.SIGSTOP)
    eventually(lambda: holder("pause") == "second", "the second takes over")
    first.signal(signal.SIGCONT)
    eventually(lambda: first.exit_code == 1, "the first ends")
    check_all_ran_once(kube, "paused-over", 20)


def test_one_that_has_lost_its_lease_ends_and_waits_when_it_is_started_again(
    kube: Kube, start: Start, holder: Holder, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    first = start("first", "lost", NEVER)
    eventually(lambda: holder("lost") == "first", "the first leads")
    kube.apply(study("goes-on", budget={"trials": 4}), "default")
    patch = '{"spec": {"holderIdentity": "somebody"}}'
    kubectl(local_cluster.kubeconfig, "patch", "lease", "lost", "--type=merge", "-p", patch)
    eventually(lambda: first.exit_code == 1, "the first ends")
    assert "somebody holds it" in (tmp_path / "first.log").read_text()
    first.restart()
    eventually(lambda: "somebody leads" in (tmp_path / "first.log").read_text(), "it waits")
    kubectl(local_cluster.kubeconfig, "delete", "lease", "lost")
    check_all_ran_once(kube, "goes-on", 4)
