"""A study whose trials train on the GPU, on the local cluster."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from primo_local.cluster import LocalCluster
from support.cluster import Operator, install, study
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

SPEC = {
    "objectives": [
        {"name": "error", "goal": "Minimize", "metric": "val_error"},
        {"name": "energy", "goal": "Minimize", "metric": "energy_j"},
    ],
    "parameters": [
        {"name": "width", "int": {"min": 64, "max": 8192, "log": True}},
        {"name": "lr", "float": {"min": 1e-4, "max": 1e-1, "log": True}},
    ],
    "fidelity": {"name": "epochs", "min": 1, "max": 3, "eta": 3},
    "priors": [{"objective": "energy", "parameters": [{"name": "width", "center": 64}]}],
    "algorithm": {"name": "primo", "settings": {"device": "cuda", "initialDesign": 1}},
    "budget": {"trials": 8},
}


def test_error_against_energy_on_one_gpu(tmp_path: Path) -> None:
    """Two runs at a time want the one GPU, so they take turns."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    diary = tmp_path / "diary"
    given = study("energy", **SPEC)
    (container,) = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "DIARY", "value": str(diary)}]
    state = tmp_path / "state"
    with LocalCluster.start(state, gpus=1, workdir=Path(__file__).parent) as cluster:
        kube = install(cluster.kubeconfig)
        operator = Operator(cluster.kubeconfig, tmp_path / "operator.log")
        try:
            kube.apply(given, "default")

            def status() -> dict[str, Any]:
                assert operator.exit_code is None, (tmp_path / "operator.log").read_text()[-3000:]
                found = kube.get("PriMOStudy", "energy", "default") or {}
                return found.get("status") or {}

            eventually(lambda: status().get("phase") in ("Completed", "Failed"), "it ends", 300)
            found, trials = status(), kube.trials("energy", "default")
        finally:
            operator.stop()

    last_words = [trial["status"].get("message") for trial in trials]
    assert found["phase"] == "Completed", last_words
    ends = {trial["status"]["phase"] for trial in trials}
    assert ends <= {"Completed", "Paused", "Stopped"}, last_words
    seen = [o for trial in trials for o in trial["status"]["observations"]]
    assert len(seen) >= 8
    assert all(o["values"]["energy"] > 0 for o in seen)
    assert found["budgetUsed"]["gpuHours"] > 0
    assert {c["type"]: c["status"] for c in found["conditions"]}.get("Degraded") != "True"
    assert "Optimizing" in {trial["spec"]["suggestion"]["stage"] for trial in trials}
    runs = [json.loads(line) for line in diary.read_text().splitlines()]
    assert {name for name, _, _ in runs} == {torch.cuda.get_device_name(0)}
    spans = sorted((begin, end) for _, begin, end in runs)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
