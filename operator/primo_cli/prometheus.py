"""A Prometheus beside the local cluster: it scrapes the operator and the trials, for this session.

Pods of the local cluster share this machine, so a sidecar takes any free port and says in its log
which. Those ports are given to Prometheus as a file of targets (`file_sd`), with the labels that
the chart's PodMonitor gives them.
"""

import http.client
import json
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from primo_cli.kube import Kube, KubeError
from primo_local.cluster import ClusterStartError, Program
from primo_operator import names
from primo_optimizer import PrimoError

LOOPBACK: Final = "127.0.0.1"
NAME: Final = "prometheus"
SCRAPE_S: Final = 2
# Of a run's end Prometheus knows two scrapes later.
SETTLE_S: Final = 2 * SCRAPE_S + 1
READY_S: Final = 30.0
STOP_S: Final = 10.0
LOOK_AGAIN_S: Final = 0.1
TRIALS: Final = (
    f"{names.COMPONENT_LABEL}={names.COMPONENT},{names.MANAGED_BY_LABEL}={names.MANAGER}"
)
JOB_LABEL: Final = "batch.kubernetes.io/job-name"

_CHECKOUT: Final = Path(__file__).parents[2]
_SERVING: Final = re.compile(r"serving metrics on \S+, port (\d+)")

Object = Mapping[str, Any]


class PrometheusError(PrimoError):
    """There is no Prometheus, it did not start, or it has ended."""


def find_binary(given: Path | None) -> Path:
    """The one given, else that of PATH, else what `make prometheus` has fetched.

    Raises:
        PrometheusError: there is none; it says how to get one.
    """
    if given is not None:
        if found := shutil.which(given):
            return Path(found).resolve()
        raise PrometheusError(f"--prometheus-binary: {given} is not an executable file")
    fetched = _CHECKOUT / ".tools" / "usr" / "bin"
    if found := shutil.which(NAME) or shutil.which(NAME, path=fetched):
        return Path(found).resolve()
    raise PrometheusError(
        "--prometheus: no prometheus on the PATH; install it (Debian, Ubuntu: apt install "
        "prometheus; macOS: brew install prometheus), or run `make prometheus` in a checkout, or "
        "name it by --prometheus-binary or PRIMO_PROMETHEUS_BINARY"
    )


class LocalPrometheus:
    """A running Prometheus; use it as a context manager, or call `stop`.

    Attributes:
        url: where it is asked, and where its own pages are.
        settings: what the operator must be told, as environment variables.
    """

    def __init__(self, folder: Path, program: Program, port: int, operator_port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.settings = {
            "PRIMO_OPERATOR_METRICS_ADDRESS": LOOPBACK,
            "PRIMO_OPERATOR_METRICS_PORT": str(operator_port),
            "PRIMO_PROMETHEUS_URL": self.url,
            "PRIMO_PROMETHEUS_NAMESPACES": "*",
            "PRIMO_PROMETHEUS_SETTLE_S": str(SETTLE_S),
            # Those of another server, which the shell may name.
            "PRIMO_PROMETHEUS_CA_FILE": "",
            "PRIMO_PROMETHEUS_TOKEN_FILE": "",
        }
        self._targets = Targets(folder / "trials.json")
        self._program = program

    @classmethod
    def start(cls, binary: Path, state_dir: Path) -> Self:
        """Block until it answers.

        Raises:
            PrometheusError: it did not start, with the last lines of its log.
        """
        folder = (state_dir / NAME).resolve()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        port, operator_port = _free_ports(2)
        config = folder / "prometheus.json"
        config.write_text(json.dumps(configuration(operator_port, folder / "trials.json")))
        arguments = [
            str(binary),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
        ]
        log = folder.parent / "logs" / f"{NAME}.log"
        log.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            program = Program(NAME, arguments, log)
        except ClusterStartError as error:
            raise PrometheusError(str(error)) from error
        started = cls(folder, program, port, operator_port)
        try:
            started._wait_ready()
        except BaseException:
            started.stop()
            raise
        return started

    def tend(self, kube: Kube) -> None:
        """Tell it of pods that have come or gone since the last time.

        Raises:
            PrometheusError: it has ended by itself.
        """
        self._check()
        self._targets.refresh(kube)

    def stop(self) -> None:
        self._program.stop(STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check(self) -> None:
        if self._program.has_ended:
            raise PrometheusError(f"Prometheus has ended:\n{self._program.last_lines()}")

    def _wait_ready(self) -> None:
        # A proxy that the shell names has no way to our loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self._check()
            try:
                with opener.open(f"{self.url}/-/ready", timeout=READY_S):
                    return
            except (urllib.error.URLError, http.client.HTTPException, OSError):
                time.sleep(LOOK_AGAIN_S)
        raise PrometheusError(
            f"Prometheus was not ready within {READY_S:g} s:\n{self._program.last_lines()}"
        )


def configuration(operator_port: int, targets: Path) -> dict[str, Any]:
    """What Prometheus is to do; JSON is YAML too."""
    return {
        "global": {
            "scrape_interval": f"{SCRAPE_S}s",
            "scrape_timeout": f"{SCRAPE_S}s",
            "evaluation_interval": "15s",
        },
        "rule_files": [str(Path(__file__).with_name("rules.yaml"))],
        "scrape_configs": [
            {
                "job_name": names.MANAGER,
                "honor_labels": True,  # the series of studies have a namespace of their own
                "static_configs": [{"targets": [f"{LOOPBACK}:{operator_port}"]}],
            },
            {
                "job_name": "primo-trials",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "5s"}],
            },
        ],
    }


class Targets:
    """The file of what is to be scraped of running trials.

    That is the sidecar, and what a pod's annotations name: `prometheus.io/scrape`, `port`, `path`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[tuple[str, int], int] = {}  # by the pod's UID and the sidecar's restarts
        self._written = ""

    def refresh(self, kube: Kube) -> None:
        """Look at the pods; what cannot be read now is read the next time."""
        try:
            pods = kube.pods(TRIALS)
        except KubeError:
            return
        running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        targets = [target for pod in running for target in self._of(kube, pod)]
        text = json.dumps(targets, indent=1)
        if text != self._written:
            draft = self._file.with_suffix(".draft")
            draft.write_text(text)
            draft.replace(self._file)
            self._written = text

    def _of(self, kube: Kube, pod: Object) -> list[Object]:
        address, labels = pod["status"].get("podIP") or LOOPBACK, _labels(pod)
        found = []
        if port := self._sidecar_port(kube, pod):
            found.append({**labels, "container": names.SIDECAR, "__address__": f"{address}:{port}"})
        given = pod["metadata"].get("annotations") or {}
        if given.get("prometheus.io/scrape") == "true" and "prometheus.io/port" in given:
            target = {**labels, "__address__": f"{address}:{given['prometheus.io/port']}"}
            if path := given.get("prometheus.io/path"):
                target["__metrics_path__"] = path
            found.append(target)
        return [{"targets": [target.pop("__address__")], "labels": target} for target in found]

    def _sidecar_port(self, kube: Kube, pod: Object) -> int | None:
        statuses = pod["status"].get("initContainerStatuses") or ()
        sidecar = next((each for each in statuses if each["name"] == names.SIDECAR), None)
        if sidecar is None or "running" not in (sidecar.get("state") or {}):
            return None
        start = (pod["metadata"]["uid"], int(sidecar.get("restartCount") or 0))
        if start not in self._ports:
            place = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            try:
                said = _SERVING.findall(kube.log(*place, names.SIDECAR))
            except KubeError:
                return None
            if not said:
                return None
            self._ports[start] = int(said[-1])
        return self._ports[start]


def _labels(pod: Object) -> dict[str, str]:
    metadata = pod["metadata"]
    found = metadata.get("labels") or {}
    return {
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
        "study": found.get(names.STUDY_LABEL, ""),
        "trial": found.get(names.TRIAL_LABEL, ""),
        "run": found.get(JOB_LABEL, ""),
    }


def _free_ports(count: int) -> list[int]:
    """Free at this moment; held all at once, so that they differ."""
    held = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
