"""`python -m load run --out FILE`, `table FILE`, `check FILE`: load on the operator."""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from load import report
from load.place import Place
from load.scenarios import QUICK, SCENARIOS, Size


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m load", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure; one line of results for each scenario")
    run.add_argument("--scenarios", type=lambda text: text.split(","), default=list(SCENARIOS))
    run.add_argument("--quick", action="store_true", help="small sizes that end in two minutes")
    run.add_argument("--kubeconfig", type=Path, help="of a cluster; default: the local API server")
    run.add_argument("--label", default="", help="of this version, in the results")
    run.add_argument("--keep", type=Path, help="a folder for logs; default: none are kept")
    run.add_argument("--out", type=Path, required=True)
    for field in Size.__slots__:
        run.add_argument(f"--{field.replace('_', '-')}", type=float)
    run.set_defaults(command=_run)
    for name, command in (("table", _table), ("check", _check)):
        shows = commands.add_parser(name, help=f"{name} of results")
        shows.add_argument("file", type=Path)
        shows.set_defaults(command=command)
    given = parser.parse_args(arguments)
    # So that the processes that were started end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given.command(given)


def _run(given: argparse.Namespace) -> None:
    base = QUICK if given.quick else Size()
    sizes = {
        field: type(getattr(base, field))(value)
        if (value := getattr(given, field)) is not None
        else getattr(base, field)
        for field in Size.__slots__
    }
    size = Size(**sizes)
    for name in given.scenarios:
        begin = time.monotonic()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        figures = asyncio.run(_measure(name, size, given))
        took_s = round(time.monotonic() - begin, 1)
        line = {
            "scenario": name,
            "label": given.label,
            "size": sizes,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "took_s": took_s,
            "figures": figures,
        }
        with given.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{took_s} s", file=sys.stderr)


def _table(given: argparse.Namespace) -> None:
    print(report.table(report.read(given.file)))


def _check(given: argparse.Namespace) -> None:
    if found := list(report.broken(report.read(given.file))):
        sys.exit("\n".join(found))


async def _measure(name: str, size: Size, given: argparse.Namespace) -> object:
    folder = given.keep / name if given.keep else Path(tempfile.mkdtemp(prefix="primo-load-"))
    try:
        async with Place(folder, given.kubeconfig) as place:
            return await SCENARIOS[name](place, size)
    finally:
        if not given.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
