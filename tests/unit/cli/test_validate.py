"""What `primo validate` says, and with which exit code."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primo_cli.checks import Checker, Finding, Says, UnknownKindError
from primo_cli.validate import FINE, MISTAKES, UNREADABLE, validate
from primo_operator import names
from support.examples import INVALID, VALID, Example, example

POD = "spec.trialTemplate.spec.template.spec"


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


def study(**fields: Any) -> dict[str, Any]:
    minimal = example("minimal").manifest
    return {**minimal, "spec": {**minimal["spec"], **fields}}


def templated(pod: dict[str, Any], job: dict[str, Any] | None = None) -> dict[str, Any]:
    container = {"name": "train", "image": "train:1"}
    spec = {"template": {"spec": {"containers": [container], **pod}}, **(job or {})}
    return study(trialTemplate={"spec": spec})


def said(findings: list[Finding]) -> str:
    return "\n".join(f"{f.field}: {f.message}" for f in findings)


@pytest.mark.parametrize("valid", VALID, ids=lambda e: e.name)
def test_nothing_is_said_of_a_valid_manifest(checker: Checker, valid: Example) -> None:
    assert checker.check(valid.manifest) == []


@pytest.mark.parametrize("invalid", INVALID, ids=lambda e: e.name)
def test_an_invalid_manifest_is_told_in_the_words_it_names(
    checker: Checker, invalid: Example
) -> None:
    findings = checker.check(invalid.manifest)
    expected = invalid.expect or invalid.parse
    assert expected
    assert expected in said(findings)
    at_the_door = Says.REFUSED in {f.says for f in findings}
    assert at_the_door == (invalid.expect is not None)


def test_what_is_refused_is_explained_by_our_own_rule(checker: Checker) -> None:
    invalid = next(e for e in INVALID if e.name == "prior-for-unknown-objective")
    (finding,) = checker.check(invalid.manifest)
    assert (finding.says, finding.field) == (Says.REFUSED, "spec.priors")
    assert finding.more == (
        "spec.priors[0].objective: 'accuracy' is not an objective (there are: error)",
    )


def test_a_pattern_is_told_in_words_too(checker: Checker) -> None:
    invalid = next(e for e in INVALID if e.name == "duration-too-long")
    (finding,) = checker.check(invalid.manifest)
    assert finding.more == (
        "spec.budget.duration: '9999999h' should be a duration such as 90m or 24h, with 6 digits"
        " before h or m at most",
    )


def test_unknown_fields_and_wrong_values_are_told_together(checker: Checker) -> None:
    findings = checker.check(study(parallelism=0, paralelism=1))
    assert [f.field for f in findings] == ["spec.paralelism", "spec.parallelism"]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        pytest.param(
            study(paralelism=1), '"spec.paralelism", did you mean parallelism?', id="ours"
        ),
        pytest.param(
            study(parameters=[{"name": "x", "flaot": {"min": 0, "max": 1}}]),
            '"spec.parameters[0].flaot", did you mean float?',
            id="in a list",
        ),
        pytest.param(
            templated({"volumes": [{"name": "data", "emptydir": {}}]}),
            f'"{POD}.volumes[0].emptydir", did you mean emptyDir?',
            id="Kubernetes' own",
        ),
        pytest.param(study(epochs=3), 'unknown field "spec.epochs"', id="nothing like it"),
    ],
)
def test_of_a_misspelt_field_the_right_one_is_named(
    checker: Checker, manifest: dict[str, Any], words: str
) -> None:
    assert checker.check(manifest)[0].message.endswith(words)


def test_a_mistake_in_the_template_is_the_operators_to_tell(checker: Checker) -> None:
    (finding,) = checker.check(templated({}, {"backoffLimit": 3}))
    assert finding.says is Says.INVALID_TEMPLATE
    assert finding.field == "spec.trialTemplate.spec.backoffLimit"


@pytest.mark.parametrize(
    ("pod", "field", "message"),
    [
        pytest.param(
            {"containers": [{"name": "train", "image": "x", "comand": ["python"]}]},
            f"{POD}.containers[0].comand",
            f'unknown field "{POD}.containers[0].comand"',
            id="a field that no container has",
        ),
        pytest.param(
            {"containers": [{"name": "a", "image": "x", "env": [{"nam": "A"}]}]},
            f"{POD}.containers[0].env[0].nam",
            f'unknown field "{POD}.containers[0].env[0].nam"',
            id="in a list that begins with what the operator adds",
        ),
        pytest.param(
            {"initContainers": [{"name": "a", "image": "x", "args": "x"}]},
            f"{POD}.initContainers[0].args",
            "must be of type array",
            id="after the sidecar",
        ),
        pytest.param(
            {"volumes": [{"name": "data", "emptydir": {}}]},
            f"{POD}.volumes[0].emptydir",
            "unknown field",
            id="among volumes",
        ),
    ],
)
def test_the_template_is_dry_run_and_its_own_field_named(
    checker: Checker, pod: dict[str, Any], field: str, message: str
) -> None:
    findings = checker.check(templated(pod))
    assert findings[0].says is Says.INVALID_TEMPLATE
    assert findings[0].field == field
    assert message in findings[0].message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"apiVersion": "primo.dev/v1beta1"}, "apiVersion", id="version"),
        pytest.param({"kind": "PriMOStudies"}, "apiVersion", id="kind"),
        pytest.param({"apiVersion": None}, "apiVersion", id="no version"),
        pytest.param({"kind": None}, "kind", id="no kind"),
        pytest.param({"metadata": {}}, "metadata.name", id="no name"),
        pytest.param({"metadata": {"name": "a", "labels": {"b": 1}}}, "metadata.labels.b", id="b"),
        pytest.param({"metadata": 3}, "", id="no metadata"),
        pytest.param({"spec": []}, "spec", id="no spec"),
    ],
)
def test_what_is_not_even_a_study_is_refused(
    checker: Checker, change: dict[str, Any], field: str
) -> None:
    findings = checker.check({**study(), **change})
    assert [(f.says, f.field) for f in findings] == [(Says.REFUSED, field)]


def test_an_exported_study_is_taken(checker: Checker) -> None:
    metadata = {"name": "a", "namespace": "team", "uid": "x", "resourceVersion": "7"}
    status = {"phase": "Completed"}
    assert checker.check({**study(), "metadata": metadata, "status": status}) == []


def trial(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": "PriMOTrial",
        "metadata": {"name": "digits-0", "labels": {names.STUDY_LABEL: "digits"}},
        "spec": {"study": "digits", "number": 0, "parameters": {"lr": 0.1}, **spec},
    }


def test_trials_are_checked_too(checker: Checker) -> None:
    assert checker.check(trial()) == []
    (finding,) = checker.check(trial(number=-1))
    assert (finding.says, finding.field) == (Says.REFUSED, "spec.number")


def test_kubernetes_own_kinds_are_checked_and_other_kinds_are_not(checker: Checker) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert checker.check(config) == []
    (finding,) = checker.check({**config, "data": {"a": 1}})
    assert finding.field == "data.a"
    with pytest.raises(UnknownKindError):
        checker.check({"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "LocalQueue"})


# --- the verb


BAD = """\
kind: PriMOStudy
---
apiVersion: primo.dev/v1alpha1
kind: PriMOStudy
metadata: {name: bad}
spec:
  objectives:
  - {name: error, goal: Minimize, metric: e}
  parameters:
  - name: lr
    float:
      min: 1
      max: 0.1
  budget: {trials: 20}
  trialTemplate: {spec: {template: {spec: {containers: [{name: a, image: b}]}}}}
"""


def test_mistakes_are_told_by_file_line_field_and_who_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    assert validate([str(path)], as_json=False) == MISTAKES
    assert capsys.readouterr().out.splitlines() == [
        f"{path}:1: refused by the API server: apiVersion: Required value",
        f"{path}:11: refused by the API server: spec.parameters[0].float: "
        'Invalid value: "object": min must be below max',
        "    spec.parameters[0].float.min: 1.0 is not below max, 0.1",
    ]


def test_programs_get_the_value_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    assert validate([str(path)], as_json=True) == MISTAKES
    second = json.loads(capsys.readouterr().out)[1]
    assert (second["file"], second["document"], second["kind"]) == (str(path), 2, "PriMOStudy")
    assert (second["name"], second["ok"], second["problem"]) == ("bad", False, None)
    assert second["findings"] == [
        {
            "line": 11,
            "field": "spec.parameters[0].float",
            "value": {"min": 1, "max": 0.1},
            "message": 'Invalid value: "object": min must be below max',
            "more": ["spec.parameters[0].float.min: 1.0 is not below max, 0.1"],
            "by": "APIServer",
            "reason": "Refused",
        }
    ]


def test_folders_lists_and_standard_input_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [study(), trial()]}
    (tmp_path / "all.json").write_text(json.dumps(listed))
    (tmp_path / "notes.txt").write_text("not a manifest")
    monkeypatch.setattr(sys, "stdin", io.StringIO(example("minimal").text))
    assert validate([str(tmp_path), "-"], as_json=False) == FINE
    path = tmp_path / "all.json"
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: PriMOStudy minimal: ok",
        f"{path}: PriMOTrial digits-0: ok",
        "stdin: PriMOStudy minimal: ok",
    ]


def own_trial(**fields: Any) -> dict[str, Any]:
    """One that a user has made, of the study `minimal`."""
    spec = {"study": "minimal", "parameters": {"lr": 0.01}, **fields}
    return {**trial(), "metadata": {"name": "mine"}, "spec": spec}


@pytest.mark.parametrize(
    ("manifests", "code", "words"),
    [
        pytest.param([own_trial(), study()], FINE, "mine: ok", id="fits, before its study"),
        pytest.param(
            [study(), own_trial(parameters={"lr": "x"})],
            MISTAKES,
            "taken, then Failed/InvalidTrial: spec.parameters.lr: ",
            id="a value that is none",
        ),
        pytest.param(
            [study(), own_trial(fidelity=3)],
            MISTAKES,
            "spec.fidelity: 3 is given, and the study has no fidelity",
            id="a fidelity in a study without",
        ),
        pytest.param(
            [study(), own_trial(number=3)],
            MISTAKES,
            "spec.number: 3 is given, expected none in a trial made by hand",
            id="a number",
        ),
        pytest.param(
            [own_trial(study="other"), study()],
            FINE,
            "mine: ok (its study is not given, or wrong)",
            id="of another study",
        ),
        pytest.param(
            [{**own_trial(), "metadata": {"name": "mine", "namespace": "team"}}, study()],
            FINE,
            "mine: ok (its study is not given, or wrong)",
            id="in another namespace",
        ),
        pytest.param(
            [study(paralelism=1), own_trial(parameters={"lr": "x"})],
            MISTAKES,
            "mine: ok (its study is not given, or wrong)",
            id="of a study that is wrong",
        ),
    ],
)
def test_a_trial_of_the_users_own_is_checked_against_its_study(
    manifests: list[Any],
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "all.yaml"
    path.write_text("\n---\n".join(json.dumps(each, indent=1) for each in manifests))
    assert validate([str(path)], as_json=False) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: [\n", "line 3: "),
        ("a: 1\na: 2\n", "line 2: key 'a' is given twice"),
        ("a: .nan\n", "line 1: .nan is not a number that JSON can hold"),
        ("- 1\n", "line 1: document 1: [1] is not a mapping of fields"),
        ("kind: List\nitems:\n- 1\n", "line 3: document 1: items[0]: 1 is not a mapping of fields"),
        ("# nothing\n", "there is no manifest in it"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_line_and_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    broken, good = tmp_path / "broken.yaml", tmp_path / "good.yaml"
    broken.write_text(text)
    good.write_text(example("minimal").text)
    assert validate([str(broken), "/no/such/file", str(good)], as_json=False) == UNREADABLE
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{broken}: {problem}")
    assert second == "/no/such/file: No such file or directory"
    assert third == f"{good}: PriMOStudy minimal: ok"


def test_names_and_input_that_cannot_be_read_are_told_like_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    latin = io.TextIOWrapper(io.BytesIO(b"a: \xe9"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", latin)
    long = "a" * 300
    assert validate([long, "-"], as_json=False) == UNREADABLE
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{long}: File name too long"
    assert second.startswith("stdin: 'utf-8' codec can't decode byte 0xe9")


def test_the_command_answers(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(example("minimal").text)
    command = [sys.executable, "-m", "primo_cli", "validate", str(path), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["ok"] is True
