"""Energy by the real NVML."""

import importlib
import time

import pytest
import torch

from primo_report.gpu import GpuMeter

# Of any board: less at rest than this is no measurement, more under load is none either.
WATTS = (5.0, 2000.0)


def meter(visible: str | None) -> GpuMeter:
    try:
        return GpuMeter(importlib.import_module("pynvml"), visible)
    except ImportError:
        pytest.skip("nvidia-ml-py is not installed")


def work_for(seconds: float) -> float:
    """Multiply matrices; how long it took."""
    a = torch.randn(4096, 4096, device="cuda")
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        a = torch.tanh(a @ a)
        torch.cuda.synchronize()
    return time.monotonic() - begin


@pytest.mark.parametrize("by", ["all", "number", "uuid"])
def test_work_costs_energy(by: str) -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    pynvml.nvmlInit()
    uuid = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0))
    counted = meter({"all": None, "number": "0", "uuid": uuid}[by])
    seconds = work_for(2.0)
    watts = counted.joules() / seconds
    assert WATTS[0] < watts < WATTS[1]


def test_more_work_costs_more() -> None:
    counted = meter(None)
    work_for(1.0)
    first = counted.joules()
    work_for(2.0)
    assert counted.joules() > first * 1.5
