"""Reporting from a trial's pod: what a training script imports, and the sidecar beside it."""

from primo_report.client import (
    checkpoint_dir,
    fidelity,
    params,
    report,
    resume_from,
    stop_on_sigterm,
)
from primo_report.gpu import gpu_energy

__all__ = [
    "checkpoint_dir",
    "fidelity",
    "gpu_energy",
    "params",
    "report",
    "resume_from",
    "stop_on_sigterm",
]
