"""Events, few and short: the first of a kind about an object are shown, then one now and then.

An API server keeps Events for an hour, and each is an object: a study of a thousand trials would
fill it with what its trials say themselves. What is left out is counted in the next one shown.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from primo_operator import names
from primo_operator.cluster import Notice, Object

BURST = 20
ONE_EVERY_S = 60.0
# Of so many kinds about objects the longest unheard is forgotten: then it may speak at once again.
REMEMBERED = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    left_out: int = 0


@dataclass(slots=True)
class Throttle:
    """A bucket of tokens for each object and reason."""

    _buckets: OrderedDict[tuple[str, str], _Bucket] = field(default_factory=OrderedDict)

    def admit(self, notice: Notice, now: float) -> Notice | None:
        """The notice as it is to be shown; None if it is left out.

        Args:
            now: seconds of a clock that never goes back.
        """
        key = (notice.about["metadata"]["uid"], notice.reason)
        bucket = self._buckets.setdefault(key, _Bucket(BURST, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        refilled = bucket.tokens + (now - bucket.filled_at) / ONE_EVERY_S
        bucket.tokens, bucket.filled_at = min(refilled, BURST), now
        if bucket.tokens < 1:
            bucket.left_out += 1
            return None
        bucket.tokens -= 1
        more, bucket.left_out = bucket.left_out, 0
        return replace(notice, message=f"{notice.message} (and {more} more)") if more else notice


def event(notice: Notice, stamp: str) -> Object:
    """The object that is posted."""
    metadata = notice.about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": notice.about["apiVersion"],
            "kind": notice.about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "reason": notice.reason,
        "message": notice.message[:1024],
        "type": "Warning" if notice.warning else "Normal",
        "count": 1,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "source": {"component": names.MANAGER},
        "reportingComponent": names.MANAGER,
        "reportingInstance": names.MANAGER,
    }


def one_line(message: str | None) -> str:
    """Of a traceback the last line, which says most; the trial has the others."""
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    if len(lines) < 2:
        return "".join(lines)
    return f"{lines[0].partition(': ')[0]}: {lines[-1]}"
