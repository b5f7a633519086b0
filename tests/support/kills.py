"""A real local study under `kill -9`: whom to kill, and what must hold in the end."""

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from primo_cli.kube import Kube
from primo_local.cluster import ClusterStartError, LocalCluster
from support.cluster import Operator
from support.kubectl import kubectl
from support.local_cluster import processes
from support.waiting import eventually

LEASE = "kills"
# Long enough for a leader that is starved of CPU, short enough to be waited for.
LEASE_TIMES = {
    "PRIMO_LEASE_DURATION_S": "6",
    "PRIMO_LEASE_RENEW_S": "4",
    "PRIMO_LEASE_RETRY_S": "0.5",
}
LIMIT_S = 180.0
LOOK_S = 0.5

Observed = dict[tuple[int, float], dict[str, float]]


@dataclass
class Operators:
    """Two of them, each started again when it has ended, as a Deployment would."""

    cluster: LocalCluster
    folder: Path
    running: list[Operator] = field(default_factory=list)
    exits: Counter[int | None] = field(default_factory=Counter)

    def start(self) -> None:
        for name in ("one", "two"):
            settings = {"PRIMO_LEASE_NAME": LEASE, "PRIMO_LEASE_IDENTITY": name, **LEASE_TIMES}
            log = self.folder / f"{name}.log"
            self.running.append(Operator(self.cluster.kubeconfig, log, **settings))

    def look(self) -> None:
        for operator in self.running:
            if operator.exit_code is not None:
                self.exits[operator.exit_code] += 1
                operator.restart()

    def stop(self) -> None:
        for operator in self.running:
            operator.stop()


class Supervisor:
    """Restarts what was killed, and remembers each observation that was ever to be seen."""

    def __init__(self, cluster: LocalCluster, operators: Operators, kube: Kube, name: str) -> None:
        self._cluster, self._operators, self._kube, self._name = cluster, operators, kube, name
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self.seen: Observed = {}
        self.changed: list[str] = []
        self.error: BaseException | None = None

    def __enter__(self) -> "Supervisor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ending.wait(LOOK_S):
                self._look_at_cluster()
                self._operators.look()
                with contextlib.suppress(Exception):  # an API server that is away
                    self._remember(observations(self._kube, self._name))
        except BaseException as error:
            self.error = error

    def _look_at_cluster(self) -> None:
        try:
            self._cluster.check()
        except ClusterStartError:
            with contextlib.suppress(ClusterStartError):  # it may be killed while it starts
                self._cluster.restart_api_server(60.0)

    def _remember(self, found: Observed) -> None:
        for place, values in self.seen.items():
            if found.get(place) != values:
                self.changed.append(f"{place}: {values}, then {found.get(place)}")
        self.seen.update(found)


def observations(kube: Kube, name: str) -> Observed:
    return {
        (trial["spec"]["number"], seen["fidelity"]): seen["values"]
        for trial in kube.trials(name, "default")
        for seen in (trial.get("status") or {}).get("observations") or ()
    }


@dataclass
class Diary:
    """What the trials themselves wrote down."""

    folder: Path

    def began(self) -> int:
        return len(list(self.folder.glob("*.began")))

    def runs(self, what: str) -> dict[str, list[tuple[int, float]]]:
        """By pod: trial and fidelity, once for each process."""
        found = defaultdict(list)
        for file in self.folder.glob(f"*.{what}"):
            trial, epochs = file.read_text().split()
            found[file.name.split(".")[0]].append((int(trial), float(epochs)))
        return found


@dataclass
class Killer:
    """`kill -9`, for each kind of victim; each says whom it has hit, "" for nobody.

    Attributes:
        hit: pods of which a process was killed.
    """

    cluster: LocalCluster
    kube: Kube
    folder: Path
    rng: np.random.Generator
    hit: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)

    def kinds(self) -> dict[str, Callable[[], str]]:
        return {
            "operator": lambda: self._process("primo_operator", "--namespace"),
            "worker": lambda: self._process("primo_operator.worker"),
            "sidecar": lambda: self._in_pod("primo_report"),
            "trial": lambda: self._in_pod("trial.py"),
            "API server": lambda: self._process("primo_local.apiserver", ours="cmdline"),
            "lease": self._lease,
        }

    def strike(self, kind: str) -> None:
        """At the first moment at which there is one."""
        act = self.kinds()[kind]
        whom = eventually(act, f"there is a {kind} to kill", LIMIT_S)
        self.log.append(f"{kind}: {whom}")

    def _process(self, *words: str, ours: str = "environ") -> str:
        found = processes(str(self.cluster.state_dir), ours)
        for word in words:
            found &= processes(word, "cmdline")
        return self._kill(sorted(found))

    def _in_pod(self, program: str) -> str:
        """A container's process, which its pod's name is in the environment of."""
        found = processes(program, "cmdline") & processes(str(self.folder), "environ")
        found &= processes("HOSTNAME=", "environ")
        named = {pid: pod for pid in found if (pod := _pod_of(pid))}
        # Written down first: what it does from now on may be because of this.
        if not named:
            return ""
        pid = int(self.rng.choice(sorted(named)))
        self.hit.add(named[pid])
        return self._kill([pid]) and named[pid]

    def _kill(self, pids: list[int]) -> str:
        if not pids:
            return ""
        pid = int(self.rng.choice(pids))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return f"process {pid}"
        return ""

    def _lease(self) -> str:
        """Somebody else takes it, and is not heard of again."""
        spec = {"holderIdentity": "somebody", "leaseDurationSeconds": 2}
        patch = json.dumps({"spec": spec})
        with contextlib.suppress(Exception):
            path = self.cluster.kubeconfig
            kubectl(path, "patch", "lease", LEASE, "--type=merge", "-p", patch)
            return "taken by somebody"
        return ""


def _pod_of(pid: int) -> str:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    named = [v.partition(b"=")[2].decode() for v in variables if v.startswith(b"HOSTNAME=")]
    return named[0] if named else ""


def check(kube: Kube, name: str, budget: int, diary: Diary, killer: Killer) -> None:
    """What must hold once the study has completed."""
    trials = kube.trials(name, "default")
    assert [t["spec"]["number"] for t in trials] == list(range(budget))
    runs = {run["job"]: (t, run) for t in trials for run in t["status"]["runs"]}
    assert len(runs) == sum(len(t["status"]["runs"]) for t in trials)
    done, began = diary.runs("done"), diary.runs("began")
    for pod, processes_ in began.items():
        # A container is started again only where the user's template says so, and it does not.
        assert len(processes_) == 1, f"{pod} ran {len(processes_)} times"
    pods_of = defaultdict(list)
    for pod in began:
        pods_of[pod.rpartition("-")[0]].append(pod)
    assert pods_of.keys() <= runs.keys(), "a run that no trial knows of"
    for job, pods in pods_of.items():
        assert len(pods) == 1, f"{job} had {pods}"
    _check_none_repeated(runs, done, killer.hit)
    for trial in trials:
        x = trial["spec"]["parameters"]["x"]
        seen = trial["status"].get("observations") or ()
        assert len({s["fidelity"] for s in seen}) == len(seen)
        for each in seen:
            assert abs(each["values"]["error"] - x / each["fidelity"]) < 1e-9
            assert (trial["spec"]["number"], each["fidelity"]) in {
                place for places in done.values() for place in places
            }, "observed, and never done"


def _check_none_repeated(
    runs: dict[str, Any], done: dict[str, list[tuple[int, float]]], hit: set[str]
) -> None:
    """Of a (trial, fidelity) only one run came to its end, but for those that were struck."""
    unharmed = Counter(place for pod, places in done.items() if pod not in hit for place in places)
    repeated = {place: count for place, count in unharmed.items() if count > 1}
    assert not repeated, f"runs that had ended well were repeated: {repeated}"
    for pod, places in done.items():
        job = pod.rpartition("-")[0]
        reason = runs[job][1].get("reason")
        assert pod in hit or reason == "Completed", f"{job} did all of {places} and is {reason}"


def check_nothing_is_left(cluster: LocalCluster, name: str) -> None:
    """After the study was deleted."""
    path = cluster.kubeconfig
    kubectl(path, "delete", "primostudy", name, "--timeout=60s")
    kinds, label = "primotrials,jobs,pods", f"primo.dev/study={name}"

    def left() -> str:
        return kubectl(path, "get", kinds, "-l", label, "-o", "name").strip()

    eventually(lambda: not left(), "everything of the study is gone")


@contextlib.contextmanager
def no_process_left(folder: Path) -> Iterator[None]:
    """Whatever was started in a folder has ended."""
    yield
    mark = str(folder)
    deadline = time.monotonic() + 20.0
    while alive := {p for p in processes(mark) | processes(mark, "cmdline") if _alive(p)}:
        assert time.monotonic() < deadline, [_command(pid) for pid in alive]
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
