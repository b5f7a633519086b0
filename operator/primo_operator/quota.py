"""What the API server says of a ResourceQuota that an object would exceed."""

import re
from collections.abc import Mapping
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

_EXCEEDED = re.compile(
    r"exceeded quota: [^,]+, requested: (?P<requested>\S+), used: \S+, limited: (?P<limited>\S+)"
)


def has_room_later(message: str) -> bool:
    """Whether a quota is full now, and would have room for this if nothing else were there."""
    if "exceeded quota" not in message:
        return False
    said = _EXCEEDED.search(message)
    if said is None:
        return True
    try:
        requested, limited = _amounts(said["requested"]), _amounts(said["limited"])
    except ValueError:
        return True
    return all(amount <= limited.get(name, amount) for name, amount in requested.items())


def _amounts(text: str) -> Mapping[str, Decimal]:
    """Of `requests.cpu=2,pods=1`."""
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {name: parse_quantity(amount) for name, _, amount in pairs}
