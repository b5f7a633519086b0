"""One seed from beginning to end, and what to tell if it goes wrong."""

import subprocess
from pathlib import Path

from support.simulation.faults import Script
from support.simulation.scenario import Scenario
from support.simulation.world import World

ROOT = Path(__file__).parents[3]


class BadRunError(AssertionError):
    """A run that broke an invariant, in words that say how to see it again."""


def simulate(
    scenario: Scenario, seed: int, script: Script | None = None, *, rest: bool = True
) -> World:
    """Run a scenario to its end, and then until it has come to rest.

    Raises:
        BadRunError: with the last events.
    """
    world = World(scenario, seed, script)
    try:
        world.run(rest=rest)
    except Exception as error:
        what = f"{scenario}" if script is None else f"{scenario}, {script}"
        events = "\n".join(world.trace)
        text = f"seed {seed}, {what}\n{events}\n{type(error).__name__}: {error}"
        raise BadRunError(text) from error
    return world


def simulate_drawn(seed: int) -> World:
    """Run what a seed draws; a failure says how to see it again."""
    try:
        return simulate(Scenario.drawn(seed), seed)
    except BadRunError as error:
        again = f"commit {_commit()}, again with: make simulate SEEDS=1 FROM={seed}"
        raise BadRunError(f"{error}\n{again}") from error


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
