"""Benchmarks of the optimizer: `python benchmarks/run.py --help`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before numpy comes in: one thread for each process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).parent
# Ends in minutes.
QUICK = {
    "problems": ["lcbench-126026", "lcbench-168330", "mixed-toy"],
    "priors": ["good-good", "bad-bad", "none"],
    "seeds": [100, 101],
}


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    if not (given.data / "lcbench" / "model.onnx").exists():
        sys.exit(f"--data {given.data}: there is no lcbench/model.onnx in it, see README.md")
    given.command(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    commands = parser.add_subparsers(required=True)

    search = commands.add_parser("search", help="run optimizers on problems, adding to a file")
    search.add_argument("--optimizer", type=_words, required=True)
    search.add_argument("--problems", type=_words, help="names and groups; by default all")
    search.add_argument("--priors", type=_words, help="by default all settings")
    search.add_argument("--workers", type=_numbers, default=[1])
    search.add_argument("--seeds", type=_numbers, help="such as 100-109, the default")
    search.add_argument("--quick", action="store_true", help="defaults that end in minutes")
    search.add_argument("--jobs", type=int, default=2)
    search.add_argument("--settings", type=json.loads, default={}, help="of the algorithm, JSON")
    search.add_argument("--label", help="what to call the optimizer in the results")
    search.add_argument("--out", type=Path, required=True)
    search.set_defaults(command=_search)

    table = commands.add_parser("table", help="means and standard errors of results")
    table.add_argument("files", type=Path, nargs="+")
    table.add_argument("--pair", nargs=2, metavar="LABEL", help="differences of these two")
    table.set_defaults(command=_table)

    plot = commands.add_parser("plot", help="pictures of results")
    plot.add_argument("files", type=Path, nargs="+")
    plot.add_argument("--out", type=Path, required=True, help="a folder")
    plot.set_defaults(command=_plot)

    speed = commands.add_parser("speed", help="seconds of a suggestion, adding to a file")
    speed.add_argument("--optimizer", type=_words, required=True)
    speed.add_argument("--observations", type=_numbers, default=[10, 30, 100, 300, 1000])
    speed.add_argument("--objectives", type=_numbers, default=[2, 3])
    speed.add_argument("--out", type=Path, required=True)
    speed.set_defaults(command=_speed)

    yardstick = commands.add_parser("yardstick", help="compute what a problem is measured by")
    yardstick.add_argument("--problems", type=_words, required=True)
    yardstick.set_defaults(command=_yardstick)

    chance = commands.add_parser("chance", help="what so many trainings at random come to")
    chance.add_argument("--problems", type=_words, default=["lcbench", "pd1"])
    chance.set_defaults(command=_chance)
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    """`0-2,7` as 0, 1, 2, 7."""
    ranges = [part.partition("-") for part in text.split(",")]
    return [n for low, _, high in ranges for n in range(int(low), int(high or low) + 1)]


def _search(given: argparse.Namespace) -> None:
    import problems
    from campaign import Campaign, missing, plans

    whole = {"problems": ["all"], "priors": problems.PRIOR_SETTINGS, "seeds": range(100, 110)}
    defaults = QUICK if given.quick else whole
    names = problems.expand(given.problems or defaults["problems"], given.data)
    priors, seeds = given.priors or defaults["priors"], given.seeds or defaults["seeds"]
    wanted = plans(
        given.optimizer, names, priors, given.workers, seeds, given.settings, given.label
    )
    todo = missing(wanted, given.out)
    print(f"{len(wanted)} runs, {len(wanted) - len(todo)} of them done before", file=sys.stderr)
    Campaign(todo, given.data, given.out).run(given.jobs)


def _table(given: argparse.Namespace) -> None:
    import tables

    print(tables.summary(given.files, given.data, given.pair))


def _plot(given: argparse.Namespace) -> None:
    import plots

    for path in plots.draw(given.files, given.data, given.out):
        print(path)


def _speed(given: argparse.Namespace) -> None:
    import speed
    import tables

    names = given.optimizer
    speed.measure(names, given.observations, given.objectives, given.data, given.out)
    print(tables.speed(list(speed.read([given.out]))))


def _yardstick(given: argparse.Namespace) -> None:
    import problems
    from problems import yardstick

    for name in problems.expand(given.problems, given.data):
        if name not in yardstick.PAPER:
            yardstick.keep(name, found := yardstick.compute(problems.task(name, given.data)))
            print(name, found["reference"], found["attainable"])


def _chance(given: argparse.Namespace) -> None:
    import problems
    import tables
    from problems import yardstick

    names = problems.expand(given.problems, given.data)
    loaded = [problems.load(name, given.data) for name in names]
    print(tables.chance([yardstick.by_chance(benchmark) for benchmark in loaded]))


if __name__ == "__main__":
    main()
