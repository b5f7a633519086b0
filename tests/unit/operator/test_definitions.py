"""Definitions that are not served, or are older than the operator, are named before it writes."""

import asyncio
import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest

from primo_operator import definitions
from primo_operator.cluster import ClusterError, Object, OutdatedError, pruned
from primo_operator.crds import KINDS, STUDY, TRIAL, Kind, definition
from primo_operator.definitions import Definitions, problem, wait_until_served
from support.virtual_time import run_in_virtual_time


def published(*kinds: Kind) -> Object:
    """As the API server publishes what it serves."""
    schemas = {}
    for kind in kinds:
        (version,) = definition(kind)["spec"]["versions"]
        schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
        coordinates = {"group": "primo.dev", "version": "v1alpha1"}
        schema["x-kubernetes-group-version-kind"] = [{**coordinates, "kind": kind.kind}]
        schemas[f"dev.primo.v1alpha1.{kind.kind}"] = schema
        lists = [{**coordinates, "kind": f"{kind.kind}List"}]
        schemas[f"{kind.kind}List"] = {"x-kubernetes-group-version-kind": lists}
    return {"components": {"schemas": schemas}}


def part(document: Object, kind: Kind, *path: str) -> Any:
    found: Any = document["components"]["schemas"][f"dev.primo.v1alpha1.{kind.kind}"]
    for name in path:
        found = found[name]
    return found


def test_our_own_will_do() -> None:
    assert problem(published(*KINDS)) == ""


@pytest.mark.parametrize(
    ("document", "names"),
    [
        (None, "primostudies.primo.dev, primotrials.primo.dev"),
        ({}, "primostudies.primo.dev, primotrials.primo.dev"),
        (published(STUDY), "primotrials.primo.dev"),
    ],
    ids=["nothing", "an empty document", "one of them"],
)
def test_what_is_not_served_is_named(document: Object | None, names: str) -> None:
    assert f"does not serve {names};" in problem(document)


STATUS = ("properties", "status", "properties")
RUN = (*STATUS, "runs", "items", "properties")


def drop(kind: Kind, *path: str) -> Callable[[Object], None]:
    def change(document: Object) -> None:
        del part(document, kind, *path[:-1])[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        (drop(STUDY, *STATUS, "preferred"), "primostudies.primo.dev: status.preferred"),
        (drop(TRIAL, *RUN, "gpus"), "primotrials.primo.dev: status.runs.gpus"),
        (
            drop(TRIAL, "properties", "spec", "properties", "suggestion"),
            "primotrials.primo.dev: spec.suggestion",
        ),
        (
            drop(
                TRIAL,
                *("properties", "spec", "properties", "suggestion"),
                "x-kubernetes-preserve-unknown-fields",
            ),
            "primotrials.primo.dev: spec.suggestion.*",
        ),
        (
            drop(
                TRIAL,
                *(*STATUS, "observations", "items", "properties", "values"),
                "additionalProperties",
            ),
            "primotrials.primo.dev: status.observations.values.*",
        ),
        (
            drop(STUDY, "properties", "status"),
            "primostudies.primo.dev: status.observedGeneration",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_we_write_and_an_older_definition_lacks_is_named(
    change: Callable[[Object], None], lacks: str
) -> None:
    document = published(*KINDS)
    change(document)
    assert f"lack {lacks}" in problem(document)


def test_what_a_later_definition_has_besides_and_what_users_write_is_no_problem() -> None:
    document = published(*KINDS)
    part(document, TRIAL, *RUN)["future"] = {"type": "string"}
    del part(document, STUDY, "properties", "spec", "properties")["retention"]
    assert problem(document) == ""


def test_of_many_fields_some_are_named_and_the_others_counted() -> None:
    document = published(*KINDS)
    part(document, TRIAL, *RUN).clear()
    words = problem(document)
    assert words.count("status.runs.") == 3
    assert " more;" in words


class Server:
    """Publishes what it is given, or fails."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def document(self) -> Object | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: Object | None = answer
        return found


def old() -> Object:
    document = published(*KINDS)
    drop(TRIAL, *RUN, "gpus")(document)
    return document


def test_no_pass_begins_while_they_are_older_and_all_are_due_when_they_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> tuple[list[bool], list[float]]:
        loop = asyncio.get_running_loop()
        changed: list[float] = []
        server = Server(old(), ClusterError("away"), old(), published(*KINDS))
        found = Definitions(server.document, lambda: changed.append(loop.time()))
        await found.look()
        looking = asyncio.create_task(found.run())
        held = []
        for _ in range(4):
            try:
                found.check()
            except OutdatedError:
                held.append(True)
            else:
                held.append(False)
            await asyncio.sleep(definitions.LOOK_AGAIN_S + 0.1)
        looking.cancel()
        return held, changed

    held, changed = run_in_virtual_time(scenario())
    assert held == [True, True, True, False], "no answer changes nothing"
    assert changed == [pytest.approx(3 * definitions.LOOK_AGAIN_S)]
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "status.runs.gpus" in errors[0]


def test_who_may_not_read_what_is_published_goes_on() -> None:
    found = Definitions(Server(ClusterError("403")).document, lambda: None)
    asyncio.run(found.look())
    found.check()


def test_it_is_waited_for_definitions_that_are_not_there_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, told = Server(None, None, published(STUDY), published(*KINDS)), list[str]()
    run_in_virtual_time(wait_until_served(server.document, told.append))
    (said,) = (record.getMessage() for record in caplog.records)
    assert "primostudies.primo.dev" in said
    assert [("studies" in words, "trials" in words) for words in told] == [
        (True, True),
        (False, True),
    ]
    run_in_virtual_time(wait_until_served(Server(ClusterError("no answer")).document))


@pytest.mark.parametrize(
    ("patch", "answer", "lost"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": None}, {}, []),
        ({"a": 1, "b": 2}, {"b": 2}, ["status.a"]),
        ({"a": {"b": 1, "c": None}}, {"a": {}}, ["status.a.b"]),
        ({"a": [{"b": 1, "c": 2}, {"b": 1}]}, {"a": [{"b": 1}, {"b": 1}]}, ["status.a.c"]),
        ({"a": [1.5]}, {"a": [1.5]}, []),
    ],
)
def test_what_an_answer_lacks_of_what_was_written(
    patch: Object, answer: Object, lost: list[str]
) -> None:
    assert pruned(patch, answer, "status") == lost
