"""A local cluster with our resources, and operators that may be killed."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primo_cli.kube import Kube
from primo_cli.session import operator_command, operator_environment
from primo_operator import crds


def install(kubeconfig: Path) -> Kube:
    """Our resources, served."""
    kube = Kube(kubeconfig)
    for kind in (crds.STUDY, crds.TRIAL):
        kube.apply(crds.definition(kind))
        kube.wait_established(f"{kind.plural}.primo.dev", 30.0)
    return kube


def study(name: str, **fields: Any) -> dict[str, Any]:
    """A study whose trials are tests/integration/trial.py."""
    container = {
        "name": "train",
        "image": "test",
        "command": ["python", "trial.py"],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 2}
    spec = {
        "objectives": [
            {"name": "error", "goal": "Minimize", "metric": "val_error"},
            {"name": "cost", "goal": "Minimize", "metric": "kmacs"},
        ],
        "parameters": [{"name": "x", "float": {"min": 0, "max": 1}}],
        "algorithm": {"name": "random"},
        "budget": {"trials": 4},
        "parallelism": 2,
        "trialTemplate": {"spec": {"template": {"spec": pod}}},
        **fields,
    }
    return {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": "PriMOStudy",
        "metadata": {"name": name},
        "spec": spec,
    }


def stop_process(process: "subprocess.Popen[bytes]") -> None:
    """End it, kindly at first."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Operator:
    """An operator process for the default namespace, and those that `also` names."""

    def __init__(
        self, kubeconfig: Path, log: Path, *, also: Sequence[str] = (), **settings: str
    ) -> None:
        self._kubeconfig, self._log, self._settings = kubeconfig, log, settings
        self._also = [f"--namespace={name}" for name in also]
        self.restart()

    def kill(self) -> None:
        """kill -9, as a node's end would."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def restart(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [*operator_command("default"), *self._also],
                env=operator_environment(self._kubeconfig, self._settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        stop_process(self._process)
