"""What is kept between passes to save work changes nothing: a pass sees what it would see anew."""

from dataclasses import replace

import pytest

from primo_operator import writing
from primo_operator.memory import Memory
from primo_operator.mirror import Family
from primo_operator.observe import observe
from primo_operator.views import Trials
from primo_study.phases import UNFINISHED
from primo_study.queries import Access
from primo_study.study import Study
from support.simulation.runs import simulate_drawn


def test_a_pass_sees_what_one_without_blocks_and_evidence_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, moving = 0, 0

    def compared(family: Family, memory: Memory, access: Access) -> Study | None:
        nonlocal looks, moving
        anew, used_numbers = Trials(), set(memory.used_numbers)
        for view in family.trials.values():
            anew.put(view)
        found = observe(family, memory, access)
        empty = replace(memory, traced={}, sound=set(), used_numbers=used_numbers)
        assert found == observe(replace(family, trials=anew), empty, access)
        if found:
            looks += bool(found.rest)
            moving += sum(trial.phase in UNFINISHED for trial in found.moving)
        return found

    monkeypatch.setattr(writing, "observe", compared)
    # In small blocks, so that there are several.
    monkeypatch.setattr(Trials, "_place", lambda _, view: view.record.number // 2)
    for seed in range(1_000, 1_020):
        simulate_drawn(seed)
    assert min(looks, moving) > 1_000
