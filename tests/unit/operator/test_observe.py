"""Objects as they are read: each version of a trial once, and only what is the study's own."""

from typing import Any

import pytest

from primo_operator import names
from primo_operator.memory import Memory
from primo_operator.mirror import Family, Kind
from primo_operator.observe import lingering, observe
from primo_operator.views import trial_view
from primo_study import record
from primo_study.phases import TrialPhase
from primo_study.study import JobState, Study, epoch
from support.builders import condition, ended, seen, spec_dict, trial

UID = "00000001-0000"
STAMP, LATER = "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"


def owner(uid: str = UID) -> dict[str, Any]:
    return {"kind": names.STUDY_KIND, "name": "digits", "uid": uid}


def family(*trials: dict[str, Any]) -> Family:
    found = Family()
    metadata = {"name": "digits", "namespace": "team", "uid": UID, "creationTimestamp": STAMP}
    found.study = {"metadata": {**metadata, "generation": 1}, "spec": spec_dict()}
    for obj in trials:
        found.trials.put(trial_view(obj))
    return found


def trial_object(name: str, number: int | None = None, **metadata: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"study": "digits", "parameters": {"lr": 0.05}}
    if number is not None:
        spec["number"] = number
        metadata.setdefault("ownerReferences", [owner()])
        metadata.setdefault("labels", {names.STUDY_LABEL: "digits"})
    given = {"name": name, "uid": f"uid-{name}", "creationTimestamp": STAMP, **metadata}
    return {"metadata": given, "spec": spec}


def done(number: int) -> dict[str, Any]:
    observed = trial(number, TrialPhase.COMPLETED, ended(2), observations=(seen(),))
    return {**trial_object(f"t-{number}", number), "status": record.status(observed)}


def seen_by(found: Family, memory: Memory | None = None) -> Study:
    study = observe(found, memory or Memory(uid=UID))
    assert study
    return study


@pytest.mark.parametrize(
    ("obj", "trials", "requests"),
    [
        pytest.param(trial_object("a", 0), 1, 0, id="its own"),
        pytest.param(trial_object("a"), 0, 1, id="made by hand"),
        pytest.param(trial_object("a", ownerReferences=[owner()]), 0, 1, id="and owned by hand"),
        pytest.param(trial_object("a", ownerReferences=[owner("old")]), 0, 0, id="of an earlier"),
        pytest.param(trial_object("a", 0, ownerReferences=[]), 0, 0, id="an orphan"),
        pytest.param(
            trial_object("a", 0, ownerReferences=[], labels={}), 0, 1, id="numbered by hand"
        ),
        pytest.param(trial_object("a", 0, deletionTimestamp=STAMP), 0, 0, id="being deleted"),
        pytest.param(trial_object("a", deletionTimestamp=STAMP), 0, 0, id="by its user"),
    ],
)
def test_which_trials_are_the_studys(obj: dict[str, Any], trials: int, requests: int) -> None:
    study = seen_by(family(obj))
    assert (len(study.trials), len(study.requests)) == (trials, requests)


@pytest.mark.parametrize("configuration", [{}, {"lr": [1]}, {"lr": {"a": 1}}, {"other": 1}])
def test_a_trial_that_somebody_has_made_up_is_none_but_uses_its_number_up(
    configuration: dict[str, Any],
) -> None:
    """It would be told to the optimizer, and end each pass over its study."""
    made_up = trial_object("a", 1)
    made_up["spec"]["parameters"] = configuration
    study = seen_by(family(done(0), made_up))
    assert [found.number for found in study.trials] == [0]
    assert (study.next_number, study.numbers_used) == (2, 2)


@pytest.mark.parametrize("first", ["done", "copy"])
@pytest.mark.parametrize("at_rest", [True, False], ids=["both at rest", "one open"])
def test_of_trials_with_one_number_the_one_that_was_there_first_counts(
    first: str, at_rest: bool
) -> None:
    copy = done(1) if at_rest else trial_object("", 1)
    given = {"done": done(1), "copy": copy}
    for name, obj in given.items():
        stamp = "2027-01-15T07:00:00Z" if name == first else STAMP
        obj["metadata"] = {**obj["metadata"], "name": name, "creationTimestamp": stamp}
    study = seen_by(family(done(0), *given.values(), done(2), trial_object("open", 3)))
    assert [found.name for found in study.trials] == ["t-0", first, "t-2", "open"]
    other = ["copy"] if not at_rest and first == "done" else []  # else it has been observed
    assert [request.name for request in study.requests] == other


def test_jobs_are_named_by_the_number_whatever_the_user_calls_the_trial() -> None:
    (found,) = seen_by(family(trial_object("x" * 200, 7))).trials
    assert found.run.job == "digits-00000001-7-r0-a0"
    assert found.name == "x" * 200


@pytest.mark.parametrize(("asked_at", "state"), [("7", JobState.GONE), ("6", JobState.UNSEEN)])
def test_that_a_job_is_gone_counts_for_the_trial_as_it_was_then(
    asked_at: str, state: JobState
) -> None:
    """Another operator may have made it since; it says so in the trial."""
    memory = Memory(uid=UID, gone={"digits-00000001-7-r0-a0": asked_at})
    (found,) = seen_by(family(trial_object("t", 7, resourceVersion="7")), memory).trials
    assert found.evidence.job is state


@pytest.mark.parametrize(
    ("value", "stop"),
    [
        ("true", "stopped by its user"),
        ("too slow", "stopped by its user: too slow"),
        ("false", None),
        ("", None),
    ],
)
def test_the_annotation_to_stop(value: str, stop: str | None) -> None:
    obj = trial_object("a", 0, annotations={names.STOP_ANNOTATION: value})
    (found,) = seen_by(family(obj)).trials
    assert found.stop == stop


def test_a_trial_at_rest_is_read_once() -> None:
    found = family(done(0), done(1))
    first, second = seen_by(found).trials
    found.trials.put(trial_view(done(1)))
    again = seen_by(found).trials
    assert again[0] is first
    assert again[1] is not second
    assert again[1] == second


def test_that_the_user_asked_for_an_attempt_is_read_as_it_was_written() -> None:
    failed = trial(0, TrialPhase.FAILED, ended(0, 0, "Lost"), retry="1")
    written = record.status(record.retried(failed, "job-r0-a1"))
    (found,) = seen_by(family({**trial_object("t-0", 0), "status": written})).trials
    assert [run.asked for run in found.runs] == [False, True]


def test_a_number_that_was_seen_stays_used_though_its_trial_is_gone() -> None:
    memory, found = Memory(uid=UID), family(done(0), done(1))
    assert seen_by(found, memory).next_number == 2
    found.trials.drop("t-1")
    assert seen_by(found, memory).next_number == 2


def test_a_number_below_others_that_nobody_has_seen_is_given_next() -> None:
    """Its trial was to be made with theirs, and the call has failed; or it is not there yet."""
    memory, found = Memory(uid=UID), family(done(0), done(1), done(4))
    study = seen_by(found, memory)
    assert (study.next_number, study.has_gap) == (2, True)
    found.trials.put(trial_view(done(2)))
    found.trials.put(trial_view(done(3)))
    study = seen_by(found, memory)
    assert (study.next_number, study.has_gap) == (5, False)


def test_what_the_status_counts_is_no_gap() -> None:
    found = family(done(0), done(4))
    assert found.study
    found.study["status"] = {"nextTrial": 5}
    assert (seen_by(found).next_number, seen_by(found).has_gap) == (5, False)


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        pytest.param([], True, id="its attempt was given up"),
        pytest.param([condition("FailureTarget", "DeadlineExceeded")], False, id="it is failing"),
        pytest.param([condition("Failed", "BackoffLimitExceeded")], False, id="it has failed"),
    ],
)
def test_a_job_of_no_open_run_is_left_over_unless_it_ends_by_itself(
    conditions: list[dict[str, Any]], left: bool
) -> None:
    """One that fails for its deadline has no pod any more and is Failed a moment later."""
    found = family(done(0))
    metadata = {"name": "j", "uid": "uid-j", "ownerReferences": [owner("uid-t-0")]}
    found.objects[Kind.JOB] = {
        "uid-j": {"metadata": metadata, "status": {"conditions": conditions}}
    }
    assert seen_by(found).leftovers == ({"j": "uid-j"} if left else {})


OF_JOB = [{"kind": "Job", "name": "j", "uid": "uid-j"}]


@pytest.mark.parametrize(
    ("where", "owners", "left"),
    [
        pytest.param("objects", OF_JOB, False, id="and its Job is about to"),
        pytest.param("departed", OF_JOB, True, id="and is gone: there may be another"),
        pytest.param("objects", [], True, id="and only wears the label"),
    ],
)
def test_a_job_whose_pod_has_ended_is_not_left_over(
    where: str, owners: list[dict[str, Any]], left: bool
) -> None:
    found = family(done(0))
    metadata = {"name": "j", "uid": "uid-j", "ownerReferences": [owner("uid-t-0")]}
    found.objects[Kind.JOB] = {"uid-j": {"metadata": metadata, "status": {}}}
    of = {"name": "p", "uid": "uid-p", "labels": {names.JOB_LABEL: "j"}, "ownerReferences": owners}
    pods = found.objects[Kind.POD] if where == "objects" else found.departed
    pods["uid-p"] = {"metadata": of, "status": OVER}
    assert seen_by(found).leftovers == ({"j": "uid-j"} if left else {})


RUNNING = {"phase": "Running", "containerStatuses": [{"name": "train", "state": {"running": {}}}]}
OVER = {"phase": "Failed", "containerStatuses": [{"name": "train", "state": {"terminated": {}}}]}


@pytest.mark.parametrize(
    ("conditions", "pods", "expected"),
    [
        pytest.param([], [RUNNING], True, id="its pod runs"),
        pytest.param([condition("Failed", "BackoffLimitExceeded")], [RUNNING], True, id="still"),
        pytest.param([], [OVER], False, id="its pod has ended"),
        pytest.param([], [], True, id="its Job may make one"),
        pytest.param(
            [condition("FailureTarget", "BackoffLimitExceeded")], [], True, id="it has not ended"
        ),
        pytest.param([condition("Failed", "BackoffLimitExceeded")], [], False, id="no more"),
    ],
)
def test_a_pod_of_an_earlier_run_lingers_until_it_has_ended(
    conditions: list[dict[str, Any]], pods: list[dict[str, Any]], expected: bool
) -> None:
    """Whatever became of the runs since then: nothing may be started beside it."""
    found = family(done(0))
    view = found.trials["t-0"]
    assert view.record
    name = view.record.run.job
    job = {"name": name, "uid": "uid-j", "ownerReferences": [owner("uid-t-0")]}
    found.objects[Kind.JOB]["uid-j"] = {"metadata": job, "status": {"conditions": conditions}}
    for number, status in enumerate(pods):
        of_job = {"kind": "Job", "name": name, "uid": "uid-j"}
        metadata = {"name": f"p{number}", "uid": f"uid-p{number}", "ownerReferences": [of_job]}
        found.objects[Kind.POD][f"uid-p{number}"] = {"metadata": metadata, "status": status}
    assert lingering(found, view) == expected


@pytest.mark.parametrize("owned", [True, False])
def test_who_wears_the_label_of_a_job_is_waited_for_but_says_nothing_of_its_run(
    owned: bool,
) -> None:
    """Whoever may make pods could give the pod of a run another result, and be the newer one."""
    obj = trial_object("t-0", 0)
    found = family(obj)
    view = found.trials["t-0"]
    assert view.record
    name = view.record.run.job
    job = {"name": name, "uid": "uid-j", "creationTimestamp": STAMP}
    of_trial = {"ownerReferences": [owner("uid-t-0")]}
    found.objects[Kind.JOB]["uid-j"] = {
        "metadata": {**job, **of_trial},
        "spec": {"template": {"spec": {}}},
    }
    metadata = {"name": "p", "uid": "uid-p", "creationTimestamp": STAMP}
    metadata["labels"] = {names.JOB_LABEL: name}
    if owned:
        metadata["ownerReferences"] = [{"kind": "Job", "name": name, "uid": "uid-j"}]
    found.objects[Kind.POD]["uid-p"] = {"metadata": metadata, "status": OVER}
    (seen_trial,) = seen_by(found).trials
    assert (seen_trial.evidence.pod is not None) == owned
    found.objects[Kind.POD]["uid-p"]["status"] = RUNNING
    assert lingering(found, view)


@pytest.mark.parametrize(
    ("status", "since"),
    [
        pytest.param({}, STAMP, id="its controller is away"),
        pytest.param({"startTime": LATER}, LATER, id="it has left its queue"),
    ],
)
def test_a_job_without_a_pod_is_waited_for_from_when_it_may_have_one(
    status: dict[str, Any], since: str
) -> None:
    found = family(trial_object("t-0", 0))
    view = found.trials["t-0"]
    assert view.record
    metadata = {"name": view.record.run.job, "uid": "uid-j", "creationTimestamp": STAMP}
    metadata |= {"ownerReferences": [owner("uid-t-0")]}
    job = {"metadata": metadata, "spec": {"template": {"spec": {}}}, "status": status}
    found.objects[Kind.JOB]["uid-j"] = job
    (seen_trial,) = seen_by(found).trials
    assert seen_trial.evidence.since == epoch(since)
