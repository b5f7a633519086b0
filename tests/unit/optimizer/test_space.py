"""The search space on the unit cube."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_optimizer import InvalidSpecError, SearchSpace
from primo_optimizer.sampling import first_unknown
from support.problems import TINY, TRAINING

SPACE = TRAINING.problem().space
CONFIGURATION = {"lr": 0.01, "layers": 3, "width": 64, "activation": "relu"}
DISCRETE = SearchSpace.from_spec(
    [
        {"name": "a", "int": {"min": -7, "max": 5}},
        {"name": "b", "int": {"min": 1, "max": 2**40, "log": True}},
        {"name": "c", "int": {"min": -(2**53), "max": 2**53}},
        {"name": "d", "int": {"min": 8, "max": 4096, "log": True}},
        {"name": "e", "ordinal": {"values": [-3, 0.5, 7, 1e6]}},
        {"name": "f", "categorical": {"choices": ["x", "y", "z"]}},
    ]
)


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


@given(st.lists(st.floats(-1, 2), min_size=6, max_size=6))
def test_of_discrete_parameters_it_is_so_to_the_bit(point: list[float]) -> None:
    """Else a configuration is scored at one point and learnt from at another."""
    snapped = DISCRETE.snap(np.array([point]))[0]
    assert snapped.tolist() == DISCRETE.encode(DISCRETE.decode(np.array(point))).tolist()


@pytest.mark.parametrize("space", [SPACE, DISCRETE], ids=["mixed", "discrete"])
def test_encoding_all_is_encoding_each_to_the_bit(space: SearchSpace) -> None:
    points = np.random.default_rng(0).random((500, len(space.parameters)))
    configurations = [space.decode(point) for point in points]
    one_by_one = [space.encode(configuration).tolist() for configuration in configurations]
    assert space.encode_all(configurations).tolist() == one_by_one
    assert space.encode_all([]).shape == (0, len(space.parameters))


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_spreading_stays_within_a_step(point: list[float]) -> None:
    moved = DISCRETE.spread(np.array([point]))[0]
    assert ((moved >= 0) & (moved <= 1)).all()
    # On a log scale half a step is widest at the lower end.
    assert (np.abs(moved - point) <= [0.5 / 12, 0.03, 1e-9, 0.02, 0.5 / 3, 0.0]).all()


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


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        pytest.param("lr", 1e-5, 1e-5, id="the lower bound"),
        pytest.param("layers", 3.0, 3, id="a whole float for an int"),
        pytest.param("width", 64.0, 64, id="a float for an ordinal of ints"),
        pytest.param("layers", np.int64(2), 2, id="a numpy number"),
    ],
)
def test_a_configuration_is_read_in_the_types_of_its_space(
    name: str, value: Any, read: float
) -> None:
    found = SPACE.configuration({**CONFIGURATION, name: value})
    assert found == {**CONFIGURATION, name: read}
    assert type(found[name]) is type(read)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 1}, "parameters.lr: 1 is not between 1e-05 and 0.1"),
        ({"lr": "0.1"}, "parameters.lr: '0.1' is not between 1e-05 and 0.1"),
        ({"lr": float("nan")}, "parameters.lr: nan is not between 1e-05 and 0.1"),
        ({"layers": 2.5}, "parameters.layers: 2.5 is not a whole number between 1 and 6"),
        ({"layers": True}, "parameters.layers: true is not a whole number between 1 and 6"),
        ({"width": 65}, "parameters.width: 65 is not one of 16, 32, 64, 128, 256"),
        ({"activation": "silu"}, "parameters.activation: 'silu' is not one of gelu, relu, tanh"),
        ({"activation": None}, "parameters.activation: is missing"),
        (
            {"layrs": 2},
            "parameters.layrs: is not a field (there are: activation, layers, lr, width)",
        ),
    ],
)
def test_a_configuration_of_another_space_is_refused_by_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        SPACE.configuration({**CONFIGURATION, **changes})
    assert caught.value.problems == (message,)
