"""A trial that keeps a diary outside of the cluster: when a run began, and when it had done all."""

import os
import time
from pathlib import Path

from primo_report import fidelity, params, report

diary = Path(os.environ["DIARY"])
name = os.environ["HOSTNAME"]
epochs = int(fidelity() or 1)
x = float(params()["x"])


def note(what: str) -> None:
    with (diary / f"{name}.{os.getpid()}.{what}").open("x") as file:
        file.write(f"{os.environ['PRIMO_TRIAL']} {epochs}")
        file.flush()
        os.fsync(file.fileno())


note("began")
for epoch in range(1, epochs + 1):
    time.sleep(0.3 / epochs)  # the work
    report(step=epoch, fidelity=epoch, val_error=x / epoch, kmacs=1 - x)
note("done")
