"""What runs on this machine: cluster, operator, Prometheus if wanted, and their clean end."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from primo_cli.kube import Kube
from primo_cli.prometheus import LocalPrometheus
from primo_local.cluster import LocalCluster
from primo_operator import crds
from primo_optimizer import PrimoError

STOP_S = 10.0
READY_S = 30.0
SHOWN_LINES = 15


class OperatorError(PrimoError):
    """The operator ended by itself."""


@dataclass(frozen=True)
class Session:
    """A local cluster with our resources, and an operator that watches one namespace."""

    cluster: LocalCluster
    operator: "subprocess.Popen[bytes]"
    log: Path
    kube: Kube
    prometheus: LocalPrometheus | None

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def tend(self) -> None:
        """To be called again and again: Prometheus is told of new pods.

        Raises:
            OperatorError: the operator has ended; with its last lines.
            PrometheusError: Prometheus has.
        """
        code = self.operator.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            raise OperatorError(f"the operator ended with exit code {code}:\n" + "\n".join(lines))
        if self.prometheus:
            self.prometheus.tend(self.kube)


@contextlib.contextmanager
def local_session(
    state_dir: Path, namespace: str, gpus: int, workdir: Path, prometheus: Path | None = None
) -> Iterator[Session]:
    """Bring all of it up; at the end, whatever happens, nothing of it is left running.

    Args:
        prometheus: its binary, if one is to run too.
    """
    with contextlib.ExitStack() as stack:
        start = LocalCluster.start(state_dir, gpus=gpus, workdir=workdir.resolve())
        cluster = stack.enter_context(start)
        kube = Kube(cluster.kubeconfig)
        for kind in (crds.STUDY, crds.TRIAL):
            kube.apply(crds.definition(kind))
        for kind in (crds.STUDY, crds.TRIAL):
            kube.wait_established(f"{kind.plural}.primo.dev", READY_S)
        server = LocalPrometheus.start(prometheus, state_dir) if prometheus else None
        if server:
            stack.enter_context(server)
        log = state_dir / "logs" / "operator.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        settings = server.settings if server else None
        operator = start_operator(cluster.kubeconfig, namespace, log, settings)
        stack.callback(stop_process, operator)
        yield Session(cluster, operator, log, kube, server)


def start_operator(
    kubeconfig: Path, namespace: str, log: Path, settings: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """The operator as it runs in a cluster, but for where the sidecars of one host listen.

    It is the only one, and works at once unless the settings (environment variables) name a Lease.
    """
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "PRIMO_SIDECAR_METRICS_ADDRESS": "127.0.0.1",
        "PRIMO_SIDECAR_METRICS_PORT": "0",
        "PRIMO_LEASE_NAME": "",
        **(settings or {}),
    }
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "primo_operator", "--namespace", namespace],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it in our own order
        )


def stop_process(process: "subprocess.Popen[bytes]") -> None:
    """End it, kindly at first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
