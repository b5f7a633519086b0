"""`python -m dashboards`: write the dashboards into the chart, as `make dashboards` does."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import health, studies, study

FOLDER = Path(__file__).parents[1] / "primo-operator" / "files" / "dashboards"
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "studies": studies.build,
    "study": study.build,
    "operator": health.build,
}


def rendered(name: str) -> str:
    """The text of a dashboard's file."""
    return JSONEncoder(indent=1, ensure_ascii=False).encode(DASHBOARDS[name]().build()) + "\n"


def main() -> int:
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(rendered(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
