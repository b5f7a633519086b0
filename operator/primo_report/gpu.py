"""The energy that this process's GPUs have spent, from the counters that they keep (NVML)."""

import os
import sys
from typing import Any, Final, Protocol

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


class GpuUnavailableError(RuntimeError):
    """The energy cannot be told; the message says why."""


class Nvml(Protocol):
    """What is used of the module `pynvml`, which the package nvidia-ml-py holds."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any: ...
    def nvmlDeviceGetMigMode(self, handle: Any) -> Any: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int: ...


class GpuMeter:
    """Counts from the moment it is made."""

    def __init__(self, nvml: Nvml, visible: str | None = None) -> None:
        """Read the counters for the first time.

        Args:
            nvml: the module `pynvml`.
            visible: in the form of CUDA_VISIBLE_DEVICES; None is all that NVML shows, which in a
                container are the pod's.

        Raises:
            GpuUnavailableError: there is no GPU, or one that does not count for this process alone.
        """
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            self._handles = _handles(nvml, visible)
            shared = [handle for handle in self._handles if _is_divided(nvml, handle)]
            self._start_mj = self._read_mj()
        except nvml.NVMLError as error:
            raise GpuUnavailableError(str(error)) from None
        if not self._handles:
            raise GpuUnavailableError("there is no GPU")
        if shared:
            raise GpuUnavailableError("the GPU is divided (MIG), and counts for all its parts")

    def joules(self) -> float:
        """Since the beginning, all GPUs together.

        Raises:
            GpuUnavailableError: a counter cannot be read any more, or began anew.
        """
        try:
            spent_mj = [
                now - start for now, start in zip(self._read_mj(), self._start_mj, strict=True)
            ]
        except self._nvml.NVMLError as error:
            raise GpuUnavailableError(str(error)) from None
        if min(spent_mj) < 0:
            raise GpuUnavailableError("a counter began anew")
        return sum(spent_mj) / 1000

    def _read_mj(self) -> list[int]:
        return [self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles]


def gpu_energy() -> float | None:
    """Joules that this process's GPUs have spent since the first call, which begins at 0.

    None where that cannot be told: without nvidia-ml-py, without a GPU, on a GPU that keeps no
    count or is divided. The reason then goes to the standard error output, once.
    """
    global _meter
    try:
        if _meter is None:
            _meter = GpuMeter(_load(), os.environ.get(_VISIBLE))
        return _meter.joules()
    except GpuUnavailableError as error:
        if str(error) not in _said:
            _said.add(str(error))
            sys.stderr.write(f"primo_report: no GPU energy: {error}\n")
        return None


def _load() -> Nvml:
    try:
        import pynvml
    except ImportError:
        raise GpuUnavailableError("nvidia-ml-py is not installed") from None
    module: Nvml = pynvml
    return module


def _handles(nvml: Nvml, visible: str | None) -> list[Any]:
    if visible is None:
        return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return [_handle(nvml, word.strip()) for word in visible.split(",") if word.strip() != ""]


def _handle(nvml: Nvml, word: str) -> Any:
    if word.isascii() and word.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(word))
    if word.startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(word)
    raise GpuUnavailableError(f"{_VISIBLE}: {word!r} is not the number or UUID of a whole GPU")


def _is_divided(nvml: Nvml, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        return False  # it cannot be divided
    return bool(current)


_meter: GpuMeter | None = None
_said: Final[set[str]] = set()
