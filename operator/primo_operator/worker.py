"""The optimizer's process: a line of JSON in, a line of JSON out, until the input ends.

It keeps the trials of each study that it was told of, and is told what is new (`told.py`).
"""

import contextlib
import gc
import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from primo_optimizer import PrimoError, Problem, SpaceExhaustedError, Trial, load, suggest

# What torch says instead of raising MemoryError.
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "bad_alloc")

INFINITE = resource.RLIM_INFINITY

# An ask about ten thousand trials makes as many objects, and the garbage collector's looks at each
# few hundred of them took a third of its time.
NEW_OBJECTS = 10_000

Histories = dict[str, dict[int, Trial]]


def answer(question: dict[str, Any], histories: Histories, limit: "MemoryLimit") -> dict[str, Any]:
    """The suggestions for a question, or why there are none, as plain JSON data.

    Args:
        histories: trials by study and number; what the question tells is put in.
        limit: of what the suggestions may take.
    """
    try:
        trials = _learn(question, histories)
        problem = Problem.from_spec(question["spec"])
        with limit.loading():
            load(problem)
        earlier = tuple(map(Trial.from_dict, question["earlier"]))
        problem = replace(problem, earlier=earlier)
        # A number that was left out is asked for as it was before there were higher ones.
        lower = [trial for trial in trials.values() if trial.number < question["next_number"]]
        suggestions = suggest(
            problem,
            lower,
            question["count"],
            question["seed"],
            question["next_number"],
            question["new_trials"],
        )
    except SpaceExhaustedError as error:
        return {"exhausted": str(error)}
    except PrimoError as error:
        return {"error": str(error)}
    except Exception as error:  # the border of the process: whatever it is, the study goes on
        text = f"{type(error).__name__}: {error}"
        out = isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY)
        return {"out_of_memory": text} if out else {"error": text}
    return {"suggestions": [suggestion.to_dict() for suggestion in suggestions]}


def _learn(question: dict[str, Any], histories: Histories) -> dict[int, Trial]:
    """The study's trials, with what is new."""
    study = question["study"]
    for forgotten in (*question["forget"], *([study] if question["anew"] else [])):
        histories.pop(forgotten, None)
    trials = histories.setdefault(study, {})
    for given in question["trials"]:
        trials[given["number"]] = Trial.from_dict(given)
    for number in question["gone"]:
        trials.pop(number, None)
    return trials


class MemoryLimit:
    """Lets allocations fail that go beyond it, so that this process goes and not the operator.

    What libraries take when they are loaded does not count: a torch with CUDA maps 700 MiB, hardly
    any of them resident. RLIMIT_DATA counts what is private and writable, which else is within a
    tenth of what is resident; RLIMIT_AS would count all that is only mapped. Linux holds to it,
    others may not. Where memory runs out all the same, the kernel takes this process first.
    """

    def __init__(self, mib: int) -> None:
        """0 for no limit of ours."""
        self._bytes = mib << 20
        self._before = resource.getrlimit(resource.RLIMIT_DATA)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        self._hold()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """What is allocated inside comes on top of the limit."""
        before = _allocated()
        resource.setrlimit(resource.RLIMIT_DATA, self._before)
        try:
            yield
        finally:
            if self._bytes:
                self._bytes += max(_allocated() - before, 0)
            self._hold()

    def _hold(self) -> None:
        soft, hard = self._before
        if self._bytes:
            soft = min([self._bytes, *(each for each in (soft, hard) if each != INFINITE)])
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _allocated() -> int:
    """Bytes that RLIMIT_DATA counts, by proc(5); 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def main() -> None:
    gc.set_threshold(NEW_OBJECTS)
    limit = MemoryLimit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    # What a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    histories: Histories = {}
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), histories, limit)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
