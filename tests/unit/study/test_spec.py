"""What parse takes and refuses, and in which words."""

from typing import Any

import pytest

from primo_optimizer import InvalidSpecError
from primo_study.spec import StudySpec, parse, seconds
from primo_study.understanding import understand
from support.examples import INVALID, VALID, Example, example


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidSpecError) as caught:
        parse(spec)
    return list(caught.value.problems)


def minimal(**fields: Any) -> dict[str, Any]:
    return {**example("minimal").manifest["spec"], **fields}


@pytest.mark.parametrize("valid", VALID, ids=lambda e: e.name)
def test_a_valid_manifest_is_parsed_and_is_a_problem(valid: Example) -> None:
    parse(valid.manifest["spec"]).problem()


@pytest.mark.parametrize("valid", VALID, ids=lambda e: e.name)
def test_what_was_parsed_is_parsed_again_to_the_same(valid: Example) -> None:
    spec = parse(valid.manifest["spec"])
    assert parse(spec.model_dump(mode="json", by_alias=True)) == spec


@pytest.mark.parametrize("invalid", [e for e in INVALID if e.parse], ids=lambda e: e.name)
def test_an_invalid_manifest_is_refused_in_the_words_it_names(invalid: Example) -> None:
    assert invalid.parse
    assert invalid.parse in "\n".join(problems(invalid.manifest["spec"]))


@pytest.mark.parametrize("invalid", [e for e in INVALID if not e.parse], ids=lambda e: e.name)
def test_what_only_the_schema_refuses_is_parsed(invalid: Example) -> None:
    parse(invalid.manifest["spec"])


@pytest.mark.parametrize("invalid", [e for e in INVALID if e.parse], ids=lambda e: e.name)
def test_every_message_begins_with_the_field_at_fault(invalid: Example) -> None:
    assert all(line.startswith("spec.") for line in problems(invalid.manifest["spec"]))


def test_all_mistakes_are_told_at_once() -> None:
    assert problems(minimal(parallelism=0, suspend="no", budgets={})) == [
        "spec.parallelism: 0 should be greater than or equal to 1",
        "spec.suspend: 'no' should be a valid boolean",
        "spec.budgets: is not a field",
    ]


def test_rules_over_several_fields_are_told_together() -> None:
    lines = problems(
        minimal(
            parameters=[
                {"name": "lr", "float": {"min": 1, "max": 0}},
                {"name": "LR", "int": {"min": 0, "max": 9, "log": True}},
            ],
            budget={},
        )
    )
    assert [line.partition(":")[0] for line in lines] == [
        "spec.parameters[1].name",
        "spec.parameters[0].float.min",
        "spec.parameters[1].int.min",
        "spec.budget",
    ]


def test_a_bad_item_does_not_make_its_list_too_short() -> None:
    lines = problems(minimal(objectives=[{"name": "error", "metric": "val_error"}]))
    assert lines == ["spec.objectives[0].goal: is missing"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("budget", [], "spec.budget: a list should be an object"),
        ("objectives", {"error": 1}, "spec.objectives: an object should be a list"),
        ("objectives", [], "spec.objectives: a list should have at least 1 item, not 0"),
        ("suspend", 1, "spec.suspend: 1 should be a valid boolean"),
        ("parallelism", True, "spec.parallelism: true should be a valid integer"),
        ("parallelism", float("nan"), "spec.parallelism: nan should be a valid integer"),
        ("onComplete", "x" * 200, "spec.onComplete: '" + "x" * 79 + " should be"),
    ],
)
def test_a_message_shows_small_values_and_names_large_ones(
    field: str, value: Any, message: str
) -> None:
    (line,) = problems(minimal(**{field: value}))
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"float": {"min": 0, "max": float("inf")}}, "float.max: inf should be a finite number"),
        ({"ordinal": {"values": [1, float("nan")]}}, "values[1]: nan should be a finite number"),
        ({"ordinal": {"values": [1, True]}}, "values[1]: true should be a valid number"),
    ],
)
def test_numbers_are_finite(body: dict[str, Any], message: str) -> None:
    (line,) = problems(minimal(parameters=[{"name": "lr", **body}]))
    assert line.endswith(message)


def test_whole_numbers_stay_whole_whichever_way_they_are_written() -> None:
    spec = parse(example("numbers").manifest["spec"])
    by_name = {parameter.name: parameter for parameter in spec.parameters}
    assert by_name["batch"].ordinal
    assert repr(by_name["batch"].ordinal.values) == "(16, 32, 64.5, 100)"
    assert by_name["layers"].int
    assert repr(by_name["layers"].int.min) == "1"
    assert spec.budget.trials == 1000


def test_nulls_are_fields_left_out() -> None:
    assert parse(minimal(fidelity=None, priors=None)) == parse(minimal())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("2m0.5s", 120.5)],
)
def test_durations_in_seconds(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


def test_defaults_are_not_in_the_spec_but_hold() -> None:
    spec: StudySpec = parse(minimal())
    assert spec.model_dump(exclude_none=True).keys() == {
        "objectives",
        "parameters",
        "budget",
        "trial_template",
    }
    assert (spec.slots, spec.seed, spec.infrastructure_retries, spec.application_retries) == (
        1, 0, 3, 0,
    )  # fmt: skip
    assert spec.duration_s is None


def test_a_zero_that_was_given_is_no_default() -> None:
    spec = parse(minimal(retries={"infrastructure": 0, "application": 2}))
    assert (spec.infrastructure_retries, spec.application_retries) == (0, 2)


OTHER = minimal()["objectives"][1:]


@pytest.mark.parametrize(
    ("later", "unknown", "same"),
    [
        ({"future": 1}, ["spec.future: is not a field"], True),
        (
            {"budget": {"trials": 3, "future": {"a": [1]}}},
            ["spec.budget.future: is not a field"],
            True,
        ),
        (
            {"objectives": [{"name": "a", "goal": "Minimize", "future": "x"}, *OTHER]},
            ["spec.objectives[0].future: is not a field"],
            False,  # without it there is no word of where the value comes from
        ),
        (
            {"objectives": [{"name": "a", "goal": "Tame", "metric": "a"}, *OTHER]},
            ["spec.objectives[0].goal: 'Tame' should be 'Minimize' or 'Maximize'"],
            False,
        ),
        ({"future": 1, "parallelism": 0}, ["spec.future: is not a field"], False),
    ],
    ids=lambda value: next(iter(value), None) if isinstance(value, dict) else None,
)
def test_what_may_be_of_a_later_version_is_told_apart_from_a_mistake(
    later: dict[str, Any], unknown: list[str], same: bool
) -> None:
    found = understand(minimal(**later))
    assert (list(found.unknown), found.problems) == (unknown, ())
    assert found.legible == same


def test_the_rest_of_a_later_spec_is_as_it_was_written() -> None:
    spec = minimal(parallelism=3)
    assert understand({**spec, "future": 1}).spec == understand(spec).spec == parse(spec)


@pytest.mark.parametrize(
    ("edit", "application"),
    [
        ({"parallelism": 0}, 5),
        ({"budget": {}, "algorithm": {"name": "future"}}, 5),
        ({"retries": {"application": -1}}, 0),
        ({"future": 1, "budget": {}}, 5),
    ],
)
def test_a_spec_that_cannot_be_read_tells_how_runs_have_ended(
    edit: dict[str, Any], application: int
) -> None:
    spec = minimal(retries={"application": 5}, retention={"jobs": "None"}, suspend=True)
    before, found = understand(spec).spec, understand({**spec, **edit})
    assert before
    assert found.spec
    assert not found.legible
    assert found.spec.application_retries == application
    assert found.spec.template_hash == before.template_hash
    assert (found.spec.objectives, found.spec.parameters) == (before.objectives, before.parameters)
    assert (found.spec.retention, found.spec.suspend) == (None, None)


@pytest.mark.parametrize(
    "wrong", [{"parallelism": 0}, {"algorithm": {"name": "future"}}, {"parameters": []}]
)
def test_a_mistake_is_one(wrong: dict[str, Any]) -> None:
    found = understand(minimal(**wrong))
    assert not found.legible
    assert list(found.problems) == problems(minimal(**wrong))
    assert not found.unknown
