"""One pod on this node, from its binding to its removal."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from primo_local.apiserver.clock import utc_now
from primo_local.client import (
    PODS,
    STRATEGIC_PATCH,
    ApiError,
    Client,
    ClientError,
    NotFoundError,
    Obj,
    key_of,
)
from primo_local.controllers.events import Recorder, Severity
from primo_local.controllers.resources import requests_of_pod
from primo_local.node import sources, volumes
from primo_local.node.container import (
    BackoffSettings,
    Container,
    Deadline,
    Files,
    first_of,
)
from primo_local.node.devices import GPU, Devices, shares
from primo_local.node.environment import ConfigError, command_of, variables_of
from primo_local.node.paths import PathMap
from primo_local.node.runtime import Order, base_environment
from primo_local.node.states import (
    LOST,
    Override,
    Role,
    Running,
    Terminated,
    Waiting,
    pod_status,
    terminated_of,
)

log = logging.getLogger(__name__)

TERMINATION_LOG: Final = "/dev/termination-log"
LEAST_GRACE_S: Final = 1.0  # also for grace 0, as a kubelet
LEAST_SIDECAR_GRACE_S: Final = 2.0  # also when the main containers have used it up
SHUTDOWN_GRACE_S: Final = 2.0
MERGE_CHANGES_S: Final = 0.03
RETRY_S: Final = 0.5

SHUTDOWN: Final = Override(
    "Terminated",
    "Pod was terminated in response to imminent node shutdown.",
    "TerminationByKubelet",
)
NODE_LOST: Final = Override(
    "NodeLost",
    "The node was started anew while this pod was on it; its processes are gone.",
    "NodeLost",
)
DEADLINE: Final = Override(
    "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
)


@dataclass(frozen=True, slots=True)
class Settings:
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    usage_period_s: float = 5.0  # between looks at emptyDir limits


@dataclass(frozen=True, slots=True)
class Host:
    """What the node offers to its pods."""

    client: Client
    recorder: Recorder
    devices: Devices
    pods: Path
    claims: Path
    workdir: Path
    capacity: Mapping[str, str]
    settings: Settings


class Pod:
    """Runs a pod's containers and keeps its status true.

    `run` lives as long as the pod's object; `update` and `removed` say what happened to that.
    """

    def __init__(self, host: Host, pod: Obj) -> None:
        self._host = host
        self._object = pod
        self._directory = host.pods / pod["metadata"]["uid"]
        self._places: dict[str, Path] = {}
        self._gpus: Mapping[str, Sequence[int]] = {}
        self._started_at = utc_now()
        self._override: Override | None = None
        self._sandbox = False
        self._over = False
        self._ending = asyncio.Event()  # the containers are to stop
        self._unwanted = asyncio.Event()  # the object is being deleted, or gone
        self._removed = asyncio.Event()
        self._settled = asyncio.Event()  # nothing runs, and the last status is written
        self._deadline: Deadline | None = None
        self._dirty = asyncio.Event()
        self._written: Obj = {}
        self._to_lose: list[Container] = []
        self._begun: list[tuple[Container, asyncio.Task[None]]] = []
        self._containers = self._make_containers()
        if pod["metadata"].get("deletionTimestamp"):
            self.update(pod)

    def update(self, pod: Obj) -> None:
        """The object has changed; being deleted ends the pod, perhaps sooner than asked before."""
        self._object = pod
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            self._unwanted.set()
            self._end(max(float(meta.get("deletionGracePeriodSeconds") or 0), LEAST_GRACE_S))

    def removed(self) -> None:
        """The object is gone, by force if we had not finished."""
        self._removed.set()
        self._unwanted.set()
        self._end(LEAST_GRACE_S)

    async def run(self) -> None:
        """Serve the pod until its object is gone; then leave nothing of it."""
        writer = asyncio.create_task(self._keep_status())
        try:
            await self._serve()
        finally:
            writer.cancel()
        self._over = True
        await self._write_final()
        await self._await_removal()

    async def run_lost(self) -> None:
        """The pod was run by a node that is no more: say so, then wait to be rid of it."""
        for container in self._containers:
            _restore(container, self._object)
        await self._finish_as(NODE_LOST)

    async def run_finished(self) -> None:
        """The pod had ended before this node started: only its removal is left."""
        await self._await_removal()

    async def shut_down(self) -> None:
        """The node ends: stop the containers now, say why, and return when that is written."""
        if not self._over:
            self._override = self._override or SHUTDOWN
            self._end(SHUTDOWN_GRACE_S)
        await self._settled.wait()

    def has_ended(self, container: str) -> bool:
        """Nothing is written to the container's log at present, and perhaps never again."""
        for each, _ in self._begun:
            if each.name == container:
                return each.is_over or not isinstance(each.state, Running)
        return self._over or self._ending.is_set()

    # What a container needs of its pod.

    async def order(self, container: Obj, files: Files, attempt: int) -> Order:
        host = self._host
        known = await sources.fetch(host.client, self._object, host.capacity)
        declared = variables_of(container, self._object, known)
        message = container.get("terminationMessagePath") or TERMINATION_LOG
        places = volumes.mounts(container, self._places, declared)
        paths = PathMap({**places, message: files.message})
        home, temporary = self._directory / "home", self._directory / "tmp"
        for folder in (files.message.parent, home, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        files.message.write_bytes(b"")
        files.message.chmod(0o666)
        base = base_environment(home, temporary, self._object["metadata"]["name"])
        own = {name: paths.rewrite(value) for name, value in declared.items()}
        return Order(
            argv=[paths.rewrite(word) for word in command_of(container, declared)],
            env=base | self._gpu_variables(container) | own,
            cwd=paths.locate(container.get("workingDir") or "") or host.workdir,
            log=files.log_of(attempt),
        )

    def changed(self) -> None:
        self._dirty.set()

    def tell(self, container: Obj, severity: Severity, reason: str, message: str) -> None:
        inits = self._object["spec"].get("initContainers") or []
        group = "initContainers" if container in inits else "containers"
        path = f"spec.{group}{{{container['name']}}}"
        self._host.recorder.record(self._object, severity, reason, message, path)

    # Its life.

    async def _serve(self) -> None:
        refusal = volumes.refusal(self._object)
        if refusal:
            self._override = Override("UnsupportedVolume", refusal)
            self._host.recorder.record(self._object, "Warning", "FailedMount", refusal)
            return
        wanted = int(requests_of_pod(self._object).get(GPU, 0))
        lending = asyncio.create_task(self._host.devices.lend(wanted))
        await first_of(asyncio.shield(lending), self._ending.wait())
        if not lending.done():
            lending.cancel()
            return
        lent = lending.result()
        try:
            self._gpus = shares(self._object, lent)
            if await self._prepare():
                await self._run_containers()
        finally:
            await self._host.devices.take_back(lent)

    async def _prepare(self) -> bool:
        """Make the volumes, however long what they need is missing; False if told to end."""
        while not self._ending.is_set():
            try:
                known = await sources.fetch(self._host.client, self._object, self._host.capacity)
                self._places = await asyncio.to_thread(
                    volumes.prepare,
                    self._object,
                    self._directory / "volumes",
                    self._host.claims,
                    known,
                )
            except (ConfigError, ClientError, OSError) as error:
                words = f"MountVolume.SetUp failed: {error}"
                self._host.recorder.record(self._object, "Warning", "FailedMount", words)
                await first_of(self._ending.wait(), asyncio.sleep(RETRY_S))
            else:
                self._sandbox = True
                self.changed()
                return True
        return False

    async def _run_containers(self) -> None:
        guards = [asyncio.create_task(self._guard_deadline())]
        if volumes.has_limits(self._object):
            guards.append(asyncio.create_task(self._guard_usage()))
        story = asyncio.create_task(self._tell_story())
        try:
            await first_of(asyncio.shield(story), self._ending.wait())
            await self._stop()
            await story
        finally:
            for guard in guards:
                guard.cancel()
        if all(c.view.has_succeeded for c in self._containers if c.role is Role.INIT):
            unknown = [c for c in self._containers if not isinstance(c.state, Terminated)]
            for container in (*unknown, *self._to_lose):
                container.lose()

    async def _tell_story(self) -> None:
        """Init containers in order, then the main ones; returns when the last of these is over."""
        for container in self._containers:
            if self._ending.is_set():
                return
            if container.role is Role.INIT:
                self._begin(container)
                await container.wait_over()
                if not container.view.has_succeeded:
                    return
            elif container.role is Role.SIDECAR:
                self._begin(container)
                await container.wait_started_or_over()
        mains = [c for c in self._containers if c.role is Role.MAIN]
        if self._ending.is_set():
            return
        for container in mains:
            if isinstance(container.state, Waiting):
                container.state = Waiting("ContainerCreating")
            self._begin(container)
        for container in mains:
            await container.wait_over()

    def _begin(self, container: Container) -> None:
        self._begun.append((container, asyncio.create_task(container.run())))

    async def _stop(self) -> None:
        """Main containers together, then the sidecars, the last one first."""
        grace_s = float(self._object["spec"].get("terminationGracePeriodSeconds") or 30)
        deadline = self._deadline = self._deadline or Deadline(grace_s)
        others = [c for c, _ in self._begun if c.role is not Role.SIDECAR]
        await asyncio.gather(*(c.stop(deadline) for c in others if not c.is_over))
        if deadline.left_s() < LEAST_SIDECAR_GRACE_S:
            deadline = self._deadline = Deadline(LEAST_SIDECAR_GRACE_S)
        sidecars = [c for c, _ in self._begun if c.role is Role.SIDECAR]
        for sidecar in reversed(sidecars):
            await sidecar.stop(deadline)
        # A bug in a container's run surfaces here instead of being forgotten with its task.
        await asyncio.gather(*(task for _, task in self._begun))

    def _end(self, grace_s: float) -> None:
        if self._deadline is None:
            self._deadline = Deadline(grace_s)
        self._deadline.shorten(grace_s)
        self._ending.set()

    async def _guard_deadline(self) -> None:
        limit_s = self._object["spec"].get("activeDeadlineSeconds")
        if limit_s is not None:
            await asyncio.sleep(limit_s)
            self._override = DEADLINE
            self._end(float(self._object["spec"].get("terminationGracePeriodSeconds") or 30))

    async def _guard_usage(self) -> None:
        while True:
            await asyncio.sleep(self._host.settings.usage_period_s)
            problem = await asyncio.to_thread(volumes.over_limit, self._object, self._places)
            if problem:
                break
        self._override = Override("Evicted", problem)
        self._host.recorder.record(self._object, "Warning", "Evicted", problem)
        # As after a real eviction, how they ended will not be on record.
        self._to_lose = [c for c in self._containers if isinstance(c.state, Running)]
        self._end(LEAST_GRACE_S)

    # Its status.

    def _status(self) -> Obj:
        return pod_status(
            self._object,
            [container.view for container in self._containers],
            now=utc_now(),
            started_at=self._started_at,
            sandbox=self._sandbox,
            over=self._over,
            override=self._override if self._over else None,
        )

    async def _keep_status(self) -> None:
        self._dirty.set()
        while True:
            await self._dirty.wait()
            await asyncio.sleep(MERGE_CHANGES_S)
            self._dirty.clear()
            try:
                await self._write()
            except ClientError as error:
                log.warning("status not written", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)
                self._dirty.set()

    async def _write_final(self) -> None:
        while not self._removed.is_set():
            try:
                await self._write()
            except ClientError as error:
                log.warning("last status not written", extra={"error": str(error)})
                await first_of(self._removed.wait(), asyncio.sleep(RETRY_S))
            else:
                return

    async def _write(self) -> None:
        status = self._status()
        if status == self._written or self._removed.is_set():
            return
        body = {"metadata": {"uid": self._object["metadata"]["uid"]}, "status": status}
        try:
            await self._host.client.patch(
                PODS, key_of(self._object), body, "status", STRATEGIC_PATCH
            )
        except ApiError as error:
            if error.status not in (404, 409):  # removed, or another pod has that name now
                raise
        self._written = status

    async def _finish_as(self, override: Override) -> None:
        self._override = override
        self._over = True
        await self._write_final()
        await self._await_removal()

    async def _await_removal(self) -> None:
        """Confirm a deletion once nothing runs, and clean up when the object has gone."""
        self._settled.set()
        await self._unwanted.wait()
        while not self._removed.is_set():
            await self._confirm_deletion()
            # Finalizers of others may keep the object; its going will be told.
            await first_of(self._removed.wait(), asyncio.sleep(10 * RETRY_S))
        await asyncio.to_thread(volumes.remove, self._directory)

    async def _confirm_deletion(self) -> None:
        uid = self._object["metadata"]["uid"]
        try:
            await self._host.client.delete(PODS, key_of(self._object), uid=uid, grace_s=0)
        except NotFoundError:
            return
        except ClientError as error:
            log.warning("deletion not confirmed", extra={"error": str(error)})

    def _gpu_variables(self, container: Obj) -> dict[str, str]:
        lent = self._gpus.get(container["name"], ())
        if not lent:
            # Without a request a container sees no device, as with NVIDIA's device plugin.
            return {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
        visible = self._host.devices.visible(lent)
        return {"CUDA_VISIBLE_DEVICES": visible, "NVIDIA_VISIBLE_DEVICES": visible}

    def _make_containers(self) -> list[Container]:
        spec = self._object["spec"]
        inits = spec.get("initContainers") or []
        policy = spec.get("restartPolicy", "Always")
        # A failed init container is tried again unless the pod never restarts; done is done.
        init_policy = "Never" if policy == "Never" else "OnFailure"
        made = []
        for container in inits:
            is_sidecar = container.get("restartPolicy") == "Always"
            role = Role.SIDECAR if is_sidecar else Role.INIT
            made.append(self._make(container, role, "Always" if is_sidecar else init_policy))
        made += [self._make(container, Role.MAIN, policy) for container in spec["containers"]]
        return made

    def _make(self, container: Obj, role: Role, policy: str) -> Container:
        spec = self._object["spec"]
        inits = spec.get("initContainers") or []
        name = container["name"]
        return Container(
            spec=container,
            role=role,
            policy=policy,
            files=Files(
                message=self._directory / "containers" / name / "termination-log",
                logs=self._directory / "logs" / name,
            ),
            siblings=len(inits) + len(spec["containers"]),
            pod=self,
            pod_uid=self._object["metadata"]["uid"],
            backoff=self._host.settings.backoff,
            state=Waiting("PodInitializing" if inits else "ContainerCreating"),
        )


def find_log(directory: Path, container: str, *, previous: bool) -> Path | None:
    """The newest log of a container below a pod's directory, or the one before it."""
    numbered = sorted(
        (int(path.stem), path) for path in (directory / "logs" / container).glob("*.log")
    )
    index = 2 if previous else 1
    return numbered[-index][1] if len(numbered) >= index else None


def _restore(container: Container, pod: Obj) -> None:
    """Take over what the last status knew; what ran then is lost."""
    status = pod.get("status") or {}
    known = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    for each in known:
        if each["name"] == container.name:
            container.restarts = int(each.get("restartCount", 0))
            container.last = terminated_of((each.get("lastState") or {}).get("terminated"))
            ended = terminated_of((each.get("state") or {}).get("terminated"))
            if ended is not None:
                container.state = ended
            elif "running" in (each.get("state") or {}):
                container.state = LOST
