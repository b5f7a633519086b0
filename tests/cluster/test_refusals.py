"""What quotas, limits, policies and the store refuse while a study runs; without, it goes on."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from support.apiserver import Wire, job
from support.real_cluster import DISTANCE, NAMESPACES, RUN_S, Obj, Release, Space, study
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

TRIALS = 4
# A refused create is tried again after up to so long.
AGAIN_S = 300.0
ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingadmission"
DENIED = "no Jobs on holidays"


@dataclass(frozen=True)
class Obstacle:
    """An object in the study's namespace that keeps its Jobs or its pods away.

    Attributes:
        says: of a trial that waits, reason and message.
        lifted: a patch that lifts it; None: it is deleted.
    """

    kind: str
    spec: Obj
    says: str
    lifted: Obj | None = None


QUOTA = {"spec": {"hard": {"count/jobs.batch": "100", "count/pods": "100"}}}
LIMIT = {"type": "Container", "max": {"memory": "48Mi"}, "default": {"memory": "48Mi"}}
OBSTACLES = {
    "a quota on Jobs": Obstacle(
        "resourcequotas",
        {"hard": {"count/jobs.batch": "2"}},
        "QuotaExceeded .*exceeded quota: obstacle.*count/jobs.batch",
        QUOTA,
    ),
    "a quota on pods": Obstacle(
        "resourcequotas",
        {"hard": {"count/pods": "2"}},
        "PodForbidden .*exceeded quota: obstacle.*count/pods",
        QUOTA,
    ),
    "a limit that its pods exceed": Obstacle(
        "limitranges", {"limits": [LIMIT]}, "PodForbidden .*maximum memory usage per Container"
    ),
}


def _path(space: Space, kind: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{space.name}/{kind}" + (f"/{name}" if name else "")


def _waits(space: Space) -> str:
    """Reasons and messages of the trials that have not ended."""
    told = (trial.get("status", {}) for trial in space.trials("refused"))
    waiting = (each for each in told if each.get("phase", "Queued") == "Queued")
    return "; ".join(f"{w.get('reason')} {w.get('message', '')}" for w in waiting)


def _start(space: Space, sidecar: str, **given: Any) -> None:
    budget = {"trials": TRIALS}
    space.start(study("refused", sidecar, DISTANCE, budget=budget, parallelism=2, **given))


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES.keys())
def test_runs_wait_in_the_servers_words_until_there_is_room(
    space: Space, sidecar: str, obstacle: Obstacle
) -> None:
    _start(space, sidecar)
    eventually(lambda: space.jobs("refused"), "it has begun", RUN_S)
    made = {"metadata": {"name": "obstacle"}, "spec": obstacle.spec}
    space.wire.make(_path(space, obstacle.kind), made)
    eventually(lambda: re.search(obstacle.says, _waits(space)), "it says what it waits for", RUN_S)
    path = _path(space, obstacle.kind, "obstacle")
    if obstacle.lifted:
        space.wire.change(path, obstacle.lifted)
    else:
        space.wire("DELETE", path)
    space.completed("refused", TRIALS, AGAIN_S)


def test_nothing_runs_while_its_pods_cannot_be(space: Space, sidecar: str) -> None:
    """Said of the template, before any trial is made."""
    made = {"metadata": {"name": "obstacle"}, "spec": {"limits": [LIMIT]}}
    space.wire.make(_path(space, "limitranges"), made)
    _start(space, sidecar)
    eventually(lambda: space.condition("refused", "TemplateValid"), "it is said", RUN_S)
    said = space.condition("refused", "TemplateValid")
    assert (said["status"], said["reason"]) == ("False", "Refused")
    assert "maximum memory usage per Container is 48Mi" in said["message"]
    assert space.trials("refused") == []
    space.wire("DELETE", _path(space, "limitranges", "obstacle"))
    space.completed("refused", TRIALS)


def test_a_policy_that_denies_a_job_is_waited_out(space: Space, sidecar: str) -> None:
    name = f"{space.name}.primo.dev"
    made = {"policies": _policy(), "policybindings": _binding(space, name)}
    for kind, spec in made.items():
        space.wire.make(f"{ADMISSION}{kind}", {"metadata": {"name": name}, "spec": spec})
    try:
        eventually(lambda: _denied(space), "the policy is at work", RUN_S)
        _start(space, sidecar)
        says = f"CreateRefused .*{DENIED}"
        eventually(lambda: re.search(says, _waits(space)), "it says what it waits for", RUN_S)
    finally:
        for kind in reversed(made):
            space.wire("DELETE", f"{ADMISSION}{kind}/{name}")
    space.completed("refused", TRIALS, AGAIN_S)


def _policy() -> Obj:
    """Against the Job of trial 1; other Jobs, and that of the dry run, may be made."""
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"]}
    expression = "!object.metadata.name.endsWith('-1-r0-a0')"
    return {
        "matchConstraints": {"resourceRules": [{**rule, "operations": ["CREATE"]}]},
        "validations": [{"expression": expression, "message": DENIED}],
    }


def _binding(space: Space, policy: str) -> Obj:
    here = {"matchLabels": {"kubernetes.io/metadata.name": space.name}}
    return {
        "policyName": policy,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }


def _denied(space: Space) -> bool:
    denied = job("x-1-r0-a0")
    code, answer = space.wire("POST", space.path("jobs"), denied, dryRun="All")
    return code != 201 and DENIED in answer["message"]


def test_jobs_that_are_too_large_end_the_study_which_says_so(space: Space, sidecar: str) -> None:
    """A Job keeps besides who has set which of its fields."""
    many = [{"name": f"X{k}", "value": ""} for k in range(38_000)]
    _start(space, sidecar, container={"env": many})
    ended = space.ended("refused", AGAIN_S)
    assert ended["status"]["phase"] == "Failed"
    said = space.condition("refused", "Failed")
    assert said["reason"] == "TemplateBroken"
    assert re.search("StartFailed: ObjectTooLarge: .*too large to be stored", said["message"])
    assert {trial["status"]["reason"] for trial in space.trials("refused")} == {"StartFailed"}
    assert space.jobs("refused") == []


def test_a_namespace_goes_away_with_its_study_and_the_operator_works_on(
    release: Release, space: Space, sidecar: str, wire: Wire
) -> None:
    _start(space, sidecar)
    eventually(lambda: space.jobs("refused"), "it has begun", RUN_S)
    (operator,) = release.pods()
    wire("DELETE", f"{NAMESPACES}/{space.name}")
    eventually(lambda: wire.gone(f"{NAMESPACES}/{space.name}"), "it is gone", RUN_S)
    log = wire.raw("GET", f"{release.space.path('pods', operator)}/log").data.decode()
    said = [line for line in log.splitlines() if space.name in line]
    assert not [line for line in said if "ERROR" in line or "Traceback" in line], said
    assert len(said) < 50
    assert release.pods() == [operator]
