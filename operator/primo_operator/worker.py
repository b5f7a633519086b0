"""The optimizer's process: a line of JSON in, a line of JSON out, until the input ends."""

import json
import os
import sys
from dataclasses import replace
from typing import Any

from primo_optimizer import PrimoError, Problem, SpaceExhaustedError, Trial, suggest


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The suggestions for a question, or why there are none, as plain JSON data."""
    try:
        problem = Problem.from_spec(question["spec"])
        earlier = tuple(map(Trial.from_dict, question["earlier"]))
        problem = replace(problem, earlier=earlier)
        trials = [Trial.from_dict(given) for given in question["trials"]]
        suggestions = suggest(
            problem,
            trials,
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
        return {"error": f"{type(error).__name__}: {error}"}
    return {"suggestions": [suggestion.to_dict() for suggestion in suggestions]}


def main() -> None:
    # What a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
