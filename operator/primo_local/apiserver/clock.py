"""The API server's time and the two spellings Kubernetes has for it."""

import datetime
from collections.abc import Callable

Clock = Callable[[], datetime.datetime]


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)  # noqa: TID251 an API server is where time comes from


def timestamp(at: datetime.datetime) -> str:
    """metav1.Time: whole seconds, always with Z."""
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(at: datetime.datetime) -> str:
    """metav1.MicroTime, as Leases and events.k8s.io have it."""
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> datetime.datetime:
    """Raises ValueError for anything but RFC 3339."""
    at = datetime.datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
