"""A pod's spec is defaulted and refused as a real API server does."""

from typing import Any

import pytest

from primo_local.apiserver.builtins.job import JobStrategy
from primo_local.apiserver.builtins.podspec import (
    defaulted_spec,
    quality_of_service,
    validate_spec,
    with_requests,
)

Obj = dict[str, Any]


def container(name: str = "main", **fields: Any) -> Obj:
    return {"name": name, "image": "x:1", **fields}


def spec(*containers: Obj, **fields: Any) -> Obj:
    return {"containers": list(containers) or [container()], **fields}


def limited(requests: Obj | None = None, **limits: str) -> Obj:
    named = {name.replace("gpu", "x.io/gpu"): value for name, value in limits.items()}
    resources = {"limits": named, **({"requests": requests} if requests else {})}
    return spec(container(resources=resources))


def test_defaults_do_not_grow_when_they_are_applied_again() -> None:
    given = spec(
        container(
            ports=[{"containerPort": 1}],
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            livenessProbe={"httpGet": {"port": 1}},
        ),
        volumes=[{"name": "v"}, {"name": "c", "configMap": {"name": "m"}}],
    )
    once = defaulted_spec(given)
    assert defaulted_spec(once) == once
    (main,) = once["containers"]
    assert main["ports"] == [{"containerPort": 1, "protocol": "TCP"}]
    assert main["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert main["livenessProbe"]["periodSeconds"] == 10
    assert once["volumes"][0] == {"name": "v", "emptyDir": {}}
    assert once["volumes"][1]["configMap"]["defaultMode"] == 420


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("x", "Always"),
        ("x:latest", "Always"),
        ("x:1", "IfNotPresent"),
        pytest.param("host:5000/x", "Always", id="a port is no tag"),
        ("host:5000/x:1", "IfNotPresent"),
        ("x@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_tag_decides_whether_an_image_is_pulled(image: str, policy: str) -> None:
    (made,) = defaulted_spec(spec({"name": "a", "image": image}))["containers"]
    assert made["imagePullPolicy"] == policy


def test_limits_stand_for_requests_that_are_not_given() -> None:
    (made,) = with_requests(limited({"cpu": "1"}, cpu="2", gpu="1"))["containers"]
    assert made["resources"]["requests"] == {"cpu": "1", "x.io/gpu": "1"}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param({"containers": []}, "s.containers: Required value", id="no containers"),
        pytest.param(spec({"image": "x"}), "s.containers[0].name: Required value", id="no name"),
        pytest.param(spec({"name": "a"}), "s.containers[0].image: Required value", id="no image"),
        pytest.param(
            spec(container(), container()),
            's.containers[1].name: Duplicate value: "main"',
            id="a name twice",
        ),
        pytest.param(
            spec(initContainers=[container()]),
            's.containers[0].name: Duplicate value: "main"',
            id="a name twice, once among the init containers",
        ),
        pytest.param(
            spec(container(volumeMounts=[{"name": "v", "mountPath": "/v"}])),
            's.containers[0].volumeMounts[0].name: Not found: "v"',
            id="a mount without its volume",
        ),
        pytest.param(
            spec(
                container(volumeMounts=[{"name": "v", "mountPath": "/v"}] * 2),
                volumes=[{"name": "v", "emptyDir": {}}],
            ),
            's.containers[0].volumeMounts[1].mountPath: Invalid value: "/v": must be unique',
            id="a mount path twice",
        ),
        pytest.param(
            spec(volumes=[{"name": "v"}, {"name": "v"}]),
            's.volumes[1].name: Duplicate value: "v"',
            id="a volume twice",
        ),
        pytest.param(
            spec(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {}}]),
            "s.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            id="two kinds of volume",
        ),
        pytest.param(
            spec(restartPolicy="Sometimes"),
            's.restartPolicy: Unsupported value: "Sometimes": '
            'supported values: "Always", "OnFailure", "Never"',
            id="a restart policy",
        ),
        pytest.param(
            limited({"x.io/gpu": "1"}, gpu="2"),
            's.containers[0].resources.requests: Invalid value: "1": '
            "must be equal to x.io/gpu limit of 2",
            id="a GPU request that is not the limit",
        ),
        pytest.param(
            limited({"x.io/gpu": "1"}),
            "s.containers[0].resources.limits: Required value: "
            "Limit must be set for non overcommitable resources: x.io/gpu",
            id="a GPU request without a limit",
        ),
        pytest.param(
            limited(gpu="500m"),
            's.containers[0].resources.limits[x.io/gpu]: Invalid value: "500m": must be an integer',
            id="half a GPU",
        ),
        pytest.param(
            limited({"cpu": "2"}, cpu="1"),
            's.containers[0].resources.requests: Invalid value: "2": '
            "must be less than or equal to cpu limit of 1",
            id="a request above the limit",
        ),
        pytest.param(
            limited(memry="1"),
            's.containers[0].resources.limits[memry]: Invalid value: "memry": '
            "must be a standard resource type or fully qualified",
            id="a resource nobody knows",
        ),
        pytest.param(
            spec(container(env=[{"value": "x"}])),
            "s.containers[0].env[0].name: Required value",
            id="a variable without a name",
        ),
        pytest.param(
            spec(container(ports=[{"containerPort": 0}])),
            "s.containers[0].ports[0].containerPort: Invalid value: 0: "
            "must be between 1 and 65535, inclusive",
            id="a port",
        ),
    ],
)
def test_what_is_refused(value: Obj, problem: str) -> None:
    assert [str(cause) for cause in validate_spec(value, "s")] == [problem]


def test_everything_is_told_at_once() -> None:
    value = {"restartPolicy": "x", "containers": [{"name": "A"}], "volumes": [{}]}
    fields = [cause.field for cause in validate_spec(value, "s")]
    assert fields == [
        "s.restartPolicy",
        "s.volumes[0].name",
        "s.containers[0].name",
        "s.containers[0].image",
    ]


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (spec(), "BestEffort"),
        (limited(cpu="1"), "Burstable"),
        (limited(cpu="1", memory="1Gi"), "Guaranteed"),
        (limited({"cpu": "500m"}, cpu="1", memory="1Gi"), "Burstable"),
        (limited(gpu="1"), "BestEffort"),
    ],
)
def test_the_quality_of_service(value: Obj, word: str) -> None:
    assert quality_of_service(with_requests(value)) == word


# --- Jobs


def job(template: Obj | None = None, **fields: Any) -> Obj:
    pod = spec(restartPolicy="Never")
    return {
        "metadata": {"name": "j", "uid": "u"},
        "spec": {"template": template or {"spec": pod}, **fields},
    }


def stored(obj: Obj) -> Obj:
    strategy = JobStrategy()
    return strategy.prepared_create(strategy.defaulted(obj))


def test_a_job_gets_its_defaults_labels_and_selector() -> None:
    made = stored(job())["spec"]
    assert (made["completions"], made["parallelism"], made["backoffLimit"]) == (1, 1, 6)
    assert made["podReplacementPolicy"] == "TerminatingOrFailed"
    assert made["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert made["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u",
        "job-name": "j",
    }


def test_parallelism_alone_makes_a_work_queue() -> None:
    assert "completions" not in stored(job(parallelism=3))["spec"]


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        pytest.param(job({"spec": spec()}), "spec.template.spec.restartPolicy", id="Always"),
        pytest.param(job(backoffLimit=-1), "spec.backoffLimit", id="a negative count"),
        pytest.param(job(completionMode="Odd"), "spec.completionMode", id="a mode"),
        pytest.param(
            job(completionMode="Indexed", parallelism=2), "spec.completions", id="no count"
        ),
        pytest.param(job(selector={"matchLabels": {"a": "b"}}), "spec.selector", id="a selector"),
    ],
)
def test_jobs_that_are_refused(obj: Obj, field: str) -> None:
    assert field in [cause.field for cause in JobStrategy().validate(stored(obj))]


def test_a_name_too_long_for_a_label_is_refused() -> None:
    obj = job()
    obj["metadata"]["name"] = "j" * 64
    assert {c.field for c in JobStrategy().validate(stored(obj))} == {"spec.template.labels"}


def retemplated(obj: Obj, **fields: Any) -> Obj:
    template = obj["spec"]["template"]
    changed = {**template, "spec": {**template["spec"], **fields}}
    return {**obj, "spec": {**obj["spec"], "template": changed}}


@pytest.mark.parametrize(
    ("suspend", "change", "allowed"),
    [
        pytest.param(False, {"nodeSelector": {"a": "b"}}, False, id="running"),
        pytest.param(True, {"nodeSelector": {"a": "b"}}, True, id="waiting: where it may run"),
        pytest.param(True, {"containers": [container(image="y")]}, False, id="never what it runs"),
    ],
)
def test_a_template_changes_only_in_where_it_runs_and_before_it_runs(
    suspend: bool, change: Obj, allowed: bool
) -> None:
    old = stored(job(suspend=suspend))
    causes = JobStrategy().validate_update(retemplated(old, **change), old)
    assert [cause.field for cause in causes] == ([] if allowed else ["spec.template"])


def test_what_may_change_of_a_running_job() -> None:
    old = stored(job())
    changed = {**old["spec"], "parallelism": 0, "suspend": True, "ttlSecondsAfterFinished": 5}
    assert JobStrategy().validate_update({**old, "spec": changed}, old) == []
    changed = {**old["spec"], "completions": 7}
    (cause,) = JobStrategy().validate_update({**old, "spec": changed}, old)
    assert cause.field == "spec.completions"
