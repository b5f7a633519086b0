"""Reporting from a trial's pod: what a training script imports, and the sidecar beside it."""

from primo_report.client import (
    checkpoint_dir,
    fidelity,
    params,
    report,
    resume_from,
    stop_on_sigterm,
)

__all__ = ["checkpoint_dir", "fidelity", "params", "report", "resume_from", "stop_on_sigterm"]
