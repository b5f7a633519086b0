"""A pass that fails by a bug of ours: the study's condition `Degraded` says so.

The next pass that succeeds writes the status as it should be, and so takes it back.
"""

from datetime import UTC, datetime

from primo_operator.cluster import Cluster, Object
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.notices import one_line
from primo_operator.ports import Clock
from primo_study.record import MAX_MESSAGE


async def note_failure(
    cluster: Cluster, mirror: Mirror, key: Key, error: Exception, clock: Clock
) -> None:
    """Write it to the study, unless that says the same already.

    Raises:
        ClusterError: it could not be written.
    """
    study = mirror.family(key).study
    if study is None or study["metadata"].get("deletionTimestamp"):
        return
    words = one_line(f"{type(error).__name__}: {error}")[: MAX_MESSAGE // 2]
    words = "".join(c if c.isprintable() else "\ufffd" for c in words)
    stamp = datetime.fromtimestamp(int(clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = study.get("status") or {}
    conditions = list(status.get("conditions") or ())
    old: Object = next((c for c in conditions if c["type"] == "Degraded"), {})
    new = {
        "type": "Degraded",
        "status": "True",
        "reason": "InternalError",
        "message": f"{words}; the operator's log has more",
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == "True" else stamp,
        "observedGeneration": study["metadata"].get("generation") or 1,
    }
    if new == old:
        return
    others = [c for c in conditions if c["type"] != "Degraded"]
    patch = {"phase": status.get("phase") or "Pending", "conditions": [*others, new]}
    version = study["metadata"]["resourceVersion"]
    written = await cluster.patch_study_status(key.namespace, key.name, patch, version)
    mirror.absorb(Kind.STUDY, written)
