"""What is promised of one fault, with nothing else in its way."""

import math
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from primo_operator import names
from primo_operator.cluster import ClusterError, ConflictError, Notice, Object, RefusedError
from primo_operator.memory import Memory, Refusal
from primo_operator.mirror import Key, Kind
from primo_operator.observe import PODLESS_AFTER_S, PODLESS_AGAIN_S
from primo_operator.reconcile import Reconciler
from primo_operator.sources import read_sources
from primo_study.plan import START_DEADLINE_S
from primo_study.study import Study, Waiting
from support.builders import condition, waiting_pod
from support.simulation.cluster import SimulatedCluster
from support.simulation.runs import simulate
from support.simulation.scenario import (
    AWAY_S,
    KEY,
    NAMESPACE,
    NEIGHBOUR,
    NEIGHBOUR_KEY,
    START,
    STUDY,
    Scenario,
    stamp,
)
from support.simulation.world import World

BASE = Scenario(trials=4, parallelism=2, rungs=2)
# Each alone, or with what brings it out.
FAULTS: dict[str, dict[str, Any]] = {
    "conflicts and refusals": {"refuse": 0.2},
    "answers that are lost": {"lose": 0.3},
    "calls that hang": {"slow": 0.1},
    "rights taken away": {"rights": 0.05},
    "stale lists": {"stale": 0.5, "crash": 0.05},
    "events late, lost, merged, repeated": {"drop": 0.3, "merge": 0.5, "delay_s": 5.0},
    "watches that fall silent": {"silent": 0.1},
    "clocks that step": {"skew_s": 5.0},
    "the API server away": {"away_at_s": 20.0},
    "kills": {"crash": 0.1},
    "a process that is stopped": {"freeze": 0.01},
    "two operators": {"operators": 2, "delay_s": 5.0},
    "two operators, one of them leading": {
        "operators": 2, "lease": True, "freeze": 0.01, "crash": 0.02, "lose": 0.1,
    },
    "an optimizer that fails": {"ask_fails": 0.5},
    "evictions": {"disrupt": 0.5},
    "nodes that die": {"node_dies": 0.3, "checkpoints": True},
    "a queue that takes back": {"preempt": 0.5},
    "results that vanish": {"collect": 0.9, "crash": 0.1, "delay_s": 5.0},
    "pods that are forbidden": {"forbidden": 0.5},
    "Jobs deleted by hand": {"delete_job": 20.0},
    "pods deleted by hand": {"delete_pod": 20.0},
    "labels taken off": {"strip": 20.0},
    "trials that are too large for a while": {"bulk": 20.0},
    "names that are taken": {"squat": 20.0},
    "a study made anew under its name": {"recreate_at_s": 15.0},
    "and its children left behind": {"recreate_at_s": 15.0, "orphan": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def smooth() -> World:
    return simulate(BASE, 0)


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_the_result_is_that_of_a_smooth_run_under(faults: dict[str, Any], smooth: World) -> None:
    for seed in range(2):
        world = simulate(replace(BASE, **faults), seed)
        assert world.result() == smooth.result(), f"seed {seed}"


def test_a_full_quota_uses_up_no_attempt_however_often_the_operator_is_replaced(
    monkeypatch: pytest.MonkeyPatch, smooth: World
) -> None:
    create = SimulatedCluster.create_job

    async def refused(cluster: SimulatedCluster, job: Object, *, dry_run: bool = False) -> Object:
        if dry_run or world.now > START + 600.0:
            return await create(cluster, job, dry_run=dry_run)
        raise RefusedError(403, FULL)

    monkeypatch.setattr(SimulatedCluster, "create_job", refused)
    world = World(replace(BASE, infrastructure=0))
    for _ in range(6):
        world.advance(100.0)
        world.crash()
    world.run()
    assert world.result() == smooth.result()
    assert {run["reason"] for run in _runs(world)} == {"Completed", "NotCreated"}


def test_why_a_job_has_no_pod_is_asked_anew_with_each_list() -> None:
    """What was so before the API server was away is not held against a run afterwards."""
    world = World(replace(BASE, forbidden=1.0))
    world.advance(40.0)
    memory = world.operators[0].reconciler.memories[KEY]
    before = max(waiting.seen_at for waiting in memory.podless.values())
    memory.doubted = True
    world.advance(30.0)
    assert not memory.doubted
    assert memory.podless
    assert min(waiting.seen_at for waiting in memory.podless.values()) > before


def test_the_events_of_many_jobs_without_pods_are_read_together_and_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Passes wait for them, and slots for passes."""
    read_at: list[float] = []
    failed_creates = SimulatedCluster.failed_creates

    async def counted(cluster: SimulatedCluster, namespace: str) -> dict[str, str]:
        read_at.append(world.now)
        return await failed_creates(cluster, namespace)

    monkeypatch.setattr(SimulatedCluster, "failed_creates", counted)
    world = World(replace(BASE, trials=12, parallelism=12, forbidden=1.0))
    world.advance(2 * PODLESS_AFTER_S)
    assert len(world.operators[0].reconciler.memories[KEY].podless) > 4
    assert len(read_at) > 1
    gaps = [after - before for before, after in pairwise(read_at)]
    assert min(gaps) >= PODLESS_AGAIN_S


FULL = "exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2"


@pytest.mark.parametrize(("words", "reason"), [(None, "NoPod"), (FULL, "PodForbidden")])
def test_a_job_controller_that_is_away_and_a_quota_that_is_full_fail_no_trial(
    words: str | None, reason: str, smooth: World
) -> None:
    """Nothing is wrong with the template: half an hour later all goes on."""
    world = World(replace(BASE, lists=True))
    sync, world.jobs._sync = world.jobs._sync, lambda *_: None  # type: ignore[method-assign]
    world.advance(20.0)
    if words:
        world.jobs.refused.update(dict.fromkeys(world.api.objects[Kind.JOB], words))
    world.advance(1800.0)
    said = [trial["status"] for trial in world.api.objects[Kind.TRIAL].values()]
    assert [(s["phase"], s["reason"]) for s in said] == [("Queued", reason)] * BASE.parallelism
    world.jobs.refused.update(dict.fromkeys(world.api.objects[Kind.JOB], f"and now: {FULL}"))
    world.advance(90.0)
    said = [trial["status"] for trial in world.api.objects[Kind.TRIAL].values()]
    assert {s["message"] for s in said} == {f"and now: {FULL}"}
    world.jobs._sync = sync  # type: ignore[method-assign]
    for name in list(world.api.objects[Kind.JOB]):
        world.jobs._sync(name)
    world.run()
    assert world.result() == smooth.result()


def test_a_quota_that_is_full_says_nothing_of_the_template(
    smooth: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study's own pods may fill it."""

    async def refuses(self: SimulatedCluster, pod: Any) -> None:
        raise RefusedError(403, f'pods "p" is forbidden: {FULL}')

    monkeypatch.setattr(SimulatedCluster, "dry_run_pod", refuses)
    world = simulate(BASE, 0)
    assert world.result() == smooth.result()
    (said,) = [c for c in _conditions(world) if c["type"] == "TemplateValid"]
    assert (said["status"], said["reason"]) == ("Unknown", "QuotaExceeded")


def test_a_slot_is_filled_though_with_each_record_another_run_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With hundreds of slots there is nearly always one more end to record."""
    slots = 40
    world = World(Scenario(trials=4 * slots, parallelism=slots, rungs=1))
    pods = world.api.objects[Kind.POD]
    while len(pods) < slots:
        world.advance(0.1)
    patch_trial_status = SimulatedCluster.patch_trial_status
    recorded: list[str] = []

    async def one_more(cluster: SimulatedCluster, space: str, trial: str, *given: Any) -> Any:
        recorded.append(trial)
        running = [name for name, pod in pods.items() if pod["status"]["phase"] == "Running"]
        for name in running[:1]:
            world.kubelet._finish(name, pods[name]["metadata"]["uid"])
            world.operator.mirror.absorb(Kind.POD, pods[name])  # the watch is fast
        return await patch_trial_status(cluster, space, trial, *given)

    monkeypatch.setattr(SimulatedCluster, "patch_trial_status", one_more)
    made = len(world.api.objects[Kind.JOB])
    while len(world.api.objects[Kind.JOB]) == made:
        world.advance(0.02)
    assert len(recorded) < slots / 2


def test_nothing_is_asked_for_on_a_view_that_this_pass_has_found_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(replace(BASE, parallelism=1, rungs=1))
    pods, made = world.api.objects[Kind.POD], world.api.objects[Kind.TRIAL]
    while not any(pod["status"]["phase"] == "Running" for pod in pods.values()):
        world.advance(0.1)
    asks: list[tuple[int, bool]] = []  # trials made, and whether the view was doubted
    conflicts: list[int] = []
    patch_trial_status, usual = SimulatedCluster.patch_trial_status, Reconciler._ask

    async def conflict(cluster: SimulatedCluster, *given: Any) -> Any:
        if not conflicts:
            conflicts.append(len(made))
            raise ConflictError(409, "has changed")
        return await patch_trial_status(cluster, *given)

    async def ask(reconciler: Reconciler, key: Key, study: Study) -> bool:
        before, moved = len(made), await usual(reconciler, key, study)
        asks.append((len(made) - before, reconciler.memories[key].doubted))
        return moved

    monkeypatch.setattr(SimulatedCluster, "patch_trial_status", conflict)
    monkeypatch.setattr(Reconciler, "_ask", ask)
    ((name, pod),) = pods.items()
    world.user.edit_study({"parallelism": 2})
    world.kubelet._finish(name, pod["metadata"]["uid"])
    world.operator.mirror.absorb(Kind.STUDY, world.api.objects[Kind.STUDY][STUDY])
    world.operator.mirror.absorb(Kind.POD, pods[name])
    world.advance(10.0)
    assert conflicts == [1]
    assert asks[0] == (0, True)
    assert len(made) > 1


def test_while_the_api_server_is_away_jobs_run_on_and_then_all_is_recorded(smooth: World) -> None:
    world = World(replace(BASE, away_at_s=20.0))
    world.advance(20.0)
    creates = world.writes["create job"]
    world.advance(AWAY_S)
    assert world.writes["create job"] == creates
    world.advance(30.0)
    assert world.writes["create job"] <= creates + BASE.parallelism + 2, "no burst"
    world.run()
    assert world.result() == smooth.result()
    assert {run["attempt"] for run in _runs(world)} == {0}, "nothing was called lost"


def test_a_study_whose_passes_fail_says_so_and_holds_up_no_other() -> None:
    world = World(Scenario(trials=3, parallelism=2, rungs=1, neighbour=True, poison=1.0))
    world.advance(200.0)
    assert world.phase_of(NEIGHBOUR_KEY) == "Completed"
    assert _degraded(world)["reason"] == "InternalError"
    assert "BugError" in _degraded(world)["message"]
    world.run()
    assert world.phase == "Completed"
    assert _degraded(world)["status"] == "False"


# What is refused in a pass: before it can decide, for one trial, for all of them, or at its end.
@pytest.mark.parametrize(
    "call", ["list trials", "dry-run job", "create trial", "create job", "patch trial"]
)
def test_a_right_that_is_gone_is_named_until_it_is_back(call: str, smooth: World) -> None:
    world = World(BASE)
    world.faults.take_right(call, 300.0)
    world.advance(250.0)
    verb, resource = call.split()
    assert (_degraded(world)["status"], _degraded(world)["reason"]) == ("True", "Forbidden")
    assert f'{resource} is forbidden: User "us" cannot {verb}' in _degraded(world)["message"]
    world.run()
    assert world.result() == smooth.result()
    assert _degraded(world)["status"] == "False"


def test_without_the_right_to_say_so_the_study_goes_on_as_far_as_it_can(smooth: World) -> None:
    world = World(BASE)
    world.faults.take_right("patch study", 300.0)
    world.advance(250.0)
    assert "status" not in world.api.objects[Kind.STUDY][STUDY]
    assert {run["reason"] for run in _runs(world)} == {"Completed"}
    world.run()
    assert world.result() == smooth.result()


def test_what_the_api_server_does_not_keep_is_said_and_not_written_in_haste(
    smooth: World,
) -> None:
    world = World(BASE)
    world.api.unknown.add("selector")
    world.advance(200.0)
    assert (_degraded(world)["status"], _degraded(world)["reason"]) == ("True", "CRDOutdated")
    assert "did not keep status.selector" in _degraded(world)["message"]
    writes = world.writes["patch study"]
    world.advance(100.0)
    assert world.writes["patch study"] <= writes + 2
    world.api.unknown.clear()
    world.run()
    assert world.result() == smooth.result()
    assert _degraded(world)["status"] == "False"


def test_a_spec_of_a_later_version_is_waited_for_and_what_runs_is_recorded(
    smooth: World,
) -> None:
    world = World(BASE)
    while not world.api.objects[Kind.POD]:
        world.advance(0.5)
    world.api.edit(Kind.STUDY, STUDY, {"spec": {"future": {"of": "a later version"}}})
    world.advance(300.0)
    assert len(_names(world)) == BASE.parallelism, "nothing new is started"
    assert {run["reason"] for run in _runs(world)} == {"Completed"}
    assert _degraded(world)["reason"] == "OperatorOutdated"
    assert "spec.future: is not a field" in _degraded(world)["message"]
    world.api.edit(Kind.STUDY, STUDY, {"spec": {"future": None}})
    world.run()
    assert world.result() == smooth.result()
    assert _degraded(world)["status"] == "False"


def test_a_spec_that_cannot_be_read_loses_no_result_of_what_runs(smooth: World) -> None:
    """Whatever becomes of the pods then, and of the operator that has known better."""
    world = World(BASE)
    while not all("containerStatuses" in pod["status"] for pod in _pods(world) or [{"status": {}}]):
        world.advance(0.1)
    ending, world.kubelet._finish = world.kubelet._finish, lambda *_: None  # type: ignore[method-assign]
    world.user.edit_study({"parallelism": -1})
    world.crash()
    world.advance(30.0)
    assert world.phase == "InitialDesign"
    (running,) = [c for c in _conditions(world) if c["type"] == "Running"]
    assert (running["reason"], running["status"]) == ("Draining", "True")
    assert "spec.parallelism: -1" in running["message"]
    for pod in _pods(world):
        ending(pod["metadata"]["name"], pod["metadata"]["uid"])
        world.advance(1.0)
        world.api.remove(Kind.POD, pod["metadata"]["name"])
    world.kubelet._finish = ending  # type: ignore[method-assign]
    world.advance(60.0)
    (failed,) = [c for c in _conditions(world) if c["type"] == "Failed"]
    assert (world.phase, failed["reason"]) == ("Failed", "InvalidSpec")
    assert {run["reason"] for run in _runs(world)} == {"Completed"}
    world.user.edit_study({"parallelism": 2})
    world.run()
    assert world.result() == smooth.result()


def test_a_trial_that_is_too_large_to_be_written_waits_for_an_edit_and_no_other_does(
    smooth: World,
) -> None:
    """Its run is under way, and then its result cannot be recorded."""
    world = World(BASE)
    while not world.api.objects[Kind.POD]:
        world.advance(0.5)
    name = sorted(world.api.objects[Kind.TRIAL])[0]
    world.api.bulky.add(name)
    world.advance(400.0)
    assert sorted(_phases(world)) == ["Completed", "Paused", "Paused", "Queued"]
    assert (_degraded(world)["status"], _degraded(world)["reason"]) == ("True", "ObjectTooLarge")
    assert name in _degraded(world)["message"]
    calls = world.calls
    world.advance(50.0)
    assert world.calls - calls <= 4, "a list of all there is, and it is not sent again as it is"
    world.api.bulky.clear()
    world.api.edit(Kind.TRIAL, name, {"metadata": {"annotations": {"smaller": "now"}}})
    world.run()
    assert world.result() == smooth.result()
    assert _degraded(world)["status"] == "False"


def test_a_promotion_that_is_too_large_to_be_written_keeps_no_other_from_its_own() -> None:
    world = World(BASE)
    while not _phases(world) or _phases(world)[0] != "Paused":
        world.advance(0.001)
    world.api.bulky.add(_names(world)[0])
    world.run()
    assert _phases(world) == ["Paused", "Paused", "Completed", "Paused"]


def test_a_trial_that_is_too_large_to_be_made_is_said_and_not_tried_in_haste(
    smooth: World,
) -> None:
    world = World(BASE)
    name = next(iter(_names(smooth)))
    world.api.bulky.add(name)
    world.advance(290.0)
    assert _degraded(world)["reason"] == "ObjectTooLarge"
    assert world.calls < 100
    world.api.bulky.clear()
    world.run()
    assert world.result() == smooth.result()


def test_a_job_that_is_too_large_fails_its_trial_and_says_why() -> None:
    world = World(Scenario(trials=2, parallelism=1, rungs=1))
    trial = next(iter(_names(simulate(Scenario(trials=2, parallelism=1, rungs=1), 0))))
    world.api.bulky.add(f"{trial}-r0-a0")
    world.run()
    (run,) = world.api.objects[Kind.TRIAL][trial]["status"]["runs"]
    assert run["reason"] == "StartFailed"
    assert "ObjectTooLarge" in run["message"]
    assert _phases(world) == ["Failed", "Completed"]


def test_a_trial_by_hand_that_is_too_large_to_be_answered_holds_up_nobody() -> None:
    world = World(BASE)
    world.user.make_trial("mine", -1)
    world.api.bulky.add("mine")
    world.run(rest=False)
    assert _phases(world) == ["Completed", "Paused", "Completed", "Paused", "Queued"]
    assert _degraded(world)["reason"] == "ObjectTooLarge"


def test_a_result_that_vanished_is_one_of_another_attempt_and_says_why() -> None:
    world = World(Scenario(trials=1, parallelism=1, rungs=1, delay_s=0.01))
    while not world.api.objects[Kind.POD]:
        world.advance(0.5)
    world.operator.boot(70.0)
    world.advance(60.0)  # meanwhile it ends, and a collector removes its pod
    for name in list(world.api.objects[Kind.POD]):
        world.api.remove(Kind.POD, name)
    world.run()
    first, second = _runs(world)
    assert first["reason"] == "Lost"
    assert "gone before its result could be read" in first["message"]
    assert (second["attempt"], second["reason"]) == (1, "Completed")


def test_how_long_a_job_is_kept_is_said_again_if_it_was_refused() -> None:
    """And by the same process: nobody restarts an operator for that."""
    scenario = Scenario(trials=4, parallelism=2, rungs=1, retention="None", refuse=0.3)
    for seed in range(3):
        world = World(scenario, seed)
        world.advance(1200.0)
        assert world.phase == "Completed"
        assert not world.api.objects[Kind.JOB], f"seed {seed}"


def test_when_every_trial_fails_the_study_ends_and_says_so() -> None:
    world = World(Scenario(trials=20, parallelism=5, rungs=1))
    world.kubelet.failing = True
    world.run()
    (ended,) = [c for c in _conditions(world) if c["type"] == "Failed"]
    assert (world.phase, ended["reason"]) == ("Failed", "TooManyFailures")
    assert len(world.api.objects[Kind.TRIAL]) < 20


def test_a_status_written_by_hand_spoils_its_own_trial_alone() -> None:
    faked = 0
    for seed in range(6):
        world = simulate(replace(BASE, fake=30.0, calm_after_s=60.0), seed)
        faked += len(world.user.touched)
        assert world.phase in ("Completed", "Failed")
    assert faked > 5


@pytest.mark.parametrize(
    "written",
    [
        {"reported": {"pod": "NOT A NAME!", "endedAt": "2027-01-15T08:00:00Z"}},
        {"reported": {"pod": "p", "endedAt": "0000-01-01T00:00:00Z"}},
        {"startedAt": "0000-01-01T00:00:00Z", "gpus": 1.0},
        {"startedAt": stamp(START), "finishedAt": "0000-01-01T00:00:00Z", "gpus": 1.0},
    ],
)
def test_a_run_that_somebody_has_made_up_keeps_no_other_from_its_own(
    written: dict[str, Any],
) -> None:
    world = World(Scenario(trials=4, parallelism=2, rungs=1, prometheus=0.0))
    while not world.api.objects[Kind.JOB]:
        world.advance(0.1)
    name = _names(world)[0]
    made_up = {"job": f"{name}-r0-a0", "rung": 0, "attempt": 0, **written}
    world.user.touched.add(world.api.objects[Kind.TRIAL][name]["metadata"]["uid"])
    world.api.edit(Kind.TRIAL, name, {"status": {"phase": "Running", "runs": [made_up]}})
    world.run()
    assert _phases(world) == ["Completed"] * 4


def test_a_trial_that_was_refused_once_takes_no_slot_besides_the_one_that_is_free() -> None:
    """Others may be adopted as long as it is refused; then both ask for the same slot."""
    world = World(Scenario(trials=3, parallelism=1, rungs=1))
    for x, name in enumerate(("a", "b")):
        world.user.make_trial(name, x)
    uid = world.api.objects[Kind.STUDY][STUDY]["metadata"]["uid"]
    refusal = Refusal(Waiting("CreateRefused", "a policy says so", endless=False), retry_at=0.0)
    memory = Memory(uid=uid, refusals={"a": refusal})
    world.operator.reconciler.memories[KEY] = memory
    world.run()  # the checker counts the slots
    assert world.api.objects[Kind.TRIAL]["a"]["spec"]["number"] == 0


def test_a_trial_that_was_refused_waits_for_a_slot_without_a_pass_after_the_other() -> None:
    """The checker counts the passes."""
    world = World(Scenario(trials=2, parallelism=1, rungs=1))
    finish, world.kubelet._finish = world.kubelet._finish, lambda *_: None  # type: ignore[method-assign]
    world.advance(30.0)
    world.user.make_trial("a", 1)
    refusal = Refusal(Waiting("CreateRefused", "a policy says so", endless=False), retry_at=0.0)
    world.operator.reconciler.memories[KEY].refusals["a"] = refusal
    world.advance(150.0)
    assert world.api.objects[Kind.TRIAL]["a"]["status"]["reason"] == "NoFreeSlot"
    ((name, pod),) = world.api.objects[Kind.POD].items()
    world.kubelet._finish = finish  # type: ignore[method-assign]
    finish(name, pod["metadata"]["uid"])
    world.run()
    assert _phases(world) == ["Completed", "Completed"]


@pytest.mark.parametrize("of", [STUDY, "another"])
def test_a_trials_name_that_is_taken_costs_its_number_and_holds_up_nothing(of: str) -> None:
    """By a trial that a user has made and named so, of this study or of none."""
    world = World(Scenario(trials=4, parallelism=2, rungs=1))
    uid = world.api.objects[Kind.STUDY][STUDY]["metadata"]["uid"]
    name = names.trial(STUDY, uid, 2)
    world.user.make_trial(name, 7, of)
    world.run()
    assert world.phase == "Completed"
    theirs = world.api.objects[Kind.TRIAL].pop(name)
    assert theirs["spec"].get("number") == (0 if of == STUDY else None)
    numbers = [trial["spec"]["number"] for trial in world.api.objects[Kind.TRIAL].values()]
    assert sorted(numbers) == ([1, 3] if of == STUDY else [0, 1, 3])


def test_a_watch_that_tells_late_of_a_deleted_study_starts_nothing() -> None:
    world = World(replace(BASE, lists=True))
    made = deepcopy(world.api.objects[Kind.STUDY][STUDY])
    world.advance(20.0)
    world.user.delete_study()
    world.advance(20.0)
    assert not world.api.objects[Kind.TRIAL]
    world.operator._deliver(Kind.STUDY, made, "ADDED")
    created = world.api.version
    world.advance(20.0)
    assert world.api.version == created


@pytest.mark.parametrize("versions", [3, 12, 30])
def test_after_the_api_server_was_restored_from_a_backup_the_study_goes_on(versions: int) -> None:
    world = World(Scenario(trials=8, parallelism=2, rungs=1))
    world.advance(20.0)
    world.checker._hold = lambda *_: None  # type: ignore[method-assign]  # what was is no more
    api = world.api
    at = api.version - versions
    api.objects = {kind: {o["metadata"]["name"]: o for o in api.at(kind, at)} for kind in Kind}
    api.past = [change for change in api.past if change.version <= at]
    api.version = at
    # The others begin anew, as in a cluster.
    world.jobs.made.clear()
    for job in list(api.objects[Kind.JOB]):
        world.jobs._sync(job)
    for pod in _pods(world):
        world.kubelet._finish(pod["metadata"]["name"], pod["metadata"]["uid"])
    calls = world.calls
    world.advance(300.0)
    assert world.phase == "Completed"
    assert world.calls < calls + 200


def test_a_trial_that_was_there_before_its_study_is_its_first() -> None:
    """Though nothing is listed when the study comes: that has just been done for everybody."""
    world = World(Scenario(trials=2, parallelism=1, rungs=1))
    world.user.make_trial("early", 7, NEIGHBOUR)
    world.advance(10.0)
    world.operator.mirror.listed_at[NAMESPACE] = world.now - START
    world.user.make_study(NEIGHBOUR)
    world.advance(50.0)
    early = world.api.objects[Kind.TRIAL]["early"]
    assert (early["spec"]["number"], early["status"]["phase"]) == (0, "Completed")


def test_a_study_that_has_ended_reads_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is looked at, and by however many operators after it."""
    asked: list[str] = []

    async def counted(cluster: Any, study: Study) -> Any:
        asked.append(study.name)
        return await read_sources(cluster, study)

    monkeypatch.setattr("primo_operator.reconcile.read_sources", counted)
    world = World(Scenario(trials=2, parallelism=2, rungs=1, neighbour=True))
    others = {"warmStart": [{"study": NEIGHBOUR}], "algorithm": {"name": "primo"}}
    world.api.edit(Kind.STUDY, STUDY, {"spec": others})
    world.run(rest=False)
    assert asked
    said = [c for c in _conditions(world) if c["type"] == "WarmStarted"]
    asked.clear()
    world.rest()
    assert not asked
    assert said == [c for c in _conditions(world) if c["type"] == "WarmStarted"] != []


def test_the_template_of_a_study_that_has_ended_is_not_asked_about_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator that starts would ask for each, and what is refused now is no matter of its."""
    world = simulate(Scenario(trials=2, parallelism=2, rungs=1), 0)
    said = [c for c in _conditions(world) if c["type"] == "TemplateValid"]
    _refuse(monkeypatch, "dry_run_pod")
    world.crash()
    world.rest()
    assert [c for c in _conditions(world) if c["type"] == "TemplateValid"] == said
    assert said[0]["status"] == "True"


@pytest.mark.parametrize("call", ["create_job", "dry_run_pod"])
def test_a_webhook_that_takes_no_dry_run_says_nothing_of_the_template(
    call: str, smooth: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = 'admission webhook "sidecar.example" does not support dry run'
    usual = getattr(SimulatedCluster, call)

    async def refuses(self: SimulatedCluster, obj: Any, **given: Any) -> Any:
        if call == "dry_run_pod" or given:
            raise RefusedError(400, words)
        return await usual(self, obj)

    monkeypatch.setattr(SimulatedCluster, call, refuses)
    world = simulate(BASE, 0)
    assert world.result() == smooth.result()
    (said,) = [c for c in _conditions(world) if c["type"] == "TemplateValid"]
    assert (said["status"], said["message"]) == ("Unknown", words)


def without(world: World, kind: Kind, field: str) -> None:
    """An admission policy takes this off all objects of a kind, each time they are written."""
    commit = world.api._commit

    def committed(of: Kind, obj: Any, event: str) -> Any:
        if of is kind:
            metadata = {name: value for name, value in obj["metadata"].items() if name != field}
            obj = {**obj, "metadata": metadata}
        return commit(of, obj, event)

    world.api._commit = committed  # type: ignore[method-assign]


def test_a_trial_that_another_study_of_this_name_has_left_keeps_its_label() -> None:
    """The checker sees that nothing is written to it."""
    world = World(BASE)
    world.advance(10.0)
    world.user.delete_study(orphan=True)
    world.user.make_study()
    world.advance(5.0)
    _relabel(world, Kind.TRIAL)
    world.run()
    left = next(iter(world.api.objects[Kind.TRIAL].values()))
    assert left["metadata"]["labels"][names.STUDY_LABEL] == NEIGHBOUR


def _refuse(monkeypatch: pytest.MonkeyPatch, call: str, *, once: bool = False) -> None:
    """By a webhook, whenever something is to be done to this."""
    usual, left = getattr(SimulatedCluster, call), [1]

    async def refuses(self: SimulatedCluster, *given: Any, **named: Any) -> Any:
        if named or (once and not left):
            return await usual(self, *given, **named)
        left.clear()
        raise RefusedError(403, 'admission webhook "team.example" denied the request: no')

    monkeypatch.setattr(SimulatedCluster, call, refuses)


def test_a_clock_that_steps_back_prolongs_no_wait_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _refuse(monkeypatch, "create_job", once=True)
    world = World(Scenario(trials=4, parallelism=2, rungs=1))
    world.advance(2.0)
    assert world.operator.reconciler.memories[KEY].refusals
    world.operator.skew_s = -3600.0
    world.advance(1800.0)
    assert world.phase == "Completed"


def test_a_job_that_may_not_be_deleted_keeps_no_other_trial_from_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its user has stopped the trial, and a policy wants its Job to go on."""
    _refuse(monkeypatch, "delete_job")
    world = World(Scenario(trials=6, parallelism=2, rungs=1))
    while not any(pod["status"]["phase"] == "Running" for pod in _pods(world)):
        world.advance(0.1)
    finish = world.kubelet._finish
    first = _names(world)[0]
    world.kubelet._finish = (  # type: ignore[method-assign]
        lambda name, uid: None if name.startswith(first) else finish(name, uid)
    )
    world.user.annotate(first, names.STOP_ANNOTATION, "slow")
    world.advance(600.0)
    assert _phases(world) == ["Queued", *["Completed"] * 5]
    assert _degraded(world)["reason"] == "Refused"
    assert "team.example" in _degraded(world)["message"]


def test_a_trial_that_may_not_be_made_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, "create_trial", once=True)
    world = World(Scenario(trials=2, parallelism=1, rungs=1))
    world.advance(0.5)
    while not world.api.objects[Kind.STUDY][STUDY].get("status"):
        world.advance(0.1)
    assert _degraded(world)["reason"] == "Refused"
    world.run()
    assert _degraded(world)["status"] == "False"


def test_a_job_that_is_denied_waits_until_the_template_is_not(
    monkeypatch: pytest.MonkeyPatch, smooth: World
) -> None:
    """The checker counts the passes: all that time the Job is due."""
    world = World(BASE)
    with monkeypatch.context() as policy:
        _refuse(policy, "create_job")
        world.advance(30.0)
        trials = world.api.objects[Kind.TRIAL].values()
        assert {trial["status"]["reason"] for trial in trials} == {"CreateRefused"}
        _refuse(policy, "dry_run_pod")
        world.api.edit(Kind.STUDY, STUDY, {"spec": {"parallelism": BASE.parallelism + 1}})
        world.advance(150.0)
    world.run()
    assert world.result() == smooth.result()


def test_a_job_that_may_not_expire_stays(monkeypatch: pytest.MonkeyPatch, smooth: World) -> None:
    _refuse(monkeypatch, "patch_job")
    world = World(replace(BASE, retention="None"))
    world._drive(world._finished, 600.0)
    assert world.result() == smooth.result()


def _with_ttl(world: World, *, each_time: bool) -> None:
    """A policy for all Jobs: when they are made, or each time that they are written."""
    commit = world.api._commit

    def committed(kind: Kind, obj: Any, event: str) -> Any:
        if kind is Kind.JOB and (each_time or event == "ADDED"):
            obj = {**obj, "spec": {**obj["spec"], "ttlSecondsAfterFinished": 0}}
        return commit(kind, obj, event)

    world.api._commit = committed  # type: ignore[method-assign]


@pytest.mark.parametrize("each_time", [False, True])
def test_jobs_that_would_be_gone_at_once_are_kept_until_they_are_read_or_it_is_said(
    each_time: bool, smooth: World
) -> None:
    world = World(BASE)
    _with_ttl(world, each_time=each_time)
    world.advance(15.0)
    said = [c for c in _conditions(world) if c["type"] == "Degraded"]
    if not each_time:
        assert not said
        world.sleep(60.0)  # what ends meanwhile is there when the operator is back
        world.run()
        assert {run["attempt"] for run in _runs(world)} == {0}
        assert world.result() == smooth.result()
        return
    assert (said[0]["status"], said[0]["reason"]) == ("True", "JobChanged")
    assert "spec.ttlSecondsAfterFinished is 0" in said[0]["message"]


def test_jobs_whose_labels_are_taken_off_each_time_are_found_by_name(smooth: World) -> None:
    """The checker counts the calls."""
    world = World(BASE)
    without(world, Kind.JOB, "labels")
    world.run()
    assert world.result() == smooth.result()


def _relabel(world: World, kind: Kind) -> None:
    """As by `kubectl label --overwrite`: for all one knows it is another study's now."""
    while not world.api.objects[kind]:
        world.advance(0.5)
    name = next(iter(world.api.objects[kind]))
    world.api.edit(kind, name, {"metadata": {"labels": {names.STUDY_LABEL: NEIGHBOUR}}})
    world.operator.reconciler.memories[KEY].doubted = True


def test_a_job_with_another_studys_label_is_found_by_name_and_not_looked_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("support.simulation.actors.kubelet.Kubelet._finish", lambda *_: None)
    world = World(Scenario(trials=1, parallelism=1, rungs=1))
    _relabel(world, Kind.JOB)
    calls = world.calls
    world.advance(60.0)
    assert world.calls < calls + 30
    (job,) = world.api.objects[Kind.JOB].values()
    assert job["metadata"]["labels"][names.STUDY_LABEL] == STUDY


def test_a_trial_with_another_studys_label_still_counts(smooth: World) -> None:
    """It holds its slot, and what it observes is the study's."""
    world = World(BASE)
    _relabel(world, Kind.TRIAL)
    world.run()
    assert world.result() == smooth.result()


def test_trials_whose_owner_is_taken_off_each_time_are_not_made_without_end() -> None:
    world = World(Scenario(trials=20, parallelism=2, rungs=1))
    without(world, Kind.TRIAL, "ownerReferences")
    world.advance(600.0)
    assert len(world.api.objects[Kind.TRIAL]) == 2
    assert world.phase == "Pending"
    assert world.calls < 200


SAID = {"stage": "Optimizing", "priors": ["error"], "prediction": {"error": 0.1}}


@pytest.mark.parametrize("said", [SAID, {"stage": {"of": "another"}, "priors": 5}])
def test_a_copied_trial_takes_nothing_along_of_why_it_was_suggested(said: dict[str, Any]) -> None:
    world = World(Scenario(trials=2, parallelism=2, rungs=1))
    world.user.make_trial("copied", 7)
    world.api.edit(Kind.TRIAL, "copied", {"spec": {"suggestion": said}})
    world.run()
    assert world.api.objects[Kind.TRIAL]["copied"]["spec"]["suggestion"] == {"origin": "User"}
    assert world.phase == "Completed"


@pytest.mark.parametrize("parameters", [{}, {"x": [1]}])
def test_a_trial_that_somebody_has_made_up_holds_up_nobody(parameters: dict[str, Any]) -> None:
    world = World(Scenario(trials=4, parallelism=2, rungs=1))
    uid = world.api.objects[Kind.STUDY][STUDY]["metadata"]["uid"]
    world.user.make_trial("made-up", 7)
    owner = {"apiVersion": names.API_VERSION, "kind": names.STUDY_KIND, "name": STUDY, "uid": uid}
    spec = {"number": 1, "parameters": {"x": None, **parameters}}
    status = {"phase": "Failed"}  # so that the checker does not take it for a run
    patch = {"metadata": {"ownerReferences": [owner]}, "spec": spec, "status": status}
    world.api.edit(Kind.TRIAL, "made-up", patch)
    world.run()
    assert world.phase == "Completed"
    assert world.api.objects[Kind.TRIAL].pop("made-up")["status"] == status
    assert _phases(world) == ["Completed"] * 3


def test_a_trial_by_hand_with_a_number_says_that_it_must_have_none() -> None:
    world = World(Scenario(trials=2, parallelism=1, rungs=1))
    world.user.make_trial("numbered", 7)
    world.api.edit(Kind.TRIAL, "numbered", {"spec": {"number": 0}})
    world.run()
    said = world.api.objects[Kind.TRIAL].pop("numbered")["status"]
    assert (said["phase"], said["reason"]) == ("Failed", "InvalidTrial")
    assert said["message"].startswith("spec.number: 0 is given, expected none")
    assert _phases(world) == ["Completed"] * 2


@pytest.mark.parametrize("after_s", [3.0, 40.0])
def test_a_copy_of_a_trial_takes_no_result_of_it_and_says_that_it_has_a_number(
    after_s: float,
) -> None:
    """As by `kubectl get -o yaml`, another name and another value, and `kubectl create`."""
    world = World(Scenario(trials=4, parallelism=1, rungs=1))
    world.advance(after_s)
    trial = next(iter(world.api.objects[Kind.TRIAL].values()))
    copy = {name: part for name, part in trial.items() if name != "status"}
    copy["metadata"] = {**trial["metadata"], "name": "a-copy"}
    copy["spec"] = {**trial["spec"], "parameters": {"x": 1234}}
    world.checker._hold = lambda *_: None  # type: ignore[method-assign]  # she uses a number again
    world.api.create(Kind.TRIAL, copy)
    world.run()
    said = world.api.objects[Kind.TRIAL].pop("a-copy")["status"]
    assert (said["phase"], said["reason"]) == ("Failed", "InvalidTrial")
    assert said["message"].startswith("spec.number: 0 is given, expected none")
    assert _phases(world) == ["Completed"] * 4
    front = [entry["trial"] for entry in world.api.objects[Kind.STUDY][STUDY]["status"]["front"]]
    assert len(front) == len({*front})
    for name in list(world.api.objects[Kind.TRIAL]):
        world.api.delete(Kind.TRIAL, name)  # it does not take the place of what it was copied from
    world.rest()


def test_a_run_that_has_ended_well_is_not_lost_because_the_watch_of_pods_is_late() -> None:
    """As after a restart of the API server, when that of Jobs is back before it."""
    world = World(Scenario(trials=1, parallelism=1, rungs=1, delay_s=0.01))
    world.operator._silent[Kind.POD] = float("inf")
    world.run()
    (run,) = _runs(world)
    assert (run["attempt"], run["reason"]) == (0, "Completed")


def test_a_pod_that_has_outlived_its_job_is_waited_for() -> None:
    """As after `kubectl delete job --cascade=orphan`; the kubelet sees that none starts beside."""
    for seed in range(4):
        world = World(Scenario(trials=2, parallelism=2, rungs=1, checkpoints=True), seed)
        while not any(pod["status"]["phase"] == "Running" for pod in _pods(world)):
            world.advance(0.1)
        for name in list(world.api.objects[Kind.JOB]):
            world.api.delete(Kind.JOB, name, orphan=True)
        said: set[str] = set()
        for _ in range(10):
            world.advance(0.5)
            trials = world.api.objects[Kind.TRIAL].values()
            said |= {str(trial["status"].get("reason")) for trial in trials if "status" in trial}
        assert "PodLingers" in said
        world.run()
        assert _phases(world) == ["Completed", "Completed"]


def test_a_run_whose_node_is_gone_says_that_its_pod_has_not_ended() -> None:
    world = World(Scenario(trials=1, parallelism=1, rungs=1, node_dies=1.0))
    while not world.kubelet.stuck:
        world.advance(1.0)
    world.advance(20.0)
    (trial,) = world.api.objects[Kind.TRIAL].values()
    assert (trial["status"]["phase"], trial["status"]["reason"]) == ("Running", "PodTerminating")
    world.run()
    assert {run["reason"] for run in _runs(world)} == {"Lost", "Completed"}


def test_a_pod_whose_containers_are_not_created_is_told_of_by_its_trial_and_its_study() -> None:
    world = World(Scenario(trials=1, parallelism=1, rungs=1))
    start, world.kubelet._start = world.kubelet._start, lambda *_: None  # type: ignore[method-assign]
    world.advance(10.0)
    ((name, pod),) = world.api.objects[Kind.POD].items()
    scheduled = {**condition("PodScheduled"), "lastTransitionTime": stamp(world.now)}
    status = waiting_pod("PodInitializing")["status"]
    world.api.edit(Kind.POD, name, {"status": {**status, "conditions": [scheduled]}})
    (trial,) = world.api.objects[Kind.TRIAL]
    world.advance(30.0)
    assert "status" not in world.api.objects[Kind.TRIAL][trial]
    world.advance(2 * START_DEADLINE_S)
    said = world.api.objects[Kind.TRIAL][trial]["status"]
    assert (said["phase"], said["reason"]) == ("Queued", "PodInitializing")
    (running,) = [c for c in _conditions(world) if c["type"] == "Running"]
    assert running["message"] == f"trial 0 waits: {said['message']}"
    start(name, pod["metadata"]["uid"])
    world.run()
    assert _phases(world) == ["Completed"]


def test_a_run_that_waited_long_for_a_gpu_has_time_to_start_when_it_gets_one() -> None:
    world = World(Scenario(trials=1, parallelism=1, rungs=1))
    start, world.kubelet._start = world.kubelet._start, lambda *_: None  # type: ignore[method-assign]
    world.advance(2 * START_DEADLINE_S)
    ((name, pod),) = world.api.objects[Kind.POD].items()
    scheduled = {**condition("PodScheduled"), "lastTransitionTime": stamp(world.now)}
    status = waiting_pod("ErrImagePull")["status"]
    world.api.edit(Kind.POD, name, {"status": {**status, "conditions": [scheduled]}})
    world.advance(START_DEADLINE_S - 60.0)
    (trial,) = world.api.objects[Kind.TRIAL].values()
    assert (trial["status"]["phase"], trial["status"]["reason"]) == ("Queued", "ErrImagePull")
    start(name, pod["metadata"]["uid"])
    world.run()
    assert _phases(world) == ["Completed"]


def _waits(world: World, status: Object) -> None:
    """The study's one pod, which has its node, comes to this."""
    ((name, pod),) = world.api.objects[Kind.POD].items()
    since = pod["metadata"]["creationTimestamp"]
    scheduled = {**condition("PodScheduled"), "lastTransitionTime": since}
    world.api.edit(Kind.POD, name, {"status": {**status, "conditions": [scheduled]}})


def _unstarted() -> tuple[World, Any]:
    """A world with one pod that does not start, and what starts it."""
    world = World(Scenario(trials=1, parallelism=1, rungs=1, infrastructure=0))
    start, world.kubelet._start = world.kubelet._start, lambda *_: None  # type: ignore[method-assign]
    while not world.api.objects[Kind.POD]:
        world.advance(1.0)
    ((name, pod),) = world.api.objects[Kind.POD].items()
    return world, lambda: start(name, pod["metadata"]["uid"])


def test_a_pull_that_fails_once_after_a_long_time_fails_no_run() -> None:
    world, start = _unstarted()
    for _ in range(2):
        _waits(world, waiting_pod("ContainerCreating")["status"])
        world.advance(START_DEADLINE_S + 20.0)
        _waits(world, waiting_pod("ErrImagePull")["status"])
        world.advance(5.0)
    start()
    world.run()
    assert _phases(world) == ["Completed"]


def test_a_sidecar_that_crashes_again_and_again_fails_its_run_though_it_runs_now_and_then() -> None:
    world, _ = _unstarted()
    crashes = waiting_pod("CrashLoopBackOff", of=names.SIDECAR)["status"]
    runs = waiting_pod("PodInitializing")["status"]
    runs["initContainerStatuses"][0]["state"] = {"running": {}}
    by_turns = [(crashes, START_DEADLINE_S / 2 - 10.0), (runs, 10.0)]
    for status, for_s in [*by_turns, *by_turns, (crashes, 10.0)]:
        assert _phases(world) == ["Queued"]
        _waits(world, status)
        world.advance(for_s)
    assert _phases(world) == ["Failed"]
    assert [run["reason"] for run in _runs(world)] == ["StartFailed"]


def test_a_pod_that_waits_for_its_node_when_the_time_is_over_does_not_begin() -> None:
    """Though what runs then may end."""
    world = World(Scenario(trials=9, parallelism=2, rungs=1))
    world.user.edit_study({"budget": {"trials": None, "duration": "60s"}})
    world.advance(30.0)
    world.kubelet._start = lambda *_: None  # type: ignore[method-assign]
    world.run()
    assert world.phase == "Completed"
    assert set(_phases(world)) == {"Completed", "Stopped"}
    assert not [run for run in _runs(world) if run["reason"] == "Stopped" and "startedAt" in run]


@pytest.mark.parametrize(
    ("rungs", "said"),
    [
        (1, ["trial 0"]),
        (2, ["trial 0 at 1 of 3 epochs", "trial 0 at 3 of 3 epochs"]),
    ],
)
def test_an_event_says_how_far_a_run_went(
    rungs: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[Notice] = []
    monkeypatch.setattr(SimulatedCluster, "notify", lambda _, notice: notices.append(notice))
    simulate(Scenario(trials=1, parallelism=1, rungs=rungs), 0)
    completed = [notice.message for notice in notices if notice.reason == "TrialCompleted"]
    assert [message.partition(": ")[0] for message in completed] == said


def test_a_deleted_trial_takes_its_number_along() -> None:
    """The checker sees that no number is used twice."""
    deleted = 0
    for seed in range(6):
        world = simulate(replace(BASE, delete_trial=20.0), seed)
        status = world.api.objects[Kind.STUDY][STUDY]["status"]
        assert status["nextTrial"] == BASE.trials
        deleted += BASE.trials - status["trials"]["total"]
    assert deleted > 3


def test_a_trial_that_is_deleted_before_the_pass_that_made_it_ends_takes_its_number_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Scenario(trials=3, parallelism=1, rungs=1))
    usual, deleted = SimulatedCluster.create_job, list[str]()

    async def fails(self: SimulatedCluster, job: Any, *, dry_run: bool = False) -> Any:
        if dry_run or deleted:
            return await usual(self, job, dry_run=dry_run)
        deleted.extend(_names(world))
        world.api.delete(Kind.TRIAL, deleted[0])
        raise ClusterError("no answer")

    monkeypatch.setattr(SimulatedCluster, "create_job", fails)
    world.run()  # the checker sees that no number is used twice
    numbers = [trial["spec"]["number"] for trial in world.api.objects[Kind.TRIAL].values()]
    assert sorted(numbers) == [1, 2]


def _phases(world: World) -> list[str]:
    trials = sorted(world.api.objects[Kind.TRIAL].items())
    return [(trial.get("status") or {}).get("phase") or "Queued" for _, trial in trials]


def _pods(world: World) -> list[Any]:
    return list(world.api.objects[Kind.POD].values())


def _names(world: World) -> list[str]:
    return sorted(world.api.objects[Kind.TRIAL])


def _runs(world: World) -> list[Any]:
    trials = world.api.objects[Kind.TRIAL].values()
    return [run for trial in trials for run in trial["status"]["runs"]]


def _conditions(world: World) -> list[Any]:
    conditions: list[Any] = world.api.objects[Kind.STUDY][STUDY]["status"]["conditions"]
    return conditions


def _degraded(world: World) -> Any:
    return next(c for c in _conditions(world) if c["type"] == "Degraded")


def test_a_job_that_its_queue_takes_back_costs_no_attempt_and_fails_nothing() -> None:
    again = 0
    for seed in range(10):
        world = simulate(Scenario(trials=4, parallelism=2, rungs=2, preempt=0.5), seed)
        again += world.queue.preempted
        for trial in world.api.objects[Kind.TRIAL].values():
            assert {r["attempt"] for r in trial["status"]["runs"]} == {0}
            assert {r["reason"] for r in trial["status"]["runs"]} == {"Completed"}
    assert again > 10


@pytest.mark.parametrize(("rungs", "budget"), [(1, 3), (1, 2.5), (2, 2), (3, 1)])
def test_what_is_started_at_once_spends_no_more_than_one_run_beyond_the_budget(
    rungs: int, budget: float
) -> None:
    world = World(Scenario(parallelism=8, rungs=rungs))
    world.api.edit(
        Kind.STUDY, STUDY, {"spec": {"budget": {"trials": None, "fullEvaluations": budget}}}
    )
    world.run()
    spent = world.api.objects[Kind.STUDY][STUDY]["status"]["budgetUsed"]["fullEvaluations"]
    assert budget <= spent < budget + 1
    if rungs == 1:
        assert len(world.api.objects[Kind.TRIAL]) == math.ceil(budget)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_run_resumes_and_is_paid_by_what_it_adds_only_if_there_are_checkpoints(
    checkpoints: bool,
) -> None:
    scenario = Scenario(trials=1, parallelism=1, rungs=2, checkpoints=checkpoints)
    world = simulate(scenario, 0)
    (trial,) = world.api.objects[Kind.TRIAL].values()
    runs = {run["fidelity"]: run.get("resumeFrom") for run in trial["status"]["runs"]}
    assert runs == {1.0: None, 3.0: 1.0 if checkpoints else None}
    (study,) = world.api.objects[Kind.STUDY].values()
    spent = study["status"]["budgetUsed"]["fullEvaluations"]
    assert spent == pytest.approx(1.0 if checkpoints else 4 / 3)
