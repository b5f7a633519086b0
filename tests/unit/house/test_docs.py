"""What the pages about running the operator say is what there is."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
# Where PriMO says a reason. A word there is one, or it is in the list below.
MODULES = (
    "primo_study/ending", "primo_study/status", "primo_study/requests", "primo_study/warm_start",
    "primo_study/phases", "primo_study/plan", "primo_study/queries", "primo_operator/sources",
    "primo_operator/runs", "primo_operator/worker_process", "primo_operator/asking",
    "primo_operator/failures",
    "primo_operator/reconcile", "primo_operator/observe", "primo_operator/evidence",
    "primo_operator/pods",
    "primo_operator/writing",
)  # fmt: skip
NO_REASONS = {
    "Complete", "ContainerStatusUnknown", "Degraded", "DisruptionTarget", "Error", "FailureTarget",
    "False", "Job", "Last", "Max", "Mean", "MetricsAvailable", "Min",
    "Minimize", "PodScheduled", "Paused", "Queued",
    "Running", "Succeeded", "SuccessCriteriaMet", "TemplateValid", "Terminate", "Trial", "True",
    "Unknown",
    "WarmStarted",
    # The kubelet's, as it says them.
    "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull",
    "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName",
    "RunContainerError", "StartError", "Unschedulable",
}  # fmt: skip
WORD = r"(?:[A-Z][a-z]+)+"


def _reasons() -> set[str]:
    found: set[str] = set()
    for module in MODULES:
        tree = ast.parse((ROOT / "operator" / f"{module}.py").read_text())
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(WORD, node.value)
        }
    return found - NO_REASONS


def test_every_reason_is_in_troubleshooting_and_no_other() -> None:
    rows = re.findall(r"(?m)^\|.*$", (DOCS / "troubleshooting.md").read_text())
    text = "\n".join(rows) + (DOCS / "troubleshooting.md").read_text().partition("## Events")[2]
    explained = set(re.findall(rf"`({WORD})`", text)) - NO_REASONS
    assert explained == _reasons()


def test_the_values_that_the_pages_name_exist() -> None:
    values = yaml.safe_load((ROOT / "helm" / "primo-operator" / "values.yaml").read_text())
    chapters = (
        "install",
        "troubleshooting",
        "threat-model",
        "metrics",
        "prometheus-objectives",
        "dashboards",
    )
    pages = [DOCS / f"{chapter}.md" for chapter in chapters]
    named = {
        word
        for page in [*pages, ROOT / "README.md"]
        for word in re.findall(
            r"`((?:settings|watch|networkPolicy|crds|sidecar|image|metrics|prometheus|dashboards)\.[\w.]+)`"
            r"|--set '?([\w.]+)=", page.read_text()
        )
        for word in word
        if word
    }  # fmt: skip
    assert {"watch.namespaces", "crds.install", "imageRegistry", "metrics.keepSeconds"} <= named
    for name in named:
        found: Any = values
        for part in name.split("."):
            assert part in found, name
            found = found[part]


@pytest.mark.parametrize("page", ["threat-model.md", "install.md", "troubleshooting.md"])
def test_the_files_that_a_page_names_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    named = re.findall(r"`((?:tests|images|helm|crds)/[\w./-]+)`", text)
    named += [f"docs/{link}" for link in re.findall(r"\]\(([\w./-]+)\)", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []
