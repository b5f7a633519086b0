"""One container of a pod: started, watched, started again as its pod wishes, and stopped."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from primo_local.apiserver.clock import utc_now
from primo_local.client import ClientError, Obj
from primo_local.controllers.events import Severity
from primo_local.node.environment import ConfigError
from primo_local.node.messages import read_message
from primo_local.node.runtime import Order, Process, StartError
from primo_local.node.states import (
    LOST,
    ContainerView,
    Role,
    Running,
    State,
    Terminated,
    Waiting,
)

log = logging.getLogger(__name__)

START_ERROR_CODE: Final = 128
# From its start on; an interpreter on a busy laptop is up by then.
LISTENING_S: Final = 3.0
NO_IMAGES: Final = (
    'Container image "{image}" is not present with pull policy of Never: '
    "this node runs processes and has no images, so the container must set command"
)


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """How long a container that ended waits: nothing, then these seconds, then twice as many."""

    first_s: float = 10.0
    at_most_s: float = 300.0
    forgotten_after_s: float = 600.0  # of running well
    config_retry_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Files:
    """Where one container's termination message and logs are."""

    message: Path
    logs: Path

    def log_of(self, attempt: int) -> Path:
        return self.logs / f"{attempt}.log"


class Surroundings(Protocol):
    """What a container needs of its pod."""

    async def order(self, container: Obj, files: Files, attempt: int) -> Order: ...

    def changed(self) -> None: ...

    def tell(self, container: Obj, severity: Severity, reason: str, message: str) -> None: ...


class Deadline:
    """A moment that may be moved nearer while others wait for it."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + seconds
        self._moved = asyncio.Event()

    def left_s(self) -> float:
        return self._at - self._loop.time()

    def shorten(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        if at < self._at:
            self._at = at
            self._moved.set()

    async def passed(self) -> None:
        while self.left_s() > 0:
            self._moved.clear()
            await first_of(self._moved.wait(), asyncio.sleep(self.left_s()))


async def first_of(*waits: Awaitable[object]) -> None:
    """Return when one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(slots=True)
class Container:
    """The container and what it is doing.

    `run` is called once and returns when the container will not run again; `stop` makes that so.
    """

    spec: Obj
    role: Role
    policy: str  # Always, OnFailure or Never, for this container
    files: Files
    siblings: int  # containers of the pod, this one included, who share the message limit
    pod: Surroundings
    pod_uid: str
    backoff: BackoffSettings
    state: State
    last: Terminated | None = None
    restarts: int = 0
    has_started: asyncio.Event = field(default_factory=asyncio.Event)
    _process: Process | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _pause_s: float = 0.0

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def view(self) -> ContainerView:
        image = str(self.spec.get("image", ""))
        return ContainerView(self.name, image, self.role, self.state, self.last, self.restarts)

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def run(self) -> None:
        """Run it as often as its policy says, until it is over or stopped."""
        attempt = 0
        try:
            while not self._stopping.is_set():
                process = await self._start(attempt)
                if process is None and isinstance(self.state, Waiting):
                    await self._pause(self.backoff.config_retry_s)  # not made yet: not a restart
                    continue
                if process is not None:
                    await self._watch(process, attempt)
                if self._stopping.is_set() or not self._runs_again():
                    return
                await self._back_off()
                attempt += 1
        finally:
            self._over.set()
            self.pod.changed()

    async def stop(self, deadline: Deadline) -> None:
        """SIGTERM now, SIGKILL at the deadline; returns when no process of it is left.

        A container that waits for its next start keeps its last state as `last`, and its state
        becomes unknown, as the kubelet writes it.
        """
        self._stopping.set()
        if self.role is Role.SIDECAR:
            await self._listening(deadline)
        if self._process is not None:
            self.pod.tell(self.spec, "Normal", "Killing", f"Stopping container {self.name}")
            self._process.terminate()
        await first_of(self._over.wait(), deadline.passed())
        while not self.is_over:
            # In a loop: the process may have come into being only just now.
            if self._process is not None:
                self._process.kill()
            await first_of(self._over.wait(), asyncio.sleep(0.1))
        if isinstance(self.state, Waiting) and self.last is not None:
            self.state = LOST

    async def _listening(self, deadline: Deadline) -> None:
        """Wait until a sidecar that was started only just now hears SIGTERM.

        As process 1 of a real container it does not die of a SIGTERM that it has no handler for;
        here it would, and the end of a short main container would go unnoticed by it.
        """
        while (process := self._process) is not None and isinstance(self.state, Running):
            age_s = (utc_now() - self.state.started_at).total_seconds()
            if process.hears_sigterm() or age_s >= LISTENING_S or deadline.left_s() <= 0:
                return
            await first_of(self._over.wait(), asyncio.sleep(0.02))

    def lose(self) -> None:
        """Say that nobody knows how it ended, whatever it was doing."""
        self.state = LOST

    async def wait_started_or_over(self) -> None:
        await first_of(self.has_started.wait(), self._over.wait())

    async def wait_over(self) -> None:
        await self._over.wait()

    async def _start(self, attempt: int) -> Process | None:
        if not self.spec.get("command"):
            message = NO_IMAGES.format(image=self.spec.get("image", ""))
            self._wait_for("ErrImageNeverPull", message)
            return None
        try:
            order = await self.pod.order(self.spec, self.files, attempt)
        except (ConfigError, ClientError) as error:
            self._wait_for("CreateContainerConfigError", str(error))
            return None
        except OSError as error:  # a full disk, for one
            self._wait_for("CreateContainerError", str(error))
            return None
        container_id = f"process://{self.pod_uid}/{self.name}/{attempt}"
        self.restarts = attempt
        try:
            process = await Process.start(order)
        except (StartError, OSError) as error:
            self._end_at_start(f"failed to start container process: {error}", container_id)
            return None
        self._process = process
        self.state = Running(utc_now(), container_id)
        self.has_started.set()
        self.pod.tell(self.spec, "Normal", "Started", f"Started container {self.name}")
        self.pod.changed()
        if self._stopping.is_set():
            process.terminate()
        return process

    def _wait_for(self, reason: str, message: str) -> None:
        if self.state == Waiting(reason, message):
            return
        self.state = Waiting(reason, message)
        self.pod.tell(self.spec, "Warning", "Failed", f"Error: {message}")
        self.pod.changed()

    def _end_at_start(self, message: str, container_id: str) -> None:
        now = utc_now()
        # The kubelet has no start time either, and writes the epoch.
        epoch = now - timedelta(seconds=now.timestamp())
        self.state = Terminated(START_ERROR_CODE, "StartError", message, epoch, now, container_id)
        self.pod.tell(self.spec, "Warning", "Failed", f"Error: {message}")
        self.pod.changed()

    async def _watch(self, process: Process, attempt: int) -> None:
        assert isinstance(self.state, Running)
        started = self.state
        code = await process.wait()
        self._process = None
        message = await asyncio.to_thread(
            read_message,
            self.files.message,
            self.files.log_of(attempt),
            policy=self.spec.get("terminationMessagePolicy", "File"),
            exit_code=code,
            containers=self.siblings,
        )
        now = utc_now()
        if (now - started.started_at).total_seconds() >= self.backoff.forgotten_after_s:
            self._pause_s = 0.0
        reason = "Completed" if code == 0 else "Error"
        self.state = Terminated(
            code, reason, message, started.started_at, now, started.container_id
        )
        self.pod.changed()

    def _runs_again(self) -> bool:
        assert isinstance(self.state, Terminated)
        failed = self.state.exit_code != 0
        return self.policy == "Always" or (self.policy == "OnFailure" and failed)

    async def _back_off(self) -> None:
        assert isinstance(self.state, Terminated)
        self.last = self.state
        pause_s = self._pause_s
        self._pause_s = min(pause_s * 2 or self.backoff.first_s, self.backoff.at_most_s)
        if not pause_s:
            return
        message = f"back-off {pause_s:g}s restarting failed container={self.name}"
        self.state = Waiting("CrashLoopBackOff", message)
        words = f"Back-off restarting failed container {self.name}"
        self.pod.tell(self.spec, "Warning", "BackOff", words)
        self.pod.changed()
        await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        await first_of(self._stopping.wait(), asyncio.sleep(seconds))
