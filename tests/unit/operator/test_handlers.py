"""What kopf calls, without a cluster."""

import asyncio
import logging
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kopf
import pytest
from kopf._cogs.clients import api
from kopf._cogs.clients.errors import APIForbiddenError
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import incluster_config

from primo_operator import handlers, kubernetes_cluster, parts
from primo_operator.queue import StudyQueue
from primo_operator.settings import Settings
from support.virtual_time import run_in_virtual_time


@pytest.fixture(autouse=True)
def no_credentials_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(context: str | None) -> ApiClient:
        return ApiClient(Configuration(host="http://127.0.0.1:1"))

    monkeypatch.setattr(handlers, "connect", connect)
    monkeypatch.setattr(parts, "connect", connect)


async def _logged_in(context: str | None) -> kopf.ConnectionInfo:
    found = handlers.registry(Settings(), context)._activities.get_all_handlers()
    (login,) = (handler.fn for handler in found if handler.fn.__name__ == "login")
    info: kopf.ConnectionInfo = await login()  # type: ignore[misc, call-arg]
    return info


def test_a_pod_logs_in_with_the_token_of_its_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mounted: kopf sends `Bearer` before the token by itself, and needs the bare one."""
    monkeypatch.setattr(handlers, "connect", kubernetes_cluster.connect)
    for name, text in (("TOKEN", "a.b.c"), ("CERT", "certificate")):
        file = tmp_path / name
        file.write_text(text)
        monkeypatch.setattr(incluster_config, f"SERVICE_{name}_FILENAME", str(file))
    monkeypatch.setattr(kubernetes_cluster, "ApiClient", lambda given: _Client(given))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    info = asyncio.run(_logged_in(None))
    assert (info.server, info.token) == ("https://10.0.0.1:443", "a.b.c")
    assert info.ca_path == str(tmp_path / "CERT")


@pytest.mark.parametrize("said", ["Bearer a.b.c", "bearer a.b.c\n", "a.b.c"])
def test_the_token_is_bare_whatever_the_credentials_say(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(context: str | None) -> ApiClient:
        configuration = Configuration(host="https://127.0.0.1:1")
        configuration.api_key["BearerToken"] = said
        return ApiClient(configuration)

    monkeypatch.setattr(handlers, "connect", connect)
    assert asyncio.run(_logged_in("here")).token == "a.b.c"


class _Client:
    """A client that reads no certificate, for there is none."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    async def close(self) -> None: ...


async def _probed() -> Any:
    """What the handler of the health endpoint says after a start."""
    found = handlers.registry(Settings())._activities.get_all_handlers()
    calls: dict[str, Any] = {handler.fn.__name__: handler.fn for handler in found}
    await calls["start"](settings=kopf.OperatorSettings())
    try:
        await asyncio.sleep(0)  # the tasks begin
        await asyncio.sleep(0)
        return await calls["passes"]()
    finally:
        await calls["stop"]()


def test_the_probe_counts_passes() -> None:
    assert asyncio.run(_probed()) == 0


def test_the_probe_fails_for_good_when_the_passes_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def dies(self: StudyQueue) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(StudyQueue, "run", dies)
    with pytest.raises(kopf.PermanentError, match="passes"):
        asyncio.run(_probed())


def test_kopf_does_not_end_where_it_is_refused_for_long() -> None:
    """It would for all namespaces, and one of them may be gone."""
    asked: list[str] = []

    async def request(url: str, **_: Any) -> Any:
        asked.append(url)
        if len(asked) < 100:
            raise APIForbiddenError(None, status=403, headers={})
        return SimpleNamespace(status=200)

    async def scenario() -> None:
        settings = kopf.OperatorSettings()
        handlers._configure(settings)
        context = SimpleNamespace(server="http://a", session=SimpleNamespace(request=request))
        log = logging.getLogger("kopf.test")
        await api.request("get", "/b", settings=settings, context=context, logger=log)  # type: ignore[arg-type]

    run_in_virtual_time(scenario())
    assert asked == ["http://a/b"] * 100


def test_a_start_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    story: list[str] = []

    async def connect(context: str | None) -> ApiClient:
        client = ApiClient(Configuration(host="http://127.0.0.1:1"))
        close = client.close

        async def noted() -> None:
            story.append("closed")
            await close()

        client.close = noted
        story.append("opened")
        return client

    async def start(port: int) -> None:
        settings = Settings(operator_metrics_address="127.0.0.1", operator_metrics_port=port)
        found = handlers.registry(settings)._activities.get_all_handlers()
        calls: dict[str, Any] = {handler.fn.__name__: handler.fn for handler in found}
        await calls["start"](settings=kopf.OperatorSettings())

    monkeypatch.setattr(parts, "connect", connect)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        asyncio.run(start(taken.getsockname()[1]))
    assert story == ["opened"] * 3 + ["closed"] * 3
