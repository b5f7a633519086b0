"""Each query of each dashboard has results where a real Prometheus has scraped a real study."""

import itertools
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_cli.prometheus import Targets
from primo_local.cluster import LocalCluster
from support.cluster import Operator, study
from support.dashboards import answer, targets
from support.prometheus import Exporter, Prometheus, free_port, needs_prometheus
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, needs_prometheus]

# Operator and sidecars as `primo run --prometheus` has them, but often; dcgm-exporter both ways
# that there are.
CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
- job_name: primo-operator
  honor_labels: true
  static_configs: [{{targets: ['127.0.0.1:{operator}']}}]
- job_name: primo-trials
  file_sd_configs: [{{files: ['{trials}'], refresh_interval: 1s}}]
- job_name: dcgm-exporter
  static_configs:
  - targets: ['127.0.0.1:{even}']
    labels: {{namespace: gpu-operator, pod: dcgm-exporter-x7k2p}}
- job_name: dcgm-exporter-honoured
  honor_labels: true
  static_configs: [{{targets: ['127.0.0.1:{odd}']}}]
"""
STUDY = {
    "parameters": [
        {"name": "x", "float": {"min": 0, "max": 1}},
        {"name": "kind", "categorical": {"choices": ["plain", "fancy"]}},
    ],
    "fidelity": {"name": "epochs", "min": 1, "max": 3},
    "priors": [{"objective": "error", "parameters": [{"name": "x", "center": 0.2}]}],
    "algorithm": {"name": "primo", "settings": {"initialDesign": 1.0}},
    "budget": {"trials": 6},
    "parallelism": 2,
}
VALUES = {
    "job": "primo-operator",
    "namespace": "default",
    "operator_namespace": ".*",
    "study": "shown",
    "objective_x": "cost",
    "objective_y": "error",
    "trial": ".*",
    "metric": "val_error",
    "__rate_interval": "4s",
}


class Gpus:
    """Made up for the trials that run, in the shape of dcgm-exporter."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self.pods: list[dict[str, Any]] = []

    def text(self, odd: bool) -> str:
        """Of the trials with odd numbers, or of the others."""
        age_s = time.monotonic() - self._begin
        lines = []
        for gpu, pod in enumerate(self.pods):
            labels = (
                f'{{gpu="{gpu}",UUID="GPU-{gpu}",device="nvidia{gpu}",modelName="synthetic",'
                f'Hostname="node",pod="{pod["metadata"]["name"]}",namespace="default",'
                'container="train"}'
            )
            if int(pod["metadata"]["labels"]["primo.dev/trial"]) % 2 == odd:
                lines += [
                    f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} {5e9 + age_s * 2e5:.0f}",
                    f"DCGM_FI_DEV_POWER_USAGE{labels} 200",
                    f"DCGM_FI_DEV_GPU_UTIL{labels} 80",
                    f"DCGM_FI_DEV_FB_USED{labels} 2048",
                ]
        return "".join(f"{line}\n" for line in lines)


def shown(seen: Path) -> dict[str, Any]:
    manifest = study("shown", **STUDY)
    (container,) = manifest["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    container["command"] = ["python", "dashboard_trial.py"]
    container["env"] = [{"name": "SEEN", "value": str(seen)}]
    return manifest


def numbers(series: Iterable[Any]) -> list[float]:
    """All that can be drawn."""
    samples = [s.get("values") or [s["value"]] for s in series]
    values = (float(value) for _, value in itertools.chain.from_iterable(samples))
    return [value for value in values if math.isfinite(value)]


def test_every_query_of_every_dashboard_has_results(
    kube: Kube, local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, since = free_port(), time.time()  # noqa: TID251
    monkeypatch.setenv("PRIMO_OPERATOR_METRICS_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("PRIMO_OPERATOR_METRICS_PORT", str(port))
    trials, gpus = Targets(tmp_path / "trials.json"), Gpus()
    even, odd = Exporter(lambda: gpus.text(odd=False)), Exporter(lambda: gpus.text(odd=True))
    config = CONFIG.format(
        operator=port, trials=tmp_path / "trials.json", even=even.port, odd=odd.port
    )
    server = Prometheus(tmp_path, config)
    operator = Operator(local_cluster.kubeconfig, tmp_path / "operator.log")
    seen = tmp_path / "seen"
    seen.mkdir()
    server.start()
    try:
        kube.apply(study("waits", suspend=True), "default")
        kube.apply(shown(seen), "default")

        def over() -> bool:
            trials.refresh(kube)
            pods = kube.pods("primo.dev/study=shown")
            gpus.pods = [pod for pod in pods if pod["status"].get("phase") == "Running"]
            for series in server.query("primo_report_step"):
                (seen / f"{series['metric']['trial']}-{series['value'][1]}").touch()
            ended = 'primo_study_phase{study="shown",phase="Completed"} == 1'
            return bool(server.query(ended))

        eventually(over, "the study ends, and Prometheus knows", 240.0)
        # A series may end with the next scrape, so we look more often than those come.
        whole = f"{math.ceil(time.time() - since) + 1}s"  # noqa: TID251
        values = {**VALUES, "__range": whole}
        found = {
            target: answer(server.url, target, values, since, step_s=0.2) for target in targets()
        }
        assert [str(target) for target, series in found.items() if not numbers(series)] == []
        assert [str(t) for t, series in found.items() if not all(map(t.names, series))] == []
        by_panel = {(t.dashboard, t.panel): series for t, series in found.items()}
        assert numbers(by_panel["operator", "Up"]) == [1.0], "of all that Prometheus scrapes"
        power = by_panel["study", "GPU power"]
        trials = {int(series["metric"]["trial"]) % 2 for series in power}
        assert trials == {0, 1}, "whichever labels dcgm-exporter has"
    finally:
        operator.stop()
        server.stop()
        even.stop()
        odd.stop()
