"""How many GPUs a pod holds, as its limits ask for them.

Extended resources have no common word for a GPU, so the names that device plugins give are known
here: `<vendor>/gpu`, also a shared one (`nvidia.com/gpu.shared`, which counts in full), Intel's
`gpu.intel.com/i915` and `xe`, and NVIDIA's MIG slices, `nvidia.com/mig-3g.20gb`, which count as so
many sevenths. Devices that a pod claims (dynamic resource allocation) do not show in its limits.
"""

import re
from collections.abc import Mapping
from typing import Any

_WHOLE = re.compile(r"[^/]+/gpu(\.shared)?|gpu\.intel\.com/(i915|xe)")
# Extended resources are whole, and of 64 bits; what else stands there the API server refuses.
_COUNT = re.compile(r"[0-9]{1,18}")
_SLICE = re.compile(r"nvidia\.com/mig-(?P<sevenths>[1-7])g\..+")


def gpus(pod_spec: Mapping[str, Any]) -> float:
    """What the pod holds: all its containers together, or an init container that asks for more."""
    mains = sum(_of(container) for container in _containers(pod_spec, "containers"))
    before = [_of(container) for container in _containers(pod_spec, "initContainers")]
    return round(max([mains, *before]), 6)


def _containers(pod_spec: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    found = pod_spec.get(field)
    return [c for c in found if isinstance(c, Mapping)] if isinstance(found, list) else []


def _of(container: Mapping[str, Any]) -> float:
    resources = container.get("resources")
    limits = resources.get("limits") if isinstance(resources, Mapping) else None
    if not isinstance(limits, Mapping):
        return 0.0
    return sum(_share(name) * _count(amount) for name, amount in limits.items())


def _share(resource: str) -> float:
    if _WHOLE.fullmatch(resource):
        return 1.0
    match = _SLICE.fullmatch(resource)
    return int(match["sevenths"]) / 7 if match else 0.0


def _count(amount: object) -> int:
    text = str(amount)
    return int(text) if _COUNT.fullmatch(text) else 0
