"""The test of the simulation: it catches operators that are wrong on purpose."""

import pytest

from support.simulation.mutants import MUTANTS, Mutant, catch

SEEDS = range(20)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_wrong_operator_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catch(mutant, SEEDS[:3])[0] == -1, "the right one is not"
    mutant.change(monkeypatch)
    seed, violation = catch(mutant, SEEDS)
    assert seed >= 0, "it survives"
    assert mutant.caught in violation
