"""Our definitions on an API server: what it takes, what it refuses and in which words."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from primo_operator.crds import KINDS, STUDY, TRIAL, Kind, definition
from support.examples import CRDS, INVALID, VALID, Example, example
from support.kube import Kube
from support.waiting import eventually

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACE = "default"
STUDIES = f"/apis/primo.dev/v1alpha1/namespaces/{NAMESPACE}/primostudies"
TRIALS = f"/apis/primo.dev/v1alpha1/namespaces/{NAMESPACE}/primotrials"
STRICT = {"fieldValidation": "Strict"}

Manifest = dict[str, Any]

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def kubeconfig(cluster: Any) -> Path:
    return Path(cluster.kubeconfig)


@pytest.fixture(scope="module")
def kube(kubeconfig: Path) -> Iterator[Kube]:
    """An API server that serves our kinds."""
    kube = Kube(kubeconfig)
    for kind in KINDS:
        _install(kube, kind)
    yield kube
    for path in (STUDIES, TRIALS):
        kube("DELETE", path)


def _install(kube: Kube, kind: Kind) -> None:
    wanted = definition(kind)
    path = f"{DEFINITIONS}/{wanted['metadata']['name']}"
    code, body = kube("POST", DEFINITIONS, wanted, **STRICT)
    if code == 409:  # another test module was here before
        code, body = kube("PATCH", path, {"spec": wanted["spec"]}, kind="merge-patch+json")
    assert code in (200, 201), body
    eventually(lambda: _established(kube("GET", path)[1]), f"{kind.plural} is established")


def _established(crd: Manifest) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def create(kube: Kube, manifest: Manifest) -> Manifest:
    """Make it anew."""
    path = f"{STUDIES}/{manifest['metadata']['name']}"
    kube("DELETE", path)
    eventually(lambda: kube("GET", path)[0] == 404, f"{path} is gone")
    code, body = kube("POST", STUDIES, manifest, **STRICT)
    assert code == 201, body["message"]
    return body


@pytest.mark.parametrize("valid", VALID, ids=lambda e: e.name)
def test_a_valid_manifest_is_taken_and_not_changed_by_being_applied_again(
    kube: Kube, valid: Example
) -> None:
    created = create(kube, valid.manifest)
    assert created["spec"] == valid.manifest["spec"]
    path = f"{STUDIES}/{created['metadata']['name']}"
    code, patched = kube("PATCH", path, valid.manifest, kind="merge-patch+json", **STRICT)
    assert code == 200, patched["message"]
    assert patched["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    kube("DELETE", path)


@pytest.mark.parametrize("invalid", [e for e in INVALID if e.expect], ids=lambda e: e.name)
def test_an_invalid_manifest_is_refused_in_the_words_it_names(kube: Kube, invalid: Example) -> None:
    assert invalid.expect
    code, body = kube("POST", STUDIES, invalid.manifest, **STRICT)
    assert code in (400, 422)
    assert invalid.expect in body["message"]


@pytest.mark.parametrize("invalid", [e for e in INVALID if not e.expect], ids=lambda e: e.name)
def test_what_only_we_refuse_is_taken(kube: Kube, invalid: Example) -> None:
    create(kube, invalid.manifest)


def test_without_strict_validation_unknown_fields_are_pruned(kube: Kube) -> None:
    manifest = copy.deepcopy(example("minimal").manifest)
    manifest["metadata"]["name"] = "pruned"
    manifest["spec"]["objective"] = "error"
    container = manifest["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"][0]
    container["imagee"] = "kept: the template is the user's"
    code, body = kube("POST", STUDIES, manifest, fieldValidation="Ignore")
    assert code == 201
    assert "objective" not in body["spec"]
    template = body["spec"]["trialTemplate"]["spec"]["template"]
    assert template["spec"]["containers"][0]["imagee"]


# --- updates


Patch = dict[str, Any]


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"objectives": [{"name": "error", "goal": "Maximize", "metric": "e"}]}, "objectives"),
        ({"parameters": example("ordinal").manifest["spec"]["parameters"]}, "parameters"),
        ({"fidelity": {"max": 81}}, "fidelity"),
        ({"fidelity": None}, "fidelity"),
        ({"constraints": None}, "constraints"),
        ({"algorithm": {"settings": {"epsilon": 0.5}}}, "algorithm"),
        ({"checkpoints": None}, "checkpoints"),
    ],
)
def test_what_is_searched_and_how_is_immutable(kube: Kube, patch: Patch, field: str) -> None:
    path = _everything(kube)
    code, body = kube("PATCH", path, {"spec": patch}, kind="merge-patch+json")
    assert code == 422
    assert f"spec.{field}: Forbidden: {field} is immutable" in body["message"]


def test_the_template_changes_while_the_study_is_suspended_alone(kube: Kube) -> None:
    path = _everything(kube)
    patch = {"spec": {"trialTemplate": {"spec": {"activeDeadlineSeconds": 60}}}}
    code, body = kube("PATCH", path, patch, kind="merge-patch+json")
    assert code == 422
    words = "spec.trialTemplate: Forbidden: trialTemplate may only change while the study is"
    assert words in body["message"]
    kube("PATCH", path, {"spec": {"suspend": True}}, kind="merge-patch+json")
    code, body = kube("PATCH", path, patch, kind="merge-patch+json")
    assert code == 200, body["message"]


def test_priors_may_be_added_and_nothing_else(kube: Kube) -> None:
    path = _everything(kube)
    given = example("everything").manifest["spec"]["priors"]
    for priors in (None, given[:1], [given[0], {**given[1], "confidence": 0.1}]):
        code, body = kube("PATCH", path, {"spec": {"priors": priors}}, kind="merge-patch+json")
        assert code == 422
        assert "spec.priors: Invalid value" in body["message"]
        assert "priors may only be added" in body["message"]
    manifest = copy.deepcopy(example("everything").manifest)
    manifest["spec"]["priors"] = given[:1]
    create(kube, manifest)
    code, body = kube("PATCH", path, {"spec": {"priors": given[::-1]}}, kind="merge-patch+json")
    assert code == 200, body["message"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"trials": 99}, "spec.budget.trials: Invalid value"),
        ({"fullEvaluations": 30}, "spec.budget.fullEvaluations: Invalid value"),
        ({"duration": "359m"}, "spec.budget.duration: Invalid value"),
    ],
)
def test_a_budget_is_not_lowered(kube: Kube, budget: Patch, message: str) -> None:
    path = _everything(kube)
    code, body = kube("PATCH", path, {"spec": {"budget": budget}}, kind="merge-patch+json")
    assert code == 422
    assert message in body["message"]
    assert "may only be raised" in body["message"]


@pytest.mark.parametrize(
    "patch",
    [
        {"budget": {"trials": 101, "fullEvaluations": 31, "duration": "7h"}},
        {"budget": {"duration": "360m"}},
        {"budget": {"duration": None}},
        {"parallelism": 8, "suspend": True, "onComplete": "Terminate", "retries": None},
    ],
)
def test_what_is_spent_and_when_may_change(kube: Kube, patch: Patch) -> None:
    path = _everything(kube)
    code, body = kube("PATCH", path, {"spec": patch}, kind="merge-patch+json")
    assert code == 200, body["message"]


def test_the_longest_duration_there_may_be_has_a_value(kube: Kube) -> None:
    path = _everything(kube)
    for patch in ({"duration": "999999h999999h99999h"}, {"trials": 1000}):
        code, body = kube("PATCH", path, {"spec": {"budget": patch}}, kind="merge-patch+json")
        assert code == 200, body["message"]


def _everything(kube: Kube) -> str:
    return f"{STUDIES}/{create(kube, example('everything').manifest)['metadata']['name']}"


def test_a_study_scales_by_its_parallelism(kube: Kube) -> None:
    path = _everything(kube)
    code, scale = kube("GET", f"{path}/scale")
    assert (code, scale["spec"]["replicas"]) == (200, 4)
    patch = {"spec": {"replicas": 9}}
    assert kube("PATCH", f"{path}/scale", patch, kind="merge-patch+json")[0] == 200
    assert kube("GET", path)[1]["spec"]["parallelism"] == 9


def trial(number: int) -> Manifest:
    return {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": TRIAL.kind,
        "metadata": {"name": f"digits-{number}"},
        "spec": {
            "study": "digits",
            "number": number,
            "parameters": {"lr": 0.001, "batch": 16, "activation": "relu"},
            "fidelity": 1,
            "suggestion": {"origin": "prior", "predicted": {"error": {"mean": 0.1}}},
        },
    }


@pytest.fixture
def trials(kube: Kube) -> Iterator[list[str]]:
    """Two trials, the second of them completed; their paths."""
    paths = [f"{TRIALS}/digits-{number}" for number in (0, 1)]
    for number in (0, 1):
        code, body = kube("POST", TRIALS, trial(number), **STRICT)
        assert code == 201, body["message"]
    status = {
        "phase": "Completed",
        "summary": "error=0.1",
        "fidelity": 9,
        "observations": [
            {"fidelity": 9, "values": {"error": 0.1}, "observedAt": "2026-01-01T00:00:00Z"}
        ],
    }
    code, body = kube("PATCH", f"{paths[1]}/status", {"status": status}, kind="merge-patch+json")
    assert code == 200, body["message"]
    yield paths
    for path in paths:
        kube("DELETE", path)
        eventually(lambda path=path: kube("GET", path)[0] == 404, f"{path} is gone")


def test_a_trial_keeps_the_types_of_its_parameters(kube: Kube, trials: list[str]) -> None:
    _, body = kube("GET", trials[0])
    assert body["spec"] == trial(0)["spec"]
    assert isinstance(body["spec"]["parameters"]["batch"], int)


@pytest.mark.parametrize("change", [{"number": 7}, {"parameters": {"lr": 1}}, {"suggestion": None}])
def test_a_trials_spec_is_immutable(kube: Kube, trials: list[str], change: Patch) -> None:
    code, body = kube("PATCH", trials[0], {"spec": change}, kind="merge-patch+json")
    assert code == 422
    assert "a trial's spec is immutable" in body["message"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("spec.study=digits", ["digits-0", "digits-1"]),
        ("spec.study=digits,spec.number=1", ["digits-1"]),
        ("status.phase=Completed", ["digits-1"]),
        ("spec.study=other", []),
    ],
)
def test_trials_are_selected_by_field(
    kube: Kube, trials: list[str], selector: str, found: list[str]
) -> None:
    _, body = kube("GET", TRIALS, fieldSelector=selector)
    assert [item["metadata"]["name"] for item in body["items"]] == found


# --- kubectl


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path) -> Callable[..., str]:
    beside = Path(sys.executable).with_name("kubectl")
    program = str(beside) if beside.exists() else shutil.which("kubectl")
    if not program:
        pytest.skip("no kubectl beside the interpreter or on PATH")

    def run(*arguments: str) -> str:
        command = [program, "--kubeconfig", str(kubeconfig), "-n", NAMESPACE, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    return run


def test_kubectl_applies_our_definitions(kube: Kube, kubectl: Callable[..., str]) -> None:
    printed = kubectl("apply", *(f"--filename={CRDS / kind.plural}.yaml" for kind in KINDS))
    assert "error" not in printed.lower()


def test_kubectl_applies_valid_manifests_twice(kube: Kube, kubectl: Callable[..., str]) -> None:
    folder = str(CRDS / "examples" / "valid")
    kubectl("delete", "studies", "--all")
    for done in ("created", "unchanged"):
        printed = kubectl("apply", "-f", folder).splitlines()
        names = sorted(e.manifest["metadata"]["name"] for e in VALID)
        assert sorted(printed) == sorted(f"primostudy.primo.dev/{n} {done}" for n in names)
    kubectl("delete", "-f", folder)


def test_kubectl_refuses_an_unknown_field(kube: Kube, kubectl: Callable[..., str]) -> None:
    path = CRDS / "examples" / "invalid" / "unknown-field-spec.yaml"
    assert 'unknown field "spec.objective"' in kubectl("apply", "-f", str(path))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_kubectl_explains_a_kind(kube: Kube, kubectl: Callable[..., str], kind: Kind) -> None:
    printed = " ".join(kubectl("explain", kind.singular).split())
    assert f"KIND: {kind.kind}" in printed
    assert kind.description in printed


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("spec.parallelism", "How many runs may be unfinished at once"),
        ("spec.priors.parameters.center", "the value believed best"),
        ("spec.trialTemplate.spec", "A batch/v1 JobSpec"),
        ("status.front.values", "Objective name to value"),
    ],
)
def test_kubectl_explains_a_field(
    kube: Kube, kubectl: Callable[..., str], field: str, words: str
) -> None:
    assert words in " ".join(kubectl("explain", f"study.{field}").split())


@pytest.mark.parametrize("name", [*STUDY.short_names, STUDY.singular, STUDY.plural, "primo"])
def test_kubectl_finds_studies_by_every_name(
    kube: Kube, kubectl: Callable[..., str], name: str
) -> None:
    path = _everything(kube)
    assert "everything" in kubectl("get", name)
    kube("DELETE", path)


def test_kubectl_shows_a_study_in_columns(kube: Kube, kubectl: Callable[..., str]) -> None:
    path = _everything(kube)
    status = {
        "phase": "Optimizing",
        "progress": "17/100",
        "running": 4,
        "trials": {
            "total": 17, "queued": 1, "running": 3, "paused": 8,
            "completed": 4, "failed": 1, "stopped": 0,
        },
        "frontSize": 3,
        "hypervolumeText": "0.8735",
        "optimizer": {"stage": "Optimizing"},
        "conditions": [
            {
                "type": "Running", "status": "True", "reason": "Busy", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }  # fmt: skip
    code, body = kube("PATCH", f"{path}/status", {"status": status}, kind="merge-patch+json")
    assert code == 200, body["message"]
    head, line = (text.split() for text in kubectl("get", "studies", "everything").splitlines())
    assert head == ["NAME", "PHASE", "TRIALS", "RUNNING", "FAILED", "FRONT", "HYPERVOLUME", "AGE"]
    assert line[:-1] == ["everything", "Optimizing", "17/100", "4", "1", "3", "0.8735"]
    wide = kubectl("get", "studies", "everything", "-o", "wide").splitlines()[1].split()
    assert wide[7:9] == ["Optimizing", "Busy"]


def test_kubectl_shows_a_trial_in_columns(
    kube: Kube, kubectl: Callable[..., str], trials: list[str]
) -> None:
    head, line = (text.split() for text in kubectl("get", "trial", "digits-1").splitlines())
    assert head == ["NAME", "STUDY", "PHASE", "FIDELITY", "OBJECTIVES", "AGE"]
    assert line[:-1] == ["digits-1", "digits", "Completed", "9", "error=0.1"]
    wide = kubectl("get", "trial", "digits-1", "-o", "wide")
    assert '"activation":"relu"' in wide


def test_kubectl_scales_a_study(kube: Kube, kubectl: Callable[..., str]) -> None:
    path = _everything(kube)
    assert "scaled" in kubectl("scale", "study/everything", "--replicas=2")
    assert kube("GET", path)[1]["spec"]["parallelism"] == 2
