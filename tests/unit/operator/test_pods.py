"""What a pod says of its run, in each ending a real kubelet was seen to write."""

import math
from typing import Any

import numpy as np
import pytest

from primo_operator.pods import outcome, starting_since, times, waiting
from primo_report.wire import Reduced, Rejection, Summary, format_summary
from primo_study import record
from primo_study.phases import Reason
from primo_study.study import epoch
from support.builders import condition, pod, run, spec, trial, waiting_pod

NAN = float("nan")


def message(error: float = 0.1, *, fidelity: float | None = 9.0, **fields: Any) -> str:
    metrics = fields.pop("metrics", None)
    if metrics is None:
        metrics = {"val_error": Reduced(error, 0.05, 0.5, 0.2), "kmacs": Reduced(5, 5, 5, 5)}
    summary = Summary(seq=9, metrics=metrics, fidelity=fidelity, **fields)
    return format_summary(summary, 4096, ["val_error", "kmacs"]).decode()


def verdict(found: dict[str, Any] | None, job: dict[str, Any] | None = None, **given: Any) -> Any:
    gone, job_gone = given.pop("gone", False), given.pop("job_gone", False)
    return outcome(found, gone, job, job_gone, run(2), spec(**given))


def test_a_report_that_was_cut_is_told_from_one_that_is_missing() -> None:
    said = verdict(pod(0, message=message()[:-20]))
    assert said.reason is Reason.METRICS_UNAVAILABLE
    assert said.message.startswith("what was reported is cut: 2 containers share the 12 KiB")
    assert verdict(pod(0, message="other words")).message == "nothing was reported"


def test_a_report_that_was_cut_is_nobodys_last_words() -> None:
    failed = pod(1)
    failed["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = message()[:-20]
    assert verdict(failed).message == "exit code 1 (Error): its log has its last words"


def a_job(*conditions: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": metadata, "spec": {}, "status": {"conditions": list(conditions)}}


DISRUPTED = condition("DisruptionTarget", "EvictionByEvictionAPI")
LATER = {**DISRUPTED, "lastTransitionTime": "2027-01-15T08:00:11Z"}
AT_ONCE = {**DISRUPTED, "lastTransitionTime": "2027-01-15T08:00:09Z"}
FAILED = a_job(condition("FailureTarget", "BackoffLimitExceeded"))
LATE = a_job(condition("FailureTarget", "DeadlineExceeded"))
NO_GPU = {**condition("PodScheduled", "Unschedulable", "False"), "message": "no GPU"}
UNSCHEDULED = {**pod(None, phase="Pending"), "status": {"phase": "Pending", "conditions": [NO_GPU]}}


def deleted(found: dict[str, Any], at: str = "2027-01-15T08:00:30Z") -> dict[str, Any]:
    found["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}
    return found


def not_started(words: str = "", code: int = 128, reason: str = "StartError") -> dict[str, Any]:
    """As a real kubelet tells of it."""
    found = pod(code, reason=reason, startedAt="1970-01-01T00:00:00Z")
    (status,) = found["status"]["containerStatuses"]
    status["state"]["terminated"]["message"] = words
    return found


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(pod(None, sidecar_ended=False), None, id="it runs"),
        pytest.param(
            pod(0, phase="Running", sidecar_ended=False), None, id="the sidecar still writes"
        ),
        pytest.param(pod(0, phase="Running", message=message()), Reason.COMPLETED, id="before Job"),
        pytest.param(pod(0, message=message()), Reason.COMPLETED, id="exit 0 with all metrics"),
        pytest.param(pod(1, message=message()), Reason.FAILED, id="exit 1 after a full report"),
        pytest.param(pod(137, reason="OOMKilled"), Reason.OUT_OF_MEMORY, id="memory limit"),
        pytest.param(pod(0), Reason.METRICS_UNAVAILABLE, id="exit 0 and nothing reported"),
        pytest.param(pod(0, message="kubelet's words"), Reason.METRICS_UNAVAILABLE, id="cut"),
        pytest.param(pod(0, message=message(NAN)), Reason.DIVERGED, id="NaN is divergence"),
        pytest.param(
            pod(0, message=message(metrics={"val_eror": Reduced(1, 1, 1, 1)})),
            Reason.METRICS_UNAVAILABLE,
            id="a metric misspelt",
        ),
        pytest.param(pod(0, message=message(fidelity=3.0)), Reason.FAILED, id="ended too early"),
        pytest.param(
            pod(0, message=message(fidelity=None)), Reason.COMPLETED, id="no fidelity reported"
        ),
        pytest.param(
            pod(0, message=message(fidelity=None, partial=True)),
            Reason.METRICS_UNAVAILABLE,
            id="a sidecar that was killed before the end",
        ),
        pytest.param(
            pod(0, message=message(partial=True)),
            Reason.COMPLETED,
            id="a sidecar that was killed, but after the report that counts",
        ),
        pytest.param(
            pod(137, reason="ContainerStatusUnknown"), Reason.LOST, id="nobody knows how it ended"
        ),
        pytest.param(
            not_started("failed to create shim task: context canceled: unknown"),
            Reason.LOST,
            id="the kubelet ended while its container started",
        ),
        pytest.param(
            not_started(code=1, reason="Error"),
            Reason.LOST,
            id="the container runtime ended while its container started",
        ),
        pytest.param(
            not_started("ValueError: bad lr", code=1, reason="Error"),
            Reason.FAILED,
            id="it has left words, and so it ran",
        ),
        pytest.param(
            not_started('exec: "trian": executable file not found in $PATH: unknown'),
            Reason.START_FAILED,
            id="no such command",
        ),
    ],
)
def test_a_pod_that_came_to_its_own_end(found: dict[str, Any], reason: Reason | None) -> None:
    result = verdict(found)
    assert (result.reason if result else None) is reason


COMPLETE = a_job(condition("Complete", "CompletionsReached"))
SUSPENDED = {**a_job(), "spec": {"suspend": True}}


def cleaned(found: dict[str, Any]) -> dict[str, Any]:
    """Deleted without grace: when its end was asked for, if it was, is forgotten."""
    times = {"deletionTimestamp": "2027-01-15T08:00:01Z", "deletionGracePeriodSeconds": 0}
    found["metadata"] |= times
    return found


@pytest.mark.parametrize(
    ("found", "job", "reason"),
    [
        pytest.param(cleaned(pod(0, message=message())), a_job(), None, id="the Job will say"),
        pytest.param(
            cleaned(pod(0, message=message())), COMPLETE, Reason.COMPLETED, id="it ended well"
        ),
        pytest.param(
            cleaned(pod(0, message=message())), FAILED, Reason.LOST, id="it ended well on SIGTERM"
        ),
        pytest.param(cleaned(pod(137)), FAILED, Reason.LOST, id="it was killed"),
        pytest.param(
            cleaned(pod(137, reason="OOMKilled")), FAILED, Reason.OUT_OF_MEMORY, id="for memory"
        ),
        pytest.param(cleaned(pod(1)), FAILED, Reason.FAILED, id="the script failed"),
        pytest.param(cleaned(pod(0, message=message())), SUSPENDED, None, id="a queue took it"),
        pytest.param(
            cleaned(pod(0, message=message())),
            a_job(deletionTimestamp="2027-01-15T08:00:01Z"),
            Reason.COMPLETED,
            id="the Job is cleaned up as well",
        ),
    ],
)
def test_a_pod_that_was_deleted_before_anybody_looked(
    found: dict[str, Any], job: dict[str, Any], reason: Reason | None
) -> None:
    result = verdict(found, job, gone=True)
    assert (result.reason if result else None) is reason


@pytest.mark.parametrize(
    ("found", "job", "gone", "reason"),
    [
        pytest.param(
            deleted(pod(0, message=message(), conditions=(DISRUPTED,))),
            FAILED,
            True,
            Reason.LOST,
            id="evicted, though the script exits 0 on SIGTERM",
        ),
        pytest.param(
            deleted(pod(0, message=message(), conditions=(AT_ONCE,))),
            FAILED,
            True,
            Reason.LOST,
            id="evicted, and its node's clock is some seconds behind",
        ),
        pytest.param(
            deleted(pod(0, message=message(), conditions=(LATER,)), "2027-01-15T08:00:11Z"),
            FAILED,
            True,
            Reason.COMPLETED,
            id="its node was drained when it had ended",
        ),
        pytest.param(
            deleted(pod(137, reason="OOMKilled", conditions=(LATER,)), "2027-01-15T08:00:11Z"),
            FAILED,
            True,
            Reason.OUT_OF_MEMORY,
            id="drained when it had failed",
        ),
        pytest.param(
            deleted(pod(0, message=message())), FAILED, True, Reason.LOST, id="deleted while it ran"
        ),
        pytest.param(
            deleted(pod(0, message=message())), a_job(), True, None, id="a queue may take it back"
        ),
        pytest.param(
            deleted(pod(0, message=message()), "2027-01-15T09:00:00Z"),
            a_job(),
            True,
            Reason.COMPLETED,
            id="cleaned up after its end",
        ),
        pytest.param(
            deleted(pod(137, reason="ContainerStatusUnknown", finishedAt=None)),
            FAILED,
            True,
            Reason.LOST,
            id="deleted while its kubelet was away: nobody saw the end",
        ),
        pytest.param(deleted(pod(137)), LATE, True, Reason.DEADLINE_EXCEEDED, id="deadline"),
        pytest.param(pod(None), FAILED, True, Reason.LOST, id="gone with its node"),
        pytest.param(
            deleted(pod(137, reason="ContainerStatusUnknown", finishedAt=None)),
            FAILED,
            False,
            Reason.LOST,
            id="its node does not know when it ended",
        ),
        pytest.param(None, FAILED, False, None, id="no pod, and the Job is about to say"),
        pytest.param(None, a_job(condition("Failed", "X")), False, Reason.LOST, id="never read"),
        pytest.param(
            None,
            a_job(condition("FailureTarget", "X"), condition("Failed", "X")),
            False,
            Reason.LOST,
            id="never read, as Jobs say it since Kubernetes 1.31",
        ),
        pytest.param(
            None,
            a_job(condition("SuccessCriteriaMet", "X"), condition("Complete", "X")),
            False,
            Reason.LOST,
            id="never read, and the Job is content",
        ),
        pytest.param(
            None,
            a_job(condition("Failed", "DeadlineExceeded")),
            False,
            Reason.DEADLINE_EXCEEDED,
            id="deadline, the pod is gone",
        ),
    ],
)
def test_a_pod_that_was_stopped_from_outside(
    found: dict[str, Any] | None, job: dict[str, Any], gone: bool, reason: Reason | None
) -> None:
    result = verdict(found, job, gone=gone)
    assert (result.reason if result else None) is reason


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        pytest.param(UNSCHEDULED, Reason.LOST, "Unschedulable: no GPU", id="no GPU"),
        pytest.param(waiting_pod("ErrImagePull"), Reason.START_FAILED, "ErrImage", id="no image"),
        pytest.param(waiting_pod("ContainerCreating"), Reason.LOST, "no container", id="slow"),
        pytest.param(pod(None), Reason.DEADLINE_EXCEEDED, "longer", id="it ran"),
    ],
)
def test_a_jobs_deadline_is_of_the_run_if_that_had_started(
    found: dict[str, Any], reason: Reason, words: str
) -> None:
    late = {**condition("Failed", "DeadlineExceeded"), "message": "longer than its deadline"}
    result = verdict(found, a_job(late), gone=True)
    assert result.reason is reason
    assert words in result.message


def test_eviction_for_its_own_storage_is_the_scripts_doing() -> None:
    found = pod(137, reason="ContainerStatusUnknown")
    found["status"] |= {"reason": "Evicted", "message": "emptyDir exceeds its limit"}
    assert verdict(found).reason is Reason.EVICTED


@pytest.mark.parametrize(
    ("reached", "reason"),
    [
        pytest.param(sum([0.1] * 9), Reason.COMPLETED, id="added up"),
        pytest.param(float(np.float32(0.9)), Reason.COMPLETED, id="of 32 bits"),
        pytest.param(0.8999, Reason.FAILED, id="short"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_a_fidelity_is_reached_though_it_was_rounded_on_the_way(
    reached: float, partial: bool, reason: Reason
) -> None:
    assert reached < 0.9
    found = pod(0, message=message(fidelity=reached, partial=partial))
    ended = outcome(found, False, None, False, run(fidelity=0.9), spec())
    short = Reason.METRICS_UNAVAILABLE if partial else Reason.FAILED
    assert ended
    assert ended.reason is (reason if reason is Reason.COMPLETED else short)


@pytest.mark.parametrize(("reached", "doubted"), [(3.9, False), (4.5, True), (9.0, True)])
def test_a_run_that_went_far_beyond_what_it_was_asked_for_says_so(
    reached: float, doubted: bool
) -> None:
    found = pod(0, message=message(fidelity=reached))
    ended = outcome(found, False, None, False, run(fidelity=3.0), spec())
    assert ended
    assert ended.reason is Reason.COMPLETED
    assert ("does the script train to PRIMO_FIDELITY?" in ended.message) is doubted


@pytest.mark.parametrize("code", [0, 137, 143])
def test_a_deadline_of_the_pod_is_one_however_its_script_takes_the_signal(code: int) -> None:
    """The kubelet minds `activeDeadlineSeconds` of the pod, the Job controller that of the Job."""
    found = pod(code, phase="Failed", message=message())
    words = "Pod was active on the node longer than the specified deadline"
    found["status"] |= {"reason": "DeadlineExceeded", "message": words}
    ended = verdict(found)
    assert (ended.reason, ended.message) == (Reason.DEADLINE_EXCEEDED, words)


def initialised(*codes: int | None) -> dict[str, Any]:
    """A pod that failed before its main container, with init containers that ended so."""
    found = pod(None, phase="Failed")
    (main,) = found["status"]["containerStatuses"]
    main["state"] = {"waiting": {"reason": "PodInitializing"}}
    for number, code in enumerate(codes):
        state: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
        if code is not None:
            state = {"terminated": {"exitCode": code, "reason": "Error", "message": "no bucket"}}
        found["status"]["initContainerStatuses"].append({"name": f"init-{number}", "state": state})
    return found


def initialised_but_not_started(words: str = "", **end: Any) -> dict[str, Any]:
    found = initialised(1)
    state = found["status"]["initContainerStatuses"][-1]["state"]
    state["terminated"] |= {"startedAt": "1970-01-01T00:00:00Z", "message": words, **end}
    return found


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        pytest.param(
            initialised(0, 1, None),
            Reason.FAILED,
            "init container init-1: exit code 1 (Error): no bucket",
            id="it failed, and those after it have not begun",
        ),
        pytest.param(
            initialised_but_not_started(),
            Reason.LOST,
            "a container ended before it was started: exit code 1 (Error)",
            id="the container runtime ended while it started",
        ),
        pytest.param(
            initialised_but_not_started('exec: "stge": not found', reason="StartError"),
            Reason.START_FAILED,
            'init container init-0: exit code 1 (StartError): exec: "stge": not found',
            id="no such command",
        ),
        pytest.param(
            initialised(0, 0), Reason.LOST, "how its containers ended is unknown", id="none failed"
        ),
        pytest.param(
            initialised(), Reason.LOST, "how its containers ended is unknown", id="there is none"
        ),
    ],
)
def test_an_init_container_that_fails_is_the_users_doing(
    found: dict[str, Any], reason: Reason, words: str
) -> None:
    ended = verdict(found)
    assert (ended.reason, ended.message) == (reason, words)


def test_a_failure_shows_the_last_words_and_not_our_own_record() -> None:
    found = pod(1, reason="Error")
    found["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = "ValueError: bad lr"
    assert verdict(found).message == "exit code 1 (Error): ValueError: bad lr"
    found["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = message()
    assert verdict(found).message == "exit code 1 (Error): its log has its last words"


def test_what_is_missing_is_named_with_what_was_seen() -> None:
    found = pod(0, message=message(metrics={"val_eror": Reduced(1, 1, 1, 1)}))
    text = verdict(found).message
    assert "'val_error'" in text
    assert "val_eror" in text


def test_a_refused_line_explains_a_missing_report() -> None:
    bad = message(metrics={}, rejected=2, rejection=Rejection(3, "no JSON"))
    text = verdict(pod(0, message=bad)).message
    assert "line 3" in text
    assert "no JSON" in text


@pytest.mark.parametrize(
    ("how", "value"), [("Last", 0.1), ("Min", 0.05), ("Max", 0.5), ("Mean", 0.2)]
)
def test_values_are_reduced_as_asked(how: str, value: float) -> None:
    objectives = [
        {"name": "error", "goal": "Minimize", "metric": "val_error", "reduce": how},
    ]
    assert verdict(pod(0, message=message()), objectives=objectives).values == {"error": value}


MEMORY = {"metric": "memory_gib", "atMost": 40, "reduce": "Max"}


@pytest.mark.parametrize(
    ("peak", "reason", "feasible"),
    [
        pytest.param(Reduced(1, 0, 40, 1), Reason.COMPLETED, True, id="the bound itself is kept"),
        pytest.param(Reduced(1, 0, 41, 1), Reason.COMPLETED, False, id="broken is no failure"),
        pytest.param(Reduced(1, 0, math.inf, 1), Reason.DIVERGED, None, id="infinite"),
        pytest.param(None, Reason.METRICS_UNAVAILABLE, None, id="not reported"),
    ],
)
def test_a_constraint_is_measured_beside_the_objectives(
    peak: Reduced | None, reason: Reason, feasible: bool | None
) -> None:
    metrics = {"val_error": Reduced(0.1, 0.1, 0.1, 0.1), "kmacs": Reduced(5, 5, 5, 5)}
    if peak:
        metrics["memory_gib"] = peak
    found = verdict(pod(0, message=message(metrics=metrics)), constraints=[MEMORY])
    assert (found.reason, found.feasible) == (reason, feasible)
    if reason is Reason.COMPLETED:
        assert peak
        assert found.constrained == {"memory_gib": peak.max}
        assert found.values == {"error": 0.1, "cost": 5}
    else:
        assert "memory_gib" in found.message


def test_a_constraint_named_like_an_objective_does_not_hide_behind_it() -> None:
    metrics = {name: Reduced(0.1, 0.1, 0.1, 0.1) for name in ("val_error", "kmacs")}
    metrics["error"] = Reduced(NAN, NAN, NAN, NAN)
    given = pod(0, message=message(metrics=metrics))
    found = verdict(given, constraints=[{"metric": "error", "atMost": 1}])
    assert (found.reason, found.message) == (Reason.DIVERGED, "error is nan")


def test_what_had_no_room_in_the_message_explains_what_is_missing() -> None:
    short = message(metrics={"val_error": Reduced(1, 1, 1, 1)}, truncated=3)
    assert "3 metrics had no room" in verdict(pod(0, message=short)).message


@pytest.mark.parametrize(
    ("found", "reason", "endless"),
    [
        pytest.param(waiting_pod("ErrImagePull"), "ErrImagePull", True, id="bad image"),
        pytest.param(
            waiting_pod("CrashLoopBackOff", of="primo-report"),
            "CrashLoopBackOff",
            True,
            id="a sidecar that cannot start",
        ),
        pytest.param(waiting_pod("ContainerCreating"), None, None, id="it is on its way"),
        pytest.param(pod(None, sidecar_ended=False), None, None, id="it runs"),
    ],
)
def test_why_a_pod_does_not_start(
    found: dict[str, Any], reason: str | None, endless: bool | None
) -> None:
    why = waiting(found)
    assert (why.reason if why else None, why.endless if why else None) == (reason, endless)


SCHEDULED = {**condition("PodScheduled"), "lastTransitionTime": "2027-01-15T08:05:00Z"}


def uncreated() -> dict[str, Any]:
    found = waiting_pod("PodInitializing", "")
    found["status"]["conditions"] = [SCHEDULED]
    return found


def test_a_pod_whose_containers_are_not_created_says_so_after_a_minute() -> None:
    """A Secret that is not there, say: only the pod's Events have more."""
    why = waiting(uncreated())
    assert why
    assert (why.reason, why.endless) == ("PodInitializing", False)
    assert why.message.startswith(
        "its containers are not created, since 2027-01-15T08:05:00Z: see the Events of pod p"
    )
    assert why.due_at == epoch("2027-01-15T08:06:00Z")


def test_a_pod_whose_containers_come_to_be_waits_for_nothing() -> None:
    """Its image is pulled, or an init container has its work."""
    begun = uncreated()
    begun["status"]["initContainerStatuses"][0]["state"] = {"running": {}}
    assert waiting(begun) is None


def test_a_container_that_ends_again_and_again_says_why() -> None:
    """And not for how long it is left alone, which the kubelet says."""
    found = waiting_pod("CrashLoopBackOff", "back-off 5m0s restarting failed", of="primo-report")
    (ours,) = found["status"]["initContainerStatuses"]
    ours["lastState"] = {"terminated": {"exitCode": 1, "message": "no space left on device"}}
    why = waiting(found)
    assert why
    assert why.message == "exit code 1 (Error): no space left on device"


def test_no_free_gpu_is_waited_for() -> None:
    unscheduled = condition("PodScheduled", "Unschedulable", "False")
    found = pod(None, phase="Pending", conditions=(unscheduled,))
    found["status"]["containerStatuses"] = []
    why = waiting(found)
    assert why
    assert (why.reason, why.endless) == ("Unschedulable", False)


def test_a_start_is_awaited_from_when_nothing_but_it_is_left() -> None:
    """Neither the wait for a node nor an init container's work counts."""
    found = waiting_pod("ErrImagePull")
    assert starting_since(found) == "2027-01-15T08:00:00Z"
    scheduled, staged = "2027-01-15T09:00:00Z", "2027-01-15T09:30:00Z"
    found["status"]["conditions"] = [
        {**condition("PodScheduled"), "lastTransitionTime": scheduled},
        {**condition("Initialized", status="False"), "lastTransitionTime": staged},
    ]
    assert starting_since(found) == scheduled
    ended = {"terminated": {"exitCode": 0, "finishedAt": staged}}
    found["status"]["initContainerStatuses"].append({"name": "stage", "state": ended})
    assert starting_since(found) == staged


def test_a_schedulers_own_reason_has_room_in_a_trial() -> None:
    unscheduled = condition("PodScheduled", "Its\x1b[31mOwn" * 20, "False")
    found = pod(None, phase="Pending", conditions=(unscheduled,))
    found["status"]["containerStatuses"] = []
    why = waiting(found)
    assert why
    said = record.status(record.waiting(trial(), why))
    assert said["reason"] == said["runs"][0]["reason"] == why.reason
    assert why.reason.isprintable()


def test_a_pod_tells_when_it_started_and_ended() -> None:
    early, late = "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"
    found = pod(0, startedAt=early)
    assert times(found) == (early, early)
    second = {"name": "b", "state": {"running": {"startedAt": late}}}
    found["status"]["containerStatuses"].append(second)
    assert times(found) == (early, None)
    second["state"] = {"terminated": {"exitCode": 0, "startedAt": late, "finishedAt": late}}
    assert times(found) == (early, late)
    assert times(waiting_pod("ErrImagePull")) == (None, None)
    assert times(not_started("no such command"))[0] is None  # not 1970: it is paid from its start


ENERGY = {"name": "energy", "goal": "Minimize", "prometheus": {"query": "up"}}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(pod(0), Reason.COMPLETED, id="nothing had to be reported"),
        pytest.param(pod(0, message="kubelet's words"), Reason.COMPLETED, id="nor said"),
        pytest.param(
            pod(0, message=message(metrics={}, partial=True, fidelity=1.0)),
            Reason.COMPLETED,
            id="a sidecar that was killed has missed nothing that counts",
        ),
        pytest.param(pod(0, message=message(fidelity=3.0)), Reason.FAILED, id="ended too early"),
        pytest.param(pod(1), Reason.FAILED, id="exit 1"),
    ],
)
def test_a_study_that_only_asks_prometheus(found: dict[str, Any], reason: Reason) -> None:
    assert verdict(found, objectives=[ENERGY]).reason is reason


def test_what_prometheus_is_asked_for_need_not_be_reported() -> None:
    error = {"name": "error", "goal": "Minimize", "metric": "val_error"}
    found = verdict(pod(0, message=message()), objectives=[error, ENERGY])
    assert (found.reason, found.values) == (Reason.COMPLETED, {"error": 0.1})
    missing = verdict(pod(0), objectives=[error, ENERGY])
    assert missing.reason is Reason.METRICS_UNAVAILABLE
