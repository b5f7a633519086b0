"""Plain HTTP to the API server of a kubeconfig: a test sees what went over the wire."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

Reply = tuple[int, dict[str, Any]]


class Kube:
    """One API server. Calls return the status code and the body, and raise for neither."""

    def __init__(self, kubeconfig: Path, as_nobody: bool = False) -> None:
        found = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=found)
        self._url = found.host
        self._headers = {"Accept": "application/json"}
        if as_nobody:
            self._pool = urllib3.PoolManager(ca_certs=found.ssl_ca_cert)
            return
        for setting in found.auth_settings().values():
            self._headers[setting["key"]] = setting["value"]
        self._pool = urllib3.PoolManager(
            ca_certs=found.ssl_ca_cert, cert_file=found.cert_file, key_file=found.key_file
        )

    def __call__(
        self, method: str, path: str, body: object = None, kind: str = "json", **query: str
    ) -> Reply:
        """`kind` is the patch's: merge-patch+json, json-patch+json, ..."""
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**self._headers, "Content-Type": f"application/{kind}"}
        data = None if body is None else json.dumps(body)
        reply = self._pool.request(method, url, body=data, headers=headers, retries=False)
        if "json" not in reply.headers.get("Content-Type", ""):
            return reply.status, {"message": reply.data.decode()}  # of a path that nobody serves
        return reply.status, json.loads(reply.data or b"{}")
