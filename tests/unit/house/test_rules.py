"""Alerts and recording rules: promtool runs tests/rules, and all of them are explained."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.prometheus import PROMTOOL
from support.rules import RULES, alerts, recorded

ROOT = Path(__file__).parents[3]
TESTS = sorted((ROOT / "tests" / "rules").glob("*.yaml"))
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: `make prometheus` fetches Debian's"
)


def promtool(*arguments: str) -> None:
    done = subprocess.run([PROMTOOL or "", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def expectations() -> list[tuple[str, list[dict[str, str]]]]:
    """Of all tests: an alert, and the labels with which it is expected to fire at that moment."""
    found = []
    for file in TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for each in test.get("promql_expr_test", ()):
                alert = re.match(r'ALERTS\{alertname="(\w+)"', each["expr"])
                if alert:
                    labels = [
                        dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
                        for sample in each["exp_samples"]
                    ]
                    found.append((alert[1], labels))
    return found


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_must_and_else_do_not(file: Path) -> None:
    promtool("test", "rules", str(file))


@pytest.mark.parametrize("alert", [rule["alert"] for rule in alerts()])
def test_an_alert_is_tried_in_two_cases_of_each_kind(alert: str) -> None:
    labels = [fired for name, fired in expectations() if name == alert]
    assert sum(len(fired) for fired in labels) >= 2, "it must fire"
    assert sum(not fired for fired in labels) >= 2, "it must be silent"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_so_and_what_to_do(rule: dict[str, Any]) -> None:
    name, annotations = rule["alert"], rule["annotations"]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/troubleshooting.md#{name.lower()}"
    assert f"\n### {name}\n" in RUNBOOK
    fired = [labels for alert, labels in expectations() if alert == name for labels in labels]
    text = " ".join(annotations.values())
    optional = set(re.findall(r"with \$labels\.(\w+)", text.replace("\n", " ")))
    for label in set(re.findall(r"\$labels\.(\w+)", text)) - optional:
        assert all(label in labels for labels in fired), label


def test_the_page_has_each_alert_with_its_severity_and_each_recording_rule() -> None:
    rows = re.findall(r"(?m)^\| \[?`(\w+)`.*?\| (\w+) \|", PAGE)
    assert dict(rows) == {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}
    assert set(re.findall(r"(?m)^\| `([\w:]+:[\w:]+)` \|", PAGE)) == {
        r["record"] for r in recorded()
    }


def test_no_rule_asks_for_a_metric_that_is_not_there() -> None:
    """An unknown one is no mistake to Prometheus: the alert would never fire."""
    known = set(re.findall(r"`(primo_\w+)`", METRICS)) | {rule["record"] for rule in recorded()}
    for rule in [*alerts(), *recorded()]:
        named = set(re.findall(r"\b(?:\w+:)?primo_\w+(?::\w+)?", rule["expr"]))
        assert named, rule["expr"]
        assert {name.removesuffix("_count") for name in named} <= known
