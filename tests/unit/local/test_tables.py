"""Tables print what kubectl's users expect: ages, printer columns, one word for a pod."""

import datetime
from typing import Any

import pytest

from primo_local.apiserver.builtins.catalogue import BUILTINS
from primo_local.apiserver.jsonpath import JsonPathError, find
from primo_local.apiserver.tables import human_duration, path_column, table

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
Obj = dict[str, Any]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (659, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 120, "3h2m"),
        (9 * 3600 + 120, "9h"),
        (49 * 3600, "2d1h"),
        (20 * 86400, "20d"),
        (800 * 86400, "2y70d"),
    ],
)
def test_durations_for_people(seconds: int, text: str) -> None:
    assert human_duration(datetime.timedelta(seconds=seconds)) == text


OBJECT: Obj = {
    "spec": {"n": 3, "list": [{"name": "a"}, {"name": "b"}], "x.y/z": "dotted"},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "No"},
            {"type": "Done", "status": "True", "reason": "Yes"},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]),
        ("{.spec.n}", [3]),
        (".spec.none.deeper", []),
        (".spec.list[0].name", ["a"]),
        (".spec.list[-1:].name", ["b"]),
        (".spec.list[-1].name", ["b"]),
        (".spec.list[*].name", ["a", "b"]),
        (".spec['x.y/z']", ["dotted"]),
        (r".spec.x\.y/z", ["dotted"]),
        ('.status.conditions[?(@.type=="Done")].reason', ["Yes"]),
        ('.status.conditions[?(@.type!="Done")].reason', ["No"]),
        (".status.conditions[?(@.type=='None')].reason", []),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    assert find(path, OBJECT) == found


@pytest.mark.parametrize("path", [".a[", ".a[?(@.b>1)]", ".a..b", "[x]"])
def test_other_json_paths_are_refused(path: str) -> None:
    with pytest.raises(JsonPathError):
        find(path, OBJECT)


@pytest.mark.parametrize(
    ("path", "kind", "value", "cell"),
    [
        (".v", "string", "text", "text"),
        (".v", "string", 3, "3"),
        (".v", "string", True, "true"),
        (".v", "string", {"a": 1}, '{"a":1}'),
        (".v", "integer", 3.0, 3),
        (".v", "integer", "x", None),
        (".v", "number", 0.5, 0.5),
        (".v", "boolean", True, True),
        (".v", "date", "2026-01-01T00:00:00Z", "24h"),
        (".none", "string", "x", None),
    ],
)
def test_printer_columns(path: str, kind: str, value: Any, cell: Any) -> None:
    assert path_column("V", path, kind).cell({"v": value, "metadata": {}}, NOW) == cell


def pod(**status: Any) -> Obj:
    init = [{"name": "setup"}, {"name": "side", "restartPolicy": "Always"}]
    spec = {"containers": [{"name": "main"}], "initContainers": init}
    return {"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Pending", **status}}


def state(name: str, **state: Any) -> Obj:
    return {"name": name, "ready": "running" in state, "started": True, "state": state}


DONE, RUNNING = {"exitCode": 0, "reason": "Completed"}, {"startedAt": "2026-01-01T00:00:00Z"}
SET_UP = [state("setup", terminated=DONE), state("side", running=RUNNING)]


@pytest.mark.parametrize(
    ("subject", "ready", "word"),
    [
        pytest.param(pod(), "0/2", "Pending", id="new"),
        pytest.param(
            pod(initContainerStatuses=[state("setup", running=RUNNING)]),
            "0/2",
            "Init:0/2",
            id="setting up",
        ),
        pytest.param(
            pod(initContainerStatuses=[state("setup", terminated={"exitCode": 3})]),
            "0/2",
            "Init:ExitCode:3",
            id="set up in vain",
        ),
        pytest.param(
            pod(
                phase="Running",
                initContainerStatuses=SET_UP,
                containerStatuses=[state("main", running=RUNNING)],
            ),
            "2/2",
            "Running",
            id="running",
        ),
        pytest.param(
            pod(
                initContainerStatuses=SET_UP,
                containerStatuses=[state("main", waiting={"reason": "ErrImageNeverPull"})],
            ),
            "1/2",
            "ErrImageNeverPull",
            id="waiting for an image",
        ),
        pytest.param(
            pod(
                phase="Failed",
                initContainerStatuses=SET_UP[:1],
                containerStatuses=[state("main", terminated={"exitCode": 1, "reason": "Error"})],
            ),
            "0/2",
            "Error",
            id="failed",
        ),
        pytest.param(pod(phase="Failed", reason="Evicted"), "0/2", "Evicted", id="evicted"),
    ],
)
def test_a_pod_in_one_word(subject: Obj, ready: str, word: str) -> None:
    columns = next(each for each in BUILTINS if each.plural == "pods").strategy.columns
    (row,) = table(columns, [subject], {}, NOW)["rows"]
    assert row["cells"][1:3] == [ready, word]


@pytest.mark.parametrize("resource", BUILTINS, ids=lambda each: f"{each.plural}.{each.group}")
def test_an_object_without_status_can_be_printed(resource: Any) -> None:
    template = {"spec": {"containers": []}}
    bare = {"metadata": {"name": "x"}, "spec": {"containers": [], "template": template}}
    made = table(resource.strategy.columns, [bare], {}, NOW)
    (row,) = made["rows"]
    assert len(row["cells"]) == len(made["columnDefinitions"])
