"""Runs the node, and with `--controllers` the controllers too, against an API server."""

import argparse
import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from primo_local.client import CLAIMS, JOBS, NODES, PODS, Client, Kubeconfig
from primo_local.controllers.events import Recorder
from primo_local.controllers.informer import Informer
from primo_local.controllers.job import BackoffSettings
from primo_local.controllers.job_loop import JobController
from primo_local.controllers.scheduler import NAME as SCHEDULER
from primo_local.controllers.scheduler import Scheduler
from primo_local.controllers.volumes import Volumes
from primo_local.garbage import look_seldom
from primo_local.node.agent import Agent
from primo_local.node.devices import Devices, real_gpus
from primo_local.node.kubelet_server import KubeletServer
from primo_local.node.quarters import Host, Settings
from primo_local.node.registration import Registration, capacity_of_machine

log = logging.getLogger(__name__)

SHUTDOWN_AT_MOST_S: Final = 8.0
_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line says.

    Attributes:
        state_dir: holds pki/node.{crt,key} and token; gets node/ and volumes/.
        job_backoff_s: how long a Job waits after its first failed pod.
    """

    kubeconfig: Path
    state_dir: Path
    workdir: Path
    node_name: str
    gpus: int
    controllers: bool
    job_backoff_s: float


def parse(words: list[str]) -> Arguments:
    parser = argparse.ArgumentParser(prog="python -m primo_local.node", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--kubeconfig", type=Path, help="default: STATE_DIR/kubeconfig")
    parser.add_argument("--workdir", type=Path, default=Path.cwd(), help="of the containers")
    parser.add_argument("--node-name", default="local")
    parser.add_argument("--gpus", type=int, help="pretend so many; default: those that are there")
    parser.add_argument("--controllers", action="store_true")
    parser.add_argument("--job-backoff-s", type=float, default=BackoffSettings().base_s)
    given = parser.parse_args(words)
    return Arguments(
        kubeconfig=given.kubeconfig or given.state_dir / "kubeconfig",
        state_dir=given.state_dir.resolve(),
        workdir=given.workdir.resolve(),
        node_name=given.node_name,
        gpus=real_gpus() if given.gpus is None else given.gpus,
        controllers=given.controllers,
        job_backoff_s=given.job_backoff_s,
    )


async def serve(arguments: Arguments, stop: asyncio.Event) -> None:
    """Until told to stop; then every container has ended."""
    config = Kubeconfig.load(arguments.kubeconfig)
    async with Client(config) as client, asyncio.TaskGroup() as group:
        parts = _controllers(client, arguments) if arguments.controllers else []
        agent, server, node_parts = await _node(client, arguments)
        tasks = [group.create_task(part) for part in (*parts, *node_parts)]
        await stop.wait()
        log.info("stopping")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(agent.shut_down(), SHUTDOWN_AT_MOST_S)
        await server.stop()
        for task in tasks:
            task.cancel()


def _controllers(client: Client, arguments: Arguments) -> list[Coroutine[Any, Any, None]]:
    jobs, pods = Informer(client, JOBS), Informer(client, PODS)
    nodes, claims = Informer(client, NODES), Informer(client, CLAIMS)
    job_events = Recorder(client, "job-controller")
    scheduler_events = Recorder(client, SCHEDULER)
    backoff = BackoffSettings(base_s=arguments.job_backoff_s)
    return [
        JobController(client, jobs, pods, job_events, backoff).run(),
        Scheduler(client, pods, nodes, claims, scheduler_events).run(),
        Volumes(client, claims, pods, arguments.state_dir / "volumes").run(),
        *(informer.run() for informer in (jobs, pods, nodes, claims)),
        *(recorder.run() for recorder in (job_events, scheduler_events)),
    ]


async def _node(
    client: Client, arguments: Arguments
) -> tuple[Agent, KubeletServer, list[Coroutine[Any, Any, None]]]:
    state, name = arguments.state_dir, arguments.node_name
    pods_dir = state / "node" / "pods"
    pods_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    capacity = capacity_of_machine(arguments.gpus, state)
    recorder = Recorder(client, "kubelet", name)
    host = Host(
        client=client,
        recorder=recorder,
        devices=Devices(arguments.gpus, real_gpus()),
        pods=pods_dir,
        claims=state / "volumes",
        workdir=arguments.workdir,
        capacity=capacity,
        settings=Settings(),
    )
    pods = Informer(client, PODS, {"fieldSelector": f"spec.nodeName={name}"})
    agent = Agent(host, pods)
    server = KubeletServer(agent, (state / "token").read_text().strip())
    port = await server.start(state / "pki" / "node.crt", state / "pki" / "node.key")
    registration = Registration(client, name, capacity, port)
    sign = _show_ready(registration, state / "node" / "ready")
    return agent, server, [agent.run(), pods.run(), recorder.run(), registration.run(), sign]


async def _show_ready(registration: Registration, sign: Path) -> None:
    """The supervisor waits for this file."""
    await registration.registered.wait()
    await asyncio.to_thread(sign.touch)


def become_subreaper() -> None:
    """So that what a killed shim leaves behind comes to us and not to init."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def _main(arguments: Arguments) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(arguments, stop)


class _Fields(logging.Formatter):
    """Appends the fields of `extra` to the line."""

    _USUAL: Final = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: v for name, v in vars(record).items() if name not in self._USUAL}
        return " ".join([super().format(record), *(f"{k}={v}" for k, v in fields.items())])


def main() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Fields("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    look_seldom()
    become_subreaper()
    asyncio.run(_main(parse(sys.argv[1:])))


if __name__ == "__main__":
    main()
