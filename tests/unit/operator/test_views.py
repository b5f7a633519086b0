"""What is kept of objects is little, and it is what a pass would read of the whole ones."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primo_operator import names
from primo_operator.memory import Memory
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.observe import observe, prune
from primo_operator.views import EndedJobs, Trials, TrialView, slim_job, slim_pod, trial_view
from primo_study import record
from primo_study.phases import TrialPhase
from primo_study.plan import decide
from primo_study.status import summarise
from primo_study.study import Evidence, Study, Template, TrialRecord
from support.builders import CREATED, condition, ended, pod, run, seen, spec_dict, trial
from support.counting import calls

KEY = Key("team", "digits")
UID = "00000001-0000"
STAMP = "2027-01-15T08:00:00Z"


def study_object(**fields: Any) -> dict[str, Any]:
    given = {"name": "digits", "namespace": "team", "uid": UID, "creationTimestamp": STAMP}
    metadata = {**given, "resourceVersion": "1", "generation": 1}
    return {"metadata": metadata, "spec": spec_dict(**fields), "status": {}}


def trial_object(found: TrialRecord, version: int = 2) -> dict[str, Any]:
    metadata = {
        "name": found.name,
        "namespace": "team",
        "uid": f"uid-{found.number}",
        "resourceVersion": str(version),
        "creationTimestamp": STAMP,
        "ownerReferences": [{"kind": names.STUDY_KIND, "name": "digits", "uid": UID}],
        "managedFields": [{"manager": "primo-operator", "fieldsV1": {"f:spec": {}}}],
    }
    given = {"number": found.number, "parameters": dict(found.configuration), "study": "digits"}
    return {"metadata": metadata, "spec": given, "status": record.status(found)}


def job_name(number: int) -> str:
    return names.job(names.trial("digits", UID, number), 0, 0)


def done(number: int) -> TrialRecord:
    last = replace(ended(2), job=job_name(number))
    worse = seen(9.0, 0.1 + number, 5.0 + number)  # than those before it
    return trial(number, TrialPhase.COMPLETED, last, observations=(worse,))


def running(number: int) -> TrialRecord:
    return trial(number, TrialPhase.RUNNING, replace(run(), job=job_name(number)))


def mirror_of(trials: int) -> Mirror:
    """All of a study but its last trial have ended; their Jobs are there too."""
    found = Mirror()
    found.absorb(Kind.STUDY, study_object())
    for number in range(trials):
        each = done(number) if number < trials - 1 else running(number)
        found.absorb(Kind.TRIAL, trial_object(each))
        found.absorb(Kind.JOB, job_object(each))
    return found


def job_object(of: TrialRecord) -> dict[str, Any]:
    over = [condition("Complete", "CompletionsReached")] if not of.unfinished else []
    container = {"name": "train", "image": "i", "resources": {"limits": {"nvidia.com/gpu": 2}}}
    metadata = {
        "name": of.run.job,
        "namespace": "team",
        "uid": f"job-{of.number}",
        "resourceVersion": "3",
        "creationTimestamp": STAMP,
        "labels": {names.STUDY_LABEL: "digits", names.TEMPLATE_LABEL: "abc"},
        "ownerReferences": [{"kind": names.TRIAL_KIND, "name": of.name, "uid": f"uid-{of.number}"}],
    }
    template = {"spec": {"containers": [container]}}
    return {"metadata": metadata, "spec": {"template": template}, "status": {"conditions": over}}


def observed(mirror: Mirror, memory: Memory | None = None) -> Study:
    found = observe(mirror.family(KEY), memory or Memory(uid=UID))
    assert found
    return found


def test_a_trial_at_rest_is_kept_as_its_record_alone() -> None:
    view = trial_view(trial_object(done(0)))
    assert view.obj is None
    assert view.record == replace(done(0), evidence=Evidence(), explanation={})
    assert view.status == record.status(done(0))


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(trial_object(running(0)), id="it runs"),
        pytest.param(
            {**trial_object(done(0)), "status": {**record.status(done(0)), "new": 1}},
            id="a newer version has written more",
        ),
    ],
)
def test_what_a_record_does_not_tell_is_kept_whole(obj: dict[str, Any]) -> None:
    view = trial_view(obj)
    assert view.status == obj["status"]
    assert view.obj
    assert "managedFields" not in view.obj["metadata"]


def test_a_job_and_a_pod_are_kept_without_their_specs() -> None:
    """But for what a Job's limits say of GPUs."""
    job = slim_job(job_object(done(0)))
    assert job["spec"]["template"]["spec"] == {
        "containers": [{"resources": {"limits": {"nvidia.com/gpu": 2}}}]
    }
    whole = pod(0)
    whole["metadata"]["uid"] = "u"
    assert slim_pod(whole).keys() == {"metadata", "status"}
    assert slim_pod(whole)["status"] == whole["status"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_in_which_objects_come_in_makes_no_difference(order: int) -> None:
    whole = observed(mirror_of(5))
    found = Mirror()
    trials = [done(n) if n < 4 else running(n) for n in range(5)]
    for each in trials[::order]:
        found.absorb(Kind.JOB, job_object(each))
        newer = trial_object(each)
        if order < 0:  # as it was before, and late
            older = trial_object(running(each.number), 1)
            found.absorb(Kind.TRIAL, older)
            found.absorb(Kind.TRIAL, newer)
            found.absorb(Kind.TRIAL, copy.deepcopy(older))
        else:
            found.absorb(Kind.TRIAL, newer)
    found.absorb(Kind.STUDY, study_object())
    assert observed(found) == whole


def test_what_recorded_runs_have_left_is_put_aside_and_found_again() -> None:
    mirror, memory = mirror_of(5), Memory(uid=UID)
    before = observed(mirror, memory)
    prune(mirror.family(KEY), memory, before)
    family = mirror.family(KEY)
    assert [j["metadata"]["name"] for j in family.jobs] == [before.trials[-1].run.job]
    assert len(list(family.all_jobs)) == 5
    assert observed(mirror, memory) == before
    changed = job_object(done(0))
    changed["metadata"]["resourceVersion"] = "9"
    mirror.absorb(Kind.JOB, changed)
    assert len(list(family.all_jobs)) == 5
    mirror.absorb(Kind.JOB, changed, deleted=True)
    assert len(list(family.all_jobs)) == 4


def test_the_pod_of_a_recorded_run_is_let_go_once_its_job_has_ended() -> None:
    mirror, memory = mirror_of(2), Memory(uid=UID)
    family = mirror.family(KEY)
    pods = []
    for number in (0, 1):
        gone = pod(0)
        gone["metadata"] |= {
            "name": f"p{number}",
            "uid": f"pod-{number}",
            "namespace": "team",
            "resourceVersion": "4",
            "labels": {names.STUDY_LABEL: "digits"},
            "ownerReferences": [
                {
                    "kind": "Job",
                    "name": observed(mirror).trials[number].run.job,
                    "uid": f"job-{number}",
                }
            ],
        }
        mirror.absorb(Kind.POD, gone)
        pods.append(gone)
    prune(family, memory, observed(mirror, memory))
    assert [p["metadata"]["name"] for p in family.pods] == ["p1"]
    for again in pods:  # as a list of everything shows them
        mirror.absorb(Kind.POD, again)
    assert [p["metadata"]["name"] for p in family.pods] == ["p1"]


@pytest.mark.parametrize("retention", [None, {"jobs": "All"}])
def test_a_pass_looks_at_what_has_changed(retention: dict[str, str] | None) -> None:
    """A trial has ended since the last one, among ten times as many, whose Jobs are kept."""
    few, many = (_steps(trials, retention) for trials in (500, 5_000))
    assert many < 2 * few


def _steps(trials: int, retention: dict[str, str] | None) -> int:
    mirror = mirror_of(trials)
    counted = {**study_object(retention=retention), "status": {"nextTrial": trials}}
    counted["metadata"] = {**counted["metadata"], "resourceVersion": "9"}
    mirror.absorb(Kind.STUDY, counted)
    memory = Memory(uid=UID, template=Template(checked=True), template_generation=1)

    def see() -> None:
        study = observed(mirror, memory)
        prune(mirror.family(KEY), memory, study)
        decide(study, CREATED)
        summarise(study, CREATED, STAMP, "")

    see()
    mirror.absorb(Kind.TRIAL, trial_object(done(3), version=9))
    return calls(see)


def test_jobs_put_aside_are_found_by_name_and_by_how_long_they_are_kept() -> None:
    jobs, given = EndedJobs(), [(0, None), (1, 0), (2, 60), (1, 60), (3, 60), (2, None)]
    for number, ttl in given:  # some again, changed
        job = job_object(done(number))
        job["spec"]["ttlSecondsAfterFinished"] = ttl
        jobs.put(job)
    jobs.drop(job_name(3))
    jobs.drop("none")
    assert {job["spec"]["ttlSecondsAfterFinished"] for job in jobs.by_name.values()} == {60, None}
    assert list(jobs.by_name) == [job_name(number) for number in (0, 1, 2)]
    assert [job["metadata"]["name"] for job in jobs.but([60])] == [job_name(0), job_name(2)]
    assert len(list(jobs.but([0]))) == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["rest", "run", "ask", "go"]))))
def test_trials_at_rest_lie_in_blocks_and_the_others_apart(steps: list[tuple[int, str]]) -> None:
    found, known = Trials(2), dict[str, TrialView]()
    for number, step in steps:
        name, before = f"digits-00000001-{number}", found.blocks
        if step == "go":
            found.drop(name)
            known.pop(name, None)
        else:
            obj = trial_object(running(number) if step == "run" else done(number))
            if step == "ask":  # of a user's own, without a number
                del obj["spec"]["number"]
            known[name] = trial_view(obj)
            found.put(known[name])
        assert dict(found) == known
        at_rest = {name: view for name, view in known.items() if view.at_rest}
        assert found.moving == {k: view for k, view in known.items() if k not in at_rest}
        assert {view.name: view for block in found.blocks for view in block.items} == at_rest
        places = [{v.record.number // 2 for v in b.items if v.record} for b in found.blocks]
        assert places == sorted({place} for (place,) in places)
        new = [block for block in found.blocks if not any(block is old for old in before)]
        assert len(new) <= 1


def test_the_operator_runs_without_torch() -> None:
    """Only its worker needs it; the operator would take three times the memory."""
    program = "import sys, json, primo_operator.__main__; print(json.dumps(list(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    heavy = {"torch", "botorch", "gpytorch", "scipy", "pandas", "sklearn", "matplotlib"}
    assert not heavy & {name.partition(".")[0] for name in json.loads(found.stdout)}
