"""Carries out what `job.sync` says, Job by Job, for as long as the process lives."""

import asyncio
import logging
from collections import defaultdict
from typing import assert_never

from primo_local.apiserver.clock import utc_now
from primo_local.client import (
    JOBS,
    PODS,
    ApiError,
    Client,
    Key,
    NotFoundError,
    Obj,
    key_of,
)
from primo_local.controllers.events import Recorder, Severity
from primo_local.controllers.informer import Informer
from primo_local.controllers.job import (
    Action,
    BackoffSettings,
    CreatePods,
    DeleteJob,
    DeletePod,
    DropFinalizer,
    SetStatus,
    controller_of,
    pod_of,
    sync,
)
from primo_local.controllers.job_status import Tell
from primo_local.controllers.queue import WorkQueue
from primo_local.controllers.tally import TRACKING, Backoff, is_tracked

log = logging.getLogger(__name__)

WORKERS = 8
CREATES_AT_ONCE = 8


class JobController:
    """Turns Jobs into pods.

    Its view is a cache; a write is followed by waiting until the cache has it, so that no pod is
    made or counted twice.
    """

    def __init__(
        self,
        client: Client,
        jobs: Informer,
        pods: Informer,
        recorder: Recorder,
        settings: BackoffSettings | None = None,
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._pods = pods
        self._recorder = recorder
        self._settings = settings or BackoffSettings()
        self._queue: WorkQueue[Key] = WorkQueue()
        # By the owner's name, not its uid: of one name there may be pods of a Job that is gone.
        self._pods_of: dict[Key, dict[Key, Obj]] = defaultdict(dict)
        self._job_of: dict[Key, Key] = {}
        self._backoff: dict[str, Backoff] = {}  # by the Job's uid
        jobs.on_change(self._job_changed)
        pods.on_change(self._pod_changed)

    async def run(self) -> None:
        await self._jobs.synced.wait()
        await self._pods.synced.wait()
        await self._queue.run(self._look, WORKERS)

    def _job_changed(self, before: Obj | None, after: Obj | None) -> None:
        job = after or before
        assert job is not None
        if after is None:
            self._backoff.pop(job["metadata"]["uid"], None)
        self._queue.add(key_of(job))

    def _pod_changed(self, before: Obj | None, after: Obj | None) -> None:
        pod = after or before
        assert pod is not None
        owner = controller_of(pod)
        # One that was left behind (--cascade=orphan) is still to be let go.
        known = self._job_of.pop(key_of(pod), None)
        key = (pod["metadata"]["namespace"], owner["name"]) if owner else known
        if key is None:
            return
        siblings = self._pods_of[key]
        if after is None or not (owner or is_tracked(after)):
            siblings.pop(key_of(pod), None)
            if not siblings:
                del self._pods_of[key]
        else:
            siblings[key_of(pod)] = after
            self._job_of[key_of(pod)] = key
        self._queue.add(key)

    async def _look(self, key: Key) -> None:
        job = self._jobs.get(key)
        uid = job["metadata"]["uid"] if job else ""
        pods = []
        for pod in list(self._pods_of.get(key, {}).values()):
            owner = controller_of(pod)
            if owner and owner["uid"] == uid:
                pods.append(pod)
            elif is_tracked(pod):
                await self._drop_finalizer(pod)  # its Job is gone; nobody else would let it go
        if job is None:
            return
        plan = sync(job, pods, utc_now(), self._backoff.get(uid, Backoff()), self._settings)
        for action in plan.actions:
            await self._apply(action, job)
        # Kept only now: if a step failed, the same ends are seen as new once more.
        self._backoff[uid] = plan.backoff
        if plan.again_s is not None:
            # The loop's clock and the wall clock differ a little; a moment too soon is for nothing.
            self._queue.add_after(key, plan.again_s + 0.005)

    async def _apply(self, action: Action, job: Obj) -> None:
        match action:
            case SetStatus(status):
                await self._set_status(job, status)
            case DropFinalizer(pod):
                await self._drop_finalizer(pod)
            case CreatePods(count):
                await self._create(job, count)
            case DeletePod(pod):
                name = pod["metadata"]["name"]
                await self._client.delete(PODS, key_of(pod), uid=pod["metadata"]["uid"])
                self._tell(job, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
            case DeleteJob():
                uid = job["metadata"]["uid"]
                await self._client.delete(JOBS, key_of(job), uid=uid, propagation="Foreground")
            case Tell(severity, reason, message):
                self._tell(job, severity, reason, message)
            case _:
                assert_never(action)

    async def _set_status(self, job: Obj, status: Obj) -> None:
        gone = {name: None for name in job.get("status") or {} if name not in status}
        body = {
            "metadata": {"resourceVersion": job["metadata"]["resourceVersion"]},
            "status": {**status, **gone},
        }
        # An empty map would be merged into the old one instead of replacing it.
        for name in ("succeeded", "failed"):
            body["status"]["uncountedTerminatedPods"].setdefault(name, None)
        written = await self._client.patch(JOBS, key_of(job), body, "status")
        await self._jobs.reached(written["metadata"]["resourceVersion"])

    async def _drop_finalizer(self, pod: Obj) -> None:
        finalizers = [name for name in pod["metadata"]["finalizers"] if name != TRACKING]
        body = {
            "metadata": {
                "uid": pod["metadata"]["uid"],
                "resourceVersion": pod["metadata"]["resourceVersion"],
                "finalizers": finalizers or None,
            }
        }
        try:
            written = await self._client.patch(PODS, key_of(pod), body)
        except NotFoundError:
            return
        await self._pods.reached(written["metadata"]["resourceVersion"])

    async def _create(self, job: Obj, count: int) -> None:
        slots = asyncio.Semaphore(CREATES_AT_ONCE)

        async def one() -> Obj:
            async with slots:
                return await self._client.create(PODS, job["metadata"]["namespace"], pod_of(job))

        results = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        refused: BaseException | None = None
        newest = 0
        for result in results:
            if isinstance(result, BaseException):
                refused = result
                continue
            name = result["metadata"]["name"]
            newest = max(newest, int(result["metadata"]["resourceVersion"]))
            self._tell(job, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        await self._pods.reached(str(newest))
        if isinstance(refused, ApiError):
            self._tell(job, "Warning", "FailedCreate", f"Error creating: {refused.message}")
        if refused is not None:
            raise refused

    def _tell(self, job: Obj, severity: Severity, reason: str, message: str) -> None:
        self._recorder.record(job, severity, reason, message)
