"""The view never goes back, and keeps the last words of pods that are gone."""

from typing import Any

import pytest

from primo_operator.cluster import Listing, merge_patch
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.names import STUDY_LABEL

KEY = Key("team", "digits")


def obj(version: int, uid: str = "u", **status: Any) -> dict[str, Any]:
    metadata = {
        "name": uid,
        "namespace": "team",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {STUDY_LABEL: "digits"},
    }
    return {"metadata": metadata, "spec": {}, "status": status}


def phases(mirror: Mirror) -> list[Any]:
    return [pod["status"].get("phase") for pod in mirror.family(KEY).pods]


def test_asking_for_a_study_does_not_make_it_known() -> None:
    mirror = Mirror()
    assert mirror.family(KEY).study is None
    mirror.replace(KEY, Kind.JOB, Listing([], 5))
    assert mirror.keys() == []
    mirror.absorb(Kind.JOB, obj(1))
    assert mirror.keys() == [KEY]


def test_of_a_study_that_does_not_exist_only_users_trials_are_kept_as_long_as_they_exist() -> None:
    mirror = Mirror()
    early = {**obj(2, "early"), "spec": {"study": "digits", "parameters": {}}}
    mirror.absorb(Kind.TRIAL, early)
    mirror.absorb(Kind.JOB, obj(3))
    mirror.forget(KEY)
    assert list(mirror.family(KEY).trials) == ["early"]
    assert list(mirror.family(KEY).jobs) == []
    mirror.absorb(Kind.TRIAL, early, deleted=True)
    mirror.forget(KEY)
    assert mirror.keys() == []


def test_an_older_event_changes_nothing() -> None:
    mirror = Mirror()
    mirror.absorb(Kind.POD, obj(2, phase="new"))
    mirror.absorb(Kind.POD, obj(1, phase="old"))
    assert phases(mirror) == ["new"]


def test_what_was_deleted_does_not_come_back() -> None:
    mirror = Mirror()
    mirror.absorb(Kind.JOB, obj(3), deleted=True)
    mirror.absorb(Kind.JOB, obj(2))
    assert list(mirror.family(KEY).jobs) == []


def test_what_we_have_deleted_is_gone_though_no_watch_says_so() -> None:
    mirror = Mirror()
    mirror.absorb(Kind.JOB, obj(2))
    mirror.removed(KEY, Kind.JOB, "u")
    mirror.absorb(Kind.JOB, obj(3))
    assert list(mirror.family(KEY).jobs) == []


def test_what_was_asked_for_by_name_is_there_though_it_was_seen_to_go() -> None:
    """A watch by label calls an object deleted that has lost its label."""
    mirror = Mirror()
    mirror.absorb(Kind.JOB, obj(3), deleted=True)
    mirror.found(Kind.JOB, obj(4))
    assert [j["metadata"]["uid"] for j in mirror.family(KEY).jobs] == ["u"]


def test_a_departed_pod_keeps_its_last_state() -> None:
    mirror = Mirror()
    mirror.absorb(Kind.POD, obj(1, phase="Running"))
    mirror.absorb(Kind.POD, obj(2, phase="Succeeded"), deleted=True)
    assert [p["status"]["phase"] for p in mirror.family(KEY).departed.values()] == ["Succeeded"]
    assert phases(mirror) == []


def test_the_first_request_to_delete_a_pod_stands() -> None:
    """The kubelet makes a second one when the containers have ended, and the time changes."""
    mirror = Mirror()
    running, ended, gone = obj(1), obj(2), obj(3, phase="Failed")
    running["metadata"] |= {"deletionTimestamp": "first", "deletionGracePeriodSeconds": 5}
    for later in (ended, gone):
        later["metadata"] |= {"deletionTimestamp": "later", "deletionGracePeriodSeconds": 0}
    mirror.absorb(Kind.POD, running)
    mirror.absorb(Kind.POD, ended)
    mirror.absorb(Kind.POD, gone, deleted=True)
    (pod,) = mirror.family(KEY).departed.values()
    assert pod["status"]["phase"] == "Failed"
    assert pod["metadata"]["deletionTimestamp"] == "first"
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 5


def test_a_full_list_removes_what_it_lacks_but_not_what_is_newer() -> None:
    mirror = Mirror()
    mirror.absorb(Kind.JOB, obj(1, "old"))
    mirror.absorb(Kind.JOB, obj(9, "newer"))
    mirror.replace(KEY, Kind.JOB, Listing([obj(4, "listed")], 5))
    assert {j["metadata"]["uid"] for j in mirror.family(KEY).jobs} == {"newer", "listed"}


def test_objects_without_our_label_belong_to_no_study() -> None:
    stranger = obj(1)
    stranger["metadata"]["labels"] = {}
    assert Mirror().absorb(Kind.POD, stranger) is None


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, {}, id="nothing"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, {"b": None}, id="removed is null"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}, id="lists are replaced"),
        pytest.param(
            {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": None}}, id="deep"
        ),
    ],
)
def test_merge_patch(old: dict, new: dict, patch: dict) -> None:
    assert merge_patch(old, new) == patch
