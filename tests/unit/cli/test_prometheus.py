"""Which Prometheus `primo run --prometheus` takes, and what it is told to scrape."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from primo_cli import prometheus
from primo_cli.__main__ import app
from primo_cli.kube import KubeError
from primo_cli.prometheus import PrometheusError, Targets, configuration, find_binary
from support.rules import RULES


def program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Prometheus; the folder is the checkout."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(prometheus, "_CHECKOUT", tmp_path)
    return tmp_path


def test_the_binary_given_goes_first_then_the_path_then_the_checkouts(nowhere: Path) -> None:
    fetched = program(nowhere / ".tools" / "usr" / "bin" / "prometheus")
    assert find_binary(None) == fetched
    on_path = program(nowhere / "bin" / "prometheus")
    assert find_binary(None) == on_path
    given = program(nowhere / "other" / "prometheus-3")
    assert find_binary(given) == given


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_binary_that_is_none_is_named(nowhere: Path, mode: int | None) -> None:
    given = nowhere / "prom"
    if mode:
        program(given, mode)
    program(nowhere / "bin" / "prometheus")
    with pytest.raises(PrometheusError, match=f"--prometheus-binary: {given} is not an executable"):
        find_binary(given)


def test_without_one_it_says_how_to_get_it(nowhere: Path) -> None:
    with pytest.raises(PrometheusError) as error:
        find_binary(None)
    for way in ("apt install prometheus", "make prometheus", "PRIMO_PROMETHEUS_BINARY"):
        assert way in str(error.value)


def test_another_clusters_context_has_no_prometheus_of_ours() -> None:
    done = CliRunner().invoke(app, ["run", "-f", "x.yaml", "--context", "c", "--prometheus"])
    assert done.exit_code == 2
    assert "--prometheus" in done.output


def test_the_rules_are_the_charts(tmp_path: Path) -> None:
    """`make chart` copies them: a wheel has no chart."""
    (file,) = configuration(9401, tmp_path)["rule_files"]
    assert Path(file).read_text() == RULES.read_text()


# --- targets


def pod(name: str, *, phase: str = "Running", restarts: int = 0, **annotations: str) -> Any:
    return {
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": name,
            "labels": {
                "primo.dev/study": "digits",
                "primo.dev/trial": "3",
                "batch.kubernetes.io/job-name": "digits-3-r0-a0",
            },
            "annotations": {f"prometheus.io/{key}": value for key, value in annotations.items()},
        },
        "status": {
            "phase": phase,
            "podIP": "127.0.0.1",
            "initContainerStatuses": [
                {"name": "primo-report", "restartCount": restarts, "state": {"running": {}}}
            ],
        },
    }


class FakeKube:
    """Pods, and what their sidecars have printed; a pod that is not in the logs has none yet."""

    def __init__(self, *pods: Any, **logs: str) -> None:
        self.there, self.logs, self.read = list(pods), logs, 0

    def pods(self, selector: str) -> list[Any]:
        labels = "app.kubernetes.io/component=trial,app.kubernetes.io/managed-by=primo-operator"
        assert selector == labels
        return self.there

    def log(self, namespace: str, pod: str, container: str) -> str:
        assert (namespace, container) == ("team", "primo-report")
        self.read += 1
        if pod not in self.logs:
            raise KubeError("container is waiting to start")
        return self.logs[pod]


def said(port: int) -> str:
    return f"INFO the report file does not exist\nINFO serving metrics on 127.0.0.1, port {port}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trials.json"


def addresses(file: Path) -> list[str]:
    return [address for target in json.loads(file.read_text()) for address in target["targets"]]


def test_a_sidecar_is_found_by_its_log_and_labelled_as_by_the_charts_monitor(file: Path) -> None:
    kube = FakeKube(pod("a"), a=said(4001))
    Targets(file).refresh(kube)  # type: ignore[arg-type]  # the two calls it makes
    (target,) = json.loads(file.read_text())
    assert target == {
        "targets": ["127.0.0.1:4001"],
        "labels": {
            "namespace": "team",
            "pod": "a",
            "container": "primo-report",
            "study": "digits",
            "trial": "3",
            "run": "digits-3-r0-a0",
        },
    }


def test_pods_come_and_go_and_sidecars_are_started_again(file: Path) -> None:
    targets, kube = Targets(file), FakeKube(pod("a"), pod("b"), pod("c", phase="Pending"))
    kube.logs = {"a": "INFO nothing yet\n"}
    targets.refresh(kube)  # type: ignore[arg-type]
    assert addresses(file) == []
    kube.logs = {"a": said(4001), "b": said(4002), "c": said(4003)}
    targets.refresh(kube)  # type: ignore[arg-type]
    assert addresses(file) == ["127.0.0.1:4001", "127.0.0.1:4002"]
    read = kube.read
    targets.refresh(kube)  # type: ignore[arg-type]
    assert kube.read == read, "a log is read until it has said the port"
    kube.there = [pod("a", restarts=1), pod("b", phase="Succeeded")]
    kube.logs["a"] += said(4011)
    targets.refresh(kube)  # type: ignore[arg-type]
    assert addresses(file) == ["127.0.0.1:4011"]


def test_what_a_pods_annotations_name_is_scraped_too(file: Path) -> None:
    kube = FakeKube(pod("a", scrape="true", port="8000", path="/stats"), pod("b", port="8001"))
    Targets(file).refresh(kube)  # type: ignore[arg-type]
    (target,) = json.loads(file.read_text())
    assert target["targets"] == ["127.0.0.1:8000"]
    assert target["labels"]["__metrics_path__"] == "/stats"
    assert "container" not in target["labels"]


def test_a_cluster_that_does_not_answer_takes_no_target_away(file: Path) -> None:
    targets, kube = Targets(file), FakeKube(pod("a"), a=said(4001))
    targets.refresh(kube)  # type: ignore[arg-type]

    def refuse(_: str) -> list[Any]:
        raise KubeError("away")

    kube.pods = refuse  # type: ignore[method-assign]
    targets.refresh(kube)  # type: ignore[arg-type]
    assert addresses(file) == ["127.0.0.1:4001"]
