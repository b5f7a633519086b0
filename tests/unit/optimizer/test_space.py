"""The search space on the unit cube."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_optimizer import InvalidSpecError, SearchSpace
from primo_optimizer.sampling import first_unknown
from support.problems import CONDITIONAL_PARAMETERS, TINY, TRAINING

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


def test_a_log_scale_may_reach_to_the_largest_number() -> None:
    body = {"min": 1e-6, "max": sys.float_info.max, "log": True}
    space = SearchSpace.from_spec([{"name": "p", "float": body}])
    assert space.decode(np.ones(1))["p"] == pytest.approx(sys.float_info.max)
    assert space.snap(np.ones((1, 1))).tolist() == [[pytest.approx(1.0)]]


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


def test_what_is_hardly_ever_drawn_is_found_too() -> None:
    """One draw in 15 to the third has the parameter of which there is no end."""
    choices = [f"c{i}" for i in range(15)]
    chain = [
        {"name": "a", "categorical": {"choices": choices}},
        {"name": "b", "categorical": {"choices": choices}, "when": {"a": ["c0"]}},
        {"name": "c", "categorical": {"choices": choices}, "when": {"b": ["c0"]}},
        {"name": "x", "float": {"min": 1, "max": 2}, "when": {"c": ["c0"]}},
    ]
    space, known = SearchSpace.from_spec(chain), set()
    for i in range(60):
        found = first_unknown(space, known, (), np.random.default_rng(i))
        assert found is not None
        known.add(space.key(found[0]))
    assert len(known) == 60


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
        ({"lr": "0.1"}, "parameters.lr: '0.1' is not a number between 1e-05 and 0.1"),
        ({"lr": float("nan")}, "parameters.lr: nan is not a number between 1e-05 and 0.1"),
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


# --- conditions

NESTED = SearchSpace.from_spec(CONDITIONAL_PARAMETERS)
WORDS = SearchSpace.from_spec(
    [
        {"name": "a", "categorical": {"choices": ["x", "y"]}},
        {"name": "b", "categorical": {"choices": ["x", "y", "z"]}, "when": {"a": ["x"]}},
        {"name": "c", "int": {"min": 1, "max": 4}, "when": {"b": ["y", "z"], "d": ["x"]}},
        {"name": "d", "categorical": {"choices": ["x", "y"]}},
    ]
)


@given(st.lists(st.floats(-1, 2), min_size=5, max_size=5))
def test_what_is_not_there_is_left_out_and_lies_in_the_middle(point: list[float]) -> None:
    configuration = NESTED.decode(np.array(point))
    there = {"model", "size"}
    there |= {"trees"} if configuration["model"] == "forest" else {"optimizer"}
    there |= {"momentum"} if configuration.get("optimizer") == "sgd" else set()
    assert configuration.keys() == there
    encoded = NESTED.encode(configuration)
    away = [p.name not in there for p in NESTED.parameters]
    assert (encoded[away] == 0.5).all()
    assert NESTED.active(encoded[None, :])[0].tolist() == [not missing for missing in away]
    assert NESTED.snap(np.array([point]))[0].tolist() == encoded.tolist()
    assert NESTED.encode_all([configuration])[0].tolist() == encoded.tolist()
    assert NESTED.configuration(configuration) == configuration


def test_configurations_that_differ_in_what_is_not_there_are_equal() -> None:
    adam = {"model": "network", "optimizer": "adam", "size": 0.5}
    other = {**adam, "momentum": 0.9, "trees": 3}
    assert NESTED.key(adam) == NESTED.key(other)
    assert NESTED.encode(adam).tolist() == NESTED.encode(other).tolist()
    assert NESTED.key(adam) != NESTED.key({**adam, "optimizer": "sgd", "momentum": 0.5})


ONE = SearchSpace.from_spec([{"name": "x", "int": {"min": 0, "max": 9}}])
TWO = SearchSpace.from_spec([{"name": name, "int": {"min": 0, "max": 2}} for name in "yx"])


@pytest.mark.parametrize("space", [ONE, TWO, NESTED], ids=["one", "two", "conditions"])
def test_the_keys_of_many_are_those_of_each(space: SearchSpace) -> None:
    points = np.random.default_rng(0).random((20, len(space.parameters)))
    configurations = [space.decode(point) for point in points]
    assert space.keys(configurations) == {space.key(each) for each in configurations}


def test_size_and_grid_count_what_differs() -> None:
    keys = [WORDS.key(configuration) for configuration in WORDS.grid()]
    # a=y: d; a=x: b=x: d; b=y or z: d=x has c, d=y has not
    assert len(set(keys)) == len(keys) == WORDS.size == 2 + 2 + 2 * (4 + 1)
    assert all(WORDS.configuration(found) == found for found in WORDS.grid())
    assert NESTED.size == np.inf


def test_too_many_to_be_counted_are_as_good_as_infinite() -> None:
    choices = {"categorical": {"choices": ["x", "y"]}}
    parents = [{"name": f"p{i}", **choices} for i in range(20)]
    children = [{"name": f"c{i}", **choices, "when": {f"p{i}": ["x"]}} for i in range(20)]
    assert SearchSpace.from_spec([*parents, *children]).size == np.inf


def test_the_order_in_which_parameters_are_given_does_not_matter() -> None:
    assert SearchSpace.from_spec(CONDITIONAL_PARAMETERS[::-1]) == NESTED


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"model": "network", "size": 0.5}, "parameters.optimizer: is missing"),
        (
            {"model": "network", "size": 0.5, "optimizer": "adam", "momentum": 0.9},
            "parameters.momentum: 0.9 given, which needs optimizer sgd",
        ),
        (
            {"model": "forest", "size": 0.5, "trees": 65},
            "parameters.trees: 65 is not a whole number between 1 and 64",
        ),
    ],
)
def test_a_configuration_against_a_condition_is_refused_by_name(
    given_: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        NESTED.configuration(given_)
    assert caught.value.problems == (message,)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({}, "when: none given, expected a parameter and its choices"),
        ([], "when: a list is not an object"),
        ({"b": ["x"]}, "when: 'b' is not a parameter (there are: a, n, p)"),
        ({"n": ["1"]}, "when: 'n' is not categorical, and only choices can be a condition"),
        ({"a": "x"}, "when.a: 'x' is not a list"),
        ({"a": [1]}, "when.a[0]: 1 is not a string"),
        ({"a": []}, "when.a: none given, expected at least one choice"),
        ({"a": ["x", "z"]}, "when.a: 'z' is not one of x, y"),
    ],
)
def test_a_mistake_in_a_condition_is_named(when: Any, message: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        SearchSpace.from_spec(
            [
                {"name": "a", "categorical": {"choices": ["x", "y"]}},
                {"name": "n", "int": {"min": 1, "max": 2}},
                {"name": "p", "float": {"min": 0, "max": 1}, "when": when},
            ]
        )
    assert caught.value.problems == (f"parameters[2].{message}",)


def test_what_depends_on_itself_is_named() -> None:
    choices = {"categorical": {"choices": ["x", "y"]}}
    with pytest.raises(InvalidSpecError) as caught:
        SearchSpace.from_spec(
            [
                {"name": "a", **choices, "when": {"b": ["x"]}},
                {"name": "b", **choices, "when": {"a": ["x"]}},
                {"name": "c", **choices, "when": {"a": ["x"]}},
            ]
        )
    assert caught.value.problems == (
        "parameters[0].when: a needs b needs a, and so is never there",
        "parameters[1].when: b needs a needs b, and so is never there",
    )
