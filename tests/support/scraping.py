"""A Prometheus that scrapes a local cluster as the chart's monitors would have it."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.dashboards import Target, filled
from support.kubectl import kubectl
from support.prometheus import Prometheus

# Sidecars get the labels of their trial; the operator's own are honoured.
CONFIG = """\
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
- job_name: primo-operator-metrics
  honor_labels: true
  static_configs: [{{targets: ['127.0.0.1:{operator}']}}]
- job_name: trials
  file_sd_configs: [{{files: ['{sidecars}'], refresh_interval: 1s}}]
"""


def scraping_studies(interval: str, operator: int, sidecars: Path) -> str:
    return CONFIG.format(interval=interval, operator=operator, sidecars=sidecars)


class Sidecars:
    """Those of a study's running trials, in a file that Prometheus follows."""

    def __init__(self, kubeconfig: Path, study: str, file: Path) -> None:
        self._kubeconfig, self._study, self.file = kubeconfig, study, file
        self._ports: dict[str, int] = {}
        self.running: dict[str, str] = {}  # a pod's name -> its trial
        self.look()

    def look(self) -> None:
        selector = f"--selector=primo.dev/study={self._study}"
        listed = kubectl(self._kubeconfig, "get", "pods", selector, "--output=json")
        self.running = {
            pod["metadata"]["name"]: pod["metadata"]["labels"]["primo.dev/trial"]
            for pod in json.loads(listed)["items"]
            if pod["status"].get("phase") == "Running"
        }
        found = [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {
                    "namespace": "default",
                    "study": self._study,
                    "trial": trial,
                    "pod": name,
                },
            }
            for name, trial in self.running.items()
            if (port := self._port(name))
        ]
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.replace(self.file)

    def _port(self, pod: str) -> int | None:
        """On one machine each takes any that is free, and says which."""
        if pod not in self._ports:
            said = kubectl(self._kubeconfig, "logs", pod, "--container=primo-report", check=False)
            if found := re.search(r"serving metrics on .*, port (\d+)", said):
                self._ports[pod] = int(found[1])
        return self._ports.get(pod)


def answer(
    server: Prometheus, target: Target, values: Mapping[str, str], since: float, step_s: float
) -> list[Any]:
    """What Grafana would be told: now, or since then."""
    expr = filled(target.expr, values)
    if target.instant:
        return server.query(expr)
    return server.query_range(expr, since, time.time(), step_s)  # noqa: TID251
