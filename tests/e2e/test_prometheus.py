"""`primo run --prometheus`: the numbers, queries and alerts of a cluster, on one machine."""

import json
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.cluster import study
from support.primo import primo, processes
from support.prometheus import asked, needs_prometheus
from support.rules import alerts
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, needs_prometheus]

# Ends when it is told to, so that it is scraped however slow the machine is.
TRIAL = """
import time
from pathlib import Path
from primo_report import params, report
report(step=1, val_error=params()["x"], watts=250)
while not Path("scraped").exists():
    time.sleep(0.1)
"""
POWER = 'max(max_over_time(primo_report_metric{metric="watts",pod="$(pod)"}[$(window)]))'
OBJECTIVES = [
    {"name": "error", "goal": "Minimize", "metric": "val_error"},
    {"name": "power", "goal": "Minimize", "prometheus": {"query": POWER}},
]


def written(folder: Path) -> Path:
    (folder / "trial.py").write_text(TRIAL)
    given = folder / "study.json"
    given.write_text(json.dumps(study("powered", objectives=OBJECTIVES, budget={"trials": 1})))
    return given


def announced(running: "subprocess.Popen[str]") -> str:
    """The URL that it prints."""
    assert running.stdout
    said = []
    for line in running.stdout:
        said.append(line)
        if line.startswith("Prometheus: "):
            return line.partition(": ")[2].strip()
    raise AssertionError("".join(said))


def test_a_query_is_an_objective_on_a_laptop_too(tmp_path: Path) -> None:
    given = written(tmp_path)
    running = primo(tmp_path, "run", "-f", str(given), "--prometheus")
    url = announced(running)
    assert url.startswith("http://127.0.0.1:")

    def value(query: str) -> dict[str, Any] | None:
        found = asked(url, "query", query=query)
        return found[0]["metric"] if found else None

    labels = eventually(lambda: value('primo_report_metric{metric="watts"} == 250'), "a scrape")
    assert labels["pod"].startswith(labels["run"])
    assert (labels["namespace"], labels["study"], labels["trial"]) == ("default", "powered", "0")
    joined = "primo_trial_info * on (namespace, study, trial, run) group_right primo_report_step"
    assert eventually(lambda: value(joined), "the series of operator and sidecar join")
    assert value("primo_leader == 1")
    assert eventually(lambda: value("namespace_study:primo_study_active:max == 1"), "a recording")
    with urllib.request.urlopen(f"{url}/api/v1/rules?type=alert", timeout=10) as answer:
        groups = json.load(answer)["data"]["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert loaded.keys() == {rule["alert"] for rule in alerts()}
    assert "err" not in loaded.values()

    (tmp_path / "scraped").touch()
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 0, output
    assert "Completed: BudgetExhausted" in output
    assert "250" in output.partition("Pareto front")[2]
    eventually(lambda: not processes(tmp_path / "state"), "no process is left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_session_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    running = primo(tmp_path, "up", "--prometheus")
    announced(running)

    def left() -> list[str]:
        return [line for line in processes(tmp_path / "state") if "storage.tsdb.path" in line]

    assert left()
    running.send_signal(number)
    running.communicate(timeout=60)
    eventually(lambda: not left(), "it has ended")
    eventually(lambda: not processes(tmp_path / "state"), "so have all others")
