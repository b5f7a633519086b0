"""Reading a problem from a spec: what is taken, and how each mistake is named."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primo_optimizer import (
    Goal,
    InvalidSpecError,
    Objective,
    Observation,
    Problem,
    Scalarization,
    SearchSpace,
    Trial,
    check,
    suggest,
)

VALID: dict[str, Any] = {
    "objectives": [
        {"name": "error", "goal": "Minimize", "target": 0.01, "referencePoint": 1.0},
        {"name": "throughput", "goal": "Maximize", "metric": "images", "reduce": "Mean"},
    ],
    "parameters": [
        {"name": "lr", "float": {"min": 1e-5, "max": 0.1, "log": True}},
        {"name": "layers", "int": {"min": 1, "max": 6}},
        {"name": "batch", "ordinal": {"values": [16, 32, 64]}},
        {"name": "activation", "categorical": {"choices": ["relu", "gelu"]}},
    ],
    "fidelity": {"name": "epochs", "min": 1, "max": 27, "eta": 3},
    "priors": [
        {
            "objective": "error",
            "confidence": 0.5,
            "parameters": [
                {"name": "lr", "center": 1e-3},
                {"name": "layers", "center": 2.5, "confidence": 0.9},
                {"name": "activation", "weights": {"relu": 1, "gelu": 3}},
            ],
        },
        {"objective": "throughput", "parameters": [{"name": "activation", "choice": "relu"}]},
    ],
    "constraints": [{"metric": "memory", "atMost": 40}, {"metric": "error", "atLeast": 0.0}],
    "preferences": {"weights": {"error": 2, "throughput": 1}, "scalarization": "Linear"},
    "algorithm": {"name": "random", "seed": 3, "settings": {}},
    "budget": {"trials": 10},
}
LR, LAYERS, BATCH, ACTIVATION = range(4)

Path = tuple[str | int, ...]


def changed(path: Path, value: Any) -> dict[str, Any]:
    """The valid spec with another value at the path."""
    spec = copy.deepcopy(VALID)
    at(spec, path[:-1])[path[-1]] = value
    return spec


def at(spec: Any, path: Path) -> Any:
    for step in path:
        spec = spec[step]
    return spec


def problems(spec: Any) -> list[str]:
    with pytest.raises(InvalidSpecError) as caught:
        Problem.from_spec(spec)
    return list(caught.value.problems)


def test_everything_of_a_spec_is_read() -> None:
    problem = Problem.from_spec(VALID)
    assert [p.name for p in problem.space.parameters] == ["activation", "batch", "layers", "lr"]
    assert problem.objectives[1] == Objective("throughput", Goal.MAXIMIZE)
    assert problem.full_fidelity == 27
    assert [belief.confidence for belief in problem.priors[0].beliefs] == [0.5, 0.9, 0.5]
    assert problem.priors[1].beliefs[0].confidence == 0.75
    assert problem.preference is not None
    assert problem.preference.weights == pytest.approx((2 / 3, 1 / 3))
    assert problem.preference.scalarization is Scalarization.LINEAR
    assert problem.violation({"memory": 50, "error": 0.5}) == 0.25
    assert problem.violation({"memory": 40, "error": 0.0}) == 0.0


def test_numpy_arrays_and_tuples_are_as_good_as_lists() -> None:
    spec = changed(("parameters", BATCH, "ordinal", "values"), np.array([16, 32, 64]))
    spec["objectives"] = tuple(spec["objectives"])
    spec["fidelity"]["max"] = np.int64(27)
    spec["parameters"][LR]["float"]["max"] = np.float64(0.1)
    problem = Problem.from_spec(spec)
    assert problem == Problem.from_spec(VALID)
    json.dumps([s.to_dict() for s in suggest(problem, [], 3, 0)])


@pytest.mark.parametrize("goal", list(Goal))
def test_every_goal_may_be_named(goal: Goal) -> None:
    assert Problem.from_spec(changed(("objectives", 0, "goal"), goal.value)).objectives[0].goal is (
        goal
    )


@pytest.mark.parametrize("word", list(Scalarization))
def test_every_scalarization_may_be_named(word: Scalarization) -> None:
    problem = Problem.from_spec(changed(("preferences", "scalarization"), word.value))
    assert problem.preference is not None
    assert problem.preference.scalarization is word


@pytest.mark.parametrize("field", ["fidelity", "priors", "constraints", "preferences", "algorithm"])
def test_null_is_as_good_as_left_out(field: str) -> None:
    spec = changed((field,), None)
    del spec[field]
    assert Problem.from_spec(changed((field,), None)) == Problem.from_spec(spec)


NAN, INF = float("nan"), float("inf")

MISTAKES: list[tuple[Path, Any, str]] = [
    (("objectives",), [], "objectives: 0 given, expected 1 to 8"),
    (("objectives",), None, "objectives: 0 given, expected 1 to 8"),
    (("objectives",), 3, "objectives: 3 is not a list"),
    (("objectives",), {"name": "error"}, "objectives: an object is not a list"),
    (("objectives", 0), "error", "objectives[0]: 'error' is not an object"),
    (("objectives", 0, "name"), "", "objectives[0].name: '' is empty"),
    (("objectives", 0, "name"), 5, "objectives[0].name: 5 is not a string"),
    (("objectives", 0, "name"), None, "objectives[0].name: is missing"),
    (
        ("objectives", 1, "name"),
        "error",
        "objectives[1].name: 'error' is used twice, expected unique names",
    ),
    (
        ("objectives", 0, "goal"),
        "minimize",
        "objectives[0].goal: 'minimize' is not Minimize or Maximize",
    ),
    (("objectives", 0, "target"), NAN, "objectives[0].target: nan is not a finite number"),
    (("objectives", 0, "target"), True, "objectives[0].target: true is not a finite number"),
    (
        ("objectives", 0, "referencePoint"),
        [1],
        "objectives[0].referencePoint: a list is not a finite number",
    ),
    (
        ("objectives", 0, "direction"),
        "min",
        "objectives[0].direction: is not a field (there are: name, goal, target, referencePoint, "
        "metric, reduce, prometheus)",
    ),
    (("parameters",), [], "parameters: none given, expected at least 1"),
    (("parameters",), "lr", "parameters: 'lr' is not a list"),
    (("parameters", LR), None, "parameters[0]: None is not an object"),
    (("parameters", LR, "name"), "layers", "parameters[1].name: 'layers' is used twice, expected"),
    (("parameters", LR, "float"), None, "parameters[0]: none given, expected exactly one of float"),
    (("parameters", LR, "int"), {}, "parameters[0]: float, int given, expected exactly one of"),
    (("parameters", LR, "float"), [0, 1], "parameters[0].float: a list is not an object"),
    (("parameters", LR, "float", "max"), None, "parameters[0].float.max: is missing"),
    (
        ("parameters", LR, "float", "min"),
        "0.1",
        "parameters[0].float.min: '0.1' is not a finite number",
    ),
    (
        ("parameters", LR, "float", "max"),
        10**400,
        "parameters[0].float.max: a number of more than 300 digits is not a finite number",
    ),
    (("parameters", LR, "float", "max"), 1e-5, "parameters[0].float.min: 1e-05 is not below max"),
    (
        ("parameters", LR, "float", "min"),
        0.0,
        "parameters[0].float.min: 0.0 is not above 0, which log needs",
    ),
    (
        ("parameters", LR, "float", "log"),
        "yes",
        "parameters[0].float.log: 'yes' is not true or false",
    ),
    (
        ("parameters", LR, "float", "step"),
        1,
        "parameters[0].float.step: is not a field (there are: min, max, log)",
    ),
    (
        ("parameters", LR, "float"),
        {"min": -1e308, "max": 1e308},
        "parameters[0].float.max: 1e+308 is too far from min, -1e+308",
    ),
    (
        ("parameters", LR, "float"),
        {"min": 1e15, "max": 1e15 + 0.125, "log": True},
        "parameters[0].float.min: 1000000000000000.0 is too close to max",
    ),
    (
        ("parameters", LAYERS, "int", "min"),
        0.5,
        "parameters[1].int.min: 0.5 is not a whole number",
    ),
    (
        ("parameters", LAYERS, "int", "max"),
        2**53 + 1,
        "parameters[1].int.max: 9007199254740993 is not between -2**53 and 2**53",
    ),
    (
        ("parameters", BATCH, "ordinal", "values"),
        [1],
        "parameters[2].ordinal.values: 1 given, expected 2 or more",
    ),
    (
        ("parameters", BATCH, "ordinal", "values"),
        ["16", 32],
        "parameters[2].ordinal.values[0]: '16' is not a finite number",
    ),
    (
        ("parameters", BATCH, "ordinal", "values"),
        [1, INF],
        "parameters[2].ordinal.values[1]: inf is not a finite number",
    ),
    (
        ("parameters", BATCH, "ordinal", "values"),
        [3, 3],
        "parameters[2].ordinal.values: [3, 3] are not distinct and ascending",
    ),
    (
        ("parameters", BATCH, "ordinal", "values"),
        [2**60, 2**60 + 1],
        "parameters[2].ordinal.values: [1152921504606846976, 1152921504606846977] are not distinct",
    ),
    (
        ("parameters", BATCH, "ordinal", "values"),
        [-1e308, 1e308],
        "parameters[2].ordinal.values: [-1e+308, 1e+308] are too far apart",
    ),
    (
        ("parameters", ACTIVATION, "categorical", "choices"),
        ["relu", 3],
        "parameters[3].categorical.choices[1]: 3 is not a string",
    ),
    (
        ("parameters", ACTIVATION, "categorical", "choices"),
        ["relu", " "],
        "parameters[3].categorical.choices[1]: ' ' is empty",
    ),
    (
        ("parameters", ACTIVATION, "categorical", "choices"),
        ["relu", "relu"],
        "parameters[3].categorical.choices: ['relu', 'relu'] are not distinct",
    ),
    (
        ("parameters", ACTIVATION, "categorical", "choices"),
        "relu",
        "parameters[3].categorical.choices: 'relu' is not a list",
    ),
    (("fidelity",), [1, 27], "fidelity: a list is not an object"),
    (("fidelity",), {}, "fidelity.name: is missing"),
    (("fidelity", "min"), 0, "fidelity.min: 0 is not above 0"),
    (("fidelity", "min"), 81, "fidelity.min: 81 is above fidelity.max, 27"),
    (("fidelity", "min"), 1e-300, "fidelity.max: 27 is more than 1e+15 times fidelity.min, 1e-300"),
    (("fidelity", "eta"), 1, "fidelity.eta: 1 is below 1.5"),
    (("fidelity", "eta"), 0, "fidelity.eta: 0 is below 1.5"),
    (("fidelity", "steps"), 9, "fidelity.steps: is not a field (there are: name, min, max, eta)"),
    (("priors",), {}, "priors: an object is not a list"),
    (
        ("priors", 0, "objective"),
        "latency",
        "priors[0].objective: 'latency' is not an objective (there are: error, throughput)",
    ),
    (
        ("priors", 1, "objective"),
        "error",
        "priors[1].objective: 'error' has two priors, expected one at most",
    ),
    (("priors", 0, "confidence"), 75, "priors[0].confidence: 75 is not between 0 and 1"),
    (("priors", 0, "parameters"), [], "priors[0].parameters: none given, expected at least 1"),
    (("priors", 0, "parameters"), None, "priors[0].parameters: is missing"),
    (("priors", 0, "parameters", 0), 0.1, "priors[0].parameters[0]: 0.1 is not an object"),
    (
        ("priors", 0, "parameters", 0),
        {"name": "lr", "centre": 0.1},
        "priors[0].parameters[0].centre: is not a field (there are: name, center, choice, weights",
    ),
    (
        ("priors", 0, "parameters", 0),
        {"name": "lr"},
        "priors[0].parameters[0]: nothing given, expected exactly one of center, choice, weights",
    ),
    (
        ("priors", 0, "parameters", 0, "name"),
        "momentum",
        "priors[0].parameters[0].name: 'momentum' is not a parameter (there are: activation, batch",
    ),
    (
        ("priors", 0, "parameters", 0, "name"),
        "layers",
        "priors[0].parameters[1].name: 'layers' is used twice, expected unique names",
    ),
    (
        ("priors", 0, "parameters", 0, "center"),
        0.2,
        "priors[0].parameters[0].center: 0.2 is not between 1e-05 and 0.1",
    ),
    (
        ("priors", 0, "parameters", 0),
        {"name": "batch", "center": 8},
        "priors[0].parameters[0].center: 8 is not between 16 and 64",
    ),
    (
        ("priors", 0, "parameters", 0),
        {"name": "lr", "choice": "relu"},
        "priors[0].parameters[0].choice: 'lr' is not categorical, expected center",
    ),
    (
        ("priors", 1, "parameters", 0),
        {"name": "activation", "center": 1},
        "priors[1].parameters[0].center: 'activation' is categorical, expected choice or weights",
    ),
    (
        ("priors", 1, "parameters", 0, "choice"),
        "tanh",
        "priors[1].parameters[0].choice: 'tanh' is not one of gelu, relu",
    ),
    (
        ("priors", 0, "parameters", 2, "weights"),
        {"tanh": 1},
        "priors[0].parameters[2].weights: 'tanh' is not one of gelu, relu",
    ),
    (
        ("priors", 0, "parameters", 2, "weights", "relu"),
        -1,
        "priors[0].parameters[2].weights.relu: -1 is not a number of 0 or more",
    ),
    (
        ("priors", 0, "parameters", 2, "weights"),
        {"relu": 0},
        "priors[0].parameters[2].weights: all are 0, expected one above 0",
    ),
    (
        ("priors", 0, "parameters", 2, "weights"),
        {"relu": 1e308, "gelu": 1e308},
        "priors[0].parameters[2].weights: their sum is not finite",
    ),
    (("constraints", 0, "metric"), None, "constraints[0].metric: is missing"),
    (
        ("constraints", 1, "metric"),
        "memory",
        "constraints[1].metric: 'memory' is used twice, expected unique metrics",
    ),
    (
        ("constraints", 0, "atMost"),
        None,
        "constraints[0]: nothing given, expected atMost, atLeast or both",
    ),
    (("constraints", 0, "atLeast"), 41, "constraints[0].atLeast: 41 is above atMost, 40"),
    (("constraints", 0, "atmost"), 41, "constraints[0].atmost: is not a field (there are: metric"),
    (("preferences", "weights"), None, "preferences.weights: none is above 0, expected one"),
    (
        ("preferences", "weights", "latency"),
        1,
        "preferences.weights: 'latency' is not an objective (there are: error, throughput)",
    ),
    (
        ("preferences", "weights", "error"),
        NAN,
        "preferences.weights.error: nan is not a number of 0 or more",
    ),
    (
        ("preferences", "scalarization"),
        "Tchebycheff",
        "preferences.scalarization: 'Tchebycheff' is not Chebyshev or Linear",
    ),
    (("algorithm",), "random", "algorithm: 'random' is not an object"),
    (("algorithm", "seed"), -1, "algorithm.seed: -1 is below 0"),
    (("algorithm", "seed"), "7", "algorithm.seed: '7' is not a whole number"),
    (("algorithm", "settings"), [], "algorithm.settings: a list is not an object"),
    (
        ("algorithm", "epsilon"),
        0.1,
        "algorithm.epsilon: is not a field (there are: name, seed, settings)",
    ),
    (("objective",), [], "objective: is not a field (there are: objectives, constraints,"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=lambda v: repr(v)[:60])
def test_a_mistake_is_named_with_field_value_and_expectation(
    path: Path, value: Any, message: str
) -> None:
    lines = problems(changed(path, value))
    assert any(line.startswith(message) for line in lines), lines


def test_where_nothing_may_be_named_it_says_so() -> None:
    found = problems(changed(("parameters",), {}))
    assert "priors[0].parameters[0].name: 'lr' is not a parameter (there are none)" in found


def test_one_mistake_gives_one_message() -> None:
    """But where others refer to what is broken by it."""
    assert problems(changed(("parameters", LR, "float", "min"), 1.0)) == [
        "parameters[0].float.min: 1.0 is not below max, 0.1"
    ]


def test_all_mistakes_are_named_at_once() -> None:
    spec = changed(("objectives", 0, "goal"), "Down")
    spec["fidelity"]["eta"] = "3"
    spec["algorithm"] = {"seeds": 1}
    assert [line.split(":")[0] for line in problems(spec)] == [
        "objectives[0].goal",
        "fidelity.eta",
        "algorithm.seeds",
    ]


@pytest.mark.parametrize("spec", [None, [], "error", 3])
def test_what_is_no_object_is_no_spec(spec: Any) -> None:
    assert problems(spec)[0].startswith("spec: ")


def test_a_search_space_alone_is_checked_as_well() -> None:
    with pytest.raises(InvalidSpecError, match=r"parameters\[0\]\.float\.max: is missing"):
        SearchSpace.from_spec([{"name": "x", "float": {"min": 0}}])


# --- any change at all


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """Of everything in a spec."""
    steps: Any = ()
    if isinstance(value, dict):
        steps = value.items()
    elif isinstance(value, list):
        steps = enumerate(value)
    for step, item in steps:
        yield (*here, step)
        yield from paths(item, (*here, step))


ODD_NUMBERS = [0, -0.0, -1, 1, 0.5, 2, 3.0, 27, 2**53 + 1, 10**400, 5e-324, 1e-300, 1e308, -1e308]
ODD_WORDS = ["", " ", "lr", "error", "relu", "name", "center", "Minimize", "random", "é\x00"]
SCALARS = st.sampled_from([None, True, False, NAN, INF, -INF, *ODD_NUMBERS, *ODD_WORDS])
NUMBERS = st.integers() | st.floats()
VALUES = st.recursive(
    SCALARS | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ODD_WORDS), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutated_specs(draw: st.DrawFn) -> dict[str, Any]:
    """The valid spec with one to three things replaced, scaled, taken out, put in or doubled."""
    spec = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths(spec))))
        parent = at(spec, path[:-1])
        number = isinstance(parent[path[-1]], int | float)
        match draw(st.sampled_from(["replace", "scale", "remove", "add", "double"])):
            case "scale" if number:
                parent[path[-1]] *= draw(st.sampled_from([0.5, 2, 100]))
            case "replace" | "scale":
                parent[path[-1]] = draw(VALUES)
            case "remove":
                del parent[path[-1]]
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["min", "goals", *ODD_WORDS]))] = draw(VALUES)
            case _ if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[int(path[-1])]))
    return spec


def outcome(spec: dict[str, Any]) -> Problem | tuple[str, ...]:
    try:
        problem = Problem.from_spec(spec)
        check(problem)
    except InvalidSpecError as error:
        return error.problems
    return problem


@settings(max_examples=400, deadline=None)
@given(mutated_specs())
def test_any_spec_is_a_problem_that_works_or_is_refused_by_name(spec: dict[str, Any]) -> None:
    problem = outcome(spec)
    if not isinstance(problem, Problem):
        assert problem
        assert all(re.match(r"[a-zA-Z'][^:]*: .", line) for line in problem), problem
        return
    suggestions = suggest(problem, [], 2, 0)
    assert len(suggestions) == 2
    for suggestion in suggestions:
        assert problem.space.configuration(suggestion.parameters) == suggestion.parameters
        encoded = problem.space.encode(suggestion.parameters)
        assert ((encoded >= 0) & (encoded <= 1)).all()


def test_an_observation_that_lacks_a_constrained_metric_is_none() -> None:
    values = {"loss": 0.5}
    half, whole = Observation(None, values), Observation(None, values, {"memory": 0.5})
    problem = Problem.from_spec(
        {
            "objectives": [{"name": "loss"}],
            "parameters": [{"name": "x", "float": {"min": 0, "max": 1}}],
            "constraints": [{"metric": "memory", "atMost": 1}],
        }
    )
    known = Trial(0, {"x": 0.5}, (half,)), Trial(1, {"x": 0.6}, (whole,))
    assert suggest(problem, known, 1, seed=0)


def test_an_observation_that_lacks_an_objective_is_none() -> None:
    """A trial's record may have been written by hand; the next ask must not fail over it."""
    problem = Problem.from_spec({**VALID, "priors": [], "algorithm": {"name": "moasha"}})
    configuration = {"lr": 0.01, "layers": 2, "batch": 32, "activation": "relu"}
    odd = Trial(0, configuration, (Observation(1.0, {"error": 0.1}),), fidelity=1.0)
    assert [s.trial for s in suggest(problem, [odd], 1, 0)] == [1]
