"""Builders: a test names what matters, the rest is as usual."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from primo_operator import names
from primo_study.blocks import Block
from primo_study.phases import TrialPhase
from primo_study.spec import StudySpec, parse
from primo_study.study import Evidence, JobState, Run, Seen, Study, Template, TrialRecord

CREATED = 1_800_000_000.0


def spec_dict(**fields: Any) -> dict[str, Any]:
    """The spec of a study as JSON; a field given as None is left out."""
    spec: dict[str, Any] = {
        "objectives": [
            {"name": "error", "goal": "Minimize", "metric": "val_error"},
            {"name": "cost", "goal": "Minimize", "metric": "kmacs"},
        ],
        "parameters": [{"name": "lr", "float": {"min": 0.001, "max": 0.1, "log": True}}],
        "fidelity": {"name": "epochs", "min": 1, "max": 9},
        "budget": {"trials": 10},
        "parallelism": 2,
        "trialTemplate": {
            "spec": {"template": {"spec": {"containers": [{"name": "train", "image": "i"}]}}}
        },
        **fields,
    }
    return {key: value for key, value in spec.items() if value is not None}


def spec(**fields: Any) -> StudySpec:
    return parse(spec_dict(**fields))


def run(rung: int = 0, attempt: int = 0, **fields: Any) -> Run:
    given = {"fidelity": 3.0**rung, **fields}
    return Run(job=f"job-r{rung}-a{attempt}", rung=rung, attempt=attempt, **given)


def ended(rung: int = 0, attempt: int = 0, reason: str = "Completed") -> Run:
    return run(rung, attempt, finished_at="2027-01-15T08:00:00Z", reason=reason)


def seen(fidelity: float | None = 9.0, error: float = 0.1, cost: float = 5.0) -> Seen:
    return Seen(fidelity, {"error": error, "cost": cost}, "2027-01-15T08:00:00Z")


def trial(
    number: int = 0,
    phase: TrialPhase = TrialPhase.QUEUED,
    *runs: Run,
    job: JobState = JobState.PRESENT,
    **fields: Any,
) -> TrialRecord:
    evidence = fields.pop("evidence", None) or Evidence(job=job, since=CREATED)
    return TrialRecord(
        number=number,
        name=f"digits-00000001-{number}",
        configuration={"lr": (10 + number) / 1000},
        phase=phase,
        runs=runs or (run(),),
        evidence=evidence,
        **fields,
    )


def study(*trials: TrialRecord, **fields: Any) -> Study:
    given = fields.pop("spec", None)
    return Study(
        namespace="team",
        name="digits",
        uid="00000001-0000",
        generation=1,
        created_at=CREATED,
        spec=given if given is not None else spec(),
        **of(trials),
        **{"template": Template(checked=True), **fields},
    )


def of(trials: Sequence[TrialRecord], size: int = 3) -> dict[str, Any]:
    """A study's trials as its fields; in small blocks, so that there are several."""
    ordered = sorted(trials, key=attrgetter("number"))
    by_place = groupby((t for t in ordered if t.at_rest), lambda t: t.number // size)
    return {
        "rest": tuple(Block(tuple(some)) for _, some in by_place),
        "moving": tuple(trial for trial in ordered if not trial.at_rest),
    }


def pod(
    code: int | None = 0,
    *,
    message: str = "",
    phase: str | None = None,
    sidecar_ended: bool = True,
    conditions: tuple[dict[str, Any], ...] = (),
    **end: Any,
) -> dict[str, Any]:
    """A pod whose main container ended with this code; None: it still runs."""
    main: dict[str, Any] = {"running": {}}
    if code is not None:
        main = {"terminated": {"exitCode": code, "finishedAt": "2027-01-15T08:00:00Z", **end}}
    ours: dict[str, Any] = {"running": {}}
    if sidecar_ended:
        ours = {"terminated": {"exitCode": 0, "message": message}}
    if phase is None:
        phase = "Running" if code is None else "Succeeded" if code == 0 else "Failed"
    return {
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2027-01-15T08:00:00Z"},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [{"name": "train", "state": main}],
            "initContainerStatuses": [{"name": names.SIDECAR, "state": ours}],
        },
    }


def waiting_pod(reason: str, message: str = "words", *, of: str = "train") -> dict[str, Any]:
    """A pod of which a container waits for this reason."""
    state = {"waiting": {"reason": reason, "message": message}}
    found = pod(None, phase="Pending", sidecar_ended=False)
    for which in ("containerStatuses", "initContainerStatuses"):
        for status in found["status"][which]:
            status["state"] = {"waiting": {"reason": "PodInitializing"}}
            if status["name"] == of:
                status["state"] = state
    return found


def condition(kind: str, reason: str = "", status: str = "True") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": f"{reason} words"}
