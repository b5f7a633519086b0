import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

import primo_report
from primo_report import gpu
from primo_report.gpu import GpuMeter, GpuUnavailableError


class FakeNvmlError(Exception):
    pass


@dataclass
class FakeGpu:
    energy_mj: int | None = 5_000_000  # since the driver was loaded
    divided: bool | None = None  # None: it cannot be


@dataclass
class FakeNvml:
    """The module `pynvml` over GPUs of which the test turns the counters."""

    gpus: list[FakeGpu]
    uuids: dict[str, FakeGpu] = field(default_factory=dict)
    driver: bool = True
    NVMLError: type[Exception] = FakeNvmlError

    def nvmlInit(self) -> None:
        if not self.driver:
            raise FakeNvmlError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if index >= len(self.gpus):
            raise FakeNvmlError("Invalid Argument")
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        return self.uuids[uuid]

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if handle.divided is None:
            raise FakeNvmlError("Not Supported")
        return [int(handle.divided), 0]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        if handle.energy_mj is None:
            raise FakeNvmlError("Not Supported")
        return handle.energy_mj


@pytest.fixture
def two() -> FakeNvml:
    gpus = [FakeGpu(5_000_000), FakeGpu(7_000_000, divided=False)]
    return FakeNvml(gpus, {"GPU-b": gpus[1]})


@pytest.mark.parametrize(
    ("visible", "joules"),
    [
        pytest.param(None, 1.5 + 30.0, id="all"),
        pytest.param("0", 1.5, id="the first"),
        pytest.param("1, 0", 31.5, id="both"),
        pytest.param("GPU-b", 30.0, id="by its UUID"),
    ],
)
def test_energy_is_counted_from_the_beginning_over_the_visible_gpus(
    visible: str | None, joules: float, two: FakeNvml
) -> None:
    meter = GpuMeter(two, visible)
    assert meter.joules() == 0
    two.gpus[0].energy_mj = 5_001_500
    two.gpus[1].energy_mj = 7_030_000
    assert meter.joules() == joules


@pytest.mark.parametrize(
    ("nvml", "visible", "reason"),
    [
        pytest.param(FakeNvml([], driver=False), None, "Library Not Found", id="no driver"),
        pytest.param(FakeNvml([]), None, "there is no GPU", id="no GPU"),
        pytest.param(FakeNvml([FakeGpu()]), "", "there is no GPU", id="none visible"),
        pytest.param(FakeNvml([FakeGpu()]), "-1", "'-1' is not the number or UUID", id="hidden"),
        pytest.param(FakeNvml([FakeGpu()]), "MIG-x", "of a whole GPU", id="a part"),
        pytest.param(FakeNvml([FakeGpu()]), "4", "Invalid Argument", id="one that is not there"),
        pytest.param(FakeNvml([FakeGpu(None)]), None, "Not Supported", id="without a counter"),
        pytest.param(FakeNvml([FakeGpu(divided=True)]), None, "is divided", id="divided"),
    ],
)
def test_what_cannot_be_told_has_its_reason(
    nvml: FakeNvml, visible: str | None, reason: str
) -> None:
    with pytest.raises(GpuUnavailableError, match=reason):
        GpuMeter(nvml, visible)


def test_a_counter_that_began_anew_gives_no_value(two: FakeNvml) -> None:
    meter = GpuMeter(two)
    two.gpus[0].energy_mj = 0
    with pytest.raises(GpuUnavailableError, match="began anew"):
        meter.joules()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeNvml | None], None]:
    monkeypatch.setattr(gpu, "_meter", None)
    monkeypatch.setattr(gpu, "_said", set())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda nvml: monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_a_script_asks_at_its_beginning_and_at_its_end(
    two: FakeNvml, installed: Callable[[FakeNvml | None], None]
) -> None:
    installed(two)
    assert primo_report.gpu_energy() == 0
    two.gpus[0].energy_mj = 5_250_000
    assert primo_report.gpu_energy() == 250


@pytest.mark.parametrize(
    ("nvml", "words"),
    [
        pytest.param(None, "nvidia-ml-py is not installed", id="not installed"),
        pytest.param(FakeNvml([]), "there is no GPU", id="no GPU"),
    ],
)
def test_without_a_count_there_is_no_value_and_one_line_that_says_why(
    nvml: FakeNvml | None,
    words: str,
    installed: Callable[[FakeNvml | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed(nvml)
    assert primo_report.gpu_energy() is None
    assert primo_report.gpu_energy() is None
    assert capsys.readouterr().err == f"primo_report: no GPU energy: {words}\n"
