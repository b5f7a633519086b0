"""What the Job controller decides, case by case, and that it counts each pod exactly once."""

import copy
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primo_local.apiserver.clock import timestamp
from primo_local.controllers.failure_policy import Verdict, judge
from primo_local.controllers.job import (
    CreatePods,
    DeleteJob,
    DeletePod,
    DropFinalizer,
    Plan,
    SetStatus,
    pod_of,
    sync,
)
from primo_local.controllers.job_status import Tell
from primo_local.controllers.tally import TRACKING, Backoff

Obj = dict[str, Any]

START = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)


def later(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def job(*, status: Obj | None = None, deleted: bool = False, **spec: Any) -> Obj:
    defaults = {"backoffLimit": 0, "completions": 1, "parallelism": 1}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never"}}
    meta: Obj = {"name": "train", "namespace": "ns", "uid": "job-uid"}
    if deleted:
        meta["deletionTimestamp"] = timestamp(START)
    return {
        "metadata": meta,
        "spec": {"template": template, **defaults, **spec},
        "status": status or {},
    }


def pod(
    uid: str = "p0",
    phase: str = "Running",
    *,
    tracked: bool = True,
    deleted: bool = False,
    code: int | None = None,
    restarts: int = 0,
    ended_s: float = 0,
    disrupted: bool = False,
) -> Obj:
    meta: Obj = {"name": uid, "namespace": "ns", "uid": uid, "creationTimestamp": timestamp(START)}
    meta["finalizers"] = [TRACKING] if tracked else []
    if deleted:
        meta["deletionTimestamp"] = timestamp(START)
    status: Obj = {"phase": phase, "containerStatuses": [{"name": "main", "state": {}}]}
    status["containerStatuses"][0]["restartCount"] = restarts
    if code is not None:
        ended = {"exitCode": code, "finishedAt": timestamp(later(ended_s))}
        status["containerStatuses"][0]["state"] = {"terminated": ended}
    if disrupted:
        status["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    return {"metadata": meta, "spec": {"nodeName": "local"}, "status": status}


def failed(uid: str = "p0", **facts: Any) -> Obj:
    return pod(uid, "Failed", **{"code": 1, **facts})


def succeeded(uid: str = "p0", **facts: Any) -> Obj:
    return pod(uid, "Succeeded", **{"code": 0, **facts})


def running_job(**spec: Any) -> Obj:
    status = {"startTime": timestamp(START), "ready": 0, "terminating": 0}
    return job(status={**status, "uncountedTerminatedPods": {}}, **spec)


def status_of(plan: Plan) -> Obj:
    return next(action.status for action in plan.actions if isinstance(action, SetStatus))


def conditions_of(plan: Plan) -> list[tuple[str, str, str]]:
    conditions = status_of(plan).get("conditions", [])
    return [(c["type"], c["status"], c["reason"]) for c in conditions]


def kinds(plan: Plan) -> list[str]:
    return [type(action).__name__ for action in plan.actions]


def settle(job_: Obj, pods: list[Obj], now: datetime.datetime) -> tuple[Obj, list[Obj], Plan]:
    """Apply plans until nothing but Events is left to do; pods being deleted stay."""
    pods = list(pods)
    backoff = Backoff()
    for _ in range(20):
        plan = sync(job_, pods, now, backoff)
        backoff = plan.backoff
        if not any(isinstance(action, SetStatus | DropFinalizer) for action in plan.actions):
            return job_, pods, plan
        for action in plan.actions:
            if isinstance(action, SetStatus):
                job_ = {**job_, "status": action.status}
            elif isinstance(action, DropFinalizer):
                action.pod["metadata"]["finalizers"] = []
    raise AssertionError("it does not settle")


@pytest.mark.parametrize(
    ("spec", "pods", "count"),
    [
        pytest.param({}, [], 1, id="a new Job gets a pod"),
        pytest.param({}, [pod()], 0, id="one is enough"),
        pytest.param({"parallelism": 3, "completions": 3}, [], 3, id="as many as run at once"),
        pytest.param({"parallelism": 4, "completions": 2}, [], 2, id="no more than are needed"),
        pytest.param(
            {"parallelism": 2, "completions": 3, "backoffLimit": 6},
            [succeeded("a"), succeeded("b"), pod("c")],
            0,
            id="what has succeeded counts",
        ),
        pytest.param({"parallelism": 2, "completions": None}, [], 2, id="a work queue"),
        pytest.param({"suspend": True}, [], 0, id="none while suspended"),
        pytest.param({"parallelism": 0}, [], 0, id="none if none are wanted"),
        pytest.param(
            {"backoffLimit": 3}, [pod(deleted=True)], 1, id="one being deleted is replaced"
        ),
        pytest.param(
            {"backoffLimit": 3, "podReplacementPolicy": "Failed"},
            [pod(deleted=True)],
            0,
            id="or only when it has ended, if asked",
        ),
    ],
)
def test_pods_are_created_until_there_are_enough(spec: Obj, pods: list[Obj], count: int) -> None:
    # Long after any failure, so that back-off does not matter.
    plan = sync(running_job(**spec), pods, later(3600))
    created = [action.count for action in plan.actions if isinstance(action, CreatePods)]
    assert sum(created) == count


@pytest.mark.parametrize(
    ("spec", "ended", "interim", "final"),
    [
        pytest.param(
            {},
            succeeded(),
            ("SuccessCriteriaMet", "True", "CompletionsReached"),
            ("Complete", "True", "CompletionsReached"),
            id="success",
        ),
        pytest.param(
            {},
            failed(),
            ("FailureTarget", "True", "BackoffLimitExceeded"),
            ("Failed", "True", "BackoffLimitExceeded"),
            id="failure",
        ),
        pytest.param(
            {
                "backoffLimit": 6,
                "podFailurePolicy": {
                    "rules": [
                        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
                    ]
                },
            },
            failed(code=42),
            ("FailureTarget", "True", "PodFailurePolicy"),
            ("Failed", "True", "PodFailurePolicy"),
            id="a rule that fails the Job",
        ),
    ],
)
def test_conditions_come_in_pairs_the_final_one_when_all_is_counted(
    spec: Obj, ended: Obj, interim: tuple[str, str, str], final: tuple[str, str, str]
) -> None:
    first = sync(running_job(**spec), [ended], later(5))
    assert conditions_of(first) == [interim]
    end, _, _ = settle(running_job(**spec), [ended], later(5))
    found = [(c["type"], c["status"], c["reason"]) for c in end["status"]["conditions"]]
    assert found == [interim, final]
    assert ("completionTime" in end["status"]) == (final[0] == "Complete")
    assert end["status"]["uncountedTerminatedPods"] == {}
    assert "active" not in end["status"]


def test_a_pod_is_counted_in_three_steps() -> None:
    ended = succeeded()
    now = later(5)
    first = sync(running_job(), [ended], now)
    assert status_of(first)["uncountedTerminatedPods"] == {"succeeded": ["p0"]}
    assert "succeeded" not in status_of(first)
    assert kinds(first)[:1] == ["SetStatus"]
    assert isinstance(first.actions[-1], DropFinalizer)

    recorded = {**running_job(), "status": status_of(first)}
    again = sync(recorded, [ended], now)
    assert kinds(again) == ["DropFinalizer"], "a crash before the finalizer went is made good"

    released = sync(recorded, [succeeded(tracked=False)], now)
    assert status_of(released)["succeeded"] == 1
    vanished = sync(recorded, [], now)
    assert status_of(vanished)["succeeded"] == 1, "even if the pod is gone altogether"


def test_a_deleted_pod_fails_the_job_at_once_but_the_job_ends_after_it() -> None:
    dying = pod(deleted=True)
    waiting, _, _ = settle(running_job(), [dying], later(5))
    types = [c["type"] for c in waiting["status"]["conditions"]]
    assert types == ["FailureTarget"]
    assert waiting["status"]["terminating"] == 1
    assert waiting["status"]["failed"] == 1
    ended, _, _ = settle(waiting, [], later(9))
    assert [c["type"] for c in ended["status"]["conditions"]] == ["FailureTarget", "Failed"]


def test_past_its_deadline_a_job_deletes_its_pods_and_counts_them_as_failed() -> None:
    plan = sync(running_job(activeDeadlineSeconds=10), [pod()], later(10))
    assert conditions_of(plan) == [("FailureTarget", "True", "DeadlineExceeded")]
    assert kinds(plan) == ["SetStatus", "DeletePod"]
    waiting = {**running_job(activeDeadlineSeconds=10), "status": status_of(plan)}
    ended, _, _ = settle(waiting, [pod(deleted=True)], later(11))
    assert ended["status"]["failed"] == 1
    ended, _, _ = settle(ended, [], later(12))
    assert [c["reason"] for c in ended["status"]["conditions"]] == ["DeadlineExceeded"] * 2


def test_before_its_deadline_a_job_is_looked_at_again_when_it_is_due() -> None:
    assert sync(running_job(activeDeadlineSeconds=10), [pod()], later(4)).again_s == 6


@pytest.mark.parametrize(
    ("failures", "since_s", "wait_s"),
    [
        pytest.param(1, 0, 10, id="ten seconds after the first"),
        pytest.param(1, 10, None, id="and then at once"),
        pytest.param(2, 5, 15, id="twenty after the second"),
        pytest.param(4, 0, 80, id="doubled each time"),
        pytest.param(20, 0, 600, id="ten minutes at most"),
        pytest.param(100_000, 0, 600, id="however many there were"),
    ],
)
def test_after_failures_a_job_waits(failures: int, since_s: float, wait_s: float | None) -> None:
    plan = sync(running_job(backoffLimit=10**6), [], later(since_s), Backoff(failures, START))
    assert plan.again_s == wait_s
    assert (CreatePods(1) in plan.actions) == (wait_s is None)


def test_failures_are_remembered_until_a_success() -> None:
    spec = {"backoffLimit": 9, "completions": 5, "parallelism": 1}
    pods = [failed("a", ended_s=1), failed("b", ended_s=4)]
    plan = sync(running_job(**spec), pods, later(5))
    assert plan.backoff == Backoff(2, later(4))
    plan = sync(running_job(**spec), [*pods, succeeded("c", ended_s=6)], later(7))
    assert plan.backoff == Backoff()


def test_pods_that_restart_in_place_exceed_the_limit_too() -> None:
    spec = {"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}}
    assert "DeletePod" not in kinds(sync(running_job(**spec), [pod(restarts=1)], later(1)))
    plan = sync(running_job(**spec), [pod(restarts=2)], later(1))
    assert conditions_of(plan) == [("FailureTarget", "True", "BackoffLimitExceeded")]


def test_suspending_deletes_pods_without_counting_them_and_resuming_starts_anew() -> None:
    suspended = sync(running_job(suspend=True), [pod()], later(5))
    assert kinds(suspended) == ["SetStatus", "Tell", "DropFinalizer", "DeletePod"]
    assert conditions_of(suspended) == [("Suspended", "True", "JobSuspended")]
    assert "startTime" not in status_of(suspended)

    stopped = {**running_job(suspend=True), "status": status_of(suspended)}
    stopped, _, _ = settle(stopped, [], later(6))
    assert "failed" not in stopped["status"]

    resumed = sync({**running_job(), "status": stopped["status"]}, [], later(60))
    assert conditions_of(resumed) == [("Suspended", "False", "JobResumed")]
    assert status_of(resumed)["startTime"] == timestamp(later(60))
    assert CreatePods(1) in resumed.actions


def test_a_job_created_suspended_has_no_start_time() -> None:
    plan = sync(job(suspend=True), [], START)
    assert "startTime" not in status_of(plan)
    assert Tell("Normal", "Suspended", "Job suspended") in plan.actions


def test_fewer_parallel_pods_remove_the_least_useful_ones() -> None:
    pods = [pod("busy"), pod("waiting", "Pending")]
    plan = sync(running_job(parallelism=1, completions=2), pods, later(1))
    removed = [a.pod["metadata"]["name"] for a in plan.actions if isinstance(a, DeletePod)]
    assert removed == ["waiting"]


def test_a_job_being_deleted_lets_go_of_its_pods_and_does_nothing_else() -> None:
    plan = sync(job(deleted=True), [pod("a"), pod("b", tracked=False)], START)
    assert kinds(plan) == ["DropFinalizer"]


@pytest.mark.parametrize(
    ("ttl_s", "age_s", "actions", "again_s"),
    [
        pytest.param(None, 1000, [], None, id="no ttl, no end"),
        pytest.param(60, 20, [], 40, id="too early"),
        pytest.param(60, 60, [DeleteJob()], None, id="in time"),
        pytest.param(0, 0, [DeleteJob()], None, id="at once"),
    ],
)
def test_a_finished_job_is_deleted_after_its_ttl(
    ttl_s: int | None, age_s: float, actions: list[Any], again_s: float | None
) -> None:
    ended, _, _ = settle(running_job(), [succeeded()], START)
    ended["spec"]["ttlSecondsAfterFinished"] = ttl_s  # as if patched on
    plan = sync(ended, [succeeded(tracked=False)], later(age_s))
    assert list(plan.actions) == actions
    assert plan.again_s == again_s


def test_what_another_controller_manages_is_left_alone() -> None:
    assert sync(job(managedBy="kueue.x-k8s.io/multikueue"), [], START) == Plan()


def test_indexed_jobs_are_refused_in_words() -> None:
    plan = sync(job(completionMode="Indexed"), [], START)
    assert [a.reason for a in plan.actions if isinstance(a, Tell)] == ["FailedCreate"]
    assert len(plan.actions) == 1


def test_a_pod_carries_the_template_a_tracking_finalizer_and_its_owner() -> None:
    long = job()
    long["metadata"]["name"] = "n" * 63
    made = pod_of(long)
    assert made["metadata"]["generateName"] == "n" * 57 + "-"
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["finalizers"] == [TRACKING]
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", "job-uid", True)


@pytest.mark.parametrize(
    ("rule", "ended", "fits"),
    [
        pytest.param({"onExitCodes": {"operator": "In", "values": [1]}}, failed(), True, id="In"),
        pytest.param(
            {"onExitCodes": {"operator": "NotIn", "values": [1]}}, failed(), False, id="NotIn"
        ),
        pytest.param(
            {"onExitCodes": {"operator": "NotIn", "values": [1]}},
            failed(code=0),
            False,
            id="exit code 0 is never looked at",
        ),
        pytest.param(
            {"onExitCodes": {"containerName": "other", "operator": "In", "values": [1]}},
            failed(),
            False,
            id="of another container",
        ),
        pytest.param(
            {"onPodConditions": [{"type": "DisruptionTarget"}]},
            failed(disrupted=True),
            True,
            id="a condition, True by default",
        ),
        pytest.param(
            {"onPodConditions": [{"type": "DisruptionTarget", "status": "False"}]},
            failed(disrupted=True),
            False,
            id="a condition of another status",
        ),
    ],
)
def test_rules_of_a_failure_policy_fit(rule: Obj, ended: Obj, fits: bool) -> None:
    judged = judge([{"action": "Ignore", **rule}], ended)
    assert judged.verdict == (Verdict.IGNORE if fits else Verdict.COUNT)


def test_the_first_rule_that_fits_holds_and_is_named() -> None:
    rules = [
        {"action": "Count", "onExitCodes": {"operator": "In", "values": [7]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}},
    ]
    judged = judge(rules, failed())
    assert judged.verdict is Verdict.FAIL_JOB
    assert judged.message == (
        "Container main for pod ns/p0 failed with exit code 1 matching FailJob rule at index 1"
    )


def test_an_ignored_failure_does_not_count() -> None:
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    lost = failed(disrupted=True)
    end, _, plan = settle(running_job(podFailurePolicy=policy), [lost], later(5))
    assert "failed" not in end["status"]
    assert "conditions" not in end["status"]
    assert plan.again_s == 5, "a replacement comes after the back-off"


class World:
    """A Job and its pods as a server would keep them, with a controller that may crash."""

    def __init__(self, spec: Obj) -> None:
        self.job = job(**spec)
        self.pods: dict[str, Obj] = {}
        self.made = 0
        self.ended: dict[str, str] = {}
        self.backoff = Backoff()

    def look(self, now: datetime.datetime, crash_after: int | None = None) -> int:
        """One pass; returns how many actions it had. Acts on a copy, as a cache would be."""
        plan = sync(
            copy.deepcopy(self.job), copy.deepcopy(list(self.pods.values())), now, self.backoff
        )
        for action in plan.actions[:crash_after]:
            self._apply(action)
        self.backoff = plan.backoff if crash_after is None else Backoff()
        return len(plan.actions)

    def end(self, index: int, phase: str) -> None:
        open_ = [p for p in self.pods.values() if p["status"]["phase"] in ("Pending", "Running")]
        if open_:
            chosen = open_[index % len(open_)]
            chosen["status"]["phase"] = phase
            self.ended[chosen["metadata"]["uid"]] = phase
            self._collect(chosen)

    def delete(self, index: int) -> None:
        """By a user: the object goes once its finalizer has gone."""
        if self.pods:
            chosen = list(self.pods.values())[index % len(self.pods)]
            chosen["metadata"]["deletionTimestamp"] = timestamp(START)
            if chosen["status"]["phase"] in ("Pending", "Running"):
                chosen["status"]["phase"] = "Failed"
                self.ended[chosen["metadata"]["uid"]] = "Failed"
            self._collect(chosen)

    def _apply(self, action: Any) -> None:
        match action:
            case SetStatus(status):
                self.job["status"] = status
            case DropFinalizer(seen):
                uid = seen["metadata"]["uid"]
                if uid in self.pods:
                    self.pods[uid]["metadata"]["finalizers"] = []
                    self._collect(self.pods[uid])
            case CreatePods(count):
                for _ in range(count):
                    self.made += 1
                    self.pods[f"p{self.made}"] = pod(f"p{self.made}")
            case DeletePod(seen):
                if seen["metadata"]["uid"] in self.pods:
                    self.delete(list(self.pods).index(seen["metadata"]["uid"]))

    def _collect(self, seen: Obj) -> None:
        meta = seen["metadata"]
        if meta.get("deletionTimestamp") and not meta["finalizers"]:
            self.pods.pop(meta["uid"], None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.integers(0, 4) | st.none()),
        st.tuples(st.sampled_from(["succeed", "fail", "delete"]), st.integers(0, 5)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps=STEPS, completions=st.integers(1, 4), parallelism=st.integers(1, 3))
def test_whatever_crashes_each_end_is_counted_once(
    steps: list[tuple[str, int | None]], completions: int, parallelism: int
) -> None:
    spec = {"completions": completions, "parallelism": parallelism, "backoffLimit": 1000}
    world = World(spec)
    now = START
    for step, number in steps:
        now += datetime.timedelta(hours=1)  # no back-off
        if step == "look":
            world.look(now, number)
        elif step == "delete":
            world.delete(number or 0)
        else:
            world.end(number or 0, {"succeed": "Succeeded", "fail": "Failed"}[step])
    for _ in range(60):
        now += datetime.timedelta(hours=1)
        world.end(0, "Succeeded")
        if not world.look(now):
            break
    outcomes = list(world.ended.values())
    status = world.job["status"]
    assert status["conditions"][-1]["type"] == "Complete"
    assert status.get("succeeded", 0) == outcomes.count("Succeeded")
    assert status.get("failed", 0) == outcomes.count("Failed")
    assert status.get("succeeded", 0) >= completions
