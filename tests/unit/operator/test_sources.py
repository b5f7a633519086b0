"""Reading the studies that a study is warm started from."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from primo_operator import manifests
from primo_operator.cluster import Cluster, Listing, Object, RefusedError
from primo_operator.sources import read_sources
from primo_optimizer import Suggestion
from primo_study import record
from primo_study.phases import TrialPhase
from primo_study.study import Study, TrialRecord
from primo_study.warm_start import Source
from support.builders import ended, seen, spec, spec_dict, study, trial

OTHER = replace(study(), name="other", uid="00000002-0000")


@dataclass
class FakeCluster:
    """Studies by name, and the trials that wear their labels."""

    studies: dict[str, Object] = field(default_factory=dict)
    trials: dict[str, list[Object]] = field(default_factory=dict)
    refused: int | None = None

    async def get_study(self, namespace: str, name: str) -> Object | None:
        assert namespace == "team"
        if self.refused:
            raise RefusedError(self.refused, "no")
        return self.studies.get(name)

    async def list_trials(self, namespace: str, study: str) -> Listing:
        assert namespace == "team"
        return Listing(self.trials[study], 1)


def study_object(found: Study, **fields: Any) -> Object:
    return {"metadata": {"name": found.name, "uid": found.uid}, "spec": spec_dict(**fields)}


def trial_object(found: Study, given: TrialRecord) -> Object:
    made = manifests.trial_object(found, Suggestion(given.number, given.configuration, 1.0))
    return {**made, "status": record.status(given)}


def done(number: int, **fields: Any) -> TrialRecord:
    made = trial(number, TrialPhase.COMPLETED, ended(2), observations=(seen(),))
    return replace(made, **fields)


def read(cluster: FakeCluster, *names: str, **fields: Any) -> tuple[Source, ...]:
    ours = study(spec=spec(warmStart=[{"study": name} for name in names], **fields))
    return asyncio.run(read_sources(cast(Cluster, cluster), ours))


def test_observations_of_another_study_are_read() -> None:
    failed = done(1, phase=TrialPhase.FAILED, reason="Diverged")
    lost = trial(3, TrialPhase.FAILED, ended(0, reason="Lost"), reason="Lost")
    trials = [trial_object(OTHER, given) for given in (done(0), failed, trial(2), lost)]
    cluster = FakeCluster({"other": study_object(OTHER)}, {"other": trials})
    (source,) = read(cluster, "other")
    assert (source.study, source.reason, source.message) == (
        "other",
        "",
        "1 trials and 1 that failed",
    )
    found, without = source.trials
    assert (without.number, without.failed, without.fidelity) == (1, "Diverged", 9.0)
    assert (found.number, found.configuration) == (0, {"lr": 0.01})
    (observation,) = found.observations
    assert (observation.fidelity, observation.values) == (9.0, {"error": 0.1, "cost": 5.0})


def test_trials_of_an_earlier_study_of_that_name_are_not_its_own() -> None:
    stale = trial_object(replace(OTHER, uid="00000003-0000"), done(0))
    cluster = FakeCluster({"other": study_object(OTHER)}, {"other": [stale]})
    (source,) = read(cluster, "other")
    assert source.reason == "NoObservations"


def test_a_trial_by_hand_that_is_outside_the_space_is_left_out() -> None:
    outside = trial_object(OTHER, done(0, configuration={"lr": 5.0}))
    cluster = FakeCluster({"other": study_object(OTHER)}, {"other": [outside]})
    assert read(cluster, "other")[0].trials == ()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(None, "StudyNotFound", id="there is none"),
        pytest.param(study_object(study()), "SameStudy", id="it is itself"),
        pytest.param(study_object(OTHER, objectives=[]), "InvalidSpec", id="a spec with mistakes"),
        pytest.param(study_object(OTHER, fidelity=None), "DifferentFidelity", id="another problem"),
    ],
)
def test_what_cannot_be_learnt_from_is_a_reason(found: Object | None, reason: str) -> None:
    cluster = FakeCluster({"other": found} if found else {})
    (source,) = read(cluster, "other")
    assert (source.reason, source.trials) == (reason, ())
    assert source.message


def test_what_may_not_be_read_is_a_reason_and_what_may_be_read_later_is_not() -> None:
    (source,) = read(FakeCluster(refused=403), "other")
    assert (source.reason, source.message) == ("Forbidden", "no")
    with pytest.raises(RefusedError):
        read(FakeCluster(refused=429), "other")


@pytest.mark.parametrize(
    "algorithm", [{"name": "random"}, {"name": "primo", "settings": {"paper": True}}]
)
def test_that_an_algorithm_does_not_learn_is_a_reason(algorithm: dict[str, Any]) -> None:
    cluster = FakeCluster({"other": study_object(OTHER)}, {"other": [trial_object(OTHER, done(0))]})
    (source,) = read(cluster, "other", algorithm=algorithm)
    assert (source.reason, source.trials) == ("AlgorithmDoesNotLearn", ())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"values": {"error": 0.1}}, id="an objective is missing"),
        pytest.param({"fidelity": 0.0}, id="no fidelity to speak of"),
        pytest.param({"fidelity": -9.0}, id="a fidelity below 0"),
    ],
)
def test_an_observation_by_hand_that_no_model_can_look_at_is_left_out(
    changes: dict[str, Any],
) -> None:
    trials = [done(0), done(1, observations=(replace(seen(), **changes),))]
    objects = [trial_object(OTHER, given) for given in trials]
    cluster = FakeCluster({"other": study_object(OTHER)}, {"other": objects})
    (source,) = read(cluster, "other")
    assert [found.number for found in source.trials] == [0]


def test_an_observation_without_a_value_for_our_constraint_is_left_out() -> None:
    bounds = [{"metric": "memory_gib", "atMost": 40}]
    measured = replace(seen(), constrained={"memory_gib": 3.0}, feasible=True)
    trials = [done(0), done(1, observations=(measured,))]
    objects = [trial_object(OTHER, given) for given in trials]
    cluster = FakeCluster({"other": study_object(OTHER, constraints=bounds)}, {"other": objects})
    (source,) = read(cluster, "other", constraints=bounds)
    assert [found.number for found in source.trials] == [1]
    assert source.trials[0].observations[0].constrained == {"memory_gib": 3.0}
