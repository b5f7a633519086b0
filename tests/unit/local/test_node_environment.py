"""Variables, commands and references, as a kubelet works them out."""

import base64
from typing import Any

import pytest

from primo_local.node.environment import (
    ConfigError,
    Sources,
    command_of,
    expand,
    field_of,
    variables_of,
)

POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u-1",
        "labels": {"app": "train", "b": "2"},
        "annotations": {"note": "hi"},
    },
    "spec": {
        "nodeName": "local",
        "containers": [
            {"name": "main", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}},
            {"name": "other"},
        ],
    },
}


def sources(**objects: dict[str, Any]) -> Sources:
    def named(kind: str, name: str) -> dict[str, Any] | None:
        data = objects.get(f"{kind}_{name}")
        if data is None:
            return None
        if kind == "secret":
            data = {key: base64.b64encode(v.encode()).decode() for key, v in data.items()}
        return {"metadata": {"namespace": "ns", "name": name}, "data": data}

    return Sources(
        config_map=lambda name: named("map", name),
        secret=lambda name: named("secret", name),
        capacity={"cpu": "8", "memory": "16Gi"},
    )


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        pytest.param("$(A)-$(B)", "1-2", id="known names"),
        pytest.param("$(C)", "$(C)", id="an unknown name stays as it is"),
        pytest.param("$$(A)", "$(A)", id="an escaped reference"),
        pytest.param("$$$(A)", "$1", id="an escaped dollar before a reference"),
        pytest.param("$A ${A} 5$", "$A ${A} 5$", id="shell syntax is the shell's"),
        pytest.param("$(A", "$(A", id="not closed"),
        pytest.param("a$$b", "a$b", id="a doubled dollar alone"),
    ],
)
def test_references_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_a_value_sees_only_the_variables_before_it_and_a_command_sees_all() -> None:
    container = {
        "name": "main",
        "env": [
            {"name": "EARLY", "value": "$(LATE)"},
            {"name": "LATE", "value": "x"},
            {"name": "AFTER", "value": "$(LATE)$$"},
        ],
        "command": ["run", "$(AFTER)"],
        "args": ["--late=$(LATE)"],
    }
    variables = variables_of(container, POD, sources())
    assert variables == {"EARLY": "$(LATE)", "LATE": "x", "AFTER": "x$"}
    assert command_of(container, variables) == ["run", "x$", "--late=x"]


def test_the_last_of_two_variables_of_one_name_holds() -> None:
    container = {"name": "main", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}
    assert variables_of(container, POD, sources()) == {"A": "2"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "train"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note']", "hi"),
        ("spec.nodeName", "local"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "127.0.0.1"),
        ("metadata.labels", 'app="train"\nb="2"'),
    ],
)
def test_a_field_reference_gives_the_field(path: str, value: str) -> None:
    assert field_of(path, POD) == value


def test_a_field_that_may_not_be_referred_to_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'status\.phase' is not a field"):
        field_of("status.phase", POD)


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        pytest.param({"resource": "limits.cpu"}, "2", id="rounded up to whole units"),
        pytest.param({"resource": "limits.cpu", "divisor": "1m"}, "1500", id="in millicores"),
        pytest.param({"resource": "limits.memory", "divisor": "1Mi"}, "1024", id="in mebibytes"),
        pytest.param({"resource": "limits.cpu", "containerName": "other"}, "8", id="the node's"),
        pytest.param({"resource": "requests.cpu", "containerName": "other"}, "0", id="no request"),
    ],
)
def test_a_resource_reference_gives_units_of_its_divisor(
    reference: dict[str, str], value: str
) -> None:
    container = {
        "name": "main",
        "env": [{"name": "R", "valueFrom": {"resourceFieldRef": reference}}],
    }
    assert variables_of(container, POD, sources()) == {"R": value}


def test_keys_come_from_config_maps_and_secrets() -> None:
    container = {
        "name": "main",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
        "env": [
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {
                "name": "O",
                "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}},
            },
        ],
    }
    known = sources(map_c={"k": "v"}, secret_s={"pw": "hush"})
    assert variables_of(container, POD, known) == {"P_k": "v", "S": "hush", "C": "v"}


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]},
            'configmap "no" not found',
            id="no config map",
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]},
            'secret "no" not found',
            id="no secret",
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "q"}}}]},
            "couldn't find key q in ConfigMap ns/c",
            id="no such key",
        ),
        pytest.param(
            {"envFrom": [{"secretRef": {"name": "no"}}]}, 'secret "no" not found', id="envFrom"
        ),
    ],
)
def test_what_is_missing_is_named(reference: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        variables_of({"name": "main", **reference}, POD, sources(map_c={"k": "v"}))
