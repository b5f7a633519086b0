"""Prometheus away, slow or empty: no value is lost, none is made up, no study is stuck."""

import pytest

from primo_operator import names
from primo_operator.mirror import Kind
from support.simulation.scenario import STUDY, Scenario
from support.simulation.world import World


def runs_of(world: World) -> list[dict]:
    trials = world.api.objects[Kind.TRIAL].values()
    return [run for trial in trials for run in trial.get("status", {}).get("runs") or ()]


def test_what_comes_late_is_what_would_have_come_at_once() -> None:
    """Queries fail, the operator dies, calls are refused: nobody can tell by the result."""
    smooth = World(Scenario(trials=4, parallelism=2, rungs=2, prometheus=0.0))
    smooth.run()
    for seed in range(8):
        world = World(
            Scenario(4, 2, 2, refuse=0.1, lose=0.1, crash=0.05, drop=0.2, prometheus=0.7), seed
        )
        world.run()
        assert world.result() == smooth.result(), f"seed {seed}"


def test_a_server_that_is_down_at_a_runs_end_and_back_a_minute_later() -> None:
    """It is asked until it answers, about the run's end each time, and the run is run once."""
    given = Scenario(trials=1, parallelism=1, rungs=1, prometheus=0.0)
    smooth = World(given)
    smooth.run()
    world = World(given)
    world.prometheus.away = True
    while not any(run.get("reported") for run in runs_of(world)):
        world.advance(0.1)
    world.advance(60.0)
    (trial,) = world.api.objects[Kind.TRIAL].values()
    assert "observations" not in trial["status"]
    study = world.api.objects[Kind.STUDY][STUDY]["status"]
    (said,) = [c for c in study["conditions"] if c["type"] == "MetricsAvailable"]
    assert (said["status"], said["reason"]) == ("False", "PrometheusUnreachable")
    failed = len(world.prometheus.asked)
    assert failed >= 2, "with pauses"

    world.prometheus.away = False
    back_at = world.now
    world.run()
    assert world.result() == smooth.result()
    (run,) = runs_of(world)
    assert (run["attempt"], run["reason"]) == (0, "Completed")
    assert len(world.prometheus.asked) == failed + 1
    assert {(q.query, q.time) for q in world.prometheus.asked} == {
        ("trial=0", world.prometheus.asked[0].time)
    }
    assert world.prometheus.asked[0].time < back_at - 59.0


@pytest.mark.parametrize("by", ["the study's end", "its user"])
def test_a_training_that_has_ended_well_is_not_thrown_away(by: str) -> None:
    """It awaits Prometheus when what is under way is to be stopped."""
    world = World(Scenario(trials=50, parallelism=2, rungs=1, prometheus=0.0))
    spec = {"onComplete": "Terminate", "budget": {"duration": "60s"}}
    if by != "its user":
        world.user.edit_study(spec)
    world.prometheus.away = True
    while len([run for run in runs_of(world) if run.get("reported")]) < 2:
        world.advance(0.1)
    if by == "its user":
        for name in world.api.objects[Kind.TRIAL]:
            world.user.annotate(name, names.STOP_ANNOTATION, "slow")
    world.advance(70.0)
    world.prometheus.away = False
    world.advance(120.0)
    first = sorted(world.api.objects[Kind.TRIAL].items())[:2]
    assert [trial["status"]["phase"] for _, trial in first] == ["Completed"] * 2


def test_a_server_that_stays_away_fails_trials_and_ends_the_study() -> None:
    world = World(Scenario(trials=2, parallelism=1, rungs=1, prometheus=1.0, patience_s=120.0))
    world.run()
    assert {run["reason"] for run in runs_of(world)} == {"MetricsUnavailable"}
    assert all("observations" not in t["status"] for t in world.api.objects[Kind.TRIAL].values())
    assert {run["message"].partition(":")[0] for run in runs_of(world)} <= {
        "PrometheusUnreachable",
        "PrometheusTimedOut",
        "NoSeries",
    }
    assert all(run["reported"]["values"]["error"] for run in runs_of(world))


def test_an_operator_that_was_down_for_hours_still_asks_for_what_it_missed() -> None:
    world = World(Scenario(trials=1, parallelism=1, rungs=1, prometheus=0.0))
    while not any(run.get("reported") for run in runs_of(world)):
        world.advance(1.0)
    for kind in (Kind.JOB, Kind.POD):  # and its TTL, or a user, has removed them
        for name in list(world.api.objects[kind]):
            world.api.delete(kind, name)
    world.sleep(5 * 3600.0)
    world.run()
    (run,) = runs_of(world)
    assert run["reason"] == "Completed"
