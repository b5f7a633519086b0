"""Each fault at each place of small scenarios, as Sieve does: the end is always the same."""

from itertools import combinations

import pytest

from support.simulation.faults import Script
from support.simulation.runs import simulate
from support.simulation.scenario import Scenario
from support.simulation.world import World

SMALL = {
    "one run": Scenario(trials=1, parallelism=1, rungs=1),
    "two rungs": Scenario(trials=2, parallelism=2, rungs=2),
    "a failing trial": Scenario(trials=2, parallelism=2, rungs=1, fails=1),
    "suspended on its way": Scenario(trials=2, parallelism=2, rungs=2, suspend_at_s=4.0),
    "one of the user's own": Scenario(trials=2, parallelism=2, rungs=1, own_trials=1),
    "in a queue": Scenario(trials=1, parallelism=1, rungs=2, preempt=0.5),
    "no Job is kept": Scenario(trials=1, parallelism=1, rungs=2, retention="None"),
    "asks Prometheus": Scenario(trials=1, parallelism=1, rungs=2, prometheus=0.0),
}
small = pytest.mark.parametrize("scenario", SMALL.values(), ids=SMALL)


def holds(scenario: Scenario, smooth: World, script: Script) -> None:
    world = simulate(scenario, 0, script, rest=False)  # that it rests, the drawn ones show
    assert world.result() == smooth.result(), f"{script}"


@small
def test_the_result_does_not_depend_on_where_a_write_goes_wrong(scenario: Scenario) -> None:
    smooth = simulate(scenario, 0)
    for call in smooth.write_calls:
        for fault in ("crash-before", "crash-after", "lose"):
            holds(scenario, smooth, Script({call: fault}))


@small
def test_the_result_does_not_depend_on_where_a_read_goes_wrong(scenario: Scenario) -> None:
    smooth = simulate(scenario, 0)
    for call in range(1, smooth.calls_before_rest):
        if call not in smooth.write_calls:
            holds(scenario, smooth, Script({call: "crash-after" if call % 2 else "refuse"}))


@pytest.mark.parametrize("first", ["crash-before", "crash-after", "lose"])
@pytest.mark.parametrize("second", ["crash-before", "crash-after", "lose"])
def test_nor_on_where_two_writes_do(first: str, second: str) -> None:
    """A fault moves those that come later: some of the second ones strike a read, or nothing."""
    scenario = SMALL["one run"]
    smooth = simulate(scenario, 0)
    for one, two in combinations(smooth.write_calls, 2):
        holds(scenario, smooth, Script({one: first, two: second}))


@pytest.mark.parametrize("name", ["one run", "in a queue"])
def test_nor_on_how_old_the_view_is_after_a_restart(name: str) -> None:
    smooth = simulate(SMALL[name], 0)
    for call in smooth.write_calls:
        for back in range(1, 11):
            holds(SMALL[name], smooth, Script({call: "crash-after"}, back=back))


@small
def test_nor_on_a_single_event_that_is_lost(scenario: Scenario) -> None:
    smooth = simulate(scenario, 0)
    for event in range(1, smooth.events + 1):
        holds(scenario, smooth, Script(lost_event=event))


@small
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
    again = 2 * world.queue.preempted
    assert world.writes["patch trial"] <= 2 * runs + scenario.trials + queued + asked + again
    assert world.writes["patch study"] <= 3 * runs + 4 + again
    assert world.writes["patch job"] == (runs if scenario.retention else 0)
