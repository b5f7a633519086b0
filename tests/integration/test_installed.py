"""The operator as the chart installs it: its command line, its environment, its rights."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client, config

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from support import helm
from support.chart import Helm, Object, of_kind, operators_roles, roles_of
from support.cluster import stop_process
from support.kubectl import kubectl
from support.rights import Authorizer, Right, rights
from support.waiting import eventually

pytestmark = pytest.mark.cluster
# What only happens where something is amiss, or where users make trials or limit what is kept.
RARE = {
    ("delete", "batch", "jobs"),
    ("list", "", "events"),
    ("update", "primo.dev", "primostudies/finalizers"),
    ("update", "primo.dev", "primotrials/finalizers"),
    ("get", "batch", "jobs"),
    ("get", "primo.dev", "primostudies"),
    ("get", "primo.dev", "primotrials"),
    ("list", "batch", "jobs"),
    ("patch", "primo.dev", "primotrials"),
    ("patch", "batch", "jobs"),
    ("create", "coordination.k8s.io", "leases"),  # the first operator of a cluster
}


NAMELESS = """
import pwd

def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = getpwuid
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _granted(roles: list[Object]) -> set[tuple[Right, str]]:
    """Each right with the namespace it holds in; "" where it holds in all."""
    assert roles
    return {
        (right, role["metadata"].get("namespace", ""))
        for role in roles
        for right in rights(role["rules"])
    }


@dataclass(frozen=True)
class Installed:
    """An operator with the chart's rights, and its release."""

    objects: list[Object]
    port: int
    authorizer: Authorizer
    process: "subprocess.Popen[bytes]"
    log: Path

    def health(self) -> tuple[int, Any]:
        """Status and body of the endpoint that says whether it works; 0 without an answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/healthz?ready", timeout=5
            ) as reply:
                return reply.status, json.load(reply)
        except OSError:
            return 0, None


@pytest.fixture(params=["default", ""], ids=["one namespace", "all namespaces"])
def installed(
    request: pytest.FixtureRequest, kube: Kube, local_cluster: LocalCluster, tmp_path: Path
) -> Iterator[Installed]:
    program = helm.binary("helm4")
    if program is None:
        pytest.skip("helm4 is not installed: the chart cannot be rendered")
    port = _free_port()
    values = {
        "probes": {"port": port},
        "watch": {"namespaces": [request.param] if request.param else []},
        "sidecar": {"metricsPort": 0},
    }
    objects = Helm(program).template(values, "--namespace", "default")
    (deployment,) = of_kind(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # All of the host's addresses are for a pod; a laptop's operator stays on loopback.
    arguments = [a.replace("0.0.0.0", "127.0.0.1") for a in container["args"]]
    environment = {e["name"]: e["value"] for e in container["env"] if e["name"] != "HOME"}
    with ExitStack() as stack:
        authorizer = stack.enter_context(
            Authorizer(
                local_cluster.kubeconfig, tmp_path / "operator", _granted(operators_roles(objects))
            )
        )
        environment |= {
            "KUBECONFIG": str(authorizer.kubeconfig),
            "PRIMO_SIDECAR_METRICS_ADDRESS": "127.0.0.1",
        }
        # The user of a container has a number, and most often no name.
        (tmp_path / "sitecustomize.py").write_text(NAMELESS)
        users = {"LOGNAME", "USER", "LNAME", "USERNAME"}
        host = {name: value for name, value in os.environ.items() if name not in users}
        log = stack.enter_context((tmp_path / "operator.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "primo_operator", *arguments],
            env={**host, **environment, "PYTHONPATH": str(tmp_path)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(stop_process, process)
        yield Installed(objects, port, authorizer, process, tmp_path / "operator.log")


def test_the_self_test_passes_with_the_charts_rights(
    installed: Installed, kube: Kube, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    (pod,) = of_kind(installed.objects, "Pod")
    granted = _granted(roles_of(installed.objects, pod["spec"]["serviceAccountName"]))
    (container,) = pod["spec"]["containers"]
    with Authorizer(local_cluster.kubeconfig, tmp_path / "self-test", granted) as authorizer:
        done = subprocess.run(
            [sys.executable, *container["command"][1:], *container["args"]],
            env={**os.environ, "KUBECONFIG": str(authorizer.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("self-test passed")
    assert authorizer.refused == set()
    assert authorizer.used == rights(
        rule
        for role in roles_of(installed.objects, pod["spec"]["serviceAccountName"])
        for rule in role["rules"]
    )
    name = re.search(r"--name=(\S+)", " ".join(container["args"]))
    assert name
    eventually(lambda: kube.get("PriMOStudy", name[1], "default") is None, "the study is gone")
    # The operator was refused nothing, and needed all that it has, but for what is rare.
    assert installed.authorizer.refused == set()
    granted_to_it = {right for right, _ in _granted(operators_roles(installed.objects))}
    # The Lease is renewed some seconds after it was taken, and the self-test may be faster.
    eventually(lambda: granted_to_it - RARE <= installed.authorizer.used, "all rights are used")


def test_the_probes_endpoint_answers_once_it_is_up(installed: Installed) -> None:
    eventually(lambda: installed.health()[0] == 200, "the endpoint answers", 30)
    assert isinstance(installed.health()[1]["passes"], int)
    installed.process.terminate()
    assert installed.process.wait(15) == 0
    assert installed.health() == (0, None)
    assert "healthz" not in installed.log.read_text()  # two probes each ten seconds


def test_a_self_test_without_an_operator_says_what_it_waits_for(
    kube: Kube, local_cluster: LocalCluster
) -> None:
    """It leaves the study to be looked at."""
    command = "-m primo_operator.selftest --namespace default --name alone --image x --timeout 1"
    done = subprocess.run(
        [sys.executable, *command.split()],
        env={**os.environ, "KUBECONFIG": str(local_cluster.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    kubectl(local_cluster.kubeconfig, "delete", "primostudy", "alone")
    assert done.returncode == 1
    assert "not completed after 1 s" in done.stdout
    assert "is an operator running that watches here?" in done.stdout


# A service account is mounted at one place only, which a test may not write to.
AS_A_POD = """
import runpy, sys
from kubernetes.aio.config import incluster_config as operators
from kubernetes.config import incluster_config as self_tests
folder, module, *arguments = sys.argv[1:]
for module_ in (operators, self_tests):
    module_.SERVICE_TOKEN_FILENAME = f"{folder}/token"
    module_.SERVICE_CERT_FILENAME = f"{folder}/ca.crt"
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__")
"""


def test_operator_and_self_test_log_in_as_pods_do(
    kube: Kube, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    """With a mounted token, over TLS; all other tests have a kubeconfig."""
    given = client.Configuration()
    config.load_kube_config(str(local_cluster.kubeconfig), client_configuration=given)
    (tmp_path / "ca.crt").write_bytes(Path(given.ssl_ca_cert).read_bytes())
    (tmp_path / "token").write_text(given.api_key["BearerToken"].removeprefix("Bearer "))
    server = urlsplit(given.host)
    environment = {
        **os.environ,
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
        "KUBECONFIG": str(tmp_path / "none"),
        "PRIMO_SIDECAR_METRICS_ADDRESS": "127.0.0.1",
        "PRIMO_SIDECAR_METRICS_PORT": "0",
    }
    run = [sys.executable, "-c", AS_A_POD, str(tmp_path)]
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [*run, "primo_operator", "--namespace", "default"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        arguments = [
            "--namespace",
            "default",
            "--name",
            "as-a-pod",
            "--image",
            "x",
            "--timeout",
            "60",
        ]
        done = subprocess.run(
            [*run, "primo_operator.selftest", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        stop_process(process)
    assert done.returncode == 0, done.stdout + (tmp_path / "operator.log").read_text()
