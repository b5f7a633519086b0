"""The optimizer fails: the study goes on, says so while it lasts, and ends no earlier for it."""

from typing import Any

import pytest

from primo_operator.mirror import Kind
from primo_operator.ports import Answer
from primo_study.study import Study, Trouble
from support.simulation.cluster import ScriptedSuggester
from support.simulation.scenario import STUDY, Scenario
from support.simulation.world import World

TROUBLE = Trouble("OptimizerTimedOut", "no suggestion within 120 s")
SCENARIO = Scenario(trials=4, parallelism=1, rungs=2)


class Sick(ScriptedSuggester):
    """Fails where nothing but promotions is left, so many times."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.conditions: list[Any] = []

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        self.conditions.append((study.condition("Degraded") or {}).get("status"))
        if new_trials == 0 and self.left:
            self.left -= 1
            return Answer((), TROUBLE)
        return await super().suggest(study, count, new_trials)


def ran(failures: int) -> tuple[World, Sick]:
    sick = Sick(failures)
    world = World(SCENARIO, 0, suggester=sick)
    world.run()
    return world, sick


def test_a_failure_where_only_promotions_are_left_does_not_end_the_study() -> None:
    healthy, _ = ran(0)
    world, sick = ran(4)
    assert sick.left == 0
    assert world.result() == healthy.result()
    assert world.calls < healthy.calls + 20


def test_the_condition_says_what_happened_and_heals_with_the_next_good_answer() -> None:
    world, sick = ran(2)
    assert "True" in sick.conditions
    conditions = world.api.objects[Kind.STUDY][STUDY]["status"]["conditions"]
    (degraded,) = [c for c in conditions if c["type"] == "Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("False", "AsExpected")


def test_an_optimizer_that_never_works_again_does_not_keep_the_study_for_ever() -> None:
    world, _ = ran(10_000)
    study = world.api.objects[Kind.STUDY][STUDY]["status"]
    assert study["phase"] == "Completed"
    (degraded,) = [c for c in study["conditions"] if c["type"] == "Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "OptimizerTimedOut")
    with pytest.raises(KeyError):
        world.result()[0][4]
