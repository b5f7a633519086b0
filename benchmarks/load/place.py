"""Where the load runs: the local API server or a cluster of yours, a hollow node, an operator."""

import asyncio
import json
import re
import shutil
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from load.objects import NODE, Obj
from load.processes import Process, usage, wait_for
from primo_cli.kube import Kube
from primo_local.client import NAMESPACES, NODES, Client, ConflictError, Kubeconfig
from primo_operator import crds, names

AT_ONCE = 16
LAG_EVERY_S = 0.1
T = TypeVar("T")

_SAMPLE = re.compile(r"primo_api_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Place:
    """A cluster with our definitions and a hollow node; an async context manager.

    Args:
        folder: for logs and state.
        kubeconfig: of a cluster of yours; None starts the local API server.
    """

    def __init__(self, folder: Path, kubeconfig: Path | None) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig or folder / "state" / "kubeconfig"
        self.record = folder / "hollow.jsonl"
        self.client = Client.__new__(Client)
        self._local = kubeconfig is None
        self._namespaces: list[str] = []
        self._stack = AsyncExitStack()
        self._read = 0
        self._lines: list[Obj] = []

    async def __aenter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        if self._local:
            self._run("primo_local.apiserver", "--state-dir", str(self.folder / "state"))
            wait_for(self.kubeconfig.exists, "the API server serves", 60)
        kube = Kube(self.kubeconfig)
        for kind in (crds.STUDY, crds.TRIAL):
            kube.apply(crds.definition(kind))
            kube.wait_established(f"{kind.plural}.{names.GROUP}", 30.0)
        controllers = ["--controllers"] if self._local else []
        places = ["--kubeconfig", str(self.kubeconfig), "--record", str(self.record)]
        self._run("load.hollow", *places, *controllers)
        config = Kubeconfig.load(self.kubeconfig)
        self.client = await self._stack.enter_async_context(Client(config))

    async def __aexit__(self, *_: object) -> None:
        try:
            if not self._local:
                for name in self._namespaces:
                    await self.client.delete(NAMESPACES, ("", name))
                await self.client.delete(NODES, ("", NODE))
        finally:
            await self._stack.aclose()

    def _run(self, module: str, *arguments: str) -> Process:
        log = self.folder / f"{module.rpartition('.')[2]}.log"
        return self._stack.enter_context(Process(module, *arguments, log=log))

    async def namespace(self, name: str) -> str:
        with suppress(ConflictError):
            await self.client.create(NAMESPACES, "", {"metadata": {"name": name}})
        self._namespaces.append(name)
        return name

    def operator(self, namespace: str, **settings: str) -> "Operator":
        return Operator(self, namespace, settings)

    def moments(
        self, what: str, of: Callable[[str], bool] | None = None
    ) -> list[tuple[float, str]]:
        """When pods ended ("end") or Jobs were made ("job"), and of which study, in their order."""
        with self.record.open() as record:
            record.seek(self._read)
            while (line := record.readline()).endswith("\n"):
                self._lines.append(json.loads(line))
                self._read = record.tell()
        found = [(line["t"], line["of"]) for line in self._lines if line["what"] == what]
        return sorted(found if of is None else [each for each in found if of(each[1])])


class Operator:
    """An operator process that watches one namespace; a context manager."""

    def __init__(self, place: Place, namespace: str, settings: dict[str, str]) -> None:
        self._metrics, self._health = _free_port(), _free_port()
        self.started_at = time.time()  # noqa: TID251  # a benchmark measures
        self.process = Process(
            "primo_operator",
            *("--namespace", namespace, "--liveness", f"http://127.0.0.1:{self._health}/healthz"),
            log=place.folder / "operator.log",
            KUBECONFIG=str(place.kubeconfig),
            PRIMO_OPERATOR_METRICS_ADDRESS="127.0.0.1",
            PRIMO_OPERATOR_METRICS_PORT=str(self._metrics),
            PRIMO_LEASE_NAMESPACE=namespace,
            **settings,
        )
        self.lags_s: list[float] = []
        self._watching = True
        self._watcher = threading.Thread(target=self._watch_lag, daemon=True)
        self._watcher.start()

    def usage(self) -> dict[str, float]:
        self.process.check()
        return dict(usage(self.process.pid))

    def calls(self) -> Counter[tuple[str, str]]:
        """By verb and resource, all that it has made so far."""
        url = f"http://127.0.0.1:{self._metrics}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
        calls: Counter[tuple[str, str]] = Counter()
        for sample in _SAMPLE.finditer(text):
            labels = dict(_LABEL.findall(sample["labels"]))
            calls[labels["verb"], labels["resource"]] += int(float(sample["value"]))
        return calls

    def ready(self) -> None:
        """Until it answers; its imports are no part of a rate."""
        wait_for(lambda: self.process.check() or self.lags_s, "the operator is healthy", 60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watching = False
        self._watcher.join()
        self.process.stop()

    def _watch_lag(self) -> None:
        """How long the event loop takes to answer its health endpoint."""
        url = f"http://127.0.0.1:{self._health}/healthz"
        while self._watching:
            begin = time.monotonic()
            try:
                with urllib.request.urlopen(url, timeout=60) as answer:
                    answer.read()
                self.lags_s.append(time.monotonic() - begin)
            except OSError:
                pass
            time.sleep(LAG_EVERY_S)


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """A few at a time; their results in order."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(call: Coroutine[Any, Any, T]) -> T:
        async with slots:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
