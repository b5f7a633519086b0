"""A trial that knows nothing of its study and writes event files, as untouched training code does.

python tensorboard_trial.py X FOLDER
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from support.events import append, scalar

x, folder = float(sys.argv[1]), Path(sys.argv[2])
for epoch in range(1, 4):
    append(folder / "version_0", scalar(epoch, "error", x / epoch), scalar(epoch, "cost", 1 - x))
