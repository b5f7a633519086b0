"""What runs on this machine: cluster, operator, Prometheus if wanted, and their clean end."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from primo_cli.kube import Kube
from primo_cli.prometheus import LocalPrometheus
from primo_local.cluster import ClusterStartError, LocalCluster, Program
from primo_operator import crds
from primo_optimizer import PrimoError

STOP_S = 10.0
READY_S = 30.0


class SessionError(PrimoError):
    """Cluster or operator did not start, or ended by themselves."""


@dataclass(frozen=True)
class Session:
    """A local cluster with our resources, and an operator that watches one namespace."""

    cluster: LocalCluster
    operator: Program
    kube: Kube
    prometheus: LocalPrometheus | None

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def tend(self) -> None:
        """To be called again and again: Prometheus is told of new pods.

        Raises:
            SessionError: a program of the cluster or the operator has ended; with its last lines.
            PrometheusError: Prometheus has.
        """
        with _as_ours():
            self.cluster.check()
        if self.operator.has_ended:
            lines = self.operator.last_lines()
            raise SessionError(f"the operator has ended; its log says:\n{lines}")
        if self.prometheus:
            self.prometheus.tend(self.kube)


@contextlib.contextmanager
def local_session(
    state_dir: Path, namespace: str, gpus: int, workdir: Path, prometheus: Path | None = None
) -> Iterator[Session]:
    """Bring all of it up; at the end, whatever happens, nothing of it is left running.

    Args:
        namespace: the one that the operator watches; it is made if there is none.
        prometheus: its binary, if one is to run too.

    Raises:
        SessionError: cluster or operator did not start; with the last lines of a log.
        KubeError: the definitions of our resources were not taken.
        PrometheusError: Prometheus did not start.
    """
    with contextlib.ExitStack() as stack:
        with _as_ours():
            start = LocalCluster.start(state_dir, gpus=gpus, workdir=workdir.resolve())
        cluster = stack.enter_context(start)
        kube = Kube(cluster.kubeconfig)
        for kind in (crds.STUDY, crds.TRIAL):
            kube.apply(crds.definition(kind))
        for kind in (crds.STUDY, crds.TRIAL):
            kube.wait_established(f"{kind.plural}.primo.dev", READY_S)
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        server = LocalPrometheus.start(prometheus, state_dir) if prometheus else None
        if server:
            stack.enter_context(server)
        log = cluster.state_dir / "logs" / "operator.log"
        environment = operator_environment(cluster.kubeconfig, server.settings if server else {})
        with _as_ours():
            operator = Program("operator", operator_command(namespace), log, environment)
        stack.callback(operator.stop, STOP_S)
        yield Session(cluster, operator, kube, server)


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """The local cluster knows nothing of us, and its errors not of ours."""
    try:
        yield
    except ClusterStartError as error:
        raise SessionError(str(error)) from error


def operator_command(namespace: str) -> list[str]:
    return [sys.executable, "-m", "primo_operator", "--namespace", namespace]


def operator_environment(kubeconfig: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """That of an operator on this machine: as in a cluster, but for where its sidecars listen.

    It is the only one, and works at once unless the settings (environment variables) name a Lease.
    """
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "PRIMO_SIDECAR_METRICS_ADDRESS": "127.0.0.1",
        "PRIMO_SIDECAR_METRICS_PORT": "0",
        "PRIMO_LEASE_NAME": "",
        **settings,
    }
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    return environment
