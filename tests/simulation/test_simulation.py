"""The operator's real pass in a simulated cluster: whatever happens, the invariants hold."""

import os

import pytest

from primo_operator.mirror import Kind
from support.scenario import Scenario
from support.simulation import World

SEEDS = range(int(os.environ.get("PRIMO_SEEDS", "300")))
FAULTS = ("crash-before", "crash-after", "lose", "refuse")

SMALL = {
    "one run": Scenario(trials=1, parallelism=1, rungs=1),
    "two rungs": Scenario(trials=3, parallelism=2, rungs=2),
    "a failing trial": Scenario(trials=3, parallelism=3, rungs=1, fails=1),
    "suspended on its way": Scenario(trials=2, parallelism=2, rungs=2, suspend_at_s=4.0),
    "one of the user's own": Scenario(trials=2, parallelism=2, rungs=1, own_trials=1),
    "in a queue": Scenario(trials=1, parallelism=1, rungs=2, preempt=0.5),
    "no Job is kept": Scenario(trials=1, parallelism=1, rungs=2, retention="None"),
    "asks Prometheus": Scenario(trials=1, parallelism=1, rungs=2, prometheus=0.0),
}


def simulate(scenario: Scenario, seed: int, **given: tuple[int, str]) -> World:
    world = World(scenario, seed, **given)
    try:
        world.run()
    except AssertionError as error:
        trace = "\n".join(world.trace)
        raise AssertionError(f"seed {seed}, {scenario}\n{trace}\n{error}") from error
    return world


@pytest.mark.parametrize("block", range(10))
def test_the_invariants_hold_under_drawn_faults(block: int) -> None:
    for seed in SEEDS[block::10]:
        world = simulate(Scenario.drawn(seed), seed)
        assert world.result()[1] in ("Completed", "Failed")


def test_a_study_deleted_at_any_moment_leaves_nothing() -> None:
    for seed in range(15):
        world = World(Scenario.drawn(seed), seed)
        world.advance(float(world.rng.uniform(0, 60)))
        world.delete_study()


def test_a_seed_replays_to_the_letter() -> None:
    for seed in range(0, 300, 30):
        first, second = (simulate(Scenario.drawn(seed), seed) for _ in range(2))
        assert list(first.trace) == list(second.trace)
        assert first.result() == second.result()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SMALL.values(), ids=SMALL)
def test_the_result_does_not_depend_on_where_a_fault_strikes(
    scenario: Scenario, fault: str
) -> None:
    smooth = simulate(scenario, 0)
    for call in range(1, smooth.calls + 1):
        world = simulate(scenario, 0, fault_at=(call, fault))
        assert world.result() == smooth.result(), f"{fault} at call {call}"


def test_a_job_that_its_queue_takes_back_costs_no_attempt_and_fails_nothing() -> None:
    again = 0
    for seed in range(10):
        world = simulate(Scenario(trials=4, parallelism=2, rungs=2, preempt=0.5), seed)
        again += world.preempted
        for trial in world.api.objects[Kind.TRIAL].values():
            assert {r["attempt"] for r in trial["status"]["runs"]} == {0}
            assert {r["reason"] for r in trial["status"]["runs"]} == {"Completed"}
    assert again > 10


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


@pytest.mark.parametrize("scenario", SMALL.values(), ids=SMALL)
def test_a_smooth_run_writes_little(scenario: Scenario) -> None:
    """Each run: its Job, its start, its end; each trial: its object. The study: a few a run.

    In a queue each run says once more that it waits, and is started anew when it was preempted.
    Where Prometheus is asked, what a run reported is written before its end.
    """
    world = simulate(scenario, 0)
    runs = world.writes["create job"]
    assert world.writes["create trial"] == scenario.trials - scenario.own_trials
    assert world.writes["adopt trial"] == scenario.own_trials
    queued = runs if scenario.preempt else 0
    asked = runs if scenario.prometheus is not None else 0
    again = 2 * world.preempted
    assert world.writes["patch trial"] <= 2 * runs + scenario.trials + queued + asked + again
    assert world.writes["patch study"] <= 3 * runs + 4 + again
    assert world.writes["patch job"] == (runs if scenario.retention else 0)
