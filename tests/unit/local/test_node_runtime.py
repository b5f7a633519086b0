"""Process trees under their shims: started, logged, ended, and never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from primo_local.node import logs
from primo_local.node.runtime import Order, Process, StartError, base_environment

DEADLINE_S = 20

# A main process whose grandchild is in a session of its own and ignores SIGTERM.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
print("up", flush=True)
time.sleep(float(sys.argv[2]))
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs subreapers and /proc")


def order(tmp_path: Path, *argv: str, **env: str) -> Order:
    base = base_environment(tmp_path, tmp_path, "host")
    return Order(list(argv), base | env, tmp_path, tmp_path / "logs" / "0.log")


def printed(tmp_path: Path) -> str:
    entries = logs.read(tmp_path / "logs" / "0.log")
    return b"".join(entry.rendered(timestamps=False) for entry in entries).decode()


async def eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not happened():
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 3", 3, id="an exit code"),
        pytest.param("kill -9 $$", 137, id="a signal is 128 and its number"),
        pytest.param("kill -TERM $$", 143, id="SIGTERM too"),
    ],
)
def test_the_end_of_a_process_is_its_exit_code(tmp_path: Path, script: str, code: int) -> None:
    async def run() -> int:
        return await (await Process.start(order(tmp_path, "sh", "-c", script))).wait()

    assert asyncio.run(run()) == code


def test_both_streams_are_logged_before_the_end_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        script = "echo out; echo err >&2; printf 'no newline'"
        await (await Process.start(order(tmp_path, "sh", "-c", script))).wait()

    asyncio.run(run())
    assert sorted(printed(tmp_path).splitlines()) == ["err", "no newline", "out"]


def test_a_long_line_comes_out_as_it_went_in(tmp_path: Path) -> None:
    async def run() -> None:
        script = "print('x' * 100_000); print('y')"
        await (await Process.start(order(tmp_path, "python", "-c", script))).wait()

    asyncio.run(run())
    assert printed(tmp_path) == "x" * 100_000 + "\ny\n"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        pytest.param(
            ["nosuchprogram"],
            'exec: "nosuchprogram": executable file not found in $PATH',
            id="not in the PATH",
        ),
        pytest.param(
            ["/no/such"], 'exec: "/no/such": no such file or directory', id="no such file"
        ),
        pytest.param(["/etc"], 'exec: "/etc": permission denied', id="not a program"),
    ],
)
def test_a_program_that_cannot_be_run_says_why(
    tmp_path: Path, argv: list[str], complaint: str
) -> None:
    with pytest.raises(StartError) as caught:
        asyncio.run(Process.start(order(tmp_path, *argv)))
    assert str(caught.value) == complaint


def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    wrong = Order(["true"], {}, tmp_path / "none", tmp_path / "0.log")
    with pytest.raises(StartError, match=r"chdir to cwd \(.*none.*\): No such file"):
        asyncio.run(Process.start(wrong))


def test_python_is_the_interpreter_that_runs_us(tmp_path: Path) -> None:
    async def run() -> None:
        argv = ("python", "-c", "import sys; print(sys.executable)")
        await (await Process.start(order(tmp_path, *argv))).wait()

    asyncio.run(run())
    assert printed(tmp_path).strip() == sys.executable


def test_a_process_sees_nothing_of_our_environment_but_a_few_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "hush")

    async def run() -> None:
        argv = ("python", "-c", "import os, json; print(json.dumps(dict(os.environ)))")
        await (await Process.start(order(tmp_path, *argv, OWN="x"))).wait()

    asyncio.run(run())
    seen = json.loads(printed(tmp_path))
    assert seen["OWN"] == "x"
    assert seen["HOME"] == str(tmp_path)
    assert seen["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    allowed = {"PATH", "HOME", "TMPDIR", "HOSTNAME", "LANG", "TZ", "VIRTUAL_ENV", "OWN"}
    assert set(seen) <= allowed | {"LC_ALL", "LC_CTYPE"}


def test_sigterm_reaches_the_group_and_a_handler_may_end_in_peace(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"

    async def run() -> int:
        process = await Process.start(order(tmp_path, "sh", "-c", script))
        await eventually(lambda: "up" in printed(tmp_path))
        process.terminate()
        return await process.wait()

    assert asyncio.run(run()) == 7
    assert "bye" in printed(tmp_path)


@linux_only
@pytest.mark.parametrize("ending", ["by itself", "by SIGTERM", "by SIGKILL"])
def test_when_the_main_process_ends_its_daemons_end_too(tmp_path: Path, ending: str) -> None:
    note = tmp_path / "pid"

    async def run() -> None:
        lasts = "0.1" if ending == "by itself" else "600"
        argv = ("python", "-c", DAEMON, str(note), lasts)
        process = await Process.start(order(tmp_path, *argv))
        await eventually(lambda: "up" in printed(tmp_path))
        if ending == "by SIGTERM":
            process.terminate()
        elif ending == "by SIGKILL":
            process.kill()
        async with asyncio.timeout(DEADLINE_S):
            await process.wait()
        assert not is_alive(int(note.read_text()))

    asyncio.run(run())


@linux_only
@pytest.mark.parametrize("victim", ["the one who started it", "its shim"])
def test_a_killed_parent_leaves_no_process_running(tmp_path: Path, victim: str) -> None:
    note = tmp_path / "pid"
    starter = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from primo_local.node.__main__ import become_subreaper
        from primo_local.node.runtime import Order, Process, base_environment
        async def run():
            here = Path(sys.argv[1])
            base = base_environment(here, here, "host")
            argv = ["python", "-c", sys.argv[2], str(here / "pid"), "600"]
            process = await Process.start(Order(argv, base, here, here / "logs" / "0.log"))
            print(process.pid, flush=True)
            print(await process.wait(), flush=True)
        become_subreaper()
        asyncio.run(run())
    """)
    argv = [sys.executable, "-c", starter, str(tmp_path), DAEMON]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        main = int(node.stdout.readline())

        async def run() -> None:
            await eventually(lambda: "up" in printed(tmp_path))
            if victim == "its shim":
                os.kill(_parent_of(main), signal.SIGKILL)
            else:
                node.kill()
            await eventually(lambda: not is_alive(main) and not is_alive(int(note.read_text())))

        try:
            asyncio.run(run())
        finally:
            node.kill()


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@linux_only
@pytest.mark.parametrize(
    ("script", "hears"),
    [
        ("trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", True),
        ("trap '' TERM; echo up; while :; do sleep 0.05; done", True),
        ("echo up; while :; do sleep 0.05; done", False),
    ],
)
def test_whether_sigterm_would_be_heard_is_known(tmp_path: Path, script: str, hears: bool) -> None:
    async def run() -> None:
        process = await Process.start(order(tmp_path, "sh", "-c", script))
        await eventually(lambda: "up" in printed(tmp_path))
        assert process.hears_sigterm() is hears
        process.kill()
        await process.wait()
        assert process.hears_sigterm()  # of what is over, nothing is known

    asyncio.run(run())
