"""Objectives from a real Prometheus: the guide's recipes, and a server that is away for a while."""

import asyncio
import itertools
import math
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from primo_operator.manifest_files import load_all
from primo_operator.mirror import Key
from primo_operator.prometheus import PrometheusMetrics
from primo_operator.settings import Settings
from primo_study.queries import Gap, Question, Reading, fill
from support.cluster import Operator, study
from support.kubectl import kubectl
from support.prometheus import (
    PROMTOOL,
    Exporter,
    Prometheus,
    free_port,
    needs_prometheus,
    scraping,
)
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, needs_prometheus]

GUIDE = Path(__file__).parents[2] / "docs" / "prometheus-objectives.md"
POD, NAMESPACE = "digits-00000001-3-r0-a0-x7k2p", "team"


# Over a range: a server that is stopped may still say that its series have ended.
LAST_POWER = "max(max_over_time(power_watts[5m]))"
AWAY: dict[str, Any] = {
    "objectives": [
        {"name": "error", "goal": "Minimize", "metric": "val_error"},
        {"name": "power", "goal": "Minimize", "prometheus": {"query": LAST_POWER}},
    ],
    "budget": {"trials": 1},
}


def recipes() -> dict[str, str]:
    """Objective -> query, of all blocks of the guide."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    fields = [field for block in blocks for field in load_all(block)]
    objectives = itertools.chain.from_iterable(field["objectives"] for field in fields)
    return {o["name"]: o["prometheus"]["query"] for o in objectives if "prometheus" in o}


class Gpus:
    """As dcgm-exporter shows them: two of the run's, at 200 and 100 W, and one of somebody else's.

    Memory peaks in the first scrape. Beside it a served model: of 100 requests a second 90 take
    less than 0.1 s, all less than 0.25 s. The run reports 120 samples a second.
    """

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.scrapes = 0

    def text(self) -> str:
        self.scrapes += 1
        age_s = time.monotonic() - self.begin
        lines = []
        for gpu, (pod, watts) in enumerate([(POD, 200), (POD, 100), ("another", 300)]):
            labels = (
                f'{{gpu="{gpu}",UUID="GPU-{gpu}",device="nvidia{gpu}",modelName="NVIDIA H100",'
                f'Hostname="node",pod="{pod}",namespace="{NAMESPACE}",container="train"}}'
            )
            used = 9216 if self.scrapes == 1 and gpu == 1 else 2048
            lines += [
                f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} {5e9 + age_s * watts * 1000:.0f}",
                f"DCGM_FI_DEV_POWER_USAGE{labels} {watts}",
                f"DCGM_FI_DEV_FB_USED{labels} {used if pod == POD else 65536}",
            ]
        for limit, share in (("0.1", 90), ("0.25", 100), ("+Inf", 100)):
            lines.append(f'request_duration_seconds_bucket{{le="{limit}"}} {age_s * share}')
        lines.append('primo_report_metric{metric="throughput"} 120')
        return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Its target's own labels are those of the run's pod, as for a served model."""
    exporter = Exporter(Gpus().text)
    folder = tmp_path_factory.mktemp("prometheus")
    server = Prometheus(folder, scraping(exporter.port, pod=POD, namespace=NAMESPACE))
    server.start()
    yield server
    server.stop()
    exporter.stop()


def ask(url: str, queries: dict[str, str], end: float) -> dict[str, Reading]:
    async def asked() -> dict[str, Reading]:
        told: asyncio.Future[dict[str, Reading]] = asyncio.get_running_loop().create_future()
        metrics = PrometheusMetrics(
            Settings(prometheus_url=url), lambda _, __, readings: told.set_result(dict(readings))
        )
        questions = [Question(name, query, end) for name, query in queries.items()]
        metrics.ask(Key(NAMESPACE, "digits"), "job", questions)
        try:
            return await told
        finally:
            await metrics.close()

    return asyncio.run(asked())


def now(prometheus: Prometheus) -> float:
    """When it scraped last."""
    return float(prometheus.query("timestamp(up)")[0]["value"][1])


def test_the_recipes_of_the_guide(prometheus: Prometheus) -> None:
    earliest = "min_over_time(timestamp(up)[10m:200ms])"
    found = eventually(lambda: prometheus.query(earliest), "a first scrape")
    first = float(found[0]["value"][1])

    def samples() -> int:
        found = prometheus.query('count_over_time(DCGM_FI_DEV_POWER_USAGE{gpu="0"}[10m])')
        return int(found[0]["value"][1])

    eventually(lambda: samples() >= 10 and now(prometheus) >= first + 3, "a run of some seconds")
    end = now(prometheus)
    start = end - math.floor(end - first) - 1  # a range is open at its start, since Prometheus 3
    queries = {
        name: fill(query, pod=POD, namespace=NAMESPACE, trial="3", start=start, end=end)
        for name, query in recipes().items()
    }
    readings = ask(prometheus.url, queries, end)
    assert readings.keys() == {"energy", "power", "memory", "latency", "throughput"}
    assert readings["energy"].value == pytest.approx(300 * (end - first), rel=0.1)
    assert readings["power"].value == pytest.approx(300)
    assert readings["memory"].value == pytest.approx(9.0)
    assert readings["latency"].value == pytest.approx(0.175)
    assert readings["throughput"].value == pytest.approx(120)


@pytest.mark.parametrize(
    ("query", "gap"),
    [
        ("none_such", Gap.NO_SERIES),
        ("up > 7", Gap.NO_SERIES),
        ("DCGM_FI_DEV_POWER_USAGE", Gap.SEVERAL_SERIES),
        ("up[1m]", Gap.WRONG_TYPE),
        ("'x'", Gap.WRONG_TYPE),
        ("sum(", Gap.BAD_QUERY),
        ("sum(up) / 0", Gap.NOT_FINITE),
        ("0 * sum(up) / 0", Gap.NOT_FINITE),
        ("scalar(sum(none_such))", Gap.NOT_FINITE),
        ("DCGM_FI_DEV_POWER_USAGE * on (namespace) DCGM_FI_DEV_FB_USED", Gap.REFUSED),
    ],
)
def test_what_is_no_value_is_a_gap(query: str, gap: Gap, prometheus: Prometheus) -> None:
    eventually(lambda: prometheus.query("up == 1"), "a first scrape")
    reading = ask(prometheus.url, {"x": query}, now(prometheus))["x"]
    assert (reading.value, reading.gap) == (None, gap)


def test_a_server_that_is_away_at_a_runs_end_and_comes_back(
    kube: Kube, local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No value is lost and none is made up, though the operator is killed meanwhile."""
    exporter = Exporter(lambda: "power_watts 250\n")
    server = Prometheus(tmp_path, scraping(exporter.port))
    monkeypatch.setenv("PRIMO_PROMETHEUS_URL", server.url)
    monkeypatch.setenv("PRIMO_PROMETHEUS_NAMESPACES", "default")
    monkeypatch.setenv("PRIMO_PROMETHEUS_SETTLE_S", "0")
    server.start()
    operator = Operator(local_cluster.kubeconfig, tmp_path / "operator.log")
    try:
        # A run's end is told in whole seconds: one that ends at once ended before the last scrape.
        eventually(lambda: server.query("power_watts offset 2s"), "a scrape, two seconds ago")
        server.stop()
        kube.apply(study("away", **AWAY), "default")

        def waits() -> bool:
            (trial,) = kube.trials("away", "default") or [{}]
            return bool(trial.get("status", {}).get("reason") == "PrometheusUnreachable")

        eventually(waits, "the trial says what it waits for")
        operator.kill()
        jobs = ("jobs", "--selector=primo.dev/study=away")
        kubectl(local_cluster.kubeconfig, "delete", *jobs)
        server.start()
        operator.restart()

        def status() -> dict[str, Any]:
            return dict((kube.get("PriMOStudy", "away", "default") or {})["status"])

        eventually(lambda: status()["phase"] == "Completed", "the study ends")
        (trial,) = kube.trials("away", "default")
        assert trial["status"]["reason"] == "Completed", trial["status"]
        (seen,) = trial["status"]["observations"]
        x = trial["spec"]["parameters"]["x"]
        assert seen["values"] == {"error": pytest.approx(x), "power": 250.0}
        assert [run["attempt"] for run in trial["status"]["runs"]] == [0]
    finally:
        operator.stop()
        server.stop()
        exporter.stop()


def test_a_study_says_at_once_that_its_administrator_allows_no_queries(
    kube: Kube, operator: Operator
) -> None:
    kube.apply(study("forbidden", **AWAY), "default")

    def conditions() -> dict[str, str]:
        found = kube.get("PriMOStudy", "forbidden", "default") or {}
        given = (found.get("status") or {}).get("conditions") or ()
        return {c["type"]: c["reason"] for c in given if c["status"] == "False"}

    eventually(lambda: conditions().get("MetricsAvailable") == "PrometheusNotEnabled", "it says so")
    assert conditions()["Running"] == "PrometheusNotEnabled"
    assert kube.trials("forbidden", "default") == []


def test_the_operators_own_metrics(
    kube: Kube, local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real Prometheus scrapes a real study; what is deleted is gone from the next scrape."""
    port = free_port()
    monkeypatch.setenv("PRIMO_OPERATOR_METRICS_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("PRIMO_OPERATOR_METRICS_PORT", str(port))
    server = Prometheus(tmp_path, scraping(port))
    operator = Operator(local_cluster.kubeconfig, tmp_path / "operator.log")
    server.start()
    try:
        kube.apply(study("watched", budget={"trials": 2}), "default")
        this = 'study="watched",namespace="default"'
        eventually(
            lambda: server.query(f'primo_study_phase{{{this},phase="Completed"}} == 1'), "it ends"
        )
        for query, count in (
            (f'primo_trial_objective_value{{{this},objective="error"}}', 2),
            (f"primo_trial_parameter{{{this}}}", 2),
            (f"primo_study_hypervolume{{{this}}} > 0", 1),
            (f"primo_suggestion_duration_seconds_count{{{this}}} > 0", 1),
            ('sum(primo_api_requests_total{verb="create",resource="jobs",code="201"}) >= 2', 1),
            ('primo_pass_duration_seconds_count{result="Done"} > 0', 1),
        ):
            assert len(server.query(query)) == count, query

        def scrape() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())

        assert PROMTOOL
        text = "".join(re.findall(r"^.*primo_.*\n", scrape(), re.MULTILINE))
        lint = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
        kubectl(local_cluster.kubeconfig, "delete", "primostudy", "watched")
        eventually(lambda: 'study="watched"' not in scrape(), "its series are gone")
    finally:
        operator.stop()
        server.stop()
