"""Objects that released versions have written are read by this one, and left as they are.

How they are made: tests/support/golden.py (`make golden`, once for each release).
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from primo_operator.cluster import Object
from primo_operator.settings import Settings
from support.kept import Kept

FOLDER = Path(__file__).parents[2] / "fixtures" / "objects"
FILES = sorted(FOLDER.glob("*/*.json"))
FUTURE = {"of": ["a", "later", "version"]}
FUTURE_CONDITION = {"type": "Future", "status": "True", "reason": "Later", "message": "words"}


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
    _say_what_the_first_run_waits_for(kept)
    before = copy.deepcopy((kept.study, kept.trials))
    # Of another version: neither may be a reason to do anything.
    reconciler = kept.passes(Settings(sidecar_image="primo-sidecar:99.0.0"))
    (memory,) = reconciler.memories.values()
    assert memory.spec.spec is not None, memory.spec
    assert not memory.spec.unknown
    assert kept.writes == []
    assert (kept.study, kept.trials) == before


def _say_what_the_first_run_waits_for(kept: Kept) -> None:
    """Version 0.1.0 did not, where no run was under way."""
    phases = {trial.get("status", {}).get("phase") for trial in kept.trials.values()}
    (running,) = [c for c in kept.study["status"]["conditions"] if c["type"] == "Running"]
    if running["status"] == "True" and phases == {"Queued"}:
        first = min(kept.trials.values(), key=lambda trial: trial["spec"]["number"])
        message = f"trial {first['spec']['number']} waits: {first['status']['message']}"
        running |= {"reason": first["status"]["reason"], "message": message}


def test_what_a_later_version_has_added_survives_what_this_one_writes() -> None:
    kept = Kept(read(FOLDER / "0.1.0" / "flight.json"))
    for status in statuses(kept):
        status["future"] = FUTURE
    kept.study["status"]["trials"]["future"] = FUTURE
    kept.study["status"]["conditions"].append(FUTURE_CONDITION)
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
    assert FUTURE_CONDITION in kept.study["status"]["conditions"]
    runs = [r for t in kept.trials.values() for r in (t.get("status") or {}).get("runs") or ()]
    assert any(run.get("finishedAt") for run in runs)
    assert all(run["future"] == FUTURE for run in runs)


# A field, and a word that is none of ours; and what only the optimizer can tell, of a spec that an
# operator has worked with.
@pytest.mark.parametrize(
    ("path", "value", "recorded"),
    [
        pytest.param(("future",), FUTURE, True, id="a field"),
        pytest.param(("budget", "future"), 3, True, id="a field below another"),
        pytest.param(("objectives", 0, "future"), FUTURE, True, id="a field of a list's item"),
        pytest.param(("objectives", 0, "goal"), "Tame", False, id="a word"),
        pytest.param(("algorithm",), {"name": "future"}, True, id="an algorithm"),
    ],
)
def test_what_a_later_version_has_added_to_a_spec_is_waited_for(
    path: tuple[Any, ...], value: Any, recorded: bool
) -> None:
    kept = Kept(read(FOLDER / "0.1.0" / "flight.json"))
    earlier = copy.deepcopy(kept.study)
    part = kept.study["spec"]
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    end(kept.pods[0])
    kept.passes(Settings())
    assert not any(line.startswith(("ask", "create", "delete")) for line in kept.writes)
    assert any(line.startswith("trial") for line in kept.writes) == recorded
    status = kept.study["status"]
    said = {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}
    assert said["Degraded"][:2] == ("True", "OperatorOutdated")
    assert f".{path[-1]}" in said["Degraded"][2]
    assert said["Running"][:2] == ("False", "OperatorOutdated")
    assert (said["Failed"][0], status["phase"]) == ("False", earlier["status"]["phase"])
    assert status.keys() >= earlier["status"].keys()
    kept.study["spec"] = earlier["spec"]  # to the later version it is as any other
    kept.passes(Settings())
    said = {c["type"]: c["status"] for c in kept.study["status"]["conditions"]}
    assert (said["Degraded"], said["Running"]) == ("False", "True")


def test_a_mistake_in_an_edit_is_not_taken_for_a_later_version() -> None:
    kept = Kept(read(FOLDER / "0.1.0" / "flight.json"))
    kept.study["spec"]["parallelism"] = 0
    kept.study["metadata"]["generation"] += 1
    kept.passes(Settings())
    said = {c["type"]: c for c in kept.study["status"]["conditions"]}
    assert "spec.parallelism: 0" in said["Running"]["message"]
    assert said.get("Degraded", {}).get("status") != "True"


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
