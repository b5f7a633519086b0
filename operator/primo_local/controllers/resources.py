"""What a pod asks for, added up as the scheduler does, and what a node has left."""

from collections.abc import Iterable
from fractions import Fraction

from primo_local.apiserver.quantity import parse
from primo_local.client import Obj

Amounts = dict[str, Fraction]


def amounts(quantities: Obj | None) -> Amounts:
    return {name: parse(str(quantity)) for name, quantity in (quantities or {}).items()}


def add(left: Amounts, right: Amounts) -> Amounts:
    return {
        name: left.get(name, Fraction(0)) + right.get(name, Fraction(0)) for name in left | right
    }


def _larger(left: Amounts, right: Amounts) -> Amounts:
    zero = Fraction(0)
    return {name: max(left.get(name, zero), right.get(name, zero)) for name in left | right}


def requests_of_container(container: Obj) -> Amounts:
    """Its requests; a limit without a request is one."""
    resources = container.get("resources") or {}
    return amounts(resources.get("limits")) | amounts(resources.get("requests"))


def requests_of_pod(pod: Obj) -> Amounts:
    """The most that runs at once: sidecars stay, other init containers run one after another."""
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod["spec"].get("initContainers") or []:
        own = requests_of_container(container)
        if container.get("restartPolicy") == "Always":
            sidecars = add(sidecars, own)
            peak = _larger(peak, sidecars)
        else:
            peak = _larger(peak, add(sidecars, own))
    together = sidecars
    for container in pod["spec"]["containers"]:
        together = add(together, requests_of_container(container))
    wanted = add(_larger(peak, together), amounts(pod["spec"].get("overhead")))
    return {name: amount for name, amount in wanted.items() if amount} | {"pods": Fraction(1)}


def occupies(pod: Obj) -> bool:
    """Whether a pod that has a node still holds what it asked for."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def left_on(node: Obj, pods: Iterable[Obj]) -> Amounts:
    """What a node can still give, with these pods on it."""
    status = node.get("status") or {}
    left = amounts(status.get("allocatable") or status.get("capacity"))
    for pod in pods:
        for name, amount in requests_of_pod(pod).items():
            left[name] = left.get(name, Fraction(0)) - amount
    return left
