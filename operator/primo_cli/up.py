"""`primo up`: a local cluster with the operator, until Ctrl-C."""

import shlex
import signal
import time
from pathlib import Path

from primo_cli.session import local_session

POLL_S = 0.5


def serve(
    namespace: str, gpus: int, workdir: Path, state_dir: Path, prometheus: Path | None
) -> int:
    """Start it, say how to use it, wait."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with local_session(state_dir, namespace, gpus, workdir, prometheus) as session:
            print(f"export KUBECONFIG={shlex.quote(str(session.kubeconfig))}", flush=True)
            if session.prometheus:
                print(f"Prometheus: {session.prometheus.url}", flush=True)
            print("Ctrl-C ends it", flush=True)
            while True:
                session.tend()
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        print("stopped; nothing is left running")
    return 0
