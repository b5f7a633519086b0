"""An API server for contract tests, and what goes over the wire to it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from support.kube import Kube
from support.waiting import eventually

Obj = dict[str, Any]

# Of a real cluster to run tests against; they take it for their own.
GIVEN = Path(path) if (path := os.environ.get("PRIMO_TEST_KUBECONFIG")) else None

GROUP_VERSION = "contract.example.com/v1"
# Paths, to be formatted with a namespace.
CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
PODS = "/api/v1/namespaces/{}/pods"
WIDGETS = f"/apis/{GROUP_VERSION}/namespaces/{{}}/widgets"

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class ApiServer:
    """The local API server in a process of its own, without node and controllers."""

    def __init__(self, state_dir: Path, *, keep: bool = False) -> None:
        """Args:
        keep: objects outlive the process.
        """
        self.state_dir = state_dir
        self._keep = ["--data-dir", str(state_dir / "data")] if keep else []
        self.kubeconfig = state_dir / "kubeconfig"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        before = self._written()
        command = [sys.executable, "-m", "primo_local.apiserver", "--state-dir"]
        self._process = subprocess.Popen([*command, str(self.state_dir), *self._keep])
        eventually(lambda: self._written() != before or self._ended(), "the API server serves", 60)
        assert not self._ended(), "the API server has ended"

    def stop(self) -> int:
        """End it as a supervisor would; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(10)

    def kill(self) -> None:
        """SIGKILL, as the kernel's memory killer would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._ended():
            self.stop()

    def _written(self) -> int:
        return self.kubeconfig.stat().st_ino if self.kubeconfig.exists() else 0

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


class Wire(Kube):
    """Like Kube, with headers, raw bodies and watches."""

    def raw(
        self, method: str, path: str, headers: dict[str, str] | None = None, **query: str
    ) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            method, self._url + path, fields=query, headers=self._with(headers or {})
        )

    def _with(self, headers: dict[str, str]) -> urllib3.HTTPHeaderDict:
        merged = urllib3.HTTPHeaderDict(self._headers)
        for name, value in headers.items():
            merged[name] = value  # whatever the case of its letters
        return merged

    def warned(self, path: str, body: Obj, **query: str) -> tuple[Obj, list[str]]:
        """Create an object; what it became, and the warnings beside it."""
        url = f"{path}?{'&'.join(f'{k}={v}' for k, v in query.items())}"
        reply = self._pool.request("POST", self._url + url, json=body, headers=self._headers)
        assert reply.status == 201, reply.data
        return json.loads(reply.data), reply.headers.getlist("Warning")

    def table(self, path: str, **query: str) -> Obj:
        return dict(self.raw("GET", path, {"Accept": TABLE}, **query).json())

    def watch(self, path: str, accept: str = "application/json", **query: str) -> Iterator[Obj]:
        """The events of a watch until it ends, 10 s after its start at the latest."""
        reply = self._pool.request(
            "GET",
            self._url + path,
            fields={"watch": "true", "timeoutSeconds": "10", **query},
            headers=self._with({"Accept": accept}),
            preload_content=False,
        )
        assert reply.status == 200, reply.read()
        text = b""
        for chunk in reply.stream():
            *lines, text = (text + chunk).split(b"\n")
            yield from map(json.loads, lines)

    # --- words for what tests do

    def make(self, path: str, obj: Obj, **query: str) -> Obj:
        code, made = self("POST", path, obj, **query)
        assert code == 201, made
        return made

    def change(self, path: str, patch: object, kind: str = "merge-patch+json") -> Obj:
        code, changed = self("PATCH", path, patch, kind)
        assert code == 200, changed
        return changed

    def found(self, path: str) -> Obj:
        code, obj = self("GET", path)
        assert code == 200, obj
        return obj

    def gone(self, path: str) -> bool:
        return self("GET", path)[0] == 404

    def names(self, path: str, **query: str) -> list[str]:
        code, listed = self("GET", path, **query)
        assert code == 200, listed
        return [each["metadata"]["name"] for each in listed["items"]]


def widget(name: str, spec: Obj | None = None, **metadata: Any) -> Obj:
    fields = {"name": name, **metadata}
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "Widget",
        "metadata": {key: value for key, value in fields.items() if value is not None},
        "spec": spec or {},
    }


def config_map(name: str, data: Obj | None = None, **metadata: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": data or {},
    }


def pod(name: str, **container: Any) -> Obj:
    """A pod that no scheduler takes, so that it stays as it was made."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "schedulerName": "nobody",
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "none.invalid/none:1", **container}],
        },
    }


def job(name: str, pod_spec: Obj | None = None, **spec: Any) -> Obj:
    """A suspended Job: a Job controller makes no pods for it."""
    template = {**pod(name)["spec"], **(pod_spec or {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, **spec, "template": {"spec": template}},
    }


def owned_by(owner: Obj, blocks: bool = False) -> list[Obj]:
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    fields = {name: owner["metadata"][name] for name in ("name", "uid")}
    return [{**reference, **fields, "blockOwnerDeletion": blocks}]


def causes(status: Obj) -> dict[str, str]:
    """Field to reason, of a refusal."""
    return {each["field"]: each["reason"] for each in status["details"]["causes"]}
