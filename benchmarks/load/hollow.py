"""A node whose pods do nothing: each ends after the time that its command says, and has reported.

With `--controllers` there is a Job controller too, for a bare local API server. Pods name the node
themselves, so that no scheduler is in the way. When Jobs were made and pods ended goes to a file.
"""

import argparse
import asyncio
import json
import signal
import time
import zlib
from pathlib import Path
from typing import TextIO

from load.objects import KIND_LABEL, NODE, STUDY_LABEL
from primo_local.apiserver.clock import timestamp, utc_now
from primo_local.client import (
    JOBS,
    PODS,
    Client,
    ClientError,
    Kubeconfig,
    NotFoundError,
    Obj,
    key_of,
)
from primo_local.controllers.events import Recorder
from primo_local.controllers.informer import Informer
from primo_local.controllers.job_loop import JobController
from primo_local.garbage import look_seldom
from primo_local.node.registration import Registration
from primo_report.wire import Reduced, Summary, format_summary

CAPACITY = {"cpu": "10000", "memory": "100000Gi", "pods": "100000"}
RETRY_S = 0.2


class HollowNode:
    """Takes every pod to its end."""

    def __init__(self, client: Client, pods: Informer, record: TextIO) -> None:
        self._client, self._record = client, record
        self._known: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        pods.on_change(self._changed)

    def job_changed(self, before: Obj | None, after: Obj | None) -> None:
        if before is None and after is not None:
            self._note("job", after)

    def _changed(self, _before: Obj | None, after: Obj | None) -> None:
        if after is None:
            return
        uid = after["metadata"]["uid"]
        if after["metadata"].get("deletionTimestamp"):
            self._start(self._let_go(after))
        elif uid not in self._known:
            self._known.add(uid)
            if (after.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                self._start(self._live(after))

    def _start(self, life: object) -> None:
        task = asyncio.ensure_future(life)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, pod: Obj) -> None:
        least, most = map(float, pod["spec"]["containers"][0]["command"][1:])
        draw = zlib.crc32(pod["metadata"]["name"].encode()) / 2**32
        started = timestamp(utc_now())
        await self._say(pod, _running(pod, started))
        await asyncio.sleep(least + draw * (most - least))
        self._note("end", pod)
        await self._say(pod, _ended(pod, started, draw))

    async def _say(self, pod: Obj, status: Obj) -> None:
        while True:
            try:
                await self._client.patch(PODS, key_of(pod), {"status": status}, "status")
                return
            except NotFoundError:
                return
            except ClientError:
                await asyncio.sleep(RETRY_S)

    async def _let_go(self, pod: Obj) -> None:
        try:
            await self._client.delete(PODS, key_of(pod), uid=pod["metadata"]["uid"], grace_s=0)
        except ClientError:
            await asyncio.sleep(RETRY_S)

    def _note(self, what: str, obj: Obj) -> None:
        labels = obj["metadata"].get("labels") or {}
        of = labels.get(KIND_LABEL) or labels.get(STUDY_LABEL)
        line = {"t": time.time(), "what": what, "of": of}  # noqa: TID251  # a benchmark measures
        self._record.write(json.dumps(line) + "\n")
        self._record.flush()


def _running(pod: Obj, started: str) -> Obj:
    running = {"running": {"startedAt": started}}
    return {
        "phase": "Running",
        "startTime": started,
        "containerStatuses": [_container(c, running) for c in pod["spec"]["containers"]],
        "initContainerStatuses": [
            _container(c, running) for c in pod["spec"].get("initContainers") or ()
        ],
    }


def _ended(pod: Obj, started: str, draw: float) -> Obj:
    ended = {"exitCode": 0, "reason": "Completed"}
    ended |= {"startedAt": started, "finishedAt": timestamp(utc_now())}
    metrics = {"a": draw, "b": 1.0 - draw * draw}
    reduced = {name: Reduced(v, v, v, v) for name, v in metrics.items()}
    message = format_summary(Summary(seq=1, metrics=reduced, step=1)).decode()
    return {
        "phase": "Succeeded",
        "containerStatuses": [
            _container(c, {"terminated": ended}) for c in pod["spec"]["containers"]
        ],
        "initContainerStatuses": [
            _container(c, {"terminated": {**ended, "message": message}})
            for c in pod["spec"].get("initContainers") or ()
        ],
    }


def _container(container: Obj, state: Obj) -> Obj:
    running = "running" in state
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": state,
    }


async def serve(kubeconfig: Path, record: Path, *, controllers: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with record.open("a") as out:
        async with Client(Kubeconfig.load(kubeconfig)) as client:
            jobs = Informer(client, JOBS)
            own = Informer(client, PODS, {"fieldSelector": f"spec.nodeName={NODE}"})
            node = HollowNode(client, own, out)
            jobs.on_change(node.job_changed)
            parts = [jobs.run(), own.run(), Registration(client, NODE, CAPACITY, 10250).run()]
            if controllers:
                events = Recorder(client, "job-controller")
                # All pods are this node's.
                parts += [JobController(client, jobs, own, events).run(), events.run()]
            tasks = [asyncio.ensure_future(part) for part in parts]
            await stop.wait()
            for task in tasks:
                task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="load.hollow", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--controllers", action="store_true")
    given = parser.parse_args()
    look_seldom()
    asyncio.run(serve(given.kubeconfig, given.record, controllers=given.controllers))


if __name__ == "__main__":
    main()
