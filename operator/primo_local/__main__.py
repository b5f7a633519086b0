"""Runs a local cluster in the foreground: `python -m primo_local`, until Ctrl-C."""

import argparse
import contextlib
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from primo_local.cluster import ClusterStartError, LocalCluster

LOOK_AGAIN_S: Final = 0.5


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m primo_local", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=Path(".local-cluster"))
    parser.add_argument("--gpus", type=int, default=2, help="that the node has or pretends to have")
    parser.add_argument("--workdir", type=Path, help="of containers; default: here")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with (
            LocalCluster.start(
                arguments.state_dir, gpus=arguments.gpus, workdir=arguments.workdir
            ) as cluster,
            # An exception, no flag: an Event set in a handler can deadlock with its own wait.
            contextlib.suppress(KeyboardInterrupt),
        ):
            path = shlex.quote(str(cluster.kubeconfig))
            sys.stdout.write(f"export KUBECONFIG={path}\n")
            sys.stdout.flush()
            while True:
                cluster.check()
                time.sleep(LOOK_AGAIN_S)
    except ClusterStartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:  # before it was up
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
