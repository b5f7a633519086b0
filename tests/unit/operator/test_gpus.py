"""What counts as a GPU."""

from typing import Any

import pytest

from primo_operator.gpus import gpus


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param({"nvidia.com/gpu": 1}, 1, id="NVIDIA"),
        pytest.param({"nvidia.com/gpu": "8"}, 8, id="a quantity as text"),
        pytest.param({"amd.com/gpu": 2}, 2, id="AMD"),
        pytest.param({"gpu.intel.com/i915": 1}, 1, id="Intel"),
        pytest.param({"example.org/gpu": 1}, 1, id="any vendor's"),
        pytest.param({"nvidia.com/gpu.shared": 1}, 1, id="a shared one"),
        pytest.param({"nvidia.com/mig-3g.20gb": 1}, 3 / 7, id="a MIG slice"),
        pytest.param({"nvidia.com/mig-1g.10gb": 2}, 2 / 7, id="two MIG slices"),
        pytest.param({"nvidia.com/gpu": 1, "memory": "8Gi", "cpu": 4}, 1, id="not memory"),
        pytest.param({"example.org/gpumem": 1000}, 0, id="not what is only named alike"),
        pytest.param({"nvidia.com/gpu": "1.5"}, 0, id="what the API server refuses"),
        pytest.param({"nvidia.com/gpu": "9" * 400}, 0, id="nor so many"),
        pytest.param({}, 0, id="none"),
    ],
)
def test_a_limit(limits: dict[str, Any], expected: float) -> None:
    found = gpus({"containers": [{"name": "c", "resources": {"limits": limits}}]})
    assert found == pytest.approx(expected, abs=1e-6)


def test_containers_add_up_and_init_containers_come_before() -> None:
    one, two, four = ({"resources": {"limits": {"nvidia.com/gpu": n}}} for n in (1, 2, 4))
    assert gpus({"containers": [one, two]}) == 3
    assert gpus({"containers": [one, two], "initContainers": [four, one]}) == 4
    assert gpus({"containers": [four], "initContainers": [one]}) == 4


def test_a_request_without_a_limit_is_no_gpu() -> None:
    assert gpus({"containers": [{"resources": {"requests": {"nvidia.com/gpu": 1}}}]}) == 0
    assert gpus({"containers": [{"name": "c"}]}) == 0
