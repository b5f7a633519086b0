"""Grafana's transformations, run by Node, on what its Prometheus data source makes of an answer."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.dashboards import panel

NODE = shutil.which("node")
FOLDER = Path(__file__).parents[2] / ".tools" / "grafana"

needs_grafana = pytest.mark.skipif(
    NODE is None or not (FOLDER / "node_modules" / "@grafana" / "data").exists(),
    reason="no Node, or no @grafana/data: `make grafana` fetches it",
)

Columns = dict[str, list[Any]]
# Labels and value of each series; of each sample, where a query is over time.
Answer = Sequence[tuple[Mapping[str, str], float]]


def table(letter: str, answer: Answer, *, alone: bool, times: Sequence[int] | None = None) -> Any:
    """A frame of the format `table`: a column for each label, one for the value."""
    labels = sorted(answer[0][0]) if answer else []
    fields = [
        {"name": "Time", "type": "time", "values": list(times or [0] * len(answer))},
        *({"name": n, "type": "string", "values": [s[n] for s, _ in answer]} for n in labels),
        {
            "name": "Value" if alone else f"Value #{letter}",
            "type": "number",
            "values": [value for _, value in answer],
        },
    ]
    return {"refId": letter, "fields": fields}


def shown(dashboard: str, title: str, frames: Sequence[Any]) -> Columns:
    """What a panel gets to draw: the columns of its only frame."""
    assert NODE
    given = {"frames": frames, "transformations": panel(dashboard, title)["transformations"]}
    done = subprocess.run(
        [NODE, str(Path(__file__).with_name("transform.cjs")), str(FOLDER)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (frame,) = json.loads(done.stdout)
    return {field["name"]: field["values"] for field in frame}
