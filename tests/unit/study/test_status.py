"""`summarise`: phase, conditions and counts of a study, as its object shows them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from primo_study.phases import TrialPhase
from primo_study.status import summarise
from primo_study.study import Evidence, JobState, Study, Template, Waiting
from support.builders import CREATED, ended, run, seen, spec, study, trial

PHASE = TrialPhase
RUNNING = trial(0, PHASE.RUNNING)
DONE = trial(0, PHASE.COMPLETED, ended(2), observations=(seen(),))
SUSPENDED = spec(suspend=True)


def stamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(found: Study, now: float = CREATED + 60) -> dict[str, Any]:
    return summarise(found, now, stamp(now), "primo.dev/study=digits")


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in found["conditions"] if c["type"] == kind)


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        pytest.param(study(), "Pending", id="nothing has started"),
        pytest.param(study(RUNNING), "InitialDesign", id="it runs"),
        pytest.param(study(RUNNING, spec=SUSPENDED), "Suspended", id="suspended while one runs"),
        pytest.param(
            study(RUNNING, status={"phase": "Suspended"}), "InitialDesign", id="and goes on"
        ),
        pytest.param(
            study(status={"phase": "Suspended"}), "Pending", id="suspended before it began"
        ),
        pytest.param(
            study(status={"phase": "Completed", "observedGeneration": 0}),
            "Pending",
            id="ended by its time before it began, and given more",
        ),
        pytest.param(
            study(status={"phase": "InitialDesign"}),
            "InitialDesign",
            id="what it had begun was deleted before it was counted",
        ),
        pytest.param(
            study(DONE, spec=spec(suspend=True, budget={"fullEvaluations": 1})),
            "Completed",
            id="suspended, and its budget is used up",
        ),
    ],
)
def test_the_phase(found: Study, phase: str) -> None:
    assert status(found)["phase"] == phase


@pytest.mark.parametrize(
    ("found", "progress"),
    [
        pytest.param(study(), "0/8", id="none"),
        pytest.param(study(RUNNING), "0/8", id="its first run is under way"),
        pytest.param(
            study(trial(0, PHASE.QUEUED, ended(reason="Lost"), run(0, 1))), "0/8", id="lost"
        ),
        pytest.param(
            study(trial(0, PHASE.PAUSED, ended(), observations=(seen(1.0),))), "1/8", id="paused"
        ),
        pytest.param(
            study(trial(0, PHASE.RUNNING, ended(), run(1), observations=(seen(1.0),))),
            "1/8",
            id="promoted, and it still counts",
        ),
        pytest.param(study(trial(0, PHASE.FAILED, ended(reason="Failed"))), "1/8", id="failed"),
        pytest.param(
            study(trial(0, PHASE.QUEUED, ended(reason="Failed"), run(0, 1, asked=True))),
            "1/8",
            id="its user wants another attempt, and it still counts",
        ),
        pytest.param(study(status={"nextTrial": 1}), "1/8", id="deleted: its number is spent"),
        pytest.param(study(trial(1, PHASE.RUNNING)), "0/8", id="one below it is not there yet"),
        pytest.param(
            study(RUNNING, trial(1), status={"progress": "1/8"}), "1/8", id="another has seen more"
        ),
        pytest.param(study(RUNNING, status={"progress": "7/8"}), "1/8", id="more than there are"),
    ],
)
def test_progress_counts_what_has_been_tried_and_never_goes_back(
    found: Study, progress: str
) -> None:
    assert status(replace(found, spec=spec(budget={"trials": 8})))["progress"] == progress


def test_a_suspended_study_says_what_may_end() -> None:
    taken_back = trial(1, PHASE.QUEUED, ended(reason="Suspended"))
    told = condition(status(study(RUNNING, taken_back, spec=SUSPENDED)), "Suspended")
    assert told["message"] == "spec.suspend is true; runs that may end: 1"


def test_a_study_that_only_waits_to_retry_says_for_what() -> None:
    lingers = Waiting("PodLingers", "a pod has not ended", endless=False)
    waits = Evidence(lingering=True, waiting=lingers)
    failed = trial(7, PHASE.FAILED, ended(reason="Failed"), retry="1", evidence=waits)
    told = condition(status(study(failed, DONE)), "Running")
    assert (told["status"], told["reason"]) == ("True", "PodLingers")
    assert told["message"] == "trial 7 waits: a pod has not ended"
    assert condition(status(study(failed, RUNNING)), "Running")["reason"] != "PodLingers"


def test_a_study_of_which_no_run_is_under_way_says_what_the_first_waits_for() -> None:
    waits = run(reason="Unschedulable", message="no claim of this name")
    found = study(trial(3, PHASE.QUEUED), trial(4, PHASE.QUEUED, waits))
    told = condition(status(found), "Running")
    assert (told["status"], told["reason"]) == ("True", "Unschedulable")
    assert told["message"] == "trial 4 waits: no claim of this name"
    others = study(RUNNING, trial(4, PHASE.QUEUED, waits))
    assert condition(status(others), "Running")["reason"] == "InitialDesign"


def test_the_time_of_suspensions_adds_up_when_the_study_goes_on() -> None:
    found = study(RUNNING, spec=SUSPENDED, status={"phase": "InitialDesign"})
    first = status(found, CREATED + 10)
    assert "suspendedSeconds" not in first
    still = status(study(RUNNING, spec=SUSPENDED, status=first), CREATED + 30)
    assert still == first
    on = status(study(RUNNING, status=still), CREATED + 40)
    assert on["suspendedSeconds"] == 30
    assert status(study(RUNNING, status=on), CREATED + 50)["suspendedSeconds"] == 30
    again = status(study(RUNNING, spec=SUSPENDED, status=on), CREATED + 60)
    assert status(study(RUNNING, status=again), CREATED + 65)["suspendedSeconds"] == 35


def test_a_transition_time_changes_with_the_status_alone() -> None:
    first = status(study(RUNNING), CREATED + 10)
    later = status(study(RUNNING, status=first, template=Template(True, "quota")), CREATED + 20)
    template = condition(later, "TemplateValid")
    assert (template["status"], template["lastTransitionTime"]) == ("False", stamp(CREATED + 20))
    running = condition(later, "Running")
    assert running["reason"] == "TemplateRefused"
    other = status(
        study(RUNNING, status=later, template=Template(True, "other words")), CREATED + 30
    )
    assert condition(other, "TemplateValid")["message"] == "other words"
    assert condition(other, "TemplateValid")["lastTransitionTime"] == stamp(CREATED + 20)
    assert condition(other, "Completed")["lastTransitionTime"] == stamp(CREATED + 10)


def test_a_study_that_ends_in_another_way_has_ended_anew() -> None:
    """As when its template is spoilt after it has completed: an alert looks how long ago it was."""
    completed = {"phase": "Completed", "observedGeneration": 1, "completionTime": stamp(CREATED)}
    same = status(study(DONE, status=completed), CREATED + 99)
    assert (same["phase"], same["completionTime"]) == ("Completed", stamp(CREATED))
    refused = study(DONE, status=completed, template=Template(True, "no", fatal=True))
    failed = status(replace(refused, generation=2), CREATED + 99)
    assert (failed["phase"], failed["completionTime"]) == ("Failed", stamp(CREATED + 99))


def test_a_condition_of_somebody_elses_is_let_alone() -> None:
    """Else two controllers would write one study without end."""
    theirs = {"type": "Synced", "status": "True", "reason": "Theirs", "message": "", "future": 1}
    first = status(study(RUNNING), CREATED + 10)
    first["conditions"].append(theirs)
    assert status(study(RUNNING, status=first), CREATED + 20) == first


def test_a_template_that_has_not_been_asked_about_yet_keeps_what_was_said() -> None:
    first = status(study(RUNNING), CREATED + 10)
    edited = status(study(RUNNING, status=first, template=Template()), CREATED + 20)
    assert condition(edited, "TemplateValid") == condition(first, "TemplateValid")


def test_nothing_changes_by_the_mere_passing_of_time() -> None:
    open_run = trial(1, PHASE.RUNNING, run(started_at=stamp(CREATED)), job=JobState.PRESENT)
    for found in (study(DONE, open_run), study(DONE, open_run, spec=SUSPENDED)):
        first = status(found, CREATED + 10)
        assert status(replace(found, status=first), CREATED + 999) == first


def test_a_study_that_has_ended_stays_so_whatever_a_late_view_shows_of_its_trials() -> None:
    late = study(RUNNING, status={"phase": "Completed", "observedGeneration": 1})
    assert status(late)["phase"] == "Completed"
    edited = study(RUNNING, status={"phase": "Completed", "observedGeneration": 0})
    assert status(edited)["phase"] == "InitialDesign"
