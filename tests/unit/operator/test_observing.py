"""The objects of a study, read back as the study that wrote them."""

from dataclasses import replace
from typing import Any

from primo_operator import manifests, names
from primo_operator.memory import Memory
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.observe import observe
from primo_optimizer import Suggestion
from primo_study import record
from primo_study.phases import TrialPhase
from primo_study.queries import Access, Gap, Measured
from primo_study.study import Reported, Run, Study, TrialRecord
from support.builders import ended, run, seen, spec_dict, study, trial

KEY = Key("team", "digits")
CONSTRAINTS = [{"metric": "memory_gib", "atMost": 40}]


def family(found: Study, *trials: TrialRecord, **fields: Any) -> Mirror:
    metadata = {
        "namespace": "team",
        "name": "digits",
        "uid": found.uid,
        "generation": 1,
        "creationTimestamp": "2027-01-15T08:00:00Z",
    }
    mirror = Mirror()
    mirror.absorb(Kind.STUDY, {"metadata": metadata, "spec": spec_dict(**fields)})
    for each in trials:
        suggestion = Suggestion(each.number, each.configuration, 1.0, None, each.explanation)
        obj = manifests.trial_object(found, suggestion)
        obj["metadata"] |= {"uid": f"t{each.number}", "creationTimestamp": "2027-01-15T08:00:00Z"}
        mirror.absorb(Kind.TRIAL, {**obj, "status": record.status(each)})
    return mirror


def named(of_trial_0: Run) -> Run:
    """As an operator names it: another Job is not taken for the trial's."""
    return replace(of_trial_0, job=names.job(names.trial("digits", study().uid, 0), 2, 0))


def test_what_a_trial_has_observed_is_read_as_it_was_written() -> None:
    observed = replace(seen(), step=3, constrained={"memory_gib": 41.0}, feasible=False)
    done = trial(0, TrialPhase.COMPLETED, named(ended(2)), observations=(observed,))
    mirror = family(study(), done, constraints=CONSTRAINTS)
    found = observe(mirror.family(KEY), Memory(uid=study().uid))
    assert found
    (again,) = found.trials
    assert again.observations == (observed,)
    assert (again.phase, again.runs) == (done.phase, done.runs)


def test_a_run_that_waits_for_prometheus_needs_no_pod() -> None:
    """Job and pod may be gone, and the operator may have been started anew."""
    told = Reported("pod-x", "2027-01-15T08:01:00Z", {"error": 0.1}, {"memory_gib": 41.0}, False, 3)
    waits = trial(0, TrialPhase.RUNNING, named(run(2, reported=told)))
    access = Access(Gap.NOT_ALLOWED, "m")
    memory = Memory(
        uid=study().uid, measured={waits.run.job: Measured(gap=Gap.NO_SERIES, message="none")}
    )
    mirror = family(study(), waits, constraints=CONSTRAINTS)
    found = observe(mirror.family(KEY), memory, access)
    assert found
    (again,) = found.trials
    assert again.runs == waits.runs
    assert again.evidence.outcome is None
    assert again.evidence.waiting
    assert again.evidence.waiting.reason == "NoSeries"
    assert found.access == access


def test_a_trial_that_says_it_was_observed_and_holds_nothing_has_failed() -> None:
    """Only somebody else can have written that."""
    faked = [trial(0, TrialPhase.COMPLETED, ended(2)), trial(1, TrialPhase.PAUSED, ended())]
    found = observe(family(study(), *faked).family(KEY), Memory())
    assert found
    assert [each.phase for each in found.trials] == [TrialPhase.FAILED, TrialPhase.FAILED]
