"""Whatever a study's spec holds: it is understood, or refused in words that can be shown."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from primo_operator.ports import Answer
from primo_operator.settings import Settings
from primo_optimizer import InvalidSpecError, SpaceExhaustedError, suggest
from primo_study.spec import StudySpec, parse
from primo_study.study import Study
from primo_study.understanding import understand
from support.hostile import fuzz, json, mutated, nested
from support.kept import Kept

VALID = [
    yaml.safe_load(file.read_text())["spec"]
    for file in sorted((Path(__file__).parents[2] / "crds" / "examples" / "valid").glob("*.yaml"))
    if file.stem != "all-limits"  # too large to be printed
]
study_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
PLACE = "team"
UID = "1a2b3c4d-0000-0000-0000-000000000000"
TAKEN_AT = "2026-11-25T21:00:00Z"


class Trying(Kept):
    """Suggests at random."""

    async def suggest(self, study: Study, *given: Any) -> Answer:
        assert study.spec
        count, new = given
        problem = study.spec.problem()
        trials = [trial.as_trial() for trial in study.trials]
        try:
            return Answer(suggest(problem, trials, min(count, 2), 0, study.next_number, new))
        except SpaceExhaustedError:
            return Answer(())


def understood(spec: Any) -> StudySpec | None:
    """None if it is refused, in words."""
    try:
        return parse(spec)
    except InvalidSpecError as error:
        problems = error.problems
    read = understand(spec)
    assert bool(read.problems) != bool(read.unknown)
    assert 0 < len(problems) <= 51
    for problem in problems:
        assert 0 < len(problem) <= 600, len(problem)
        assert problem.isprintable(), problem
    return None


@fuzz
@given(json)
def test_anything_is_refused_in_words(spec: Any) -> None:
    understood(spec)


@pytest.mark.parametrize("depth", [101, 900, 5000, 100_000])
@pytest.mark.parametrize("place", ["algorithm", "trialTemplate", "parameters", "budget"])
def test_no_depth_is_too_much(place: str, depth: int) -> None:
    given = {**VALID[0], place: nested(depth)}
    with pytest.raises(InvalidSpecError, match="spec: is nested deeper than 100 levels"):
        parse(given)


@fuzz
@given(mutated(st.sampled_from(VALID)), study_names)
def test_what_is_accepted_can_be_worked_on_in_its_own_namespace(spec: Any, name: str) -> None:
    assume(understood(spec) is not None)
    kept = worked_on(spec, name)
    assert set(kept.places) <= {PLACE}


@pytest.mark.parametrize(
    "odd",
    [  # The dry-run of a Job refuses others.
        {"containers": [None]},
        {"containers": [{"name": "a", "image": "i", "env": 5}]},
        {"containers": [{"name": "a", "image": "i", "volumeMounts": "x"}]},
        {"containers": [{"name": "a", "image": "i"}], "volumes": 5},
        {"containers": "train"},
        None,
        7,
    ],
    ids=repr,
)
def test_a_template_of_other_types_than_a_jobs_ends_the_study_in_words(odd: Any) -> None:
    template = {"spec": {"template": {"spec": odd}}}
    spec = {**VALID[0], "budget": {"trials": 3}, "trialTemplate": template}
    status = worked_on(spec, "odd").study["status"]
    assert status["phase"] == "Failed"
    (failed,) = [c for c in status["conditions"] if c["type"] == "Failed"]
    assert failed["reason"] in ("InvalidTemplate", "InvalidSpec")
    assert "spec.trialTemplate.spec" in failed["message"]


def worked_on(spec: Any, name: str) -> Kept:
    metadata = {
        "namespace": PLACE,
        "name": name,
        "uid": UID,
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": TAKEN_AT,
    }
    study = {"metadata": metadata, "spec": spec}
    kept = Trying({"takenAt": TAKEN_AT, "study": study, "trials": [], "jobs": [], "pods": []})
    kept.now_s = datetime(2026, 11, 25, 21, tzinfo=UTC).timestamp()
    kept.passes(Settings(), at_most=4)
    return kept
