"""A trial for tests: what it does is one of its parameters."""

import os
import signal
import sys
import time
from pathlib import Path

from primo_report import fidelity, params, report, resume_from

given = params()
mode = os.environ.get("MODE") or given.get("mode", "good")
if mode == "crash":
    raise ValueError("bad mode")
if mode == "silent":
    sys.exit(0)
if mode == "garbage":
    with Path(os.environ["PRIMO_REPORT_FILE"]).open("ab") as file:
        file.write(b"\xff\x00 no report\n")
    sys.exit(0)
if mode == "nan":
    report(val_error=float("nan"), kmacs=1.0)
    sys.exit(0)
if mode == "slow":
    # Ends at once when asked to, so that nothing waits for the grace period.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report(step=0, val_error=1.0, kmacs=1.0)
    while True:
        time.sleep(0.1)
marker = Path(given.get("marker", __file__))
if not marker.exists():
    # The first run says all that it was asked for, and is stopped before its end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report(step=99, fidelity=fidelity(), val_error=99, kmacs=99)
    marker.touch()
    while True:
        time.sleep(0.1)
while not Path(os.environ.get("GATE", __file__)).exists():
    time.sleep(0.05)
x = float(given["x"])
for epoch in range(int(resume_from() or 0), int(fidelity() or 1)):
    report(step=epoch + 1, fidelity=epoch + 1, val_error=x / (epoch + 1), kmacs=1.0 - x)
