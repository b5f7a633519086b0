"""`python -m primo_local.apiserver --state-dir DIR`: serve until told to stop."""

import argparse
import asyncio
import errno
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from primo_local import pki
from primo_local.apiserver.journal import Journal, JournalError
from primo_local.apiserver.podlog import NodeAccess
from primo_local.apiserver.server import Serving, serve
from primo_local.garbage import look_seldom

log = logging.getLogger("primo_local.apiserver")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="primo_local.apiserver", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True, help="keys and kubeconfig")
    parser.add_argument(
        "--data-dir", type=Path, help="keep all objects here; without it they end with the process"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes the last one or a free one")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    look_seldom()
    os.umask(0o077)  # whatever is written is for its owner alone
    state = pki.prepare(options.state_dir)
    # Held until the process ends: two servers in one directory would fight over its kubeconfig.
    with (state.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.error("another API server runs in %s", state.root)
            return 1
        try:
            asyncio.run(_run(state, options.port, options.data_dir))
        except JournalError as error:
            log.error("%s", error)
            return 1
    return 0


async def _run(state: pki.StateDir, port: int, data_dir: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        journal = None
        if data_dir:
            journal = stack.enter_context(Journal.open(data_dir / "objects.sqlite"))
        serving = await _started(stack, state, port, journal)
        pki.write_kubeconfig(state, serving.port)
        log.info("serving on https://127.0.0.1:%d", serving.port)
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait((stopped, serving.failed), return_when=asyncio.FIRST_COMPLETED)
        if serving.failed.done():
            serving.failed.result()


async def _started(
    stack: AsyncExitStack, state: pki.StateDir, port: int, journal: Journal | None
) -> Serving:
    tls = pki.server_context(state, "apiserver")
    access = NodeAccess(state.token.read_text(), pki.client_context(state))
    if port == 0 and (last := pki.last_port(state)):
        try:
            return await stack.enter_async_context(serve(tls, access, last, journal))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return await stack.enter_async_context(serve(tls, access, port, journal))


if __name__ == "__main__":
    sys.exit(main())
