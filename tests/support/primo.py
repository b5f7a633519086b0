"""`primo` as a user types it, and what it leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def primo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """In a folder, with its state below it; what it says can be read line by line."""
    # A shell starts jobs in the background with Ctrl-C ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "primo_cli", *arguments, "--state-dir", str(folder / "state")],
        cwd=folder,
        # Nothing on this machine is asked by way of a proxy, and this one leads nowhere.
        env={**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes(folder: Path) -> list[str]:
    """Command lines that name the state folder: servers, node and trials alike."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and int(path.name) != os.getpid():
            found.append(
                words.split(b"\0\0")[0].replace(b"\0", b" ").decode(errors="replace")[:200]
            )
    return found
