"""The generated CustomResourceDefinitions, and what an API server asks of them."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from primo_operator.crds import KINDS, STUDY, TRIAL, Kind, definition, main, render, structural
from primo_study.schema import Int, Model
from support.cel_rules import broken_rules
from support.examples import CRDS, INVALID, VALID, Example, example

KEYWORDS = {
    "description", "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum",
    "maximum", "exclusiveMinimum", "minItems", "maxItems", "minProperties", "maxProperties",
    "items", "properties", "additionalProperties", "required", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
}  # fmt: skip
# An API server keeps what kubectl applied in an annotation, and annotations have 256 KiB.
APPLY_LIMIT = 256 * 1024

Schema = dict[str, Any]


def version(kind: Kind) -> dict[str, Any]:
    (version,) = definition(kind)["spec"]["versions"]
    assert isinstance(version, dict)
    return version


def schema(kind: Kind) -> Schema:
    root = version(kind)["schema"]["openAPIV3Schema"]
    assert isinstance(root, dict)
    return root


def nodes(node: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


ALL = [
    pytest.param(node, id=path) for kind in KINDS for path, node in nodes(schema(kind), kind.kind)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_committed_file_is_what_is_generated(kind: Kind) -> None:
    """If not: python -m primo_operator.crds --write crds."""
    assert (CRDS / f"{kind.plural}.yaml").read_text(encoding="utf-8") == render(kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_file_says_what_the_definition_does_and_can_be_applied(kind: Kind) -> None:
    assert yaml.safe_load(render(kind)) == definition(kind)
    assert len(render(kind)) < APPLY_LIMIT
    assert "&id" not in render(kind)


@pytest.mark.parametrize("node", ALL)
def test_a_schema_is_structural(node: Schema) -> None:
    assert node.keys() <= KEYWORDS
    assert node["type"] in {"object", "array", "string", "number", "integer", "boolean"}
    assert not {"properties", "additionalProperties"} <= node.keys()
    assert isinstance(node.get("exclusiveMinimum", True), bool)
    assert set(node.get("required", ())) <= node.get("properties", {}).keys()
    if node["type"] == "integer":
        assert node["format"] == "int64"
    if node["type"] == "array":
        assert "items" in node
    if node["type"] == "object" and "properties" not in node:
        known = "additionalProperties" in node or "x-kubernetes-preserve-unknown-fields" in node
        assert known or node == {"type": "object"}  # metadata


@pytest.mark.parametrize("node", [p for p in ALL if "x-kubernetes-list-type" in p.values[0]])
def test_lists_are_told_apart_by_what_their_items_must_have(node: Schema) -> None:
    match node["x-kubernetes-list-type"]:
        case "map":
            assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"])
        case "set":
            # A set of numbers with a whole one in it never equals itself: no update would pass.
            assert node["items"]["type"] == "string"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_described(kind: Kind) -> None:
    ready_made = ".trialTemplate.spec."  # batch/v1 has its own description
    missing = [
        path
        for path, node in nodes(schema(kind), kind.kind)
        if not node.get("description") and ready_made not in path
        and not path.endswith(("[]", "{}", ".metadata"))
    ]  # fmt: skip
    assert not missing


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_columns_and_selectable_fields_are_fields(kind: Kind) -> None:
    paths = {path.removeprefix(kind.kind) for path, _ in nodes(schema(kind), kind.kind)}
    shown = {column["jsonPath"] for column in version(kind)["additionalPrinterColumns"]}
    selectable = {field["jsonPath"] for field in version(kind)["selectableFields"]}
    scale = set(version(kind)["subresources"].get("scale", {}).values())
    ours = {p for p in shown | selectable | scale if "[" not in p and not p.startswith(".metadata")}
    assert ours <= paths


def test_importing_it_does_not_start_an_operator() -> None:
    code = "import sys, primo_operator.crds; assert not {'kopf', 'kubernetes'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_writes_checks_and_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert main(["--write", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["--check", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    path = tmp_path / "primotrials.yaml"
    path.write_text(path.read_text().replace("Why, in one word.", "Why."))
    assert main(["--check", str(tmp_path)]) == 1
    assert "+                description: Why, in one word." in capsys.readouterr().out
    assert main([]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert documents == [definition(kind) for kind in KINDS]


# --- the generator


class Inner(Model):
    """What is inside."""

    low: Annotated[float, Field(gt=0)]
    high: Annotated[Int, Field(ge=1, le=9)] | None = None


class Outer(Model):
    """What is outside."""

    inner: Inner | None = Field(None, description="The field's own words.")
    inners: tuple[Inner, ...] = ()
    anything: dict[str, Any]
    numbers: dict[str, float]


def test_references_bounds_and_optionals_in_structural_form() -> None:
    inner = {
        "description": "What is inside.",
        "type": "object",
        "properties": {
            "low": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            "high": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9},
        },
        "required": ["low"],
    }
    assert structural(Outer) == {
        "description": "What is outside.",
        "type": "object",
        "properties": {
            "inner": {**inner, "description": "The field's own words."},
            "inners": {"type": "array", "items": inner},
            "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "numbers": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["anything", "numbers"],
    }


# --- rules, evaluated as an API server does


@pytest.mark.parametrize("valid", VALID, ids=lambda e: e.name)
def test_a_valid_manifest_breaks_no_rule_when_created_or_applied_again(valid: Example) -> None:
    assert broken_rules(schema(STUDY), valid.manifest) == []
    assert broken_rules(schema(STUDY), valid.manifest, old=valid.manifest) == []


MESSAGES = {
    rule["message"]
    for _, node in nodes(schema(STUDY), "")
    for rule in node.get("x-kubernetes-validations", ())
}
BREAKING = [
    (e, message) for e in INVALID for message in MESSAGES if e.expect and e.expect in message
]


@pytest.mark.parametrize(
    ("invalid", "message"), [pytest.param(e, m, id=e.name) for e, m in BREAKING]
)
def test_an_invalid_manifest_breaks_the_rule_it_names(invalid: Example, message: str) -> None:
    assert message in broken_rules(schema(STUDY), invalid.manifest)


def test_every_rule_about_a_new_object_has_an_invalid_manifest() -> None:
    transitions = ("immutable", "only be raised", "only be added", "is suspended")
    assert {m for m in MESSAGES if not m.endswith(transitions)} == {m for _, m in BREAKING}


Edit = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(lambda s: s["objectives"][0].update(goal="Maximize"), "objectives", id="goal"),
        pytest.param(lambda s: s["objectives"][0].pop("target"), "objectives", id="target"),
        pytest.param(lambda s: s["constraints"][0].update(atMost=9), "constraints", id="bound"),
        pytest.param(lambda s: s.pop("constraints"), "constraints", id="no constraints"),
        pytest.param(lambda s: s["parameters"][0]["float"].update(max=1), "parameters", id="range"),
        pytest.param(lambda s: s["fidelity"].update(eta=2), "fidelity", id="eta"),
        pytest.param(lambda s: s.pop("fidelity"), "fidelity", id="no fidelity"),
        pytest.param(lambda s: s["algorithm"]["settings"].clear(), "algorithm", id="settings"),
        pytest.param(lambda s: s["checkpoints"].update(claimName="x"), "checkpoints", id="claim"),
        pytest.param(lambda s: s.update(reports={"tensorboard": "/x"}), "reports", id="reports"),
    ],
)
def test_what_is_searched_and_how_cannot_change(edit: Edit, message: str) -> None:
    assert _edited(edit) == [f"{message} is immutable"]


def new_image(spec: dict[str, Any]) -> None:
    pod = spec["trialTemplate"]["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "registry.example/train:2"


@pytest.mark.parametrize("suspended", [True, False, None])
def test_the_template_changes_while_the_study_is_suspended_alone(suspended: bool | None) -> None:
    old = copy.deepcopy(example("everything").manifest)
    old["spec"]["suspend"] = suspended
    if suspended is None:
        del old["spec"]["suspend"]
    new = copy.deepcopy(old)
    new_image(new["spec"])
    new["spec"]["suspend"] = False  # to go on with it at once is one edit
    refused = ["trialTemplate may only change while the study is suspended"]
    assert broken_rules(schema(STUDY), new, old=old) == ([] if suspended else refused)


ADDED = {"objective": "throughput", "parameters": [{"name": "lr", "center": 0.01}]}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda s: s["priors"][0].update(confidence=0.1), id="confidence"),
        pytest.param(lambda s: s["priors"][0]["parameters"].pop(), id="a belief less"),
        pytest.param(lambda s: s["priors"].pop(), id="a prior less"),
        pytest.param(lambda s: s["priors"].__setitem__(0, ADDED), id="another in its place"),
        pytest.param(lambda s: s.pop("priors"), id="no priors"),
    ],
)
def test_a_prior_does_not_change(edit: Edit) -> None:
    assert _edited(edit) == ["priors may only be added"]


def test_priors_may_be_added() -> None:
    old = example("everything").manifest
    for some in ([], old["spec"]["priors"][:1]):
        before, after = copy.deepcopy(old), copy.deepcopy(old)
        before["spec"]["priors"] = some
        after["spec"]["priors"].reverse()
        assert broken_rules(schema(STUDY), after, old=before) == []
    del before["spec"]["priors"]
    assert broken_rules(schema(STUDY), after, old=before) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(lambda b: b.update(trials=99), "trials", id="trials"),
        pytest.param(lambda b: b.update(fullEvaluations=1), "fullEvaluations", id="evaluations"),
        pytest.param(lambda b: b.update(duration="359m"), "duration", id="duration"),
        pytest.param(lambda b: b.update(gpuHours=19.5), "gpuHours", id="GPU-hours"),
    ],
)
def test_a_budget_is_not_lowered(edit: Edit, message: str) -> None:
    assert _edited(lambda s: edit(s["budget"])) == [f"{message} may only be raised"]


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda s: s["budget"].update(trials=101, duration="7h"), id="raised budget"),
        pytest.param(lambda s: s["budget"].update(duration="360m"), id="6h written as 360m"),
        pytest.param(lambda s: s["budget"].pop("duration"), id="a limit less"),
        pytest.param(lambda s: s["budget"].update(failedTrials=0), id="fewer failed trials"),
        pytest.param(lambda s: s.update(parallelism=1, suspend=True), id="parallelism, suspend"),
        pytest.param(lambda s: s.update(onComplete="Terminate"), id="onComplete"),
        pytest.param(lambda s: s.pop("retries"), id="retries"),
        pytest.param(lambda s: s["warmStart"].pop(), id="warmStart"),
        pytest.param(lambda s: s["preferences"]["weights"].update(error=9), id="preferences"),
    ],
)
def test_what_is_spent_and_when_may_change(edit: Edit) -> None:
    assert _edited(edit) == []


def _edited(edit: Edit) -> list[str]:
    old = example("everything").manifest
    new = copy.deepcopy(old)
    edit(new["spec"])
    return broken_rules(schema(STUDY), new, old=old)


def test_a_trial_of_ones_own_may_change_until_it_has_its_number() -> None:
    old = {"spec": {"study": "digits", "parameters": {"lr": 7}}}
    new = {"spec": {"study": "digits", "parameters": {"lr": 0.1}, "number": 3, "fidelity": 9}}
    assert broken_rules(schema(TRIAL), new, old=old) == []


@pytest.mark.parametrize(
    "change", [{"number": 2}, {"parameters": {"lr": 0.2}}, {"fidelity": 9}, {"suggestion": {}}]
)
def test_nothing_in_a_trials_spec_may_change(change: dict[str, Any]) -> None:
    old = {"spec": {"study": "digits", "number": 1, "parameters": {"lr": 0.1}}}
    new = {"spec": {**old["spec"], **change}}
    assert broken_rules(schema(TRIAL), old, old=old) == []
    assert broken_rules(schema(TRIAL), new, old=old) == ["a trial's spec is immutable"]
