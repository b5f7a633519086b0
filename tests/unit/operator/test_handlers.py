"""What kopf calls, without a cluster."""

import asyncio
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import ApiClient, Configuration

from primo_operator import handlers
from primo_operator.queue import StudyQueue
from primo_operator.settings import Settings


@pytest.fixture(autouse=True)
def no_credentials_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(context: str | None) -> ApiClient:
        return ApiClient(Configuration(host="http://127.0.0.1:1"))

    monkeypatch.setattr(handlers, "connect", connect)


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
