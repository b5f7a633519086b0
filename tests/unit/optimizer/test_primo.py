"""PriMO's stages, priors and budget."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from primo_optimizer import (
    DeviceError,
    InvalidSpecError,
    Observation,
    Problem,
    Trial,
    check,
    suggest,
)
from primo_optimizer.history import History
from primo_optimizer.initial_design import holding
from primo_optimizer.primo import Settings, designing
from primo_optimizer.priors import densities
from primo_optimizer.surrogate import Surrogate
from primo_optimizer.trust import prior_weight
from support.problems import BRANIN_CURRIN, ONE, TRAINING, Simulation, failing_where


def _seen(number: int, *fidelities: float, **changes: Any) -> Trial:
    values = {"branin": 0.5, "currin": 0.5}
    seen = tuple(Observation(f, values) for f in fidelities)
    at = changes.pop("fidelity", fidelities[-1] if fidelities else None)
    return Trial(number, {"x": 0.1 * number, "y": 0.5}, seen, fidelity=at, **changes)


@pytest.mark.parametrize(
    ("trial", "finished", "given_out"),
    [
        pytest.param(_seen(0, 1, 3, 9), 9, 9, id="a continuation counts once"),
        pytest.param(_seen(0, 1, 3, running=True, fidelity=27), 3, 27, id="a run under way"),
        pytest.param(_seen(0, 1, failed="x", fidelity=9), 9, 9, id="a failed run is spent"),
        pytest.param(_seen(0), 0, 0, id="never run"),
    ],
)
def test_spent(trial: Trial, finished: float, given_out: float) -> None:
    history = History.of(BRANIN_CURRIN.problem(), [trial])
    assert history.spent(with_running=False) == pytest.approx(finished / 27)
    assert history.spent(with_running=True) == pytest.approx(given_out / 27)


LOW = [_seen(i, 1) for i in range(9)]
FULL = [_seen(i, 1, 27) for i in range(9)]
BUSY = _seen(10, running=True, fidelity=1)
FAILED = [_seen(i, 1, failed="Diverged", fidelity=27) for i in range(9)]


@pytest.mark.parametrize(
    ("trials", "designs"),
    [
        pytest.param([*LOW, BUSY], True, id="all at the lowest rung"),
        pytest.param([*LOW, _seen(9, 1, 3), BUSY], True, id="one beyond it"),
        pytest.param([*LOW, _seen(9, 1, 3, 9), BUSY], False, id="one at the last rung but one"),
        pytest.param([*LOW, _seen(9, 1, 3, 9)], True, id="and nobody waits"),
        pytest.param([*LOW, _seen(9, 1, 3, running=True, fidelity=9)], False, id="one runs there"),
        pytest.param(
            [*LOW, _seen(9, 1, 3, failed="x", fidelity=9), BUSY], True, id="one has failed there"
        ),
        pytest.param(LOW[:2] + FAILED[2:], True, id="full ones fail, too few observations"),
        pytest.param(LOW[:3] + FAILED[3:], False, id="full ones only fail: stuck no longer"),
        pytest.param(
            [_seen(i, running=True, fidelity=27) for i in range(9)], True, id="nothing seen yet"
        ),
    ],
)
def test_designing(trials: list[Trial], designs: bool) -> None:
    problem = BRANIN_CURRIN.problem()
    assert designing(History.of(problem, trials), Settings.of(problem)) is designs


@pytest.mark.parametrize(
    ("trials", "designs"),
    [
        pytest.param([*LOW, _seen(9, 1, 3, 9), BUSY], True, id="budget left"),
        pytest.param([*FULL[:2], LOW[2]], False, id="budget out, full ones seen"),
        pytest.param([_seen(i, 9) for i in range(9)], True, id="budget out, none seen in full"),
        pytest.param(
            [*(_seen(i, 9) for i in range(8)), _seen(8, 1, 3, 9, running=True, fidelity=27)],
            False,
            id="budget out, the first full one runs",
        ),
    ],
)
def test_designing_for_a_budget(trials: list[Trial], designs: bool) -> None:
    settings = {"name": "primo", "settings": {"initialDesign": 2}}
    problem = BRANIN_CURRIN.problem(algorithm=settings)
    assert designing(History.of(problem, trials), Settings.of(problem)) is designs


@pytest.mark.parametrize(
    ("rungs", "last_but_one"),
    [
        pytest.param(None, math.inf, id="no fidelity"),
        pytest.param({"name": "epochs", "min": 9, "max": 9}, math.inf, id="one rung"),
        pytest.param({"name": "epochs", "min": 3, "max": 9}, 9, id="not the lowest of two"),
        pytest.param({"name": "epochs", "min": 1, "max": 9}, 3, id="the middle one of three"),
        pytest.param({"name": "epochs", "min": 1, "max": 81}, 27, id="of five"),
    ],
)
def test_the_last_rung_but_one(rungs: dict[str, Any] | None, last_but_one: float) -> None:
    problem = BRANIN_CURRIN.problem(fidelity=rungs)
    assert History.of(problem, []).last_but_one == last_but_one


def _reported(number: int, *fidelities: float, loss: float, **changes: Any) -> Trial:
    trial = _seen(number, *fidelities, **changes)
    values = {"branin": loss, "currin": 10.0 * loss}
    return replace(trial, observations=tuple(Observation(f, values) for f in fidelities))


SCREENED = [_reported(i, 1, 3, loss=0.1 + 0.01 * i, stopped=True) for i in range(6)]
HOPELESS = _reported(6, 1, 3, 9, loss=0.9)


@pytest.mark.parametrize(
    ("others", "goes_on"),
    [
        pytest.param([BUSY], True, id="other workers are busy"),
        pytest.param([], False, id="nobody else waits"),
        pytest.param(
            [_reported(7 + i, 1, 27, loss=0.1) for i in range(2)]
            + [_seen(9, 1, 9, running=True, fidelity=27)],
            False,
            id="two are done and one runs",
        ),
    ],
)
def test_the_first_full_evaluations_are_made_without_delay(
    others: list[Trial], goes_on: bool
) -> None:
    """Even of a trial that one worker alone would not go on with."""
    problem = BRANIN_CURRIN.problem(algorithm={"name": "primo", "settings": {"initialDesign": 0}})
    (suggestion,) = suggest(problem, [*SCREENED, HOPELESS, *others], 1, seed=0)
    assert suggestion.explanation["stage"] == "Optimizing"
    assert ((suggestion.trial, suggestion.fidelity) == (6, 27)) is goes_on


def test_the_design_starts_at_the_centres_then_around_them_then_anywhere() -> None:
    found = [s.explanation for s in suggest(TRAINING.problem(), [], 8, 0)]
    assert [(e["origin"], e.get("prior")) for e in found] == [
        ("PriorCenter", "accuracy"),
        ("PriorCenter", "latency"),
        ("Prior", "accuracy"),
        ("Prior", "latency"),
        ("Prior", "accuracy"),
        ("Prior", "latency"),
        ("Uniform", None),
        ("Uniform", None),
    ]


def _believing(x: float, y: float) -> dict[str, Any]:
    beliefs = [{"name": "x", "center": x}, {"name": "y", "center": y}]
    return {"objective": "loss", "parameters": beliefs}


@pytest.mark.parametrize(
    ("x", "y", "origins"),
    [
        pytest.param(0.3, 0.1, ["Uniform", "Prior"], id="a prior that holds"),
        pytest.param(0.95, 1.0, ["Uniform", "Uniform", "Uniform"], id="a refuted one"),
    ],
)
def test_without_a_fidelity_refuted_priors_get_no_draws(
    x: float, y: float, origins: list[str]
) -> None:
    study = Simulation(ONE, ONE.problem(priors=[_believing(x, y)])).run(6)
    found = [s.explanation for s in study.suggestions]
    designed = [e["origin"] for e in found if e["stage"] == "InitialDesign"]
    assert designed == ["PriorCenter", *origins]


def test_without_a_fidelity_who_waits_for_a_centre_looks_elsewhere() -> None:
    problem = ONE.problem(priors=[_believing(0.3, 0.1)])
    found = [s.explanation["origin"] for s in suggest(problem, [], 6, 0)]
    assert found == ["PriorCenter", *["Uniform"] * 5]


def test_a_prior_is_refuted_by_what_it_takes_for_unlikely_alone() -> None:
    problem = ONE.problem(priors=[_believing(0.3, 0.1)])
    at = problem.space.decode(densities(problem)[0].center)
    center = Trial(0, at, (Observation(None, {"loss": 0.1}),))
    near = Trial(1, {"x": 0.31, "y": 0.1}, (Observation(None, {"loss": 0.0}),))
    far = replace(near, configuration={"x": 1.0, "y": 1e-3})
    assert len(holding(History.of(problem, [center, near]))) == 1
    assert holding(History.of(problem, [center, far])) == ()
    assert holding(History.of(problem, [replace(center, failed="x"), near])) == ()


def test_a_missing_belief_leaves_the_centre_in_the_middle() -> None:
    latency = suggest(TRAINING.problem(), [], 2, 0)[1].configuration
    assert latency["activation"] == "relu"
    assert latency["layers"] == 1
    assert latency["lr"] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("trust", "steps", "weight"),
    [
        pytest.param(0.0, 0.0, 0.0, id="a prior that the data refute"),
        pytest.param(1.0, 0.0, 1.0, id="full strength at the start"),
        pytest.param(0.5, 0.0, 0.5, id="half trusted"),
        pytest.param(1.0, 4.0, np.exp(-16 / 4), id="the paper's decay"),
    ],
)
def test_prior_weight(trust: float, steps: float, weight: float) -> None:
    assert prior_weight(trust, steps, d=4) == pytest.approx(weight)


def test_explanations_of_a_model_say_what_is_expected_in_the_users_terms() -> None:
    study = Simulation(TRAINING, TRAINING.problem()).run(8)
    models = [s for s in study.suggestions if s.explanation["origin"] == "Model"]
    assert models
    for suggestion in models:
        predicted = suggestion.explanation["predicted"]
        assert set(predicted) == {"accuracy", "latency"}
        assert -1 < predicted["accuracy"]["mean"] < 1.2
        assert predicted["latency"]["std"] >= 0
        assert suggestion.explanation["rung"] == 1


@pytest.mark.parametrize(("epsilon", "expected"), [(1.0, {True}), (0.0, {False})])
def test_epsilon_steps_leave_the_priors_aside(epsilon: float, expected: set[bool]) -> None:
    algorithm = {"name": "primo", "settings": {"epsilon": epsilon, "initialDesign": 2}}
    study = Simulation(TRAINING, TRAINING.problem(algorithm=algorithm)).run(4)
    steps = [s.explanation for s in study.suggestions if "acquisition" in s.explanation]
    assert {step["epsilon"] for step in steps} == expected
    if epsilon == 1.0:
        assert all(step["priorWeight"] == 0 for step in steps)


def test_a_right_prior_is_trusted_in_a_space_of_few_configurations() -> None:
    """Of what it draws much is what uniform draws are, too."""
    axes = [
        {"name": "k", "categorical": {"choices": ["a", "b"]}},
        {"name": "l", "categorical": {"choices": ["a", "b"]}},
        {"name": "n", "int": {"min": 0, "max": 1}},
    ]
    beliefs = [{"name": "k", "choice": "a", "confidence": 0.9}]
    problem = ONE.problem(parameters=axes, priors=[{"objective": "loss", "parameters": beliefs}])
    tried = [("a", "b", 0), ("a", "a", 1), ("b", "b", 0), ("b", "b", 1), ("b", "a", 0)]
    trials = [
        Trial(number, dict(zip("kln", at, strict=True)), (Observation(None, {"loss": loss}),))
        for number, (at, loss) in enumerate(zip(tried, (0.0, 0.0, 1.0, 1.0, 1.0), strict=True))
    ]
    asked = [suggest(problem, trials, 1, seed)[0].explanation for seed in range(4)]
    assert min(step["priorTrust"]["loss"] for step in asked) > 0.3


def test_without_a_usable_model_the_search_goes_on_and_says_why() -> None:
    trials = [
        Trial(i, {"x": i / 9, "y": 0.5}, (Observation(None, {"loss": 1.0}),)) for i in range(6)
    ]
    (suggestion,) = suggest(ONE.problem(), trials, 1, 0)
    assert suggestion.explanation["stage"] == "Optimizing"
    assert suggestion.explanation["fallback"] == "no objective varies"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_of_a_large_grid_is_found(seed: int) -> None:
    """Sampled candidates may all be known."""
    axes = [
        {"name": "x", "int": {"min": 1, "max": 40}},
        {"name": "y", "int": {"min": 1, "max": 30}},
    ]
    left = [(40, 30), (39, 28), (33, 3)]
    tried = [at for at in product(range(1, 41), range(1, 31)) if at not in left]
    trials = [
        Trial(i, {"x": x, "y": y}, (Observation(None, {"loss": (x - 5.0) ** 2 + y}),))
        for i, (x, y) in enumerate(tried)
    ]
    problem = ONE.problem(parameters=axes)
    found = [s.configuration for s in suggest(problem, trials, 5, seed)]
    assert sorted((c["x"], c["y"]) for c in found) == sorted(left)


def test_where_trials_fail_fewer_are_proposed() -> None:
    fragile = failing_where(BRANIN_CURRIN, lambda c: c["x"] > 0.5)
    study = Simulation(fragile, fragile.problem()).run(8)
    late = [t for t in study.trials.values() if t.number >= len(study.trials) // 2]
    assert sum(t.failed is not None for t in late) <= len(late) / 3


def test_success_is_less_likely_near_a_failure() -> None:
    fails = [Trial(9, {"x": 0.9, "y": 0.9}, failed="x", fidelity=27)]
    sound = [_seen(i, 27) for i in range(4)]
    sound[0] = replace(sound[0], observations=(Observation(27, {"branin": 1, "currin": 2}),))
    near, far = np.array([[0.88, 0.9]]), np.array([[0.2, 0.5]])
    surrogate = Surrogate.of(History.of(BRANIN_CURRIN.problem(), [*sound, *fails]))
    assert surrogate.log_success(near) < surrogate.log_success(far) - 1
    surrogate = Surrogate.of(History.of(BRANIN_CURRIN.problem(), sound))
    assert surrogate.log_success(near) == 0.0


def test_cheap_runs_that_went_well_do_not_hide_that_long_ones_fail() -> None:
    low = [_seen(i, 1) for i in range(11)]
    for well in (2, 4):
        low[well] = _reported(well, 1, 27, loss=well)
    low[7], low[9] = (replace(low[i], failed="OutOfMemory", fidelity=27) for i in (7, 9))
    surrogate = Surrogate.of(History.of(BRANIN_CURRIN.problem(), low))
    fails, runs = surrogate.log_success(np.array([[0.8, 0.5], [0.3, 0.5]]))
    assert fails < runs - 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 3}, "algorithm.settings.eta: is not a setting of primo (there are: device, e"),
        ({"epsilon": 1.5}, "algorithm.settings.epsilon: 1.5 is not between 0 and 1"),
        ({"epsilon": "a"}, "algorithm.settings.epsilon: 'a' is not a finite number"),
        ({"initialDesign": -1}, "algorithm.settings.initialDesign: -1 is not 0 or more"),
        ({"paper": "yes"}, "algorithm.settings.paper: 'yes' is not true or false"),
        ({"device": "gpu"}, "algorithm.settings.device: 'gpu' is not such as cpu or cuda:0"),
        ({"device": "mps"}, "algorithm.settings.device: 'mps' is not such as cpu or cuda:0"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    problem = ONE.problem(algorithm={"name": "primo", "settings": settings})
    with pytest.raises(InvalidSpecError) as caught:
        check(problem)
    assert str(caught.value).startswith(message)


def test_a_device_that_is_not_there_is_named_at_the_first_ask() -> None:
    settings = {"name": "primo", "settings": {"device": "cuda:99"}}
    with pytest.raises(DeviceError, match=r"settings\.device: torch cannot use 'cuda:99'"):
        suggest(ONE.problem(algorithm=settings), [], count=1, seed=0)


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(InvalidSpecError, match=r"algorithm\.name: 'hyperband' is not one of primo"):
        check(ONE.problem(algorithm={"name": "hyperband"}))


def test_nothing_but_a_model_imports_torch() -> None:
    script = (
        "import sys; from primo_optimizer import Problem, check, suggest\n"
        f"problem = Problem.from_spec({dict(TRAINING.spec)!r})\n"
        "check(problem); suggest(problem, [], 3, 0)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("seed", [0, -1, 2**63])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    assert suggest(Problem.from_spec(ONE.spec), [], 1, seed)


@pytest.mark.parametrize("power", [-100, -60, 60])
@pytest.mark.parametrize("preferences", [None, {"weights": {"a": 1, "b": 1}}])
def test_units_do_not_matter(power: int, preferences: dict[str, Any] | None) -> None:
    """Joules of one operation are numbers, too; a power of two changes no digit."""
    spec = {
        "objectives": [{"name": "a"}, {"name": "b"}],
        "parameters": [{"name": name, "float": {"min": 0, "max": 1}} for name in "xy"],
        **({"preferences": preferences} if preferences else {}),
    }
    asked = Problem.from_spec(spec)
    points = np.random.default_rng(0).random((12, 2))

    def suggested(unit: float) -> dict[str, Any]:
        trials = [
            Trial(
                number,
                {"x": float(x), "y": float(y)},
                (Observation(None, {"a": unit * (x**2 + y), "b": (1 - x) ** 2 + y}),),
            )
            for number, (x, y) in enumerate(points)
        ]
        (found,) = suggest(asked, trials, 1, seed=1)
        return dict(found.configuration)

    assert suggested(2.0**power) == suggested(1.0)
