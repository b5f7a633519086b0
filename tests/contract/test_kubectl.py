"""The real kubectl, as people use it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.apiserver import PODS, WIDGETS, Obj, Wire, config_map, job, pod, widget
from support.kubectl import binary, kubectl
from support.waiting import eventually

pytestmark = pytest.mark.cluster

Kubectl = Callable[..., str]


class RefusedError(Exception):
    """kubectl ended with an error; the text is what it said."""


@pytest.fixture
def kubeconfig(cluster: Any) -> Path:
    return Path(cluster.kubeconfig)


@pytest.fixture
def run(kubeconfig: Path, space: str, tmp_path: Path) -> Kubectl:
    """kubectl in the test's namespace; a dict among the arguments becomes the path of a file."""

    def run(*arguments: str | Obj) -> str:
        files = [_file(tmp_path, each) for each in arguments]
        try:
            return kubectl(kubeconfig, "--namespace", space, *files)
        except subprocess.CalledProcessError as error:
            raise RefusedError(error.stderr) from error

    return run


def _file(folder: Path, argument: str | Obj) -> str:
    if isinstance(argument, str):
        return argument
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(argument))
    return str(path)


@pytest.fixture
def watched(kubeconfig: Path, space: str) -> Iterator[Callable[..., Path]]:
    """Starts `kubectl ...` in the background; the file that gets its output."""
    started: list[subprocess.Popen[bytes]] = []

    def start(output: Path, *arguments: str) -> Path:
        command = [binary(), "--namespace", space, *arguments]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        with output.open("wb") as file:
            started.append(subprocess.Popen(command, stdout=file, env=environment))
        return output

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_apply_creates_then_changes_nothing_then_configures(run: Kubectl) -> None:
    assert run("apply", "-f", widget("one", {"size": 5})).endswith("created\n")
    assert run("apply", "-f", widget("one", {"size": 5})).endswith("unchanged\n")
    assert run("apply", "-f", widget("one", {"size": 6})).endswith("configured\n")
    assert run("get", "wd", "one", "-o", "jsonpath={.spec.size}") == "6"


def test_applying_a_built_in_kind_twice_changes_nothing(run: Kubectl) -> None:
    assert run("apply", "-f", job("one")).endswith("created\n")
    assert run("apply", "-f", job("one")).endswith("unchanged\n")


def test_apply_takes_away_what_the_manifest_no_longer_has(run: Kubectl) -> None:
    run("apply", "-f", config_map("one", {"a": "1", "b": "2"}))
    run("apply", "-f", config_map("one", {"a": "1"}))
    assert run("get", "cm", "one", "-o", "jsonpath={.data}") == '{"a":"1"}'


def test_apply_refuses_unknown_fields(run: Kubectl) -> None:
    with pytest.raises(RefusedError, match=r'unknown field "spec\.colour"'):
        run("apply", "-f", widget("one", {"colour": "red"}))


def test_apply_says_what_is_wrong_in_the_words_of_the_rule(run: Kubectl) -> None:
    with pytest.raises(RefusedError, match="replicas must not exceed size"):
        run("apply", "-f", widget("one", {"replicas": 11}))


def test_get_prints_the_columns_of_the_definition(run: Kubectl) -> None:
    run("apply", "-f", widget("one"))
    narrow, wide = run("get", "widgets"), run("get", "widgets", "-o", "wide")
    assert narrow.split()[:3] == ["NAME", "COLOR", "AGE"]
    assert wide.split()[:4] == ["NAME", "COLOR", "SIZE", "AGE"]
    assert wide.splitlines()[1].split()[:3] == ["one", "red", "10"]


def test_get_prints_pods_as_ever(run: Kubectl) -> None:
    run("apply", "-f", pod("one"))
    header, row = run("get", "pods").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["one", "0/1", "Pending", "0"]


def test_get_all_lists_what_belongs_together(run: Kubectl) -> None:
    run("apply", "-f", job("one"))
    assert "job.batch/one" in run("get", "all")


def test_a_watching_get_prints_each_change(
    run: Kubectl, watched: Callable[..., Path], tmp_path: Path
) -> None:
    run("apply", "-f", widget("one"))
    output = watched(tmp_path / "out", "get", "widgets", "-o", "wide", "-w")
    eventually(lambda: "one" in output.read_text(), "the watch has begun")
    run("patch", "widget", "one", "--type=merge", "-p", '{"spec":{"size":42}}')
    eventually(lambda: "42" in output.read_text(), "the change is printed")
    assert output.read_text().count("NAME") == 1


def test_describe_shows_fields_and_events(run: Kubectl, wire: Wire, space: str) -> None:
    run("apply", "-f", widget("one"))
    made = wire.found(f"{WIDGETS.format(space)}/one")
    about = {field: made[field] for field in ("apiVersion", "kind")}
    about |= {field: made["metadata"][field] for field in ("name", "namespace", "uid")}
    event = {
        "metadata": {"name": "e"},
        "involvedObject": about,
        "reason": "Painted",
        "message": "red now",
        "type": "Normal",
        "source": {"component": "painter"},
        "count": 1,
        "firstTimestamp": made["metadata"]["creationTimestamp"],
        "lastTimestamp": made["metadata"]["creationTimestamp"],
    }
    wire.make(f"/api/v1/namespaces/{space}/events", event)
    text = run("describe", "widget", "one")
    assert "Color:" in text
    assert "Painted" in text
    assert "red now" in text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("widgets.spec.color", "Its paint."),
        ("pods.spec.containers.ports", "Number of port to expose"),
        ("jobs.spec.backoffLimit", "number of retries"),
    ],
)
def test_explain_knows_custom_and_built_in_fields(run: Kubectl, path: str, words: str) -> None:
    assert words in run("explain", path)


def test_edit_changes_what_the_editor_changed(
    run: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply", "-f", widget("one"))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed "s/size: 10/size: 77/" "$1" >"$1.new" && mv "$1.new" "$1"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    run("edit", "widget", "one")
    assert run("get", "wd", "one", "-o", "jsonpath={.spec.size}") == "77"


def test_labels_annotations_and_scale_are_set(run: Kubectl) -> None:
    run("apply", "-f", widget("one"))
    run("label", "widget", "one", "a=b")
    run("annotate", "widget", "one", "c=d")
    run("scale", "widget", "one", "--replicas=4")
    found = yaml.safe_load(run("get", "wd", "one", "-o", "yaml"))
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["metadata"]["annotations"]["c"] == "d"
    assert found["spec"]["replicas"] == 4


def test_wait_sees_a_condition_come(
    run: Kubectl, wire: Wire, space: str, watched: Callable[..., Path], tmp_path: Path
) -> None:
    run("apply", "-f", widget("one"))
    wait = ("wait", "widget/one", "--for=condition=Ready", "--timeout=30s")
    output = watched(tmp_path / "out", *wait)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    wire.change(f"{WIDGETS.format(space)}/one/status", ready)
    eventually(lambda: "condition met" in output.read_text(), "kubectl wait has seen it")


def test_wait_sees_a_field_come(run: Kubectl, wire: Wire, space: str) -> None:
    run("apply", "-f", widget("one"))
    wire.change(f"{WIDGETS.format(space)}/one/status", {"status": {"phase": "Done"}})
    done = run("wait", "widget/one", "--for=jsonpath={.status.phase}=Done", "--timeout=10s")
    assert "condition met" in done


def test_delete_waits_until_it_is_gone(run: Kubectl, wire: Wire, space: str) -> None:
    run("apply", "-f", widget("one"))
    run("delete", "widget", "one", "--wait", "--timeout=10s")
    assert wire.gone(f"{WIDGETS.format(space)}/one")


def test_diff_sends_what_apply_would_and_stores_nothing(run: Kubectl) -> None:
    run("apply", "-f", widget("one"))
    with pytest.raises(RefusedError):  # it ends with 1 where there is a difference
        run("diff", "-f", widget("one", {"size": 50}))
    assert run("get", "wd", "one", "-o", "jsonpath={.spec.size}") == "10"


def test_replace_takes_a_whole_object(run: Kubectl) -> None:
    run("apply", "-f", widget("one"))
    found = yaml.safe_load(run("get", "wd", "one", "-o", "yaml"))
    run("replace", "-f", {**found, "spec": {**found["spec"], "size": 8}})
    assert run("get", "wd", "one", "-o", "jsonpath={.spec.size}") == "8"


def test_what_kubectl_sends_as_protobuf_is_read(run: Kubectl, wire: Wire, space: str) -> None:
    name = f"{space}-more"
    run("create", "namespace", name)
    run("create", "configmap", "one", "--from-literal=a=b")
    run("create", "secret", "generic", "one", "--from-literal=c=d")
    run("create", "serviceaccount", "one")
    assert run("get", "configmap", "one", "-o", "jsonpath={.data.a}") == "b"
    assert run("get", "secret", "one", "-o", "jsonpath={.data.c}") == "ZA=="
    run("delete", "namespace", name, "--wait=false")


def test_auth_says_who_and_that_all_is_allowed(run: Kubectl) -> None:
    assert run("auth", "can-i", "delete", "pods") == "yes\n"
    assert "Username" in run("auth", "whoami")


def test_api_resources_lists_custom_kinds(run: Kubectl) -> None:
    listed = run("api-resources", "--api-group=contract.example.com", "--no-headers")
    assert listed.split() == ["widgets", "wd", "contract.example.com/v1", "true", "Widget"]


def test_a_pod_is_made_by_run(run: Kubectl, wire: Wire, space: str) -> None:
    overrides = '--overrides={"spec":{"schedulerName":"nobody"}}'
    run("run", "one", "--image=none.invalid/none:1", "--restart=Never", overrides)
    assert wire.found(f"{PODS.format(space)}/one")["spec"]["restartPolicy"] == "Never"


@pytest.mark.usefixtures("local")
def test_logs_of_a_pod_without_a_node_say_what_it_waits_for(run: Kubectl) -> None:
    run("apply", "-f", pod("one"))
    with pytest.raises(RefusedError, match="is waiting to start"):
        run("logs", "one")
