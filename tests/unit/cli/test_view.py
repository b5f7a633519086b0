"""What a terminal shows of a study."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from primo_cli.picture import best_so_far, save_front
from primo_cli.view import front_table, last_words, one_line, study_view

SPEC = {
    "objectives": [{"name": "error"}, {"name": "cost"}],
    "parameters": [{"name": "optimizer"}, {"name": "momentum"}],
    "budget": {"trials": 36},
}


def study(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "digits"}, "spec": SPEC, "status": status}


def trial(number: int, error: float, *, feasible: bool = True, **parameters: Any) -> dict[str, Any]:
    seen = {"values": {"error": error, "cost": 1.0}, "feasible": feasible}
    return {
        "spec": {"number": number, "parameters": parameters},
        "status": {"phase": "Completed", "observations": [seen]},
    }


def entry(number: int, error: float) -> dict[str, Any]:
    return {"trial": number, "values": {"error": error, "cost": 1.0}}


WIDE = Console(width=120)


def shown(what: RenderableType, console: Console = WIDE) -> str:
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def front_shown(
    study: dict[str, Any], trials: list[dict[str, Any]], console: Console = WIDE
) -> str:
    return shown(front_table(study, trials, console), console)


TRIALS = [
    trial(0, 0.1, optimizer="adam"),
    trial(1, 0.2, optimizer="sgd", momentum=0.9),
    trial(2, 0.05, feasible=False, optimizer="adam"),
]


def test_what_a_trial_does_not_have_is_a_dash() -> None:
    lines = front_shown(study(front=[entry(0, 0.1), entry(1, 0.2)]), TRIALS).splitlines()
    assert [word for word in lines[4].split() if word.isalnum() or word == "-"][-2:] == [
        "adam",
        "-",
    ]
    assert "sgd" in lines[5]
    assert "0.9" in lines[5]


def test_parameters_that_do_not_fit_side_by_side_share_a_column() -> None:
    parameters = {f"parameter-{i}": 0.12345 + i for i in range(8)}
    crowded = study(front=[entry(0, 0.123456)])
    crowded["spec"] = {**SPEC, "parameters": [{"name": name} for name in parameters]}
    text = front_shown(crowded, [trial(0, 0.123456, **parameters)], Console(width=80))
    assert "0.1235" in text
    assert all(f"{name}={value:.4g}" in text for name, value in parameters.items())


def test_the_preferred_trial_is_named() -> None:
    found = study(front=[entry(0, 0.1), entry(1, 0.2)], preferred=entry(1, 0.2))
    assert "preferred: 1" in front_shown(found, TRIALS)


def test_why_there_is_no_front() -> None:
    assert "no trial has been observed" in front_shown(study(), [])
    words = front_shown(study(frontSize=0, infeasible=3), TRIALS)
    assert "none of 3 trials at full fidelity keeps the constraints" in words


def test_infeasible_trials_and_a_warm_start_that_failed_are_told_while_it_runs() -> None:
    conditions = [
        {"type": "WarmStarted", "status": "False", "message": "nowhere: there is no such study"},
        {"type": "Completed", "status": "False", "message": "not yet"},
    ]
    text = shown(study_view(study(frontSize=2, infeasible=1, conditions=conditions), TRIALS, 3.0))
    assert "2 trade-offs, 1 infeasible" in text
    assert "nowhere: there is no such study" in text
    assert "not yet" not in text


def in_phase(number: int, phase: str, **status: str) -> dict[str, Any]:
    return {
        "spec": {"number": number, "parameters": {}},
        "status": {"phase": phase, **status},
    }


def test_failures_are_counted_by_reason_with_what_the_latest_says() -> None:
    failed = [
        in_phase(3, "Failed", reason="Failed", message="exit code 1: Traceback"),
        in_phase(4, "Failed", reason="OutOfMemory"),
        in_phase(5, "Failed", reason="Failed", message="exit code 2: no file trian.py"),
    ]
    text = shown(study_view(study(), [*TRIALS, *failed], 3.0))
    assert "2 Failed, the latest: exit code 2: no file trian.py" in text
    assert "1 OutOfMemory, the latest: no message" in text


def test_of_a_traceback_the_table_has_the_last_line_and_the_end_all_of_them() -> None:
    message = "exit code 1 (Error): Traceback:\n  File x, line 4\nKeyError: 'lr'\n"
    text = shown(study_view(study(), [in_phase(3, "Failed", reason="Failed", message=message)], 1))
    assert "1 Failed, the latest: KeyError: 'lr'" in text
    ended = {"type": "Failed", "reason": "TooManyFailures", "message": message}
    words = last_words({"status": {"phase": "Failed", "conditions": [ended]}})
    lines = ["Traceback:", "    File x, line 4", "  KeyError: 'lr'"]
    assert words.plain == f"Failed: TooManyFailures: exit code 1 (Error): {chr(10).join(lines)}"


NO_CLAIM = '0/1 nodes are available: persistentvolumeclaim "nope" not found.'


def test_what_queued_trials_wait_for_is_told() -> None:
    queued = [
        in_phase(number, "Queued", reason="Unschedulable", message=NO_CLAIM) for number in (3, 4)
    ]
    assert f"2 Unschedulable: {NO_CLAIM}" in shown(study_view(study(), queued, 3.0))
    assert one_line(study(), queued) == f"Pending, trials 0, waiting: Unschedulable: {NO_CLAIM}"


def test_a_log_does_not_tell_of_trials_that_wait_for_others() -> None:
    queued = in_phase(4, "Queued", reason="Unschedulable", message="Insufficient nvidia.com/gpu.")
    assert one_line(study(), [in_phase(3, "Running"), queued]) == "Pending, trials 0"


def test_a_picture_is_drawn_with_and_without_infeasible_trials(tmp_path: Path) -> None:
    found = study(front=[entry(0, 0.1)])
    for trials in (TRIALS[:2], TRIALS):
        path = tmp_path / f"{len(trials)}.png"
        save_front(found, trials, path)
        assert path.stat().st_size > 1000


def test_rungs_are_shown_of_a_study_that_has_some() -> None:
    ladder = {"name": "epochs", "min": 1, "max": 3}
    climbed = {**study(), "spec": {**SPEC, "fidelity": ladder}}
    seen = [{"fidelity": f, "values": {"error": 0.1, "cost": 1.0}} for f in (1, 3)]
    trials = [{**TRIALS[0], "status": {"phase": "Completed", "observations": seen}}]
    assert "1 at 1, 1 at 3" in shown(study_view(climbed, trials, 1.0))
    assert "rungs" not in shown(study_view(study(), TRIALS, 1.0))


def test_what_promotions_spend_is_shown_where_it_is_limited() -> None:
    spent = study(progress="9/36", budgetUsed={"trials": 9, "fullEvaluations": 10 / 3})
    assert one_line(spent, []) == "Pending, trials 9/36"
    budget = {"trials": 36, "fullEvaluations": 20, "gpuHours": 1.5}
    limited = {**spent, "spec": {**SPEC, "budget": budget}}
    words = "full evaluations 3.333/20, GPU-hours 0/1.5"
    assert one_line(limited, []) == f"Pending, trials 9/36, {words}"
    assert words in shown(study_view(limited, [], 1.0))
    assert "spent" not in shown(study_view(spent, [], 1.0))


def with_one_objective(found: dict[str, Any], goal: str = "Minimize") -> dict[str, Any]:
    return {**found, "spec": {**SPEC, "objectives": [{"name": "error", "goal": goal}]}}


def test_of_a_single_objective_the_best_is_told_and_no_front() -> None:
    best = {"error": {"trial": 0, "value": 0.1}}
    found = study(front=[entry(0, 0.1)], frontSize=1, best=best, hypervolumeText="2")
    found = with_one_objective(found)
    assert one_line(found, []) == "Pending, trials 0, best 0.1, hypervolume 2"
    text = shown(study_view(found, [], 1.0)) + front_shown(found, TRIALS)
    assert "best         0.1" in text
    assert "Best" in text
    assert "front" not in text.lower()


@pytest.mark.parametrize(("goal", "best"), [("Minimize", [3, 2, 2]), ("Maximize", [3, 3, 5])])
def test_the_best_so_far_is_of_feasible_trials_at_full_fidelity(
    goal: str, best: list[float]
) -> None:
    paused = trial(3, 9.0 if goal == "Maximize" else 1.0)
    paused["status"]["phase"] = "Paused"
    trials = [trial(0, 3), trial(1, 2), trial(2, 9, feasible=False), paused, trial(4, 5)]
    trials.append({"spec": {"number": 5, "parameters": {}}})
    assert best_so_far({"name": "error", "goal": goal}, trials) == ([0, 1, 4], best)


def test_a_picture_of_a_single_objective_is_drawn(tmp_path: Path) -> None:
    save_front(with_one_objective(study(front=[entry(0, 0.1)])), TRIALS, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000
