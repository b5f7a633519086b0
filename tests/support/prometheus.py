"""A real Prometheus on loopback, and an exporter for it to scrape."""

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.waiting import eventually

TOOLS = Path(__file__).parents[2] / ".tools"
BINARY = shutil.which("prometheus") or shutil.which("prometheus", path=TOOLS / "usr" / "bin")
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=TOOLS / "usr" / "bin")

needs_prometheus = pytest.mark.skipif(
    BINARY is None, reason="no prometheus binary: `make prometheus` fetches Debian's"
)

# Labels of the exporter's own pod: so what it says of others' arrives as exported_pod and so on.
CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: exporter
  static_configs:
  - targets: ['127.0.0.1:{port}']
    labels: {labels}
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Exporter:
    """Serves what a function says, in Prometheus's text format."""

    def __init__(self, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def scraping(port: int, **labels: str) -> str:
    """A configuration with one target."""
    return CONFIG.format(port=port, labels=json.dumps(labels))


def asked(url: str, endpoint: str, **given: str | float) -> list[Any]:
    """The series that a server's `query` or `query_range` finds."""
    form = urllib.parse.urlencode(given).encode()
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{endpoint}", form, timeout=10) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        error.add_note(error.read().decode())
        raise
    return result


class Prometheus:
    """One server, which may be stopped and started again with what it knows."""

    def __init__(self, folder: Path, config: str) -> None:
        self._folder = folder
        (folder / "prometheus.yml").write_text(config)
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert BINARY
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(  # a binary of ours
                [
                    BINARY,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self.address}",
                ],
                stdout=log,
                stderr=log,
            )
        eventually(self._ready, "Prometheus is ready", 60.0)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def query(self, query: str) -> list[Any]:
        """The series of an instant query."""
        return asked(self.url, "query", query=query)

    def _ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False
