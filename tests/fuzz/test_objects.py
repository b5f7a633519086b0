"""Whatever users write into trials, and pods into their messages: passes go on, and so do views."""

import copy
import io
import json as json_
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from primo_cli.view import front_table, last_words, one_line, plain, study_view
from primo_operator.settings import Settings
from support.hostile import fuzz, incomplete, of_schema, text, utf8
from support.kept import Kept

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "fixtures" / "objects" / "0.1.0"


def schema(kind: str) -> dict[str, Any]:
    definition = yaml.safe_load((ROOT / "crds" / f"{kind}.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]
    return found


AT = "2026-11-25T22:00:00Z"
TRIAL, STUDY = schema("primotrials"), schema("primostudies")
trial_statuses = of_schema(TRIAL["status"])
annotations = st.dictionaries(
    st.sampled_from(["primo.dev/stop", "primo.dev/retry", "other"]), utf8, max_size=3
)


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json_.loads((GOLDEN / f"{name}.json").read_text())
    return found


def worked_on(objects: dict[str, Any]) -> Kept:
    kept = Kept(objects)
    kept.passes(Settings())
    assert set(kept.places) <= {"default"}
    for write in kept.writes:
        assert len(write) < 100_000
    return kept


@pytest.mark.parametrize("name", ["flight", "rungs", "problem", "blind"])
@fuzz
@given(data=st.data())
def test_a_trials_status_as_a_user_may_write_it(name: str, data: st.DataObject) -> None:
    objects = golden(name)
    for trial in objects["trials"]:
        trial["status"] = data.draw(trial_statuses)
        trial["metadata"]["annotations"] = data.draw(annotations)
    worked_on(objects)


@fuzz
@given(of_schema(STUDY["status"]))
def test_a_studys_status_as_a_user_may_write_it(status: dict[str, Any]) -> None:
    objects = golden("flight")
    objects["study"]["status"] = status
    worked_on(objects)


@fuzz
@given(of_schema(TRIAL["spec"]), annotations)
def test_a_trial_of_a_users_own(spec: dict[str, Any], given_: dict[str, str]) -> None:
    objects = golden("flight")
    trial = copy.deepcopy(objects["trials"][0])
    trial["metadata"] |= {"name": "own", "uid": "own", "annotations": given_, "ownerReferences": []}
    trial["spec"] = {**spec, "study": "flight"}
    trial.pop("status", None)
    objects["trials"].append(trial)
    message = (worked_on(objects).trials["own"].get("status") or {}).get("message") or ""
    assert message.isprintable()


@fuzz
@given(
    incomplete(golden("flight")["pods"][0]["status"]),
    incomplete({"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": AT}),
    st.sampled_from(["Running", "Failed", "Succeeded", "Unknown"]),
    st.booleans(),
    st.booleans(),
)
def test_a_pods_status_with_parts_missing(
    status: Any, end: Any, phase: str, has_ended: bool, deleted: bool
) -> None:
    objects = golden("flight")
    pod = objects["pods"][0]
    pod["status"] = {**status, "phase": phase}
    if deleted:
        pod["metadata"]["deletionTimestamp"] = AT
    for container in pod["status"].get("containerStatuses") or ():
        if has_ended:
            container["state"] = {"terminated": end}
    worked_on(objects)


@fuzz
@given(text | st.text(max_size=4096), st.integers(-1, 255))
def test_a_termination_message(message: str, code: int) -> None:
    objects = golden("flight")
    status = objects["pods"][0]["status"]
    for which in ("containerStatuses", "initContainerStatuses"):
        for container in status[which]:
            ended = {"exitCode": code, "startedAt": AT, "finishedAt": AT, "message": message}
            container["state"] = {"terminated": ended}
    status["phase"] = "Failed" if code else "Succeeded"
    kept = worked_on(objects)
    for trial in kept.trials.values():
        shown = (trial.get("status") or {}).get("message") or ""
        assert all(c.isprintable() or c == "\n" for c in shown)


@fuzz
@given(data=st.data())
def test_a_terminal_shows_what_users_wrote_and_obeys_nothing(data: st.DataObject) -> None:
    objects = golden(data.draw(st.sampled_from(["flight", "rungs", "problem"])))
    study, trials = objects["study"], [t for t in objects["trials"] if "number" in t["spec"]]
    for trial in trials:
        trial["status"] = data.draw(trial_statuses | st.none())
        trial["spec"]["parameters"] = data.draw(st.dictionaries(text, text, max_size=3))
    for condition in study["status"]["conditions"]:
        condition["message"] = data.draw(text)
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=False)
    console.print(study_view(study, trials, 1.0))
    console.print(front_table(study, trials, console))
    console.print(plain(one_line(study, trials)))
    if study["status"]["phase"] == "Completed":
        console.print(last_words(study))
    assert all(c.isprintable() or c == "\n" for c in shown.getvalue())
