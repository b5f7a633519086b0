"""A summary for Prometheus, and the small server that hands it out."""

import math
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer, TCPServer
from threading import Thread
from typing import Any, Final

from primo_report.wire import Summary

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(summary: Summary) -> bytes:
    """The summary in the Prometheus text format 0.0.4, the last value of each metric."""
    lines = _family("primo_report_records_total", "counter", "Reports read.", summary.seq)
    lines += _family("primo_report_rejected_total", "counter", "Lines ignored.", summary.rejected)
    lines += _family(
        "primo_report_problem", "gauge", "1 while reports may go unread.", bool(summary.note)
    )
    if summary.step is not None:
        lines += _family("primo_report_step", "gauge", "Highest step reported.", summary.step)
    if summary.fidelity is not None:
        lines += _family(
            "primo_report_fidelity", "gauge", "Highest fidelity reported.", summary.fidelity
        )
    if summary.metrics:
        lines += _header("primo_report_metric", "gauge", "Value at the highest step.")
    for name, reduced in summary.metrics.items():
        label = name.translate(_ESCAPES)
        lines.append(f'primo_report_metric{{metric="{label}"}} {_number(reduced.last)}')
    return ("\n".join(lines) + "\n").encode()


def serve(address: str, port: int, page: Callable[[], bytes], healthy: Callable[[], bool]) -> int:
    """Serve `/metrics` and `/healthz` from a thread that ends with the process.

    Returns:
        The port, which is another than asked for where that was 0.

    Raises:
        OSError: the address cannot be had, as when the port is taken.
        RuntimeError: no thread can be started, as when the pod's processes are counted.
    """
    server = _Server(address, port, page, healthy)
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    bound: int = server.server_address[1]
    return bound


class _Server(TCPServer):
    """One request after the other, so that no crowd of clients takes memory from the training.

    Not http.server.HTTPServer: that asks the resolver for its own name as it starts, for seconds
    where there is none.
    """

    allow_reuse_address = True

    def __init__(
        self, address: str, port: int, page: Callable[[], bytes], healthy: Callable[[], bool]
    ) -> None:
        self.page = page
        self.healthy = healthy
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 2  # seconds for a client to go on; the others wait

    def __init__(self, request: Any, client_address: Any, server: BaseServer) -> None:
        assert isinstance(server, _Server)
        self._page = server.page
        self._healthy = server.healthy
        super().__init__(request, client_address, server)

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, self._page())
            case "/healthz":
                if self._healthy():
                    self._answer(200, b"ok\n")
                else:
                    self._answer(503, b"the report file is not being followed\n")
            case _:
                self._answer(404, b"there are /metrics and /healthz\n")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name for it
        """Scrapes are not worth a line each."""


def _family(name: str, kind: str, text: str, value: float) -> list[str]:
    return [*_header(name, kind, text), f"{name} {_number(value)}"]


def _header(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value + 0)  # True + 0 is 1
