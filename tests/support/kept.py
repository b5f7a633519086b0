"""A study's objects as a file has them, for the real passes of a new operator."""

import asyncio
import copy
import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from primo_operator.cluster import ConflictError, Listing, Notice, Object
from primo_operator.mirror import Key, Mirror
from primo_operator.ports import Answer
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_study.study import Study
from support.simulation.api import merged

PASSES = 20
DNS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Kept:
    """`Cluster`, `Clock` and `Suggester` over a file's objects; it writes down each write."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.now_s = datetime.fromisoformat(given["takenAt"]).timestamp()
        self.study: Object = given["study"]
        self.trials: dict[str, Object] = {t["metadata"]["name"]: t for t in given["trials"]}
        self.jobs: dict[str, Object] = {j["metadata"]["name"]: j for j in given["jobs"]}
        self.pods: list[Object] = given["pods"]
        self.writes: list[str] = []
        self.version = 10**15
        self.places: Counter[str] = Counter()

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def suggest(self, study: Study, *_: Any) -> Answer:
        self.writes.append("ask")
        return Answer(())

    def ask(self, *_: Any) -> None:
        """`Metrics`: there is never an answer."""

    async def get_study(self, *_: Any) -> Object:
        return copy.deepcopy(self.study)

    async def list_trials(self, *_: Any) -> Listing:
        return Listing(copy.deepcopy(list(self.trials.values())), self.version)

    async def list_jobs(self, *_: Any) -> Listing:
        return Listing(copy.deepcopy(list(self.jobs.values())), self.version)

    async def list_pods(self, *_: Any) -> Listing:
        return Listing(copy.deepcopy(self.pods), self.version)

    async def get_trial(self, _: str, name: str) -> Object | None:
        return copy.deepcopy(self.trials.get(name))

    async def get_job(self, _: str, name: str) -> Object | None:
        return copy.deepcopy(self.jobs.get(name))

    async def create_job(self, job: Object, *, dry_run: bool = False) -> Object:
        self._place(job)
        if dry_run:
            return job
        self.writes.append(f"job {job['metadata']['name']}")
        self.jobs[job["metadata"]["name"]] = self._made(job)
        return copy.deepcopy(self.jobs[job["metadata"]["name"]])

    async def dry_run_pod(self, pod: Object) -> None:
        self._place(pod)

    async def create_trial(self, trial: Object) -> Object:
        self._place(trial)
        self.writes.append(f"new trial {trial['metadata']['name']}")
        self.trials[trial["metadata"]["name"]] = self._made(trial)
        return copy.deepcopy(self.trials[trial["metadata"]["name"]])

    async def patch_trial(self, space: str, name: str, patch: Object, version: str) -> Object:
        self._place({"metadata": {"namespace": space, "name": name}})
        self.writes.append(f"trial {name}: {json.dumps(patch)}")
        found = self.trials[name]
        if found["metadata"]["resourceVersion"] != version:
            raise ConflictError(409, "not the newest version")
        self.trials[name] = self._versioned(merged(found, patch))
        return copy.deepcopy(self.trials[name])

    async def patch_job(self, space: str, name: str, patch: Object) -> Object:
        self._place({"metadata": {"namespace": space, "name": name}})
        self.writes.append(f"job {name}: {json.dumps(patch)}")
        self.jobs[name] = self._versioned(merged(self.jobs[name], patch))
        return copy.deepcopy(self.jobs[name])

    async def delete_job(self, space: str, name: str, uid: str) -> None:
        self._place({"metadata": {"namespace": space, "name": name}})
        self.writes.append(f"delete job {name}")
        self.jobs.pop(name, None)

    async def failed_creates(self, *_: Any) -> dict[str, str]:
        return {}

    def notify(self, notice: Notice) -> None:
        pass

    async def patch_trial_status(
        self, space: str, name: str, patch: Object, version: str
    ) -> Object:
        self._place({"metadata": {"namespace": space, "name": name}})
        self.writes.append(f"trial {name}: {json.dumps(patch)}")
        self.trials[name] = self._patched(self.trials[name], patch, version)
        return copy.deepcopy(self.trials[name])

    async def patch_study_status(
        self, space: str, name: str, patch: Object, version: str
    ) -> Object:
        self._place({"metadata": {"namespace": space, "name": name}})
        self.writes.append(f"study: {json.dumps(patch)}")
        self.study = self._patched(self.study, patch, version)
        return copy.deepcopy(self.study)

    def _patched(self, obj: Object, patch: Object, version: str) -> Object:
        if obj["metadata"]["resourceVersion"] != version:
            raise ConflictError(409, "not the newest version")
        return self._versioned({**obj, "status": merged(obj.get("status"), patch)})

    def _versioned(self, obj: Object) -> Object:
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        return {**obj, "metadata": metadata}

    def _made(self, obj: Object) -> Object:
        made = copy.deepcopy(obj)
        stamp = datetime.fromtimestamp(int(self.now_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made["metadata"] |= {"uid": f"uid-{self.version}", "creationTimestamp": stamp}
        return self._versioned(made)

    def _place(self, obj: Object) -> None:
        """Where a call reaches: a namespace and a name, as the API server would have them."""
        self.places[obj["metadata"]["namespace"]] += 1
        name = obj["metadata"]["name"]
        assert DNS.fullmatch(name), name
        for value in (obj["metadata"].get("labels") or {}).values():
            assert LABEL.fullmatch(value), value

    def passes(self, settings: Settings, at_most: int | None = None) -> Reconciler:
        """As a new operator does them, until it has nothing to do; its view of the study.

        Args:
            at_most: so many; None: it must come to that.
        """
        kept: Any = self
        reconciler = Reconciler(kept, kept, kept, kept, settings, Mirror())
        key = Key(self.study["metadata"]["namespace"], self.study["metadata"]["name"])
        for _ in range(at_most or PASSES):
            wait_s = asyncio.run(reconciler.reconcile(key))
            if wait_s is None or wait_s > 1.0:
                return reconciler
            self.now_s += wait_s
        assert at_most, f"it goes on and on: {self.writes}"
        return reconciler
