"""A trial that goes on when Prometheus has seen its last step, and one of which crashes."""

import os
import signal
import sys
import time
from pathlib import Path

from primo_report import fidelity, params, report, resume_from

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
trial = os.environ["PRIMO_TRIAL"]
if trial == "1":
    raise ValueError("as one trial must")
x = float(params()["x"])
for epoch in range(int(resume_from() or 0), int(fidelity() or 1)):
    step = epoch + 1
    report(step=step, fidelity=step, val_error=x + 1 / step, kmacs=1.0 - x)
    seen = Path(os.environ["SEEN"]) / f"{trial}-{step}"
    while not seen.exists():
        time.sleep(0.05)
