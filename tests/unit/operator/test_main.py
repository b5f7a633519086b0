"""The process: it begins anew where kopf gives up, and ends where it is told to."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf
import pytest
from kopf._cogs.clients.errors import APINotFoundError
from kubernetes.aio.client import ApiClient, Configuration

from primo_operator import __main__ as main
from primo_operator.settings import Settings
from support.virtual_time import run_in_virtual_time

GIVEN = argparse.Namespace(namespace=["team"], all_namespaces=False, context=None, liveness=None)
GONE = APINotFoundError("the server could not find the requested resource", status=404, headers={})


async def at_once(*_: Any) -> None: ...


def serve(
    monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | int | None, served: Any = at_once
) -> int:
    """What it ends with when kopf ends so, one time after the other; None: told to stop."""
    left = list(outcomes)

    async def operator(*, stop_flag: asyncio.Future[int], **_: Any) -> None:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:  # the task that waits for it is cancelled, and it with that
            stop_flag.cancel()
        else:
            stop_flag.set_result(outcome)

    async def connect(context: str | None) -> ApiClient:
        return ApiClient(Configuration(host="http://127.0.0.1:1"))

    monkeypatch.setattr(kopf, "operator", operator)
    monkeypatch.setattr(main, "connect", connect)
    monkeypatch.setattr(main, "wait_until_served", served)
    monkeypatch.setattr(Settings, "from_environment", lambda: Settings(lease_name=""))
    code = run_in_virtual_time(main._serve(GIVEN))
    assert not left
    return int(code)


def test_it_begins_anew_when_the_studies_cannot_be_watched_any_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert serve(monkeypatch, GONE, GONE, 0) == 0
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert said == [f"studies cannot be watched: {GONE.args[0]}; beginning anew"] * 2
    assert not any(record.exc_info for record in caplog.records)


def test_while_it_waits_it_lives_and_says_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the kubelet would start it again every two minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = argparse.Namespace(context=None, liveness=f"http://127.0.0.1:{port}/healthz")
    answers: list[Any] = []

    async def connect(context: str | None) -> ApiClient:
        return ApiClient(Configuration(host="http://127.0.0.1:1"))

    async def served(document: Any, say: Callable[[str], None]) -> None:
        async with aiohttp.ClientSession() as session:
            for words, query in (("", ""), ("there is none", ""), ("there is none", "?ready")):
                if words:
                    say(words)
                async with session.get(given.liveness + query) as answer:
                    answers.append((answer.status, await answer.json()))

    monkeypatch.setattr(main, "connect", connect)
    monkeypatch.setattr(main, "wait_until_served", served)
    asyncio.run(main._ready(given, Settings(), 0.0))
    assert answers == [
        (200, {"waiting": "it is about to begin"}),
        (200, {"waiting": "there is none"}),
        (503, {"waiting": "there is none"}),
    ]
    with socket.socket() as again:  # kopf serves it from here on
        assert again.connect_ex(("127.0.0.1", port)) != 0


def test_a_namespace_that_is_named_twice_is_watched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be waited for as often as it is named, and nothing would ever be done."""
    watched: list[Any] = []

    def registry(*given: Any) -> kopf.OperatorRegistry:
        watched.append(given[-1])
        return kopf.OperatorRegistry()

    monkeypatch.setattr(main, "registry", registry)
    monkeypatch.setattr(GIVEN, "namespace", ["team", "other", "team"])
    assert serve(monkeypatch, 0) == 0
    assert watched == [["team", "other"]]


@pytest.mark.parametrize("name", ["", "team-*", "Team", "a/b", "x" * 64])
def test_what_is_no_namespace_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["primo_operator", "--namespace", name])
    with pytest.raises(SystemExit):
        main.main()
    assert f"--namespace: {name!r} is not the name of a namespace" in capsys.readouterr().err


def test_who_leads_no_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve(monkeypatch, 1) == 1


def test_who_is_stopped_before_it_works_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve(monkeypatch, None) == 0


def test_a_bug_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        serve(monkeypatch, RuntimeError("a bug"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_stopped_while_it_waits(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)

    async def never(*_: Any) -> None:
        os.kill(os.getpid(), number)
        await asyncio.sleep(3600)

    try:
        assert serve(monkeypatch, served=never) == 0
    finally:
        signal.signal(number, before)
