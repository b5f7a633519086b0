"""What is learnt from observations that are not as one would like them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from primo_optimizer import Observation, Problem, Trial, suggest
from primo_optimizer.evidence import Evidence
from primo_optimizer.history import History
from primo_optimizer.surrogate import Surrogate
from primo_optimizer.transforms import Shape

RNG = np.random.default_rng(2)
POINTS = [dict(zip("xyz", map(float, RNG.random(3)), strict=True)) for _ in range(60)]
ELSEWHERE = [dict(zip("xyz", map(float, RNG.random(3)), strict=True)) for _ in range(300)]
SPEC: dict[str, Any] = {
    "objectives": [{"name": "loss"}],
    "parameters": [{"name": name, "float": {"min": 0, "max": 1}} for name in "xyz"],
}


def problem(**fields: Any) -> Problem:
    return Problem.from_spec(SPEC | fields)


def trials(losses: Sequence[float], constrained: Sequence[Mapping[str, float]] = ()) -> list[Trial]:
    given = constrained or [{}] * len(losses)
    return [
        Trial(number, point, (Observation(None, {"loss": loss}, bound),))
        for number, (point, loss, bound) in enumerate(zip(POINTS, losses, given, strict=False))
    ]


def slack(point: Mapping[str, float]) -> float:
    return point["x"] + point["y"] - 0.8


def right(asked: Problem, seen: list[Trial], sign: float) -> float:
    """The share of other points that are told to be feasible or not, as they are."""
    predicted = Surrogate.of(History.of(asked, seen)).predict(asked.space.encode_all(ELSEWHERE))
    kept = np.array([sign * slack(point) >= 0 for point in ELSEWHERE])
    return float(((predicted.log_feasible() > np.log(0.5)) == kept).mean())


@pytest.mark.parametrize("worst", [-10.0, -1e3, -1e9])
@pytest.mark.parametrize(("bound", "sign"), [({"atLeast": 0}, 1.0), ({"atMost": 0}, -1.0)])
def test_how_far_a_broken_constraint_is_off_does_not_matter(
    bound: dict[str, float], sign: float, worst: float
) -> None:
    asked = problem(constraints=[{"metric": "slack", **bound}])
    values = [sign * slack(point) for point in POINTS]
    off = int(np.argmin(values))
    values[off] = worst
    seen = trials(
        [sum(point.values()) for point in POINTS], [{"slack": sign * value} for value in values]
    )
    assert right(asked, seen, sign) > 0.95
    assert Evidence.of(History.of(asked, seen)).data(np.ones((60, 1))).slacks.max() < 5


def test_no_gain_makes_up_for_a_constraint_that_is_known_to_break() -> None:
    asked = problem(constraints=[{"metric": "slack", "atMost": 0}])
    best = [{"x": x, "y": 0.8 - x, "z": 0.5} for x in (0.2, 0.3, 0.4, 0.5)]
    seen = [
        Trial(number, point, (Observation(None, {"loss": -slack(point)}, {"slack": slack(point)}),))
        for number, point in enumerate([*POINTS, *best])
    ]
    asked_for = [s.configuration for seed in range(2) for s in suggest(asked, seen, 3, seed)]
    assert max(slack(point) for point in asked_for) < 0.05


def bowl(points: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """With a heavy tail, above 0."""
    X = np.array([list(point.values()) for point in points])
    return np.asarray(np.exp(6 * ((X - 0.6) ** 2).sum(axis=1)), dtype=np.float64)


@pytest.mark.parametrize("count", [21, 49])
def test_the_first_loss_below_0_is_one_of_many(count: int) -> None:
    """Before it came they had a logarithm, which has no value there."""
    by_loss = sorted(POINTS, key=lambda point: -bowl([point])[0])
    points = by_loss[: count - 1] + by_loss[-1:]
    losses = bowl(points)
    losses -= losses[-2] - 0.02
    asked = problem()
    seen = [
        Trial(number, point, (Observation(None, {"loss": float(loss)}),))
        for number, (point, loss) in enumerate(zip(points, losses, strict=True))
    ]
    before = Surrogate.of(History.of(asked, seen[:-1]))
    assert before.transforms[0].shape is not Shape.IDENTITY
    predicted = Surrogate.of(History.of(asked, seen)).predict(asked.space.encode_all(points))
    found = predicted.losses()[:, 0]
    assert spearmanr(found, losses).statistic > 0.95
    assert found[-1] < 0.5 * losses[-1]


def test_with_a_single_rung_what_was_told_below_it_is_no_full_evaluation() -> None:
    fidelity = {"name": "epochs", "min": 2, "max": 3, "eta": 3}
    asked = problem(fidelity=fidelity)
    low = [
        Trial(
            number,
            point,
            (
                Observation(1, {"loss": loss + 5.0}),
                Observation(3, {"loss": loss}),
            ),
            fidelity=3,
        )
        for number, (point, loss) in enumerate(zip(POINTS, bowl(POINTS), strict=True))
    ]
    alone = [Trial(t.number, t.configuration, t.observations[1:], fidelity=3) for t in low]
    assert suggest(asked, low, 2, seed=0) == suggest(asked, alone, 2, seed=0)


@pytest.mark.parametrize(("failed", "sound"), [(1100, 20), (1100, 1100)])
def test_many_failures_leave_room_for_what_did_not_fail(failed: int, sound: int) -> None:
    points = [problem().space.decode(point) for point in RNG.random((failed + sound, 3))]
    by_x = sorted(points, key=lambda point: point["x"])
    seen = [
        Trial(number, point, (Observation(None, {"loss": float(point["y"])}),))
        for number, point in enumerate(by_x[:sound])
    ]
    seen += [
        Trial(number, point, failed="x") for number, point in enumerate(by_x[sound:], start=sound)
    ]
    surrogate = Surrogate.of(History.of(problem(), seen))
    low, high = surrogate.log_success(np.array([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]]))
    assert high < low - 1


def learnt(asked: Problem, seen: Sequence[Trial]) -> set[tuple[float, ...]]:
    """The points in the model."""
    return {tuple(row) for row in Surrogate.of(History.of(asked, seen)).model.X.tolist()}


EPOCHS = {"name": "epochs", "min": 1, "max": 27}


def trained(number: int, *fidelities: float) -> Trial:
    point = problem().space.decode(np.random.default_rng(number).random(3))
    seen = [Observation(f, {"loss": float(point["x"]) + 1 / f}) for f in fidelities]
    return Trial(number, point, tuple(seen), fidelity=fidelities[-1])


def test_long_learning_curves_say_what_their_rungs_and_ends_say() -> None:
    asked = problem(fidelity=EPOCHS)
    ends = [9.0 + number % 19 for number in range(70)]
    curves = [trained(i, *np.arange(1, end + 1).tolist()) for i, end in enumerate(ends)]
    rungs = [
        trained(i, *sorted({f for f in (1.0, 3.0, 9.0, end) if f <= end}))
        for i, end in enumerate(ends)
    ]
    assert sum(len(trial.observations) for trial in curves) > 1000
    assert suggest(asked, curves, 2, seed=0) == suggest(asked, rungs, 2, seed=0)


def test_of_very_many_trials_the_end_of_each_is_learnt_from() -> None:
    asked = problem(fidelity=EPOCHS)
    seen = [trained(i, *((1, 3, 9, 27) if i % 3 == 0 else (1,))) for i in range(900)]
    assert len(learnt(asked, seen)) == 900


def test_of_very_many_trials_the_front_is_learnt_from_first() -> None:
    asked = problem(objectives=[{"name": "a"}, {"name": "b"}])
    losses = [(0.0, 1.0), (1.0, 0.0), *(0.2 + 0.2 * RNG.random((1100, 2))).tolist()]
    losses += np.column_stack([0.5 + RNG.random(1400), 0.5 * RNG.random(1400)]).tolist()
    seen = [
        Trial(number, asked.space.decode(RNG.random(3)), (Observation(None, {"a": a, "b": b}),))
        for number, (a, b) in enumerate(losses)
    ]
    ends = asked.space.encode_all([trial.configuration for trial in seen[:2]])
    assert learnt(asked, seen) >= {tuple(end) for end in ends.tolist()}
