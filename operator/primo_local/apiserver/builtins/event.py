"""Events: one store, two resources: core/v1 as stored, events.k8s.io/v1 as a view of it."""

import datetime
from collections.abc import Sequence

from primo_local.apiserver.errors import Cause, invalid_value, required
from primo_local.apiserver.objects import Json, dig
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import Column, Columns, since

TTL_S = 3600

# events.k8s.io/v1 on the left, core/v1 on the right.
_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedCount": "count",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedSource": "source",
}
_RENAMED_BACK = {core: new for new, core in _RENAMED.items()}
_REFERENCE = ("apiVersion", "kind", "name", "namespace", "uid", "resourceVersion", "fieldPath")


def _columns(regarding: str, note: str, last: str) -> Columns:
    def last_seen(obj: Json, now: datetime.datetime) -> str:
        at = (
            dig(obj, "series", "lastObservedTime")
            or obj.get(last)
            or obj.get("eventTime")
            or obj["metadata"].get("creationTimestamp")
        )
        return since(at, now)

    def subject(obj: Json, _: datetime.datetime) -> str:
        about = obj.get(regarding) or {}
        return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"

    return (
        Column("Last Seen", last_seen),
        Column("Type", lambda obj, _: obj.get("type", "")),
        Column("Reason", lambda obj, _: obj.get("reason", "")),
        Column("Object", subject),
        Column("Message", lambda obj, _: str(obj.get(note, "")).strip()),
        Column("Name", lambda obj, _: obj["metadata"]["name"], priority=1, format="name"),
    )


class CoreEventStrategy(Strategy):
    model = "CoreV1Event"
    columns = _columns("involvedObject", "message", "lastTimestamp")
    selectable = (
        *(f"involvedObject.{field}" for field in _REFERENCE),
        "reason",
        "reportingComponent",
        "source",
        "type",
    )

    def validate(self, obj: Json) -> Sequence[Cause]:
        return _in_its_namespace(obj, "involvedObject")


class EventStrategy(Strategy):
    """The newer kind; its objects are stored as core/v1 ones."""

    model = "EventsV1Event"
    columns = _columns("regarding", "note", "deprecatedLastTimestamp")
    # Selectors look at what is stored.
    selectable = ("reason", "type", "reportingComponent")

    def to_storage(self, obj: Json) -> Json:
        renamed = {_RENAMED.get(field, field): value for field, value in obj.items()}
        return {**renamed, "apiVersion": "v1"}

    def from_storage(self, obj: Json) -> Json:
        renamed = {_RENAMED_BACK.get(field, field): value for field, value in obj.items()}
        return {**renamed, "apiVersion": "events.k8s.io/v1"}

    def validate(self, obj: Json) -> Sequence[Cause]:
        causes = list(_in_its_namespace(obj, "regarding"))
        for stored, field in (
            ("eventTime", "eventTime"),
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
            ("action", "action"),
            ("reason", "reason"),
        ):
            # What came in through core/v1 need not have them.
            if not obj.get(stored) and not obj.get("firstTimestamp"):
                causes.append(required(field))
        return causes


def _in_its_namespace(obj: Json, field: str) -> Sequence[Cause]:
    about = dig(obj, "involvedObject", "namespace") or "default"
    if about == obj["metadata"]["namespace"]:
        return ()
    return [invalid_value(f"{field}.namespace", about, "does not match event.namespace")]
