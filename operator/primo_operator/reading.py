"""A trial's object -> its record, as it was written; and what its user asks of it."""

import sys
from collections.abc import Mapping
from typing import Any

from primo_operator import names
from primo_operator.cluster import Object
from primo_study.phases import TrialPhase
from primo_study.study import Reported, Run, Seen, TrialRecord, epoch

MAX_RETRY_WORD = 63
MAX_REASON = 500
MAX_NAME = 253
NEVER = "1970-01-01T00:00:00Z"
OBSERVED = (TrialPhase.PAUSED, TrialPhase.COMPLETED)
NOTHING: Mapping[str, Any] = {}


def read_trial(obj: Object, study_uid: str) -> TrialRecord:
    """The record that a trial's object holds; evidence about it is not looked for."""
    given, status = obj["spec"], obj.get("status") or {}
    # A trial without runs has been made for its first one, and that is all; what its status may
    # say is from before it had its number.
    if not status.get("runs"):
        status = {}
    # Users may name a trial of theirs as they like: its Jobs are named by its number.
    stem = names.trial(given["study"], study_uid, given["number"])
    first = Run(names.job(stem, 0, 0), rung=0, attempt=0, fidelity=given.get("fidelity"))
    runs = tuple(_run(run, stem) for run in status.get("runs") or ()) or (first,)
    phase = TrialPhase(status.get("phase") or TrialPhase.QUEUED)
    if phase in OBSERVED and not status.get("observations"):
        phase = TrialPhase.FAILED  # we never write that: somebody else has
    return TrialRecord(
        number=given["number"],
        name=obj["metadata"]["name"],
        configuration=_shared(given["parameters"]),
        phase=phase,
        runs=runs,
        observations=tuple(_seen(o) for o in status.get("observations") or ()),
        reason=_word(status.get("reason")),
        message=status.get("message"),
        explanation=_shared(given.get("suggestion")),
        stop=_to_stop(obj),
        retry=(_annotation(obj, names.RETRY_ANNOTATION) or "")[:MAX_RETRY_WORD] or None,
        retried=status.get("retried"),
    )


def _job(name: str, stem: str) -> str:
    """Whoever may write a trial's status cannot have us read or delete other Jobs by it."""
    ours = name.startswith(f"{stem}-") and names.LABEL.fullmatch(name)
    return name if ours else names.job(stem, 0, 0)


def _annotation(obj: Object, name: str) -> str | None:
    return (obj["metadata"].get("annotations") or {}).get(name)


def _to_stop(obj: Object) -> str | None:
    """Why the user wants the trial to be stopped; None if she does not."""
    value = _annotation(obj, names.STOP_ANNOTATION)
    if value is None or value.lower() in ("", "false"):
        return None
    return "stopped by its user" + ("" if value.lower() == "true" else f": {_plain(value)}")


def _plain(text: str) -> str:
    """It ends in conditions and Events, and so in somebody's terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:MAX_REASON])


def _run(run: Mapping[str, Any], stem: str) -> Run:
    return Run(
        job=_job(run["job"], stem),
        rung=run["rung"],
        attempt=run["attempt"],
        fidelity=run.get("fidelity"),
        resume_from=run.get("resumeFrom"),
        started_at=_time(run.get("startedAt")),
        finished_at=_time(run.get("finishedAt")),
        reason=_word(run.get("reason")),
        message=run.get("message"),
        template=_word(run.get("template")),
        gpus=run.get("gpus"),
        reported=_reported(run["reported"]) if run.get("reported") else None,
        asked=run.get("asked") is True,
    )


def _reported(reported: Mapping[str, Any]) -> Reported | None:
    """None of what nobody has reported: it would be asked about, and cannot be."""
    pod = reported["pod"]
    known = len(pod) <= MAX_NAME and names.SUBDOMAIN.fullmatch(pod)
    if not known or _time(reported["endedAt"]) is None:
        return None
    return Reported(
        pod=reported["pod"],
        ended_at=reported["endedAt"],
        values=reported.get("values") or {},
        constrained=reported.get("constrained") or {},
        feasible=reported.get("feasible"),
        step=reported.get("step"),
    )


def _seen(observation: Mapping[str, Any]) -> Seen:
    return Seen(
        fidelity=observation.get("fidelity"),
        values=_shared(observation["values"]),
        observed_at=_time(observation["observedAt"]) or NEVER,
        step=observation.get("step"),
        constrained=_shared(observation.get("constrained")),
        feasible=observation.get("feasible"),
    )


def _time(value: Any) -> str | None:
    """None of what is none: the API server lets some through, of the year 0 say."""
    try:
        epoch(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return sys.intern(value)


# --- ten thousand trials have the same names and words: each is kept once


def _shared(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {sys.intern(name): _word(value) for name, value in given.items()} if given else NOTHING


def _word(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value
