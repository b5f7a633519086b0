"""One pod on this node, from its binding to its removal."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from primo_local.apiserver.clock import utc_now
from primo_local.client import PODS, ClientError, Obj, key_of
from primo_local.controllers.resources import requests_of_pod
from primo_local.node import volumes
from primo_local.node.container import Container, Deadline, first_of
from primo_local.node.devices import GPU
from primo_local.node.environment import ConfigError
from primo_local.node.quarters import Host, Quarters
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
from primo_local.node.status_writer import StatusWriter

log = logging.getLogger(__name__)

USUAL_GRACE_S: Final = 30.0
LEAST_GRACE_S: Final = 1.0  # also for grace 0, as a kubelet
LEAST_SIDECAR_GRACE_S: Final = 2.0  # also when the main containers have used it up
SHUTDOWN_GRACE_S: Final = 2.0
RETRY_S: Final = 0.5
CONFIRM_AGAIN_S: Final = 5.0

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


class Pod:
    """Runs a pod's containers and keeps its status true.

    One of the `run` methods lives as long as the pod's object; `update` and `removed` say what
    happened to that.
    """

    def __init__(self, host: Host, pod: Obj) -> None:
        self._host = host
        self._object = pod
        meta = pod["metadata"]
        self._writer = StatusWriter(host.client, key_of(pod), meta["uid"], self._status)
        self._quarters = Quarters(host, pod, self._writer.changed)
        self._containers = _containers(host, pod, self._quarters)
        self._begun: list[tuple[Container, asyncio.Task[None]]] = []
        self._started_at = utc_now()
        self._override: Override | None = None
        self._to_lose: list[Container] = []
        self._has_volumes = False
        self._over = False
        self._ending = asyncio.Event()  # the containers are to stop
        self._deadline: Deadline | None = None  # until when they have
        self._settled = asyncio.Event()  # nothing runs, and the last status is written
        self._unwanted = asyncio.Event()  # the object is being deleted, or gone
        self._removed = asyncio.Event()
        if meta.get("deletionTimestamp"):
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
        self._writer.stop()
        self._end(LEAST_GRACE_S)

    async def run(self) -> None:
        """Serve the pod until its object is gone; then leave nothing of it."""
        writing = asyncio.create_task(self._writer.run())
        try:
            await self._serve()
        finally:
            writing.cancel()
        self._over = True
        await self._writer.write_last()
        await self._await_removal()

    async def run_lost(self) -> None:
        """The pod was run by a node that is no more: say so, then wait to be rid of it."""
        for container in self._containers:
            _restore(container, self._object)
        self._override = NODE_LOST
        self._over = True
        await self._writer.write_last()
        await self._await_removal()

    async def run_finished(self) -> None:
        """The pod had ended before this node started: only its removal is left."""
        self._over = True
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

    async def _serve(self) -> None:
        """From devices and volumes to the end of the last process."""
        if refusal := volumes.refusal(self._object):
            self._override = Override("UnsupportedVolume", refusal)
            self._tell("FailedMount", refusal)
            return
        wanted = int(requests_of_pod(self._object).get(GPU, 0))
        lending = asyncio.create_task(self._host.devices.lend(wanted))
        await first_of(asyncio.shield(lending), self._ending.wait())
        if not lending.done():
            lending.cancel()
            return
        lent = lending.result()
        try:
            if await self._move_in(lent):
                await self._run_containers()
        finally:
            await self._host.devices.take_back(lent)

    async def _move_in(self, lent: tuple[int, ...]) -> bool:
        """Prepare, however long what that needs is missing; False if told to end."""
        while not self._ending.is_set():
            try:
                await self._quarters.prepare(lent)
            except (ConfigError, ClientError, OSError) as error:
                self._tell("FailedMount", f"MountVolume.SetUp failed: {error}")
                await first_of(self._ending.wait(), asyncio.sleep(RETRY_S))
            else:
                self._has_volumes = True
                self._writer.changed()
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
        if self._ending.is_set():
            return
        mains = [c for c in self._containers if c.role is Role.MAIN]
        for container in mains:
            container.state = Waiting("ContainerCreating")
            self._begin(container)
        for container in mains:
            await container.wait_over()

    def _begin(self, container: Container) -> None:
        self._begun.append((container, asyncio.create_task(container.run())))

    async def _stop(self) -> None:
        """Main containers together, then the sidecars, the last one first."""
        deadline = self._deadline = self._deadline or Deadline(self._grace_s())
        others = [c for c, _ in self._begun if c.role is not Role.SIDECAR]
        await asyncio.gather(*(c.stop(deadline) for c in others if not c.is_over))
        if deadline.left_s() < LEAST_SIDECAR_GRACE_S:
            deadline = self._deadline = Deadline(LEAST_SIDECAR_GRACE_S)
        sidecars = [c for c, _ in self._begun if c.role is Role.SIDECAR]
        for sidecar in reversed(sidecars):
            await sidecar.stop(deadline)
        # A bug in a container's run surfaces here instead of being forgotten with its task.
        await asyncio.gather(*(task for _, task in self._begun))

    def _grace_s(self) -> float:
        grace_s = self._object["spec"].get("terminationGracePeriodSeconds")
        return USUAL_GRACE_S if grace_s is None else max(float(grace_s), LEAST_GRACE_S)

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
            self._end(self._grace_s())

    async def _guard_usage(self) -> None:
        problem = ""
        while not problem:
            await asyncio.sleep(self._host.settings.usage_period_s)
            places = self._quarters.places
            problem = await asyncio.to_thread(volumes.over_limit, self._object, places)
        self._override = Override("Evicted", problem)
        self._tell("Evicted", problem)
        # As after a real eviction, how they ended will not be on record.
        self._to_lose = [c for c in self._containers if isinstance(c.state, Running)]
        self._end(LEAST_GRACE_S)

    def _status(self) -> Obj:
        return pod_status(
            self._object,
            [container.view for container in self._containers],
            now=utc_now(),
            started_at=self._started_at,
            sandbox=self._has_volumes,
            over=self._over,
            override=self._override if self._over else None,
        )

    def _tell(self, reason: str, message: str) -> None:
        self._host.recorder.record(self._object, "Warning", reason, message)

    async def _await_removal(self) -> None:
        """Confirm a deletion once nothing runs, and clean up when the object has gone."""
        self._settled.set()
        await self._unwanted.wait()
        while not self._removed.is_set():
            await self._confirm_deletion()
            # Finalizers of others may keep the object; its going will be told.
            await first_of(self._removed.wait(), asyncio.sleep(CONFIRM_AGAIN_S))
        await asyncio.to_thread(volumes.remove, self._quarters.directory)

    async def _confirm_deletion(self) -> None:
        uid = self._object["metadata"]["uid"]
        try:
            await self._host.client.delete(PODS, key_of(self._object), uid=uid, grace_s=0)
        except ClientError as error:
            log.warning("deletion not confirmed", extra={"error": str(error)})


def find_log(directory: Path, container: str, *, previous: bool) -> Path | None:
    """The newest log of a container below a pod's directory, or the one before it."""
    numbered = sorted(
        (int(path.stem), path) for path in (directory / "logs" / container).glob("*.log")
    )
    index = 2 if previous else 1
    return numbered[-index][1] if len(numbered) >= index else None


def _containers(host: Host, pod: Obj, quarters: Quarters) -> list[Container]:
    """In the order of the spec, init containers and sidecars first."""
    spec = pod["spec"]
    inits = spec.get("initContainers") or []
    policy = spec.get("restartPolicy", "Always")
    roles = [(c, Role.SIDECAR if c.get("restartPolicy") == "Always" else Role.INIT) for c in inits]
    roles += [(container, Role.MAIN) for container in spec["containers"]]
    policies = {
        Role.SIDECAR: "Always",
        # A failed init container is tried again unless the pod never restarts; done is done.
        Role.INIT: "Never" if policy == "Never" else "OnFailure",
        Role.MAIN: policy,
    }
    return [
        Container(
            spec=container,
            role=role,
            policy=policies[role],
            files=quarters.files_of(container["name"]),
            siblings=len(roles),
            pod=quarters,
            pod_uid=pod["metadata"]["uid"],
            backoff=host.settings.backoff,
            state=Waiting("PodInitializing" if inits else "ContainerCreating"),
        )
        for container, role in roles
    ]


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
