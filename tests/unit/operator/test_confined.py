"""What users write into objects cannot lead the operator to other objects than a study's own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_operator import names
from primo_operator.cluster import NotFoundError
from primo_operator.kubernetes_cluster import KubernetesCluster
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.reading import read_trial
from primo_study.objects import MAX_RUNS
from primo_study.study import epoch
from support.hostile import utf8

NAMES = [
    "..", ".", "", "a/b", "../jobs/b", "../../other/jobs/b", "%2e%2e", "%2e%2e%2fb", "a?b=c", "a#b",
    "a b", "a\nb", "A", "a_b", "-a", "a-", "a..b", "\u00e4", "a%00", "x" * 254,
    "../../../../../api/v1/namespaces/kube-system/secrets/s",
]  # fmt: skip
UID = "1a2b3c4d-0000"


class Unreachable:
    """A client of which nothing may be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("something was sent")


ONE: dict[str, Callable[[KubernetesCluster, str], Awaitable[Any]]] = {
    "get study": lambda c, name: c.get_study("team", name),
    "get job": lambda c, name: c.get_job("team", name),
    "patch trial": lambda c, name: c.patch_trial("team", name, {"metadata": {}}, "1"),
    "patch trial status": lambda c, name: c.patch_trial_status("team", name, {}, "1"),
    "patch study status": lambda c, name: c.patch_study_status("team", name, {}, "1"),
    "patch job": lambda c, name: c.patch_job("team", name, {}),
    "delete job": lambda c, name: c.delete_job("team", name, "u"),
    "get lease": lambda c, name: c.get_lease("team", name),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", ONE)
def test_nothing_is_sent_about_what_can_be_no_object(call: str, name: str) -> None:
    client: Any = Unreachable()
    try:
        found = asyncio.run(ONE[call](KubernetesCluster(client, 1.0), name))
    except NotFoundError:
        return
    assert found is None


@given(st.sampled_from(NAMES) | utf8)
def test_a_trial_belongs_to_a_study_only_by_a_name_that_one_can_have(study: str) -> None:
    obj = {
        "metadata": {"namespace": "team", "name": "t", "uid": "u", "resourceVersion": "1"},
        "spec": {"study": study, "parameters": {}},
    }
    key = Mirror().absorb(Kind.TRIAL, obj)
    assert key is None or names.LABEL.fullmatch(key.name)
    assert Mirror().absorb(Kind.TRIAL, {**obj, "spec": {"study": "a-b"}}) == Key("team", "a-b")


@pytest.mark.parametrize("job", [*NAMES, "other", "digits-1a2b3c4d-70-r0-a0", "x" * 70])
def test_a_job_that_is_not_the_trials_by_its_name_is_not_touched(job: str) -> None:
    runs = [{"job": job, "rung": 0, "attempt": 0}]
    obj = {
        "metadata": {"name": "t", "uid": "u"},
        "spec": {"study": "digits", "number": 7, "parameters": {}},
        "status": {"phase": "Running", "runs": runs},
    }
    assert read_trial(obj, UID).run.job == "digits-1a2b3c4d-7-r0-a0"


def test_a_time_that_is_none_is_not_read() -> None:
    """Else each look at it would raise, and the study would stand still."""
    none = "0000-01-01T00:00:00Z"
    times = {"startedAt": none, "finishedAt": none}
    reported = {"pod": "p", "endedAt": none}
    runs = [{"job": "j", "rung": 0, "attempt": 0, "reported": reported, **times}]
    obj = {
        "metadata": {"name": "t", "uid": "u"},
        "spec": {"study": "digits", "number": 7, "parameters": {}},
        "status": {"runs": runs, "observations": [{"values": {"error": 0.1}, "observedAt": none}]},
    }
    found = read_trial(obj, UID)
    assert (found.run.started_at, found.run.finished_at, found.run.reported) == (None, None, None)
    assert epoch(found.observations[-1].observed_at) == 0.0


def test_a_job_that_an_earlier_version_named_otherwise_is_still_the_trials() -> None:
    runs = [{"job": "digits-1a2b3c4d-7-x", "rung": 0, "attempt": 0}]
    obj = {
        "metadata": {"name": "t", "uid": "u"},
        "spec": {"study": "digits", "number": 7, "parameters": {}},
        "status": {"phase": "Running", "runs": runs},
    }
    assert read_trial(obj, UID).run.job == "digits-1a2b3c4d-7-x"


@given(
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True),
    st.uuids().map(str),
    st.integers(0, 99_999),
    st.integers(0, 85),  # fidelity.max is at most 1e15 times min, and eta 1.5 at least
    st.integers(0, MAX_RUNS - 1),
)
def test_every_name_is_a_name_and_a_label(
    study: str, uid: str, number: int, rung: int, attempt: int
) -> None:
    trial = names.trial(study, uid, number)
    for name in (trial, names.job(trial, rung, attempt)):
        assert names.LABEL.fullmatch(name), name
