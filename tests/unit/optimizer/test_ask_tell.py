"""Ask and tell: a study of one's own, held in memory."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primo_optimizer import (
    AskTell,
    InvalidSpecError,
    Observation,
    PrimoError,
    SpaceExhaustedError,
    Suggestion,
    TellError,
    Trial,
)
from primo_optimizer.pareto import hypervolume, non_dominated
from support.problems import BRANIN_CURRIN, LIMITED, ONE, TINY, TRAINING, Benchmark

RANDOM = {"algorithm": {"name": "random"}}
GUIDE = Path(__file__).parents[3] / "docs" / "optimizer.md"


def started(benchmark: Benchmark = TRAINING, seed: int = 7, **changes: Any) -> AskTell:
    """With random search, which proposes in no time, unless the changes say otherwise."""
    return AskTell.from_spec({**benchmark.spec, **RANDOM, **changes}, seed=seed)


def values_of(benchmark: Benchmark, suggestion: Suggestion) -> dict[str, float]:
    full = benchmark.problem().full_fidelity
    share = suggestion.fidelity / full if suggestion.fidelity and full else 1.0
    values = benchmark.evaluate(suggestion.parameters, share)
    assert values is not None
    return values


def advance(opt: AskTell, benchmark: Benchmark, runs: int) -> AskTell:
    for _ in range(runs):
        [suggestion] = opt.ask()
        opt.tell(suggestion.trial, suggestion.fidelity, values_of(benchmark, suggestion))
    return opt


def finished(runs: int = 12, benchmark: Benchmark = TRAINING, **changes: Any) -> AskTell:
    return advance(started(benchmark, **changes), benchmark, runs)


# --- asking


def test_what_was_asked_for_runs_until_it_is_told() -> None:
    opt = started()
    first, second = opt.ask(2)
    opt.tell(first.trial, first.fidelity, {"accuracy": 0.5, "latency": 3.0})
    assert [trial.running for trial in opt.trials] == [False, True]
    assert opt.trials[0].observations[0].values == {"accuracy": 0.5, "latency": 3.0}
    assert opt.trials[1].configuration == second.parameters


def test_a_suggestion_may_be_changed_by_its_receiver() -> None:
    opt = started()
    [suggestion] = opt.ask()
    before = dict(suggestion.parameters)
    assert isinstance(suggestion.parameters, dict)
    suggestion.parameters.clear()
    assert opt.trials[0].configuration == before


def test_nor_does_one_of_a_further_run_reach_its_trial() -> None:
    opt = AskTell.from_spec({**BRANIN_CURRIN.spec, "algorithm": {"name": "moasha"}})
    while (suggestion := opt.ask()[0]).resume_from is None:
        opt.tell(suggestion.trial, suggestion.fidelity, {"branin": 0.5, "currin": 0.5})
    before = dict(suggestion.parameters)
    suggestion.parameters.clear()
    assert opt.trials[suggestion.trial].configuration == before


@pytest.mark.parametrize(
    ("spec", "argument", "seed"),
    [({}, None, 0), ({"seed": 5}, None, 5), ({"seed": 5}, 7, 7), ({"seed": 5}, 0, 0)],
)
def test_the_seed_is_the_argument_or_that_of_the_spec(
    spec: dict[str, Any], argument: int | None, seed: int
) -> None:
    opt = AskTell.from_spec({**ONE.spec, "algorithm": {"name": "random", **spec}}, seed=argument)
    assert opt.seed == seed
    assert opt.ask(2) == started(ONE, seed=seed).ask(2)


def test_a_paused_trial_is_asked_for_again_from_where_it_was() -> None:
    opt = started(BRANIN_CURRIN, algorithm={"name": "primo"})
    suggestions = []
    while not suggestions or suggestions[-1].resume_from is None:
        suggestions += opt.ask()
        values = values_of(BRANIN_CURRIN, suggestions[-1])
        opt.tell(suggestions[-1].trial, suggestions[-1].fidelity, values)
    again = suggestions[-1]
    [trial] = [trial for trial in opt.trials if trial.number == again.trial]
    assert [seen.fidelity for seen in trial.observations] == [again.resume_from, again.fidelity]


def test_a_used_up_space_gives_fewer_and_then_says_so() -> None:
    opt = started(TINY, fidelity=None)
    suggestions = opt.ask(10)
    assert len(suggestions) == TINY.problem().space.size
    assert opt.ask() == []
    for suggestion in suggestions:
        opt.tell(suggestion.trial, None, failed="Lost")
    with pytest.raises(SpaceExhaustedError):
        opt.ask()


# --- telling


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), np.array([1])[0], 1])
def test_numbers_of_numpy_are_numbers(value: Any) -> None:
    opt = started()
    [suggestion] = opt.ask()
    opt.tell(np.int64(suggestion.trial), np.float64(27), {"accuracy": value, "latency": 3})
    told = opt.trials[0].observations[0].values["accuracy"]
    assert type(told) is float
    assert told == value


def test_constrained_metrics_are_told_with_the_objectives() -> None:
    opt = started(LIMITED)
    [suggestion] = opt.ask()
    values = {"accuracy": 0.5, "latency": 3.0, "memory": 9.0, "loss": 1.0}
    opt.tell(suggestion.trial, suggestion.fidelity, values)
    [seen] = opt.trials[0].observations
    assert seen.values == {"accuracy": 0.5, "latency": 3.0}
    assert seen.constrained == {"accuracy": 0.5, "memory": 9.0}


@pytest.mark.parametrize("metric", ["accuracy", "memory"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 10**400])
def test_a_value_that_is_not_finite_means_that_the_training_diverged(
    metric: str, value: float
) -> None:
    opt = started(LIMITED)
    [suggestion] = opt.ask()
    values = {"accuracy": 0.5, "latency": 3.0, "memory": 1.0, metric: value}
    opt.tell(suggestion.trial, suggestion.fidelity, values)
    assert opt.trials[0].failed == "Diverged"
    assert opt.trials[0].observations == ()
    assert not opt.trials[0].running


def test_values_on_the_way_are_observations_of_a_run_that_goes_on() -> None:
    opt = started()
    [suggestion] = opt.ask()
    for fidelity in (9, 3, 27):
        assert opt.trials[0].running
        opt.tell(suggestion.trial, fidelity, {"accuracy": fidelity / 100, "latency": 3})
    assert not opt.trials[0].running
    assert [seen.fidelity for seen in opt.trials[0].observations] == [3, 9, 27]


def test_a_run_may_fail_where_it_was_told_of_before() -> None:
    opt = started()
    [suggestion] = opt.ask()
    opt.tell(suggestion.trial, 9, {"accuracy": 0.5, "latency": 3})
    opt.tell(suggestion.trial, 9, failed="OutOfMemory")
    assert opt.trials[0].failed == "OutOfMemory"
    assert len(opt.trials[0].observations) == 1


GOOD = {"accuracy": 0.5, "latency": 3.0}

WRONG_TELLS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((9, 27, GOOD), {}, "trial: 9 is not the number of a trial"),
    ((True, 27, GOOD), {}, "trial: true is not the number of a trial"),
    (([], 27, GOOD), {}, "trial: a list is not the number of a trial"),
    ((0, 27, GOOD), {}, "trial 0: was told at fidelity 27 before"),
    ((0, 9, GOOD), {}, "trial 0: does not run, and has to be asked for first"),
    ((1, 27, GOOD), {}, "trial 1: has failed (Lost)"),
    ((2, 27, GOOD), {}, "trial 2: was stopped"),
    ((3, 28, GOOD), {}, "fidelity: 28 is not between 1.0 and 27"),
    ((3, 0, GOOD), {}, "fidelity: 0 is not between 1.0 and 27"),
    ((3, None, GOOD), {}, "fidelity: None is not between 1.0 and 27"),
    ((3, "27", GOOD), {}, "fidelity: '27' is not between 1.0 and 27"),
    ((3, 9, GOOD), {}, "trial 3: was told at fidelity 9 before"),
    ((3, 27), {}, "values, failed: neither given, expected exactly one of them"),
    ((3, 27, GOOD), {"failed": "x"}, "values, failed: both given, expected exactly one of them"),
    ((3, 27), {"failed": " "}, "failed: ' ' is empty"),
    ((3, 27), {"failed": ValueError("x")}, "failed: ValueError('x') is not a string"),
    ((3, 27, 0.5), {}, "values: 0.5 is not an object"),
    ((3, 27, {}), {}, "values: accuracy, latency missing, expected accuracy, latency"),
    (
        (3, 27, {"accuracy": 0.5, "latncy": 3, "loss": 1}),
        {},
        "values: latency missing, expected accuracy, latency (given, but not expected: latncy, los",
    ),
    ((3, 27, {**GOOD, "latency": "3"}), {}, "values.latency: '3' is not a number"),
    (
        (3, 27, {"accuracy": "a", "latency": None}),
        {},
        "values.accuracy: 'a' is not a number; values.latency: None is not a number",
    ),
    (
        (3, 27, {"accuracy": "a"}),
        {},
        "values: latency missing, expected accuracy, latency; values.accuracy: 'a' is not a number",
    ),
    ((3, 27, {**GOOD, "latency": True}), {}, "values.latency: true is not a number"),
    ((3, 27, {**GOOD, "latency": [3.0]}), {}, "values.latency: a list is not a number"),
]


def with_one_of_each() -> AskTell:
    """Trial 0 is finished, 1 has failed, 2 was stopped, 3 is on its way and told at 9."""
    opt = started()
    opt.ask(4)
    opt.tell(0, 27, GOOD)
    opt.tell(1, 27, failed="Lost")
    opt.stop(2)
    opt.tell(3, 9, GOOD)
    return opt


@pytest.mark.parametrize(("arguments", "keywords", "message"), WRONG_TELLS)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(
    arguments: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    opt = with_one_of_each()
    before = opt.state()
    with pytest.raises(TellError) as caught:
        opt.tell(*arguments, **keywords)
    assert str(caught.value).startswith(message)
    assert opt.state() == before


def test_without_a_fidelity_none_is_told() -> None:
    opt = started(ONE)
    [suggestion] = opt.ask()
    with pytest.raises(TellError, match="fidelity: 1 given, expected None"):
        opt.tell(suggestion.trial, 1, {"loss": 1.0})
    opt.tell(suggestion.trial, suggestion.fidelity, {"loss": 1.0})
    assert not opt.trials[0].running


def test_our_errors_are_value_errors_of_ours() -> None:
    assert issubclass(TellError, PrimoError)
    assert issubclass(TellError, ValueError)


# --- stopping, and configurations of one's own


def test_a_stopped_trial_keeps_what_it_was_told() -> None:
    opt = started()
    [suggestion] = opt.ask()
    opt.tell(suggestion.trial, 9, GOOD)
    opt.stop(suggestion.trial)
    assert opt.trials[0].stopped
    assert not opt.trials[0].running
    assert len(opt.trials[0].observations) == 1


@pytest.mark.parametrize(
    ("number", "message"), [(9, "trial: 9 is not"), (1, r"trial 1: has failed \(Lost\)")]
)
def test_only_a_trial_that_has_not_failed_is_stopped(number: int, message: str) -> None:
    with pytest.raises(TellError, match=message):
        with_one_of_each().stop(number)


OWN = {"lr": 1e-3, "layers": 6, "width": 128, "activation": "gelu"}


def test_a_configuration_of_ones_own_runs_like_any_other() -> None:
    opt = finished(2)
    suggestion = opt.add({**OWN, "width": 128.0})
    assert suggestion == Suggestion(2, OWN, 27, None, {"origin": "User"})
    opt.tell(suggestion.trial, suggestion.fidelity, {"accuracy": 0.99, "latency": 0.0})
    assert [best.number for best in opt.front()] == [2]
    assert [s.trial for s in opt.ask(2)] == [3, 4]


def test_it_may_be_trained_in_part() -> None:
    assert started().add(OWN, fidelity=9).fidelity == 9


@pytest.mark.parametrize(
    ("parameters", "fidelity", "message"),
    [
        ({**OWN, "lr": 1.0}, None, "parameters.lr: 1.0 is not between"),
        ({"lr": 1e-3}, None, "parameters.activation: is missing"),
        ([], None, "parameters: a list is not an object"),
        ({**OWN, "layers": 1}, 28, "fidelity: 28 is not between 1.0 and 27"),
        (OWN, 27, "parameters: trial 0 has the same"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(
    parameters: Any, fidelity: float | None, message: str
) -> None:
    opt = started()
    opt.add(OWN)
    before = opt.state()
    with pytest.raises((InvalidSpecError, TellError)) as caught:
        opt.add(parameters, fidelity)
    assert str(caught.value).startswith(message)
    assert opt.state() == before


# --- what came out


def test_the_front_is_what_nobody_dominates_best_first() -> None:
    opt = finished(30)
    rows = {t.number: t.observations[-1].values for t in opt.trials}
    losses = np.array([(-row["accuracy"], row["latency"]) for row in rows.values()])
    on_front = {number for number, on in zip(rows, non_dominated(losses), strict=True) if on}
    front = opt.front()
    assert {best.number for best in front} == on_front
    assert 1 < len(front) < 30
    accuracies = [best.values["accuracy"] for best in front]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(best.parameters == opt.trials[best.number].configuration for best in front)


def test_the_front_of_one_objective_is_the_best_trial() -> None:
    opt = finished(10, ONE)
    [(number, parameters, values)] = opt.front()
    assert values["loss"] == min(t.observations[0].values["loss"] for t in opt.trials)
    assert opt.trials[number].configuration == parameters


@pytest.mark.parametrize(
    ("values", "front"),
    [
        pytest.param({"memory": 2}, [0], id="within its bounds"),
        pytest.param({"memory": 2.1}, [], id="above one"),
        pytest.param({"memory": 1, "accuracy": 0.29}, [], id="below one of an objective"),
        pytest.param({"memory": float("inf")}, [], id="failed"),
    ],
)
def test_only_feasible_trials_are_on_the_front(values: dict[str, float], front: list[int]) -> None:
    opt = started(LIMITED)
    [suggestion] = opt.ask()
    opt.tell(suggestion.trial, suggestion.fidelity, {**GOOD, **values})
    assert [best.number for best in opt.front()] == front
    assert (opt.hypervolume() > 0) == bool(front)


def test_below_full_fidelity_nothing_is_on_the_front() -> None:
    opt = started()
    [suggestion] = opt.ask()
    opt.tell(suggestion.trial, 9, GOOD)
    assert opt.front() == []
    assert opt.hypervolume() == 0.0


def test_hypervolume_is_measured_from_the_users_reference_point() -> None:
    objectives = [
        {"name": "latency", "referencePoint": 12},
        {"name": "accuracy", "goal": "Maximize", "referencePoint": 0.2},
    ]
    opt = finished(20, objectives=objectives)
    losses = opt.problem.losses([t.observations[-1].values for t in opt.trials])
    assert opt.hypervolume() == hypervolume(losses, np.array([-0.2, 12.0])) > 0


def test_a_derived_reference_point_rests_on_the_order_of_telling() -> None:
    """Not on that of the numbers, in which late news of an early trial would move it."""
    opt = started(ONE)
    opt.ask(22)
    for number in range(1, 21):
        opt.tell(number, None, {"loss": float(number)})
    before = opt.hypervolume()
    opt.tell(0, None, {"loss": 100.0})
    opt.tell(21, None, {"loss": 99.0})
    assert opt.hypervolume() == before > 0
    assert AskTell.restore(opt.state()).hypervolume() == before


@pytest.mark.parametrize(
    ("rows", "volume"),
    [
        pytest.param([(1e200, 1e200)], 1e298, id="two objectives"),
        pytest.param([(-1e308, 0, 1), (0, 1e308, -1)], 2.62e299, id="three"),
        pytest.param(1e308 * np.eye(5), math.inf, id="five"),
        pytest.param([(1e308, 1e308), (-1e308, -1e308)], 4.84e300, id="a range that is not finite"),
    ],
)
def test_a_hypervolume_of_huge_values_is_a_number(rows: Any, volume: float) -> None:
    names = "abcde"[: len(rows[0])]
    opt = started(BRANIN_CURRIN, fidelity=None, priors=[], objectives=[{"name": n} for n in names])
    for suggestion, row in zip(opt.ask(len(rows)), rows, strict=True):
        opt.tell(suggestion.trial, None, dict(zip(names, row, strict=True)))
    with np.errstate(all="raise"):
        assert opt.hypervolume() == pytest.approx(volume)


# --- state


@pytest.mark.parametrize(
    ("benchmark_", "algorithm", "runs"),
    [(LIMITED, "random", 6), (TRAINING, "primo", 5), (BRANIN_CURRIN, "primo", 25)],
    ids=["random", "the initial design", "with a model"],
)
def test_what_goes_on_from_its_state_suggests_the_same(
    benchmark_: Benchmark, algorithm: str, runs: int
) -> None:
    opt = finished(runs, benchmark_, algorithm={"name": algorithm})
    opt.ask()
    restored = AskTell.restore(json.loads(json.dumps(opt.state(), allow_nan=False)))
    assert restored.state() == opt.state()
    assert restored.ask(3) == opt.ask(3)


def test_the_state_is_a_copy() -> None:
    opt = finished(3)
    state = opt.state()
    state["spec"]["parameters"].clear()
    state["trials"][0]["configuration"].clear()
    assert AskTell.restore(opt.state()).ask() == opt.ask()


def test_a_later_change_of_the_spec_changes_nothing() -> None:
    spec: dict[str, Any] = json.loads(json.dumps({**TRAINING.spec, **RANDOM}))
    opt = AskTell.from_spec(spec)
    spec["parameters"].clear()
    assert AskTell.restore(opt.state()).ask() == opt.ask()


@pytest.mark.parametrize("count", ["a", 1.5, -1, None])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(InvalidSpecError, match="count: "):
        AskTell.from_spec(TRAINING.spec).ask(count)


@pytest.mark.parametrize(
    "trials",
    [
        "x",
        AskTell.from_spec(TRAINING.spec),
        [1],
        [Trial(0, {}, (1,))],  # type: ignore[arg-type]
        [Trial(0, {}, (Observation(27, None),))],  # type: ignore[arg-type]
    ],
)
def test_only_trials_can_be_learnt_from(trials: Any) -> None:
    with pytest.raises(InvalidSpecError, match="trials"):
        AskTell.from_spec(TRAINING.spec).learn_from(trials)


FIRST = "state.trials[0]"
SEEN = "state.trials[0].observations[0]"


def first(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["trials"][0]
    return found


def first_seen(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = first(state)["observations"][0]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("seed"), "state.seed: is missing"),
        (lambda state: state.update(trials={}), "state.trials: an object is not a list"),
        (lambda state: state.update(extra=1), "state.extra: is not a field"),
        (lambda state: state.update(trials=[1]), "state.trials[0]: 1 is not an object"),
        (lambda state: state.update(earlier=[{}]), "state.earlier[0].number: is missing"),
        (lambda state: state["spec"].pop("objectives"), "objectives: 0 given"),
        (lambda state: state["spec"]["parameters"].pop(), f"{FIRST}.configuration.acti"),
        (lambda state: first(state).update(number=1), "state.trials[1].number: 1 is used twice"),
        (lambda state: first(state).update(number=-1), f"{FIRST}.number: -1 is below 0"),
        (lambda state: first(state).update(number="x"), f"{FIRST}.number: 'x' is not a whole"),
        (lambda state: first(state).update(number=None), f"{FIRST}.number: is missing"),
        (lambda state: first(state).update(running="yes"), f"{FIRST}.running: 'yes' is not true"),
        (lambda state: first(state).update(running=None), f"{FIRST}.running: is missing"),
        (
            lambda state: first(state).update(running=True, fidelity=None),
            f"{FIRST}.fidelity: is missing, and the trial runs",
        ),
        (
            lambda state: first(state)["configuration"].update(lr=5),
            f"{FIRST}.configuration.lr: 5 is not between 1e-05 and 0.1",
        ),
        (
            lambda state: first_seen(state).update(fidelity="x"),
            f"{SEEN}.fidelity: 'x' is not a finite",
        ),
        (lambda state: first_seen(state).update(fidelity=0), f"{SEEN}.fidelity: 0 is not above 0"),
        (
            lambda state: first_seen(state).update(fidelity=1e308),
            f"{SEEN}.fidelity: 1e+308 is more than 1e+15 times fidelity.max, ",
        ),
        (lambda state: first_seen(state).update(values=None), f"{SEEN}.values: is missing"),
        (
            lambda state: first_seen(state)["values"].update(latency="a"),
            f"{SEEN}.values.latency: 'a' is not a finite number",
        ),
        (lambda state: first_seen(state).pop("constrained"), f"{SEEN}.constrained: is missing"),
        (
            lambda state: first_seen(state)["constrained"].pop("memory"),
            f"{SEEN}.constrained.memory: is missing",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    opt = started(LIMITED, priors=[])
    for suggestion in opt.ask(2):
        opt.tell(suggestion.trial, suggestion.fidelity, {**GOOD, "memory": 1})
    state = json.loads(json.dumps(opt.state()))
    change(state)
    with pytest.raises(InvalidSpecError) as caught:
        AskTell.restore(state)
    assert caught.value.problems[0].startswith(message)


@pytest.mark.parametrize(
    ("changes", "seed", "message"),
    [
        ({"algorithm": {"name": "hyperband"}}, 0, "algorithm.name: 'hyperband' is not one of"),
        ({"algorithm": {"settings": {"epsilonn": 1}}}, 0, "algorithm.settings.epsilonn: is not a"),
        ({}, 1.5, "seed: 1.5 is not a whole number"),
        ({}, "7", "seed: '7' is not a whole number"),
    ],
)
def test_mistakes_are_named_before_anything_is_asked(
    changes: dict[str, Any], seed: Any, message: str
) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        AskTell.from_spec({**TRAINING.spec, **changes}, seed=seed)
    assert str(caught.value).startswith(message)


def test_it_shows_how_it_stands() -> None:
    assert repr(with_one_of_each()) == (
        "<AskTell random, seed 7: Maximize accuracy, Minimize latency; "
        "4 trials, 1 running, 1 failed, 1 on the front>"
    )


# --- the guide


def blocks_of_the_guide() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_block_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = blocks_of_the_guide()
    assert len(blocks) > 10
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    printed = capsys.readouterr().out
    assert "fidelity.min: 0 is not above 0" in printed
    assert "values: latency missing" in printed
    assert re.search(r"\{'error': [\d.]+, 'latency': ", printed)  # trials of the front
    assert names["opt"].front()


def test_the_learning_curve_of_the_guide_begins_at_the_lowest_fidelity() -> None:
    spec, train, *others = blocks_of_the_guide()
    (curve,) = (block for block in others if "for epochs in range" in block)
    names: dict[str, Any] = {}
    for block in (spec.replace('"min": 1, "max": 27', '"min": 3, "max": 27'), train, curve):
        exec(compile(block, str(GUIDE), "exec"), names)
    [told] = names["opt"].trials
    assert [seen.fidelity for seen in told.observations] == list(range(3, told.fidelity + 1))
