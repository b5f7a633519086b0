"""Mistakes in a trial's template that an API server lets through."""

import copy
from typing import Any

import pytest

from primo_operator.templates import template_mistakes
from primo_study.spec import parse
from support.builders import spec
from support.examples import INVALID, VALID, Example, example

POD = "spec.trialTemplate.spec.template.spec"
TRAIN: dict[str, Any] = {"name": "train", "image": "train:1"}
# All that a study with parameters lr and layers, a fidelity and checkpoints sets.
KNOWN = (
    "PRIMO_PARAM_LAYERS, PRIMO_PARAM_LR, PRIMO_PARAMS, PRIMO_STUDY, PRIMO_TRIAL,"
    " PRIMO_REPORT_FILE, PRIMO_FIDELITY, PRIMO_RESUME_FROM, PRIMO_CHECKPOINT_DIR"
)


def mistakes(job: dict[str, Any], **fields: Any) -> list[str]:
    spec = {
        **example("minimal").manifest["spec"],
        "parameters": [
            {"name": "lr", "float": {"min": 0.1, "max": 1}},
            {"name": "layers", "int": {"min": 1, "max": 6}},
        ],
        "fidelity": {"name": "epochs", "min": 1, "max": 9},
        "checkpoints": {"claimName": "ckpt", "mountPath": "/checkpoints"},
        "trialTemplate": {"spec": job},
        **fields,
    }
    return template_mistakes(parse(spec))


def pod(**fields: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [TRAIN], **fields}}}


def train(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{**TRAIN, **fields}])


@pytest.mark.parametrize("valid", VALID, ids=lambda e: e.name)
def test_a_valid_manifest_has_no_mistake(valid: Example) -> None:
    assert template_mistakes(parse(valid.manifest["spec"])) == []


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("template-no-pod", f"{POD}: is missing"),
        ("template-no-containers", f"{POD}.containers: is missing, expected at least one"),
        ("template-empty-containers", f"{POD}.containers: is missing, expected at least one"),
        ("template-no-image", f"{POD}.containers[0].image: is missing"),
        ("template-no-name", f"{POD}.containers[0].name: is missing"),
    ],
)
def test_what_a_schema_finds_is_found_without_one(name: str, mistake: str) -> None:
    invalid = next(e for e in INVALID if e.name == name)
    assert template_mistakes(parse(invalid.manifest["spec"])) == [mistake]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backoffLimit", 3),
        ("backoffLimit", 0),
        ("completions", 1),
        ("parallelism", 2),
        ("completionMode", "Indexed"),
        ("selector", {"matchLabels": {"a": "b"}}),
        ("manualSelector", True),
        ("suspend", False),
        ("ttlSecondsAfterFinished", 60),
        ("podFailurePolicy", {"rules": []}),
        ("podReplacementPolicy", "Failed"),
        ("successPolicy", {"rules": []}),
    ],
)
def test_fields_that_the_study_decides_are_refused(field: str, value: object) -> None:
    (line,) = mistakes({**pod(), field: value})
    assert line.startswith(f"spec.trialTemplate.spec.{field}: {value!r} is not the template's to")


def test_a_deadline_is_the_users() -> None:
    assert mistakes({**pod(), "activeDeadlineSeconds": 60}) == []


@pytest.mark.parametrize("policy", ["OnFailure", "Always"])
def test_a_run_is_never_restarted_in_place(policy: str) -> None:
    (line,) = mistakes(pod(restartPolicy=policy))
    assert line.startswith(f"{POD}.restartPolicy: {policy!r} is not Never")


def test_an_init_container_may_restart_and_is_then_a_sidecar() -> None:
    proxy = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
    assert mistakes(pod(restartPolicy="Never", initContainers=[proxy])) == []


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (train(name="primo-train"), f"{POD}.containers[0].name: 'primo-train'"),
        (
            pod(initContainers=[{"name": "primo-report", "image": "x"}]),
            f"{POD}.initContainers[0].name: 'primo-report'",
        ),
        (
            pod(volumes=[{"name": "data"}, {"name": "primo-checkpoints"}]),
            f"{POD}.volumes[1].name: 'primo-checkpoints'",
        ),
    ],
)
def test_our_names_are_taken(job: dict[str, Any], field: str) -> None:
    (line,) = mistakes(job)
    assert line == f"{field} begins with primo-, which is kept for what is added to the pod"


@pytest.mark.parametrize(
    "path", ["/primo", "/primo/", "//primo", "/data/../primo", "/primo/x", "primo"]
)
def test_our_mount_path_is_taken(path: str) -> None:
    (line,) = mistakes(train(volumeMounts=[{"name": "data", "mountPath": path}]))
    assert line.startswith(
        f"{POD}.containers[0].volumeMounts[0].mountPath: {path!r} is not outside"
    )


@pytest.mark.parametrize("path", ["/primordial", "/data/primo", "/checkpoints", "/"])
def test_other_mount_paths_are_free(path: str) -> None:
    assert mistakes(train(volumeMounts=[{"name": "data", "mountPath": path}])) == []


@pytest.mark.parametrize("name", ["PRIMO_PARAM_LR", "PRIMO_", "PRIMO_ANYTHING"])
def test_our_variables_are_not_the_users_to_set(name: str) -> None:
    (line,) = mistakes(train(env=[{"name": "A", "value": "1"}, {"name": name, "value": "2"}]))
    assert line == (
        f"{POD}.containers[0].env[1].name: {name!r} begins with PRIMO_, which is kept for what the"
        " study sets"
    )


def test_a_reference_to_a_variable_that_is_not_set_names_those_that_are() -> None:
    assert mistakes(train(env=[{"name": "LR", "value": "$(PRIMO_PARAM_LT)"}])) == [
        f"{POD}.containers[0].env[0].value: '$(PRIMO_PARAM_LT)' is not set for this study"
        f" (there are: {KNOWN})"
    ]


@pytest.mark.parametrize(
    ("container", "at"),
    [
        ({"command": ["train", "--lr=$(PRIMO_X)"]}, "command[1]"),
        ({"args": ["$(PRIMO_X)"]}, "args[0]"),
        ({"args": ["a", "$$$(PRIMO_X)"]}, "args[1]"),
        ({"args": ["$(A)$(PRIMO_X)"]}, "args[0]"),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "/$(PRIMO_X)/"}]},
            "env[1].value",
        ),
    ],
)
def test_references_are_found_wherever_kubernetes_expands_them(
    container: dict[str, Any], at: str
) -> None:
    (line,) = mistakes(train(**container))
    assert line.startswith(f"{POD}.containers[0].{at}: '$(PRIMO_X)' is not set for this study")


@pytest.mark.parametrize(
    "text",
    [
        "$(PRIMO_PARAM_LR) $(PRIMO_PARAM_LAYERS) $(PRIMO_PARAMS) $(PRIMO_FIDELITY)",
        "$(PRIMO_RESUME_FROM) $(PRIMO_CHECKPOINT_DIR) $(PRIMO_REPORT_FILE)",
        "$(PRIMO_STUDY) $(PRIMO_TRIAL)",
        "$$(PRIMO_X)",
        "$PRIMO_X ${PRIMO_X} PRIMO_X (PRIMO_X)",
        "$(OTHER) $(primo_x) $(",
    ],
)
def test_what_is_set_escaped_or_not_ours_is_no_mistake(text: str) -> None:
    assert mistakes(train(args=[text])) == []


def test_a_parameter_that_is_not_always_there_cannot_be_referred_to() -> None:
    parameters = [
        {"name": "optimizer", "categorical": {"choices": ["adam", "sgd"]}},
        {"name": "momentum", "float": {"min": 0, "max": 1}, "when": {"optimizer": ["sgd"]}},
    ]
    job = train(args=["$(PRIMO_PARAM_OPTIMIZER) $$(PRIMO_PARAM_MOMENTUM) $(PRIMO_PARAM_MOMENTUM)"])
    assert mistakes(job, parameters=parameters) == [
        f"{POD}.containers[0].args[0]: '$(PRIMO_PARAM_MOMENTUM)' is not set in every trial, since"
        " the parameter has a condition: read it from the environment"
    ]


def test_the_event_files_have_a_variable_and_a_place_of_their_own() -> None:
    job = train(args=["$(PRIMO_TENSORBOARD_DIR)"])
    assert mistakes(job, reports={"tensorboard": "/runs"}) == []
    (line,) = mistakes(job)
    assert "'$(PRIMO_TENSORBOARD_DIR)' is not set for this study" in line
    (line,) = mistakes(job, reports={"tensorboard": "/primo/runs"})
    assert line.startswith("spec.reports.tensorboard: '/primo/runs' is not outside /primo")


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("PRIMO_CHECKPOINT_DIR", "checkpoints"),
        ("PRIMO_FIDELITY", "fidelity"),
        ("PRIMO_RESUME_FROM", "fidelity"),
    ],
)
def test_some_variables_are_set_only_where_they_mean_something(name: str, without: str) -> None:
    job = train(args=[f"$({name})"])
    assert mistakes(job) == []
    (line,) = mistakes(job, **{without: None})
    assert f"'$({name})' is not set for this study" in line


def test_an_init_container_has_none_of_our_variables() -> None:
    init = {"name": "fetch", "image": "fetch:1", "args": ["$(PRIMO_PARAM_LR)"]}
    assert mistakes(pod(initContainers=[init])) == [
        f"{POD}.initContainers[0].args[0]: '$(PRIMO_PARAM_LR)' is not set in an init container"
    ]


def test_many_parameters_do_not_bury_the_mistake() -> None:
    parameters = [{"name": f"p{i}", "float": {"min": 0, "max": 1}} for i in range(64)]
    (line,) = mistakes(train(args=["$(PRIMO_PARAM_LR)"]), parameters=parameters)
    assert line.endswith(" and 59 more)")
    assert len(line) < 400


def test_all_mistakes_are_told_in_the_order_of_the_template() -> None:
    job = {**train(name="primo-a", args=["$(PRIMO_X)"]), "backoffLimit": 1}
    assert [line.split(": ")[0] for line in mistakes(job)] == [
        "spec.trialTemplate.spec.backoffLimit",
        f"{POD}.containers[0].name",
        f"{POD}.containers[0].args[0]",
    ]


@pytest.mark.parametrize(
    ("job", "mistake"),
    [
        (
            {"template": {"spec": {"containers": "train"}}},
            f"{POD}.containers: 'train' is not a list",
        ),
        (pod(initContainers=3), f"{POD}.initContainers: 3 is not a list"),
        (pod(volumes={"name": "a"}), f"{POD}.volumes: {{'name': 'a'}} is not a list"),
        (train(env={"A": 1}), f"{POD}.containers[0].env: {{'A': 1}} is not a list"),
        (train(volumeMounts="/a"), f"{POD}.containers[0].volumeMounts: '/a' is not a list"),
        (
            train(terminationMessagePath=1),
            f"{POD}.containers[0].terminationMessagePath: 1 is not a path",
        ),
        (
            {"template": {**pod()["template"], "metadata": "a"}},
            "spec.trialTemplate.spec.template.metadata: 'a' is not an object",
        ),
        (
            {"template": {**pod()["template"], "metadata": {"labels": ["a"]}}},
            "spec.trialTemplate.spec.template.metadata.labels: ['a'] is not an object",
        ),
    ],
)
def test_what_we_add_to_must_have_the_type_that_can_be_added_to(
    job: dict[str, Any], mistake: str
) -> None:
    assert mistakes(job) == [mistake]


@pytest.mark.parametrize(
    "job",
    [
        {"template": {"spec": {"containers": ["train"]}}},
        pod(volumes=["a"], initContainers=[3]),
        train(args="$(PRIMO_X)", command=[1, None]),
        train(env=[{"name": 1, "value": 2}, 3], volumeMounts=[{"mountPath": 1}]),
    ],
)
def test_other_wrong_types_are_left_to_the_dry_run(job: dict[str, Any]) -> None:
    before = copy.deepcopy(job)
    assert mistakes(job) == []
    assert job == before


def test_gpu_hours_need_a_template_that_holds_a_gpu() -> None:
    given = spec(budget={"gpuHours": 12})
    (line,) = template_mistakes(given)
    assert line.startswith("spec.budget.gpuHours: 12 could not be spent: no container")
