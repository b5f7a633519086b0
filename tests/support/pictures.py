"""Pictures of the dashboards, for people who have no Grafana at hand: `make pictures`.

The example study runs as by `primo run --prometheus`, and the dashboards' queries are asked at its
end. What is drawn of the answers is an approximation, and says so.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from primo_cli.prometheus import find_binary
from primo_cli.run import read
from primo_cli.session import local_session
from support import drawing
from support.chart import ROOT
from support.dashboards import answer, targets
from support.prometheus import asked
from support.waiting import eventually

EXAMPLE = ROOT / "images" / "example-trial"
IMAGES = ROOT / "docs" / "images"
VALUES = {
    "job": "primo-operator",
    "namespace": "default",
    "operator_namespace": ".*",
    "study": "digits",
    "objective_x": "cost",
    "objective_y": "error",
    "trial": ".*",
    "metric": "val_error",
    "__rate_interval": "20s",
}
LIMIT_S = 1800.0


def collected(folder: Path) -> dict[str, Any]:
    """The answers to all queries, by dashboard, panel and letter, after a whole study."""
    since = time.time()  # noqa: TID251
    with local_session(folder, "default", 2, EXAMPLE, find_binary(None)) as session:
        assert session.prometheus
        url = session.prometheus.url
        for manifest in read(EXAMPLE / "study.yaml"):
            session.kube.apply(manifest, "default")

        def over() -> bool:
            session.tend()
            ended = 'primo_study_phase{study="digits",phase="Completed"} == 1'
            return bool(asked(url, "query", query=ended))

        eventually(over, "the study ends", LIMIT_S)
        took_s = math.ceil(time.time() - since)  # noqa: TID251
        values = {**VALUES, "__range": f"{took_s}s"}
        step_s = math.ceil(took_s / 300)
        return {str(each): answer(url, each, values, since, step_s) for each in targets()}


def main() -> int:
    """With a file as argument the answers are kept in it, and taken from it if it is there."""
    kept = Path(sys.argv[1]) if sys.argv[1:] else None
    if kept and kept.exists():
        answers = json.loads(kept.read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            answers = collected(Path(folder))
        if kept:
            kept.write_text(json.dumps(answers))
    IMAGES.mkdir(exist_ok=True)
    for picture, (name, headings) in drawing.PICTURES.items():
        drawing.draw(name, headings, answers, VALUES, IMAGES / f"dashboard-{picture}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
