"""What is promised of one fault, with nothing else in its way."""

import pytest

from primo_operator.mirror import Kind
from support.simulation.runs import simulate
from support.simulation.scenario import Scenario


def test_a_job_that_its_queue_takes_back_costs_no_attempt_and_fails_nothing() -> None:
    again = 0
    for seed in range(10):
        world = simulate(Scenario(trials=4, parallelism=2, rungs=2, preempt=0.5), seed)
        again += world.queue.preempted
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
