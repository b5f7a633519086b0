"""A pass that fails, and what its study says of it: the condition `Degraded`, and an Event.

The next pass that succeeds writes the status as it should be, and so takes it back.
"""

from datetime import UTC, datetime

from primo_operator.cluster import (
    Cluster,
    ClusterError,
    ForbiddenError,
    Notice,
    Object,
    OutdatedError,
    RefusedError,
    TooLargeError,
)
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.notices import one_line
from primo_operator.ports import Clock
from primo_study.phases import Obstacle
from primo_study.record import MAX_MESSAGE
from primo_study.study import Trouble


def obstacle(error: Exception) -> Trouble | None:
    """What somebody has to do something about; None if it is only to be tried again."""
    match error:
        case ForbiddenError():
            return Trouble(Obstacle.FORBIDDEN, _printable(error.message))
        case TooLargeError():
            return Trouble(Obstacle.OBJECT_TOO_LARGE, _printable(error.message))
        case RefusedError(status=400 | 403 | 422):
            return Trouble(Obstacle.REFUSED, _printable(error.message))
        case OutdatedError():
            return Trouble(Obstacle.CRD_OUTDATED, str(error))
        case ClusterError():
            return None
    words = _printable(one_line(f"{type(error).__name__}: {error}")[: MAX_MESSAGE // 2])
    return Trouble(Obstacle.INTERNAL_ERROR, f"{words}; the operator's log has more")


async def note_failure(
    cluster: Cluster, mirror: Mirror, key: Key, error: Exception, clock: Clock
) -> None:
    """Write it to the study, unless that says the same already, or a retry will do.

    Raises:
        ClusterError: it could not be written.
    """
    study, trouble = mirror.family(key).study, obstacle(error)
    if trouble is None or study is None or study["metadata"].get("deletionTimestamp"):
        return
    stamp = datetime.fromtimestamp(int(clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = study.get("status") or {}
    conditions = list(status.get("conditions") or ())
    old: Object = next((c for c in conditions if c["type"] == "Degraded"), {})
    new = {
        "type": "Degraded",
        "status": "True",
        "reason": trouble.reason,
        "message": trouble.message[:MAX_MESSAGE],
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == "True" else stamp,
        "observedGeneration": study["metadata"].get("generation") or 1,
    }
    if new == old:
        return
    # Before it is written: an Event may be shown though the study's status cannot be.
    cluster.notify(Notice(study, trouble.reason, trouble.message, warning=True))
    others = [c for c in conditions if c["type"] != "Degraded"]
    patch = {"phase": status.get("phase") or "Pending", "conditions": [*others, new]}
    version = study["metadata"]["resourceVersion"]
    written = await cluster.patch_study_status(key.namespace, key.name, patch, version)
    mirror.absorb(Kind.STUDY, written)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
