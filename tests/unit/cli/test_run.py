"""What `primo run` says of a manifest before anything starts."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_cli.run import COMPLETED, FAILED, _follow, _has_ended, _picture, read
from primo_optimizer import InvalidSpecError
from support.examples import example


def study(**spec: Any) -> dict[str, Any]:
    given = example("minimal").manifest
    return {**given, "spec": {**given["spec"], **spec}}


def written(folder: Path, *manifests: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text("\n---\n".join(json.dumps(each, indent=1) for each in manifests))
    return path


def refused(file: Path) -> str:
    with pytest.raises(InvalidSpecError) as error:
        read(file)
    return "\n".join(error.value.problems)


CLAIM = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
QUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "LocalQueue", "metadata": {"name": "q"}}


def test_a_study_among_others_is_read_in_their_order(tmp_path: Path) -> None:
    """A kind that only a cluster knows is that cluster's business; a List is what is in it."""
    both = {"apiVersion": "v1", "kind": "List", "items": [CLAIM, study()]}
    found = read(written(tmp_path, QUEUE, both))
    assert [each["kind"] for each in found] == ["LocalQueue", "ConfigMap", "PriMOStudy"]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        pytest.param(
            study(parameters=[{"name": "x", "float": {"min": 2, "max": 1}}]),
            "spec.parameters[0].float.min: 2.0 is not below max, 1.0",
            id="of the study's own rules",
        ),
        pytest.param(study(budgets={}), 'unknown field "spec.budgets"', id="a field that is none"),
        pytest.param(
            study(trialTemplate={"spec": {"template": {"spec": {"containers": [
                {"name": "train", "image": "i", "resources": {"limits": {"memory": "4GB"}}}
            ]}}}}),
            "spec.trialTemplate.spec.template.spec.containers[0].resources.limits",
            id="of what Kubernetes says of the Job",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(
    manifest: dict[str, Any], words: str, tmp_path: Path
) -> None:
    file = written(tmp_path, manifest)
    said = refused(file)
    assert said.startswith(f"{file}:")
    assert words in said


def test_a_mistake_beside_the_study_is_named_too(tmp_path: Path) -> None:
    said = refused(written(tmp_path, {**CLAIM, "data": {"a": 1}}, study()))
    assert "data.a" in said


@pytest.mark.parametrize(
    ("manifests", "words"),
    [
        ([], "there is no manifest in it"),
        ([CLAIM], "0 PriMOStudies in it, expected 1"),
        ([study(), study()], "2 PriMOStudies in it, expected 1"),
        ([{**study(), "metadata": {"generateName": "s-"}}], "metadata.name: is missing"),
    ],
)
def test_it_takes_one_study_with_a_name(manifests: Any, words: str, tmp_path: Path) -> None:
    assert words in refused(written(tmp_path, *manifests))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: No such file or directory"


class EndedStudy(Kube):
    """A cluster whose study has ended so."""

    def __init__(self, **status: Any) -> None:
        self._status = status

    def apply(self, manifest: Any, namespace: str | None = None) -> dict[str, Any]:
        return dict(manifest)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        ended = {"type": self._status["phase"], "status": "True", "reason": "R", "message": "why"}
        return {**study(), "status": {**self._status, "conditions": [ended]}}

    def trials(self, study: str, namespace: str) -> list[dict[str, Any]]:
        return []


@pytest.mark.parametrize(
    ("phase", "front", "code"),
    [
        pytest.param("Completed", True, COMPLETED, id="with a front"),
        pytest.param("Completed", False, FAILED, id="no trial came to anything"),
        pytest.param("Failed", True, FAILED, id="more failures than allowed"),
    ],
)
def test_the_exit_code_says_whether_there_is_a_result(
    phase: str, front: bool, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {each["name"]: 0.1 for each in study()["spec"]["objectives"]}
    status = {"front": [{"trial": 0, "values": values}]} if front else {}
    ended = EndedStudy(phase=phase, **status)
    assert _follow(ended, [study()], "team", tmp_path / "front.png", lambda: None) == code
    assert f"{phase}: R: why" in capsys.readouterr().out


def test_an_end_that_an_operator_saw_before_the_last_edit_is_none() -> None:
    status = {"phase": "Completed", "observedGeneration": 1}
    assert _has_ended({"metadata": {"generation": 1}, "status": status})
    assert not _has_ended({"metadata": {"generation": 2}, "status": status})
    assert not _has_ended({"metadata": {"generation": 1}})


def test_values_without_an_axis_are_no_traceback(tmp_path: Path) -> None:
    """matplotlib finds no ticks for a span that is infinite."""
    names = [each["name"] for each in study()["spec"]["objectives"]]
    trials = [
        {
            "spec": {"number": number},
            "status": {"phase": "Completed", "observations": [{"values": dict.fromkeys(names, v)}]},
        }
        for number, v in enumerate([0.1, 1e308, -1e308])
    ]
    front = [{"trial": 0, "values": dict.fromkeys(names, 0.1)}]
    found = {**study(), "status": {"front": front}}
    assert _picture(found, trials, tmp_path / "front.png").startswith("none, ")


def test_a_picture_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout, since nothing is published."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = "none, matplotlib is not installed (pip install '.[plots]' in a checkout)"
    assert _picture(study(), [], Path("front.png")) == words
