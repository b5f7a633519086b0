"""Whatever a seed draws, the invariants hold; `make simulate` runs as many seeds as you like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.simulation.runs import BadRunError, simulate, simulate_drawn
from support.simulation.scenario import Scenario
from support.simulation.world import World

SEEDS = range(int(os.environ.get("PRIMO_SEEDS", "300")))
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("block", range(10))
def test_the_invariants_hold_under_drawn_faults(block: int) -> None:
    for seed in SEEDS[block::10]:
        simulate_drawn(seed)


def test_a_study_deleted_at_any_moment_leaves_nothing() -> None:
    for seed in range(15):
        world = World(Scenario.drawn(seed), seed)
        world.advance(float(world.rng.uniform(0, 60)))
        late = world.scenario.node_dies or world.scenario.away_at_s
        world.delete_study(2400.0 if late else 60.0)


def test_a_seed_replays_to_the_letter_in_any_process() -> None:
    """Python hashes strings otherwise in each process: no order may come from a set."""
    seeds = range(0, 300, 60)
    code = (
        "from support.simulation.runs import simulate_drawn\n"
        f"for seed in {list(seeds)}: print(simulate_drawn(seed).trace_hash)"
    )
    hashes = [simulate_drawn(seed).trace_hash for seed in seeds]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split() == hashes


def test_a_run_that_breaks_an_invariant_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("support.simulation.checker.CALLS_A_MINUTE", 3)
    with pytest.raises(BadRunError) as caught:
        simulate_drawn(7)
    words = str(caught.value)
    assert words.startswith("seed 7, Scenario(trials=")
    assert "operator-0 get study" in words
    assert "I13: 4 calls in a minute" in words
    assert words.endswith("again with: make simulate SEEDS=1 FROM=7")


def test_what_was_read_of_the_store_is_never_written_to() -> None:
    """Readers share its objects, so one that changed them would go unnoticed."""
    world = simulate(Scenario(trials=4, parallelism=2, retention="Failed", own_trials=1), 0)
    assert world.api.past
    world.api.check_unchanged()
