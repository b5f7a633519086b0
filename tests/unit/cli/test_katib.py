"""What becomes of a Katib Experiment, part by part."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from primo_cli.checks import Checker
from primo_cli.katib.metrics import READ_OUTPUT
from primo_cli.katib.notes import CannotConvertError, Fate, Notes, comments
from primo_cli.katib.study import Conversion, Wishes, convert
from primo_cli.katib.template import ConfigMaps
from primo_operator.manifest_files import dump, load_all
from primo_report.aggregate import Aggregate

Manifest = dict[str, Any]

TRAIN: Manifest = {
    "name": "train",
    "image": "registry.example/train:1",
    "command": ["python", "train.py", "--rate=${trialParameters.rate}"],
}
RATE: Manifest = {
    "name": "rate",
    "parameterType": "double",
    "feasibleSpace": {"min": "0.001", "max": "0.1"},
}


def experiment(**spec: Any) -> Manifest:
    """An Experiment over one rate, with fields of its spec replaced or, where None, left out."""
    fields = {
        "objective": {"type": "minimize", "objectiveMetricName": "loss"},
        "algorithm": {"algorithmName": "random"},
        "maxTrialCount": 20,
        "parameters": [RATE],
        "trialTemplate": template(),
        **spec,
    }
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "tuning", "namespace": "team"},
        "spec": {name: value for name, value in fields.items() if value is not None},
    }


def template(
    trial: Manifest | None = None, parameters: dict[str, str] | None = None, **fields: Any
) -> Manifest:
    references = {"rate": "rate", **(parameters or {})}
    return {
        "primaryContainerName": "train",
        "trialParameters": [{"name": n, "reference": r} for n, r in references.items()],
        "trialSpec": trial or job(),
        **fields,
    }


def job(container: Manifest | None = None, pod: Manifest | None = None, **spec: Any) -> Manifest:
    containers = [{**TRAIN, **(container or {})}]
    inner = {"restartPolicy": "Never", "containers": containers, **(pod or {})}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {**spec, "template": {"spec": inner}}}


def parameter(kind: str, **space: Any) -> Manifest:
    return {"name": "p", "parameterType": kind, "feasibleSpace": space}


def study(made: Conversion) -> Manifest:
    spec: Manifest = made.manifest["spec"]
    return spec


def pod(made: Conversion) -> Manifest:
    inner: Manifest = study(made)["trialTemplate"]["spec"]["template"]["spec"]
    return inner


def told(made: Conversion, fate: Fate) -> str:
    return "\n".join(f"{note.field}: {note.text}" for note in made.notes.of(fate))


def refusal(manifest: Manifest, wishes: Wishes | None = None) -> str:
    with pytest.raises(CannotConvertError) as caught:
        convert(manifest, wishes=wishes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


def test_a_plain_experiment(checker: Checker) -> None:
    made = convert(experiment())
    assert made.manifest == {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": "PriMOStudy",
        "metadata": {"name": "tuning", "namespace": "team"},
        "spec": {
            "objectives": [{"name": "loss", "goal": "Minimize", "metric": "loss", "reduce": "Min"}],
            "parameters": [{"name": "rate", "float": {"min": 0.001, "max": 0.1}}],
            "algorithm": {"name": "random"},
            "budget": {"trials": 20},
            "parallelism": 3,
            "retries": {"application": 6},
            "trialTemplate": {
                "spec": {
                    "template": {
                        "spec": {
                            "restartPolicy": "Never",
                            "containers": [
                                {
                                    **TRAIN,
                                    "command": ["python", "train.py", "--rate=$(PRIMO_PARAM_RATE)"],
                                }
                            ],
                        }
                    }
                }
            },
        },
    }
    assert checker.check(made.manifest) == []
    assert told(made, Fate.APPROXIMATED) == told(made, Fate.LEFT_OUT) == ""


def test_what_was_given_is_not_changed() -> None:
    given = experiment(metricsCollectorSpec={"collector": {"kind": "File"}})
    before = copy.deepcopy(given)
    convert(given, wishes=Wishes(wrap=True))
    assert given == before


# --- parameters


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            parameter("double", min="1e-5", max="1"),
            {"float": {"min": 1e-5, "max": 1}},
            id="double",
        ),
        pytest.param(
            parameter("double", min="0.1", max="1", distribution="logUniform"),
            {"float": {"min": 0.1, "max": 1, "log": True}},
            id="log",
        ),
        pytest.param(
            parameter("double", min="0.1", max="0.4", step="0.1"),
            {"ordinal": {"values": [0.1, 0.2, 0.3, 0.4]}},
            id="a step is exact",
        ),
        pytest.param(
            parameter("double", min="0", max="1", step="0.01"),
            {"float": {"min": 0, "max": 1}},
            id="too many steps",
        ),
        pytest.param(parameter("int", min="1", max="9"), {"int": {"min": 1, "max": 9}}, id="int"),
        pytest.param(
            parameter("int", min="1", max="9", step="1"), {"int": {"min": 1, "max": 9}}, id="step 1"
        ),
        pytest.param(
            parameter("int", min="32", max="130", step="32"),
            {"ordinal": {"values": [32, 64, 96, 128]}},
            id="int with a step that misses the end",
        ),
        pytest.param(
            parameter("int", min=16, max=128, distribution="logUniform"),
            {"int": {"min": 16, "max": 128, "log": True}},
            id="numbers that are no texts",
        ),
        pytest.param(
            parameter("discrete", list=["64", "16", "32", "32"]),
            {"ordinal": {"values": [16, 32, 64]}},
            id="discrete",
        ),
        pytest.param(
            parameter("categorical", list=["sgd", "adam", "sgd"]),
            {"categorical": {"choices": ["sgd", "adam"]}},
            id="categorical",
        ),
        pytest.param(
            parameter("categorical", list=["16", "32"]),
            {"categorical": {"choices": ["16", "32"]}},
            id="categorical numbers stay words",
        ),
        pytest.param(
            parameter("categorical", list=[str(i) for i in range(40)]),
            {"ordinal": {"values": list(range(40))}},
            id="more numbers than words may be",
        ),
    ],
)
def test_parameters(checker: Checker, given: Manifest, expected: Manifest) -> None:
    made = convert(experiment(parameters=[RATE, given], trialTemplate=template(None, {"p": "p"})))
    assert study(made)["parameters"][1] == {"name": "p", **expected}
    assert checker.check(made.manifest) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (parameter("double", min="0", max="1", step="0.01"), "101 values"),
        (parameter("double", min="0", max="1", distribution="normal"), "the middle of the range"),
        (parameter("double", min="0.1", max="1", step="0.1", distribution="normal"), "the middle"),
        (parameter("double", min="0", max="1", distribution="logUniform"), "needs a min above 0"),
        (
            parameter("double", min="0.1", max="1", step="0.1", distribution="logUniform"),
            "logUniform with a step: here all values are equally likely",
        ),
    ],
)
def test_what_a_parameter_loses_is_told(given: Manifest, words: str) -> None:
    made = convert(experiment(parameters=[RATE, given]))
    assert words in told(made, Fate.APPROXIMATED)


@pytest.mark.parametrize(
    "given",
    [
        parameter("int", min="5", max="5"),
        parameter("double", min="5", max="5"),
        parameter("categorical", list=["5"]),
        parameter("discrete", list=["5"]),
    ],
)
def test_what_does_not_vary_is_written_into_the_template(given: Manifest) -> None:
    trial = job({"args": ["--p=${trialParameters.x}"], "image": "train:${trialParameters.x}"})
    made = convert(experiment(parameters=[RATE, given], trialTemplate=template(trial, {"x": "p"})))
    assert len(study(made)["parameters"]) == 1
    assert pod(made)["containers"][0]["args"] == ["--p=5"]
    assert pod(made)["containers"][0]["image"] == "train:5"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (parameter("double", min="1", max="0"), "parameters[p].feasibleSpace.min: 1 is above max"),
        (parameter("double", min="1"), "parameters[p].feasibleSpace.max: is missing"),
        (parameter("double", min="a", max="b"), "parameters[p].feasibleSpace.min: 'a' is not a"),
        (parameter("double", min="nan", max="1"), "'nan' is not a number"),
        (parameter("double", min="0", max="1", step="0"), "step: 0 is not above 0"),
        (parameter("int", min="0.5", max="3"), "0.5 to 3 are not whole numbers"),
        (parameter("categorical"), "parameters[p].feasibleSpace.list: is missing"),
        (parameter("categorical", list=[f"w{i}" for i in range(33)]), "33 words"),
        (parameter("discrete", list=[str(i) for i in range(65)]), "65 numbers"),
        (parameter("quantum", min="0", max="1"), "parameters[p].parameterType: 'quantum'"),
    ],
)
def test_parameters_that_cannot_be(given: Manifest, reason: str) -> None:
    assert reason in refusal(experiment(parameters=[RATE, given]))


def test_a_space_of_constants_is_no_space() -> None:
    constant = parameter("int", min="5", max="5")
    assert refusal(experiment(parameters=[constant])).startswith("parameters: none of them varies")
    assert refusal(experiment(parameters=None)).startswith("parameters: none of them varies")


def test_names_become_variables_and_stay_apart(checker: Checker) -> None:
    kinds = [{**RATE, "name": name} for name in ("num-layers", "num.layers", "2nd", "NUM_layers")]
    trial = job({"args": ["${trialParameters.a} ${trialParameters.b}"]})
    references = {"rate": "2nd", "a": "num-layers", "b": "num.layers"}
    made = convert(experiment(parameters=kinds, trialTemplate=template(trial, references)))
    names = [p["name"] for p in study(made)["parameters"]]
    assert names == ["num_layers", "num_layers_2", "_2nd", "NUM_layers_3"]
    assert pod(made)["containers"][0]["args"] == [
        "$(PRIMO_PARAM_NUM_LAYERS) $(PRIMO_PARAM_NUM_LAYERS_2)"
    ]
    assert "parameters[num-layers]: is called num_layers" in told(made, Fate.MAPPED)
    assert checker.check(made.manifest) == []


# --- objectives


def objectives(wishes: dict[str, str] | None = None, **fields: Any) -> list[Manifest]:
    objective = {"type": "maximize", "objectiveMetricName": "acc", **fields}
    made = convert(experiment(objective=objective), wishes=Wishes(wishes or {}))
    found: list[Manifest] = study(made)["objectives"]
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"goal": "Maximize", "reduce": "Max"}),
        ({"type": "minimize"}, {"goal": "Minimize", "reduce": "Min"}),
        ({"goal": 0.99}, {"goal": "Maximize", "reduce": "Max", "target": 0.99}),
        ({"goal": 1}, {"goal": "Maximize", "reduce": "Max", "target": 1}),
        (
            {"metricStrategies": [{"name": "acc", "value": "latest"}]},
            {"goal": "Maximize", "reduce": "Last"},
        ),
        (
            {"metricStrategies": [{"name": "loss", "value": "min"}]},
            {"goal": "Maximize", "reduce": "Max"},
        ),
    ],
)
def test_one_objective(fields: Manifest, expected: Manifest) -> None:
    assert objectives(**fields) == [{"name": "acc", "metric": "acc", **expected}]


def test_a_metric_that_is_named_twice_is_one() -> None:
    objective = {"type": "minimize", "objectiveMetricName": "loss"}
    given = experiment(objective={**objective, "additionalMetricNames": ["loss", "cost", "cost"]})
    made = convert(given, wishes=WRAP)
    assert "loss: is no objective" not in told(made, Fate.LEFT_OUT)
    assert "loss cost" in pod(made)["containers"][0]["command"]


def test_a_namespace_that_is_none_is_named() -> None:
    given = experiment()
    given["metadata"]["namespace"] = 1.5
    assert refusal(given) == "metadata.namespace: 1.5 is not a name"


def test_a_line_of_the_report_stays_one() -> None:
    made = convert(experiment(algorithm={"algorithmName": "t\u2028x: y"}))
    assert load_all(comments("title", made.notes) + "a: 1\n") == [{"a": 1}]


def test_an_additional_metric_becomes_an_objective_on_demand() -> None:
    made = convert(
        experiment(
            objective={
                "type": "maximize",
                "objectiveMetricName": "Validation-accuracy",
                "additionalMetricNames": ["latency", "loss"],
            }
        ),
        wishes=Wishes({"latency": "Minimize"}),
    )
    first, second = study(made)["objectives"]
    assert (first["name"], first["metric"]) == ("Validation_accuracy", "Validation-accuracy")
    # The best of each, measured at different moments, would be no trade-off.
    assert second == {"name": "latency", "goal": "Minimize", "metric": "latency", "reduce": "Last"}
    assert "additionalMetricNames: loss: is no objective" in told(made, Fate.LEFT_OUT)
    assert "latency" not in told(made, Fate.LEFT_OUT)
    assert '"Validation-accuracy": ..., "latency": ..., "loss": ...' in told(made, Fate.TO_DO)


def test_a_further_objective_that_the_experiment_does_not_name_has_to_be_reported() -> None:
    made = convert(experiment(), wishes=Wishes({"latency": "Minimize"}))
    assert "--objective latency: the Experiment names no such metric" in told(made, Fate.TO_DO)


def test_objectives_that_cannot_be() -> None:
    assert "objective: " in refusal(experiment(objective=None))
    bad = {"type": "best", "objectiveMetricName": "acc"}
    assert refusal(experiment(objective=bad)).startswith("objective.type: 'best' is not minimize")
    again = Wishes({"loss": "Minimize"})
    assert refusal(experiment(), again).startswith("--objective loss: is the Experiment's")


# --- the search


@pytest.mark.parametrize(
    ("katib", "ours", "approximated"),
    [
        ("random", "random", False),
        ("grid", "random", True),
        ("tpe", "primo", True),
        ("multivariate-tpe", "primo", True),
        ("bayesianoptimization", "primo", True),
        ("cmaes", "primo", True),
        ("sobol", "moasha", True),
        ("pbt", "primo", True),
        ("something-else", "primo", True),
    ],
)
def test_algorithms(checker: Checker, katib: str, ours: str, approximated: bool) -> None:
    made = convert(experiment(algorithm={"algorithmName": katib}))
    assert study(made)["algorithm"] == {"name": ours}
    assert (f"algorithm: {katib}: is" in told(made, Fate.APPROXIMATED)) is approximated
    assert checker.check(made.manifest) == []


def test_a_seed_stays_and_other_settings_do_not() -> None:
    settings = [{"name": "random_state", "value": "10"}, {"name": "gamma", "value": "0.3"}]
    made = convert(experiment(algorithm={"algorithmName": "tpe", "algorithmSettings": settings}))
    assert study(made)["algorithm"] == {"name": "primo", "seed": 10}
    assert "algorithmSettings: gamma: settings of tpe" in told(made, Fate.LEFT_OUT)


def test_a_grid_is_counted() -> None:
    coarse = parameter("double", min="0", max="1", step="0.25")
    words = {**parameter("categorical", list=["a", "b", "c"]), "name": "q"}
    made = convert(
        experiment(
            algorithm={"algorithmName": "grid"},
            maxTrialCount=None,
            parameters=[coarse, words],
            trialTemplate=template(None, {"rate": "p"}),
        )
    )
    assert study(made)["budget"] == {"trials": 15}
    assert "each of the 15 configurations at most once" in told(made, Fate.APPROXIMATED)


EPOCHS: Manifest = {
    "name": "num-epochs",
    "parameterType": "int",
    "feasibleSpace": {"min": "2", "max": "50"},
}


def trained(**spec: Any) -> Manifest:
    """An Experiment with a number of epochs."""
    trial = job({"args": ["--epochs=${trialParameters.epochs}"]})
    return experiment(
        parameters=[RATE, EPOCHS],
        trialTemplate=template(trial, {"epochs": "num-epochs"}),
        **spec,
    )


def hyperband(**settings: str) -> Manifest:
    given = {"resource_name": "num-epochs", "r_l": "27", **settings}
    pairs = [{"name": name, "value": value} for name, value in given.items() if value]
    return trained(algorithm={"algorithmName": "hyperband", "algorithmSettings": pairs})


@pytest.mark.parametrize(
    ("settings", "fidelity"),
    [
        ({}, {"min": 1, "max": 27, "eta": 3}),
        ({"r_l": "81"}, {"min": 1, "max": 81, "eta": 3}),
        ({"r_l": "10", "eta": "2"}, {"min": 1, "max": 10, "eta": 2}),
        ({"r_l": "50", "eta": "4"}, {"min": 3, "max": 50, "eta": 4}),
        ({"r_l": "243.0", "eta": "3.0"}, {"min": 1, "max": 243, "eta": 3}),
    ],
)
def test_the_resource_of_hyperband_is_the_fidelity(
    checker: Checker, settings: dict[str, str], fidelity: Manifest
) -> None:
    made = convert(hyperband(**settings))
    assert study(made)["fidelity"] == {"name": "num_epochs", **fidelity}
    assert [p["name"] for p in study(made)["parameters"]] == ["rate"]
    assert pod(made)["containers"][0]["args"] == ["--epochs=$(PRIMO_FIDELITY)"]
    assert "fidelity=epoch" in told(made, Fate.TO_DO)
    assert checker.check(made.manifest) == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"resource_name": ""}, "resource_name: None is not one of parameters (rate, num-epochs)"),
        ({"resource_name": "epochs"}, "resource_name: 'epochs' is not one of parameters"),
        ({"r_l": ""}, "r_l: None is not a number of 1 or more"),
        ({"r_l": "0.5"}, "r_l: '0.5' is not a number of 1 or more"),
        ({"eta": "1"}, "eta: 1 is not 2 or more"),
    ],
)
def test_a_hyperband_that_katib_refuses(settings: dict[str, str], reason: str) -> None:
    assert reason in refusal(hyperband(**settings))


def test_early_stopping_needs_a_fidelity(checker: Checker) -> None:
    stopping = trained(earlyStopping={"algorithmName": "medianstop"})
    made = convert(stopping)
    assert "fidelity" not in study(made)
    assert "earlyStopping: medianstop: trials run to their end" in told(made, Fate.LEFT_OUT)
    made = convert(stopping, wishes=Wishes(fidelity="num-epochs"))
    assert study(made)["fidelity"] == {"name": "num_epochs", "min": 2, "max": 50}
    assert study(made)["algorithm"] == {"name": "moasha"}
    assert "earlyStopping: medianstop: the fidelity" in told(made, Fate.APPROXIMATED)
    assert checker.check(made.manifest) == []


def test_a_fidelity_that_cannot_be() -> None:
    assert "'epochs' is not one of parameters" in refusal(trained(), Wishes(fidelity="epochs"))
    zero = {**EPOCHS, "feasibleSpace": {"min": "0", "max": "9"}}
    given = experiment(parameters=[RATE, zero])
    assert "0 to 9 is no range above 0" in refusal(given, Wishes(fidelity="num-epochs"))
    assert "hyperband has its resource" in refusal(hyperband(), Wishes(fidelity="num-epochs"))


@pytest.mark.parametrize(
    "spec", [{"algorithm": {"algorithmName": "enas"}}, {"nasConfig": {"graphConfig": {}}}]
)
def test_architectures_are_not_searched(spec: Manifest) -> None:
    assert refusal(experiment(**spec)).startswith("nasConfig: an architecture search")


# --- the budget


@pytest.mark.parametrize(
    ("spec", "budget"),
    [
        ({"maxTrialCount": 7}, {"trials": 7}),
        # Katib gives up at so many failed trials, a study when there are more.
        ({"maxFailedTrialCount": 3}, {"trials": 20, "failedTrials": 2}),
        ({"maxFailedTrialCount": 0}, {"trials": 20, "failedTrials": 0}),
        ({"maxTrialCount": None}, {"trials": 100}),
    ],
)
def test_budgets(spec: Manifest, budget: Manifest) -> None:
    made = convert(experiment(**spec))
    assert study(made)["budget"] == budget
    assert ("maxTrialCount" in told(made, Fate.APPROXIMATED)) is (budget["trials"] == 100)


def test_the_rest_of_the_spec() -> None:
    made = convert(experiment(parallelTrialCount=5, resumePolicy="FromVolume", maxTrials=3))
    assert study(made)["parallelism"] == 5
    assert "resumePolicy: FromVolume: needs nothing" in told(made, Fate.MAPPED)
    assert "maxTrials: is not a field of an Experiment" in told(made, Fate.LEFT_OUT)


def test_metadata_stays_but_for_what_kubectl_wrote() -> None:
    given = experiment()
    given["metadata"] = {
        "generateName": "tuning-",
        "labels": {"team": "vision"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
        "uid": "1",
    }
    made = convert(given).manifest["metadata"]
    assert made == {"name": "tuning", "labels": {"team": "vision"}, "annotations": {"a": "b"}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"apiVersion": "kubeflow.org/v1alpha3"}, "apiVersion: 'kubeflow.org/v1alpha3' is not"),
        ({"spec": None}, "spec.objective: field required"),
        ({"spec": 3}, "spec: "),
    ],
)
def test_what_is_no_experiment(change: Manifest, reason: str) -> None:
    assert refusal({**experiment(), **change}).startswith(reason)


# --- the template


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${trialParameters.rate}", "R"),
        ("a=${trialParameters.rate},b=${trialParameters.rate}", "a=R,b=R"),
        # $$ is one $ to Kubernetes, before and after.
        ("$${trialParameters.rate}", "$$R"),
        ("$$${trialParameters.rate}", "$$R"),
        ("$$$${trialParameters.rate}", "$$$$R"),
        ("$(HOME)/${trialParameters.rate}", "$(HOME)/R"),
        ("$HOME ${HOME} $$", "$HOME ${HOME} $$"),
    ],
)
def test_placeholders_become_what_kubernetes_expands(text: str, expected: str) -> None:
    expected = expected.replace("R", "$(PRIMO_PARAM_RATE)")
    trial = job({"args": [text], "env": [{"name": "RATE", "value": text}]})
    (container,) = pod(convert(experiment(trialTemplate=template(trial))))["containers"]
    assert container["args"] == [expected]
    assert container["env"] == [{"name": "RATE", "value": expected}]


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (
            job({"image": "train:${trialParameters.rate}"}),
            "stands in spec.template.spec.containers[0].image, and Kubernetes expands no variable",
        ),
        (
            job(pod={"nodeSelector": {"rate": "${trialParameters.rate}"}}),
            "stands in spec.template.spec.nodeSelector.rate, and",
        ),
        (
            job(pod={"initContainers": [{"name": "a", "args": ["${trialParameters.rate}"]}]}),
            "stands in spec.template.spec.initContainers[0].args[0], and an init container has no",
        ),
        (
            job({"args": ["${trialParameters.epochs}"]}),
            "${trialParameters.epochs} in spec.template.spec.containers[0].args[0] is not one of",
        ),
    ],
)
def test_placeholders_that_cannot_be(trial: Manifest, reason: str) -> None:
    assert reason in refusal(experiment(trialTemplate=template(trial)))


def test_a_reference_must_be_a_parameter() -> None:
    given = experiment(trialTemplate=template(None, {"x": "momentum"}))
    assert "trialParameters[1].reference: 'momentum' is not one of" in refusal(given)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("${trialSpec.Name}", "$(PRIMO_STUDY)-$(PRIMO_TRIAL)"),
        ("${trialSpec.Namespace}", "team"),
        ("${trialSpec.Kind}", "Job"),
        ("${trialSpec.APIVersion}", "batch/v1"),
        ("${trialSpec.Labels[tier/kind]}", "gpu"),
        ("${trialSpec.Annotations[note]}", "mine"),
    ],
)
def test_what_katib_knew_of_the_trial(checker: Checker, reference: str, expected: str) -> None:
    trial = job({"env": [{"name": "X", "value": "${trialParameters.x}"}]})
    trial["metadata"] = {"labels": {"tier/kind": "gpu"}, "annotations": {"note": "mine"}}
    made = convert(experiment(trialTemplate=template(trial, {"x": reference})))
    assert pod(made)["containers"][0]["env"] == [{"name": "X", "value": expected}]
    assert study(made)["trialTemplate"]["metadata"] == trial["metadata"]
    assert checker.check(made.manifest) == []


def test_a_namespace_that_is_not_given_is_asked_of_kubernetes(checker: Checker) -> None:
    trial = job({"env": [{"name": "X", "value": "${trialParameters.x}"}]})
    references = {"x": "${trialSpec.Namespace}"}
    given = experiment(trialTemplate=template(trial, references))
    del given["metadata"]["namespace"]
    made = convert(given)
    assert pod(made)["containers"][0]["env"] == [
        {
            "name": "KATIB_TRIAL_NAMESPACE",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        },
        {"name": "X", "value": "$(KATIB_TRIAL_NAMESPACE)"},
    ]
    assert checker.check(made.manifest) == []


def test_metadata_that_the_template_lacks() -> None:
    given = experiment(trialTemplate=template(None, {"x": "${trialSpec.Labels[nobody]}"}))
    assert "${trialSpec.Labels[nobody]} is not in trialSpec.metadata" in refusal(given)


def test_what_the_study_decides_leaves_the_job(checker: Checker) -> None:
    trial = job(
        pod={"restartPolicy": "OnFailure"},
        backoffLimit=4,
        completions=1,
        parallelism=1,
        ttlSecondsAfterFinished=60,
        activeDeadlineSeconds=600,
    )
    made = convert(experiment(trialTemplate=template(trial)))
    assert study(made)["retries"] == {"application": 4}
    assert study(made)["trialTemplate"]["spec"].keys() == {"activeDeadlineSeconds", "template"}
    assert pod(made)["restartPolicy"] == "Never"
    assert "restartPolicy: OnFailure is Never" in told(made, Fate.APPROXIMATED)
    left_out = told(made, Fate.LEFT_OUT)
    assert "ttlSecondsAfterFinished" in left_out
    assert checker.check(made.manifest) == []


@pytest.mark.parametrize(
    ("given", "retention", "words"),
    [
        ({}, None, ""),
        ({"retain": True}, None, "retain: is the default"),
        ({"retain": False}, {"jobs": "None"}, "retain: is spec.retention.jobs None"),
    ],
)
def test_which_jobs_are_kept(given: Any, retention: Any, words: str, checker: Checker) -> None:
    made = convert(experiment(trialTemplate=template(job(), **given)))
    assert study(made).get("retention") == retention
    assert words in told(made, Fate.MAPPED)
    assert ("retain" in told(made, Fate.MAPPED)) == bool(words)
    assert checker.check(made.manifest) == []


def test_several_pods_are_no_trial() -> None:
    given = experiment(trialTemplate=template(job(parallelism=2)))
    assert "spec.parallelism: 2 pods, and a PriMO trial is one" in refusal(given)


def replicas(kind: str, field: str, **counts: int | None) -> Manifest:
    inner = {"spec": {"containers": [TRAIN]}}
    roles = {
        role: {"restartPolicy": "OnFailure", "template": inner}
        | ({} if count is None else {"replicas": count})
        for role, count in counts.items()
    }
    spec = {field: roles, "runPolicy": {"activeDeadlineSeconds": 60, "cleanPodPolicy": "None"}}
    return {"apiVersion": "kubeflow.org/v1", "kind": kind, "spec": spec}


@pytest.mark.parametrize(
    "trial",
    [
        replicas("PyTorchJob", "pytorchReplicaSpecs", Master=1),
        replicas("PyTorchJob", "pytorchReplicaSpecs", Master=None),
        replicas("TFJob", "tfReplicaSpecs", Chief=1, Worker=0),
        replicas("XGBoostJob", "xgbReplicaSpecs", Master=1),
        replicas("PaddleJob", "paddleReplicaSpecs", Worker=1),
        replicas("JAXJob", "jaxReplicaSpecs", Worker=1),
    ],
)
def test_a_job_of_one_replica_is_its_pod(checker: Checker, trial: Manifest) -> None:
    made = convert(experiment(trialTemplate=template(trial)))
    assert pod(made)["containers"][0]["command"][2] == "--rate=$(PRIMO_PARAM_RATE)"
    assert study(made)["trialTemplate"]["spec"]["activeDeadlineSeconds"] == 60
    assert f"{trial['kind']} of one replica" in told(made, Fate.APPROXIMATED)
    assert checker.check(made.manifest) == []


def elastic(most: int) -> Manifest:
    trial = replicas("PyTorchJob", "pytorchReplicaSpecs", Master=1)
    policy = {"minReplicas": 1, "maxReplicas": most}
    trial["spec"] |= {"nprocPerNode": "4", "elasticPolicy": policy}
    return trial


def test_what_else_a_training_operator_was_told_is_named() -> None:
    made = convert(experiment(trialTemplate=template(elastic(1))))
    left_out = told(made, Fate.LEFT_OUT)
    for part in ("nprocPerNode", "elasticPolicy", "pytorchReplicaSpecs.restartPolicy"):
        assert f"trialSpec.spec.{part}: it is PyTorchJob's" in left_out


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (elastic(4), "spec.elasticPolicy: up to 4 pods, and a PriMO trial is one"),
        (replicas("PyTorchJob", "pytorchReplicaSpecs", Master=1, Worker=1), "Master 1, Worker 1"),
        (replicas("TFJob", "tfReplicaSpecs", Worker=2), "Worker 2 are 2 pods"),
        (replicas("TFJob", "pytorchReplicaSpecs", Worker=1), "none are 0 pods"),
        ({"kind": "MPIJob", "spec": {}}, "kind: MPIJob: its launcher and workers"),
        ({"kind": "TrainJob", "spec": {}}, "kind: TrainJob: its pod stands in a TrainingRuntime"),
        ({"kind": "Workflow", "spec": {}}, "kind: Workflow: a PriMO trial is one pod"),
        ({"kind": "PipelineRun", "spec": {}}, "kind: PipelineRun: a PriMO trial is one pod"),
        ({"kind": "RayJob", "spec": {}}, "kind: 'RayJob' is not one of Job, JAXJob"),
        ({"kind": "Job"}, "trialTemplate.trialSpec.spec: is missing"),
        ({"kind": "Job", "spec": {"template": {}}}, "there is no pod with containers"),
        (job(pod={"containers": []}), "there is no pod with containers"),
    ],
)
def test_trials_that_cannot_be(trial: Manifest, reason: str) -> None:
    assert reason in refusal(experiment(trialTemplate=template(trial)))


def test_a_template_in_a_config_map_is_read_where_it_is_given(checker: Checker) -> None:
    source = {
        "configMapName": "templates",
        "configMapNamespace": "kubeflow",
        "templatePath": "plain.yaml",
    }
    given = experiment(trialTemplate=template(configMap=source, trialSpec=None))
    assert "give that manifest as another FILE" in refusal(given)
    config_map = {
        "kind": "ConfigMap",
        "metadata": {"name": "templates", "namespace": "kubeflow"},
        "data": {"plain.yaml": dump(job()), "broken.yaml": "a: ["},
    }
    made = convert(given, ConfigMaps([config_map]))
    assert made.manifest == convert(experiment()).manifest
    source["templatePath"] = "broken.yaml"
    with pytest.raises(CannotConvertError, match=r"broken\.yaml is not one manifest"):
        convert(given, ConfigMaps([config_map]))


def test_a_template_there_is_none_of() -> None:
    assert refusal(experiment(trialTemplate=None)) == "trialTemplate: is missing"
    nothing = template(trialSpec=None)
    assert "neither trialSpec nor configMap" in refusal(experiment(trialTemplate=nothing))


# --- metrics


def collecting(kind: str, **spec: Any) -> Manifest:
    return experiment(metricsCollectorSpec={"collector": {"kind": kind}, **spec})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "StdOut",
            "nothing reads the output for metrics. Convert with --wrap-command, or call report(",
        ),
        ("File", "nothing reads /var/log/katib/metrics.log"),
        ("PrometheusMetric", "nothing is scraped for objectives"),
        ("Custom", "the container the collector is left out"),
        ("Push", "report takes the place of report_metrics"),
        ("None", "the collector None is left out"),
    ],
)
def test_each_collector_says_what_the_script_has_to_do(kind: str, words: str) -> None:
    to_do = told(convert(collecting(kind)), Fate.TO_DO)
    assert words in to_do
    assert "all report(step=epoch, loss=...), of primo_report" in to_do
    assert '{"step": 1, "metrics": {"loss": 0.1}}' in to_do
    assert "PRIMO_REPORT_FILE" in to_do


@pytest.mark.parametrize(
    ("kind", "path", "folder"),
    [
        ("File", {"path": "/katib/train.log", "kind": "File"}, "/katib"),
        ("File", {"path": "/katib/train.json", "format": "JSON"}, "/katib"),
        ("Custom", {"path": "/katib/train.log", "kind": "File"}, "/katib"),
    ],
)
def test_the_folder_that_the_script_writes_to_is_there(
    checker: Checker, kind: str, path: Manifest, folder: str
) -> None:
    made = convert(collecting(kind, source={"fileSystemPath": path}))
    (mount,) = pod(made)["containers"][0]["volumeMounts"]
    assert mount == {"name": "metrics-volume", "mountPath": folder}
    assert pod(made)["volumes"] == [{"name": "metrics-volume", "emptyDir": {}}]
    assert checker.check(made.manifest) == []


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ({}, "/var/log/katib/tfevent"),
        ({"fileSystemPath": {"path": "/logs/events", "kind": "Directory"}}, "/logs/events"),
        ({"fileSystemPath": {"path": "/logs/events/"}}, "/logs/events"),
    ],
)
def test_event_files_are_followed_by_the_sidecar(
    checker: Checker, source: Manifest, folder: str
) -> None:
    made = convert(collecting("TensorFlowEvent", source=source))
    assert made.manifest["spec"]["reports"] == {"tensorboard": folder}
    assert "volumes" not in pod(made), "the study mounts it"
    assert told(made, Fate.TO_DO) == ""
    assert folder in told(made, Fate.MAPPED)
    assert checker.check(made.manifest) == []


def test_event_files_in_a_folder_that_the_template_mounts_are_left_to_the_script() -> None:
    mounts, volumes = [{"name": "data", "mountPath": "/logs"}], [{"name": "data", "emptyDir": {}}]
    trial = job({"volumeMounts": mounts}, pod={"volumes": volumes})
    source = {"fileSystemPath": {"path": "/logs", "kind": "Directory"}}
    collector = {"collector": {"kind": "TensorFlowEvent"}, "source": source}
    made = convert(experiment(trialTemplate=template(trial), metricsCollectorSpec=collector))
    assert "reports" not in made.manifest["spec"]
    assert "nothing reads event files in /logs. Call" in told(made, Fate.TO_DO)


def test_a_folder_that_is_mounted_already_stays_so() -> None:
    mounts = [{"name": "data", "mountPath": "/katib/"}]
    volumes = [{"name": "data", "emptyDir": {}}]
    trial = job({"volumeMounts": mounts}, pod={"volumes": volumes})
    source = {"fileSystemPath": {"path": "/katib/train.log"}}
    collector = {"collector": {"kind": "File"}, "source": source}
    made = convert(experiment(trialTemplate=template(trial), metricsCollectorSpec=collector))
    assert pod(made)["volumes"] == volumes
    assert pod(made)["containers"][0]["volumeMounts"] == mounts


WRAP = Wishes(wrap=True)


def test_a_command_can_be_wrapped(checker: Checker) -> None:
    objective = {
        "type": "minimize",
        "objectiveMetricName": "loss",
        "additionalMetricNames": ["Val-acc", "train loss"],
    }
    made = convert(experiment(objective=objective), wishes=WRAP)
    command = pod(made)["containers"][0]["command"]
    assert command[:4] == ["/bin/sh", "-c", READ_OUTPUT, "read-output"]
    assert command[4:] == ["loss Val-acc", "python", "train.py", "--rate=$(PRIMO_PARAM_RATE)"]
    assert told(made, Fate.TO_DO) == ""
    assert checker.check(made.manifest) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (collecting("File"), "Katib's collector was File"),
        (
            collecting("StdOut", source={"filter": {"metricsFormat": ["(.*): (.*)"]}}),
            "a metricsFormat of its own",
        ),
        (
            experiment(objective={"type": "minimize", "objectiveMetricName": "my loss"}),
            "'my loss' is no NAME of NAME=VALUE",
        ),
        (
            experiment(trialTemplate=template(job({"command": None}))),
            "the container has no command",
        ),
    ],
)
def test_where_wrapping_does_not_help_the_script_has_to(given: Manifest, why: str) -> None:
    made = convert(given, wishes=WRAP)
    assert "/bin/sh" not in str(made.manifest)
    assert "--wrap-command does not help: " in told(made, Fate.TO_DO)
    assert why in told(made, Fate.TO_DO)


needs_shell = pytest.mark.skipif(not shutil.which("awk"), reason="there is no awk")


def wrapped(tmp_path: Path, script: str) -> tuple[int, str, list[Manifest]]:
    """Exit code, output and reports of a script in the wrapper."""
    report = tmp_path / "report.jsonl"
    done = subprocess.run(
        ["/bin/sh", "-c", READ_OUTPUT, "read-output", "loss Val-acc", "/bin/sh", "-c", script],
        env={**os.environ, "PRIMO_REPORT_FILE": str(report)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = report.read_text().splitlines() if report.exists() else []
    assert done.stderr == ""
    return done.returncode, done.stdout, [json.loads(line)["metrics"] for line in lines]


@needs_shell
@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ("loss=0.25", [{"loss": 0.25}]),
        ("epoch 3: loss = 0.25, Val-acc=.5", [{"loss": 0.25}, {"Val-acc": 0.5}]),
        ("loss=-7.5e-05", [{"loss": -7.5e-05}]),
        ("loss=1E0 loss=+2", [{"loss": 1}, {"loss": 2}]),
        ("my_loss=1 loss2=1 train-loss=1 loss: 1", []),
        ("loss=nan loss= loss", []),
    ],
)
def test_the_wrapper_reads_what_katibs_collector_read(
    tmp_path: Path, line: str, metrics: list[Manifest]
) -> None:
    code, output, reports = wrapped(tmp_path, f"echo '{line}'")
    assert (code, output, reports) == (0, f"{line}\n", metrics)


@needs_shell
def test_the_wrapper_passes_output_and_exit_code_on(tmp_path: Path) -> None:
    script = 'echo loss=1; echo "oh no" >&2; exit 3'
    assert wrapped(tmp_path, script) == (3, "loss=1\noh no\n", [{"loss": 1}])


@needs_shell
def test_the_wrapper_passes_on_each_line_at_once(tmp_path: Path) -> None:
    """The script prints the second when the first has been reported."""
    report = tmp_path / "report.jsonl"
    waits = f"until [ -s {report} ]; do sleep 0.05; done"
    code, output, reports = wrapped(tmp_path, f"echo loss=1; {waits}; echo loss=2")
    assert (code, output, reports) == (0, "loss=1\nloss=2\n", [{"loss": 1}, {"loss": 2}])


@needs_shell
def test_the_sidecar_understands_the_wrapper(tmp_path: Path) -> None:
    wrapped(tmp_path, "echo loss=3; echo loss=1 Val-acc=9; echo loss=2")
    aggregate = Aggregate(["loss"])
    for line in (tmp_path / "report.jsonl").read_bytes().splitlines():
        aggregate.take(line)
    summary = aggregate.summary()
    assert (summary.metrics["loss"].min, summary.metrics["loss"].last) == (1, 2)
    assert summary.rejected == 0


def test_kubernetes_leaves_the_wrapper_alone() -> None:
    assert "$(" not in READ_OUTPUT
    assert "$$" not in READ_OUTPUT


# --- the text


def test_the_report_is_comments_that_say_what_matters_first() -> None:
    notes = Notes()
    notes.mapped("a", "is b")
    notes.to_do("c", "word " * 30)
    head = comments("From here.", notes)
    assert head.splitlines()[:3] == ["# From here.", "#", "# To do before it runs:"]
    assert head.index("# - c: word") < head.index("# Mapped:") < head.index("# - a: is b")
    assert all(line.startswith("#") and len(line) <= 100 for line in head.splitlines())
    assert load_all(head) == []
