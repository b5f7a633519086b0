"""The search space on the unit cube."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_optimizer import SearchSpace
from primo_optimizer.sampling import first_unknown
from support.problems import TINY, TRAINING

SPACE = TRAINING.problem().space


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_decoding_gives_what_encodes_to_the_same(point: list[float]) -> None:
    configuration = SPACE.decode(np.array(point))
    again = SPACE.decode(SPACE.encode(configuration))
    assert again.pop("lr") == pytest.approx(configuration.pop("lr"))
    assert again == configuration


@given(st.lists(st.floats(-1, 2), min_size=4, max_size=4))
def test_snapping_is_encoding_the_decoded(point: list[float]) -> None:
    snapped = SPACE.snap(np.array([point]))[0]
    assert snapped == pytest.approx(SPACE.encode(SPACE.decode(np.array(point))))


@pytest.mark.parametrize(
    "parameter",
    [
        {"int": {"min": 1, "max": 4}},
        {"int": {"min": -3, "max": 5}},
        {"ordinal": {"values": [1, 10, 1000]}},
        {"categorical": {"choices": ["a", "b", "c"]}},
    ],
)
def test_uniform_draws_give_each_value_an_equal_share(parameter: dict[str, Any]) -> None:
    space = SearchSpace.from_spec([{"name": "p", **parameter}])
    units = (np.arange(1000)[:, None] + 0.5) / 1000
    values = [space.decode(point)["p"] for point in space.spread(units)]
    counts = [values.count(value) for value in set(values)]
    assert len(counts) == space.size
    assert max(counts) - min(counts) <= 2


def test_the_grid_is_every_configuration_once() -> None:
    space = TINY.problem().space
    keys = {space.key(configuration) for configuration in space.grid()}
    assert len(keys) == space.size == 6


def test_what_is_left_is_found_when_draws_hit_known_ones_only() -> None:
    space = TINY.problem().space
    *known, last = (space.key(configuration) for configuration in space.grid())
    draws = [space.encode(next(space.grid()))] * 3
    rng = np.random.default_rng(0)
    found = first_unknown(space, set(known), draws, rng)
    assert found is not None
    assert space.key(found[0]) == last
    assert found[1] is False
    assert first_unknown(space, {*known, last}, draws, rng) is None
