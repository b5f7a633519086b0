"""Objects that released versions have written are read by this one, and left as they are.

How they are made: tests/support/golden.py (`make golden`, once for each release).
"""

import asyncio
import copy
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from primo_operator.cluster import ConflictError, Listing, Notice, Object
from primo_operator.mirror import Key, Mirror
from primo_operator.ports import Answer
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_study.study import Study
from support.simulation.api import merged

FOLDER = Path(__file__).parents[2] / "fixtures" / "objects"
FILES = sorted(FOLDER.glob("*/*.json"))
ANY: Any = None
FUTURE = {"of": ["a", "later", "version"]}
PASSES = 20


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

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def suggest(self, study: Study, *_: Any) -> Answer:
        self.writes.append("ask")
        return Answer(())

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
        assert dry_run, "a Job was made"
        return job

    async def dry_run_pod(self, pod: Object) -> None:
        pass

    async def failed_creates(self, *_: Any) -> list[str]:
        return []

    def notify(self, notice: Notice) -> None:
        pass

    async def patch_trial_status(self, _: str, name: str, patch: Object, version: str) -> Object:
        self.writes.append(f"trial {name}: {json.dumps(patch)}")
        self.trials[name] = self._patched(self.trials[name], patch, version)
        return copy.deepcopy(self.trials[name])

    async def patch_study_status(self, _: str, name: str, patch: Object, version: str) -> Object:
        self.writes.append(f"study: {json.dumps(patch)}")
        self.study = self._patched(self.study, patch, version)
        return copy.deepcopy(self.study)

    def _patched(self, obj: Object, patch: Object, version: str) -> Object:
        if obj["metadata"]["resourceVersion"] != version:
            raise ConflictError(409, "not the newest version")
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        return {**obj, "metadata": metadata, "status": merged(obj.get("status"), patch)}

    def passes(self, settings: Settings) -> Reconciler:
        """As a new operator does them, until it has nothing to do; its view of the study."""
        kept: Any = self
        reconciler = Reconciler(kept, kept, ANY, kept, settings, Mirror())
        key = Key(self.study["metadata"]["namespace"], self.study["metadata"]["name"])
        for _ in range(PASSES):
            wait_s = asyncio.run(reconciler.reconcile(key))
            if wait_s is None or wait_s > 1.0:
                return reconciler
            self.now_s += wait_s
        raise AssertionError(f"it goes on and on: {self.writes}")


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture(params=FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def kept(request: pytest.FixtureRequest) -> Kept:
    return Kept(read(request.param))


def test_there_are_objects_of_each_released_version() -> None:
    assert {file.parent.name for file in FILES} == {"0.1.0"}
    phases = {read(file)["study"]["status"]["phase"] for file in FILES}
    assert phases >= {"Completed", "InitialDesign", "Pending", "Suspended"}


def test_they_are_understood_and_nothing_is_decided_anew(kept: Kept) -> None:
    before = copy.deepcopy((kept.study, kept.trials))
    # Of another version: neither may be a reason to do anything.
    reconciler = kept.passes(Settings(sidecar_image="primo-sidecar:99.0.0"))
    (memory,) = reconciler.memories.values()
    spec, problems = memory.spec
    assert spec is not None, problems
    assert kept.writes == []
    assert (kept.study, kept.trials) == before


def test_what_a_later_version_has_added_survives_what_this_one_writes() -> None:
    kept = Kept(read(FOLDER / "0.1.0" / "flight.json"))
    for status in statuses(kept):
        status["future"] = FUTURE
    kept.study["status"]["trials"]["future"] = FUTURE
    for trial in kept.trials.values():
        for run in (trial.get("status") or {}).get("runs") or ():
            run["future"] = FUTURE
    (pod, *_) = kept.pods
    end(pod)
    kept.passes(Settings())
    assert any(line.startswith("trial") for line in kept.writes)
    assert any(line.startswith("study") for line in kept.writes)
    assert all(status["future"] == FUTURE for status in statuses(kept))
    assert kept.study["status"]["trials"]["future"] == FUTURE
    runs = [r for t in kept.trials.values() for r in (t.get("status") or {}).get("runs") or ()]
    assert any(run.get("finishedAt") for run in runs)
    assert all(run["future"] == FUTURE for run in runs)


def statuses(kept: Kept) -> Iterator[dict[str, Any]]:
    yield kept.study["status"]
    yield from (t["status"] for t in kept.trials.values() if t.get("status"))


def end(pod: Object) -> None:
    """With an error of its own."""
    pod["status"]["phase"] = "Failed"
    for which in ("containerStatuses", "initContainerStatuses"):
        for container in pod["status"][which]:
            at = "2026-11-25T00:00:00Z"
            ended = {"exitCode": 1, "reason": "Error", "startedAt": at, "finishedAt": at}
            container["state"] = {"terminated": ended}
