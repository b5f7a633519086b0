"""The cache that the controllers look at, against a server that says what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from primo_local.client import (
    PODS,
    Client,
    ConflictError,
    InvalidKubeconfigError,
    Kubeconfig,
    NotFoundError,
    UnreachableError,
)
from primo_local.controllers.informer import Informer

Obj = dict[str, Any]

DEADLINE_S = 20


def pod(name: str, version: int, uid: str = "") -> Obj:
    meta = {"name": name, "namespace": "ns", "uid": uid or name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta}


class Script:
    """Answers lists and watches of pods from a script, the last of each over and over."""

    def __init__(self, lists: list[Obj], watches: list[list[Obj] | int]) -> None:
        self.lists = lists
        self.watches = watches
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.asked.append("list")
            return web.json_response(self.lists.pop(0) if len(self.lists) > 1 else self.lists[0])
        self.asked.append(request.query["resourceVersion"])
        events = self.watches.pop(0) if self.watches else []
        if isinstance(events, int):
            return web.json_response({"reason": "Expired", "message": "too old"}, status=events)
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            # In two pieces, since a network does not know what a line is.
            line = json.dumps(event).encode() + b"\n"
            await response.write(line[:10])
            await response.write(line[10:])
        while not self.watches and request.transport is not None:  # until the client has gone
            await asyncio.sleep(0.01)
        return response


def listing(version: int, *items: Obj) -> Obj:
    return {"kind": "PodList", "metadata": {"resourceVersion": str(version)}, "items": list(items)}


def event(kind: str, item: Obj) -> Obj:
    return {"type": kind, "object": item}


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with Client(Kubeconfig(f"http://127.0.0.1:{port}", None)) as client:
            yield client
    finally:
        await runner.cleanup()


def watched(script: Script, count: int) -> list[str]:
    """The first changes a handler is told: `+` new, `~` changed, `-` gone, with the version."""
    seen: list[str] = []

    async def run() -> None:
        enough = asyncio.Event()

        def told(before: Obj | None, after: Obj | None) -> None:
            sign = "+" if before is None else "-" if after is None else "~"
            meta = (after or before or {})["metadata"]
            seen.append(f"{sign}{meta['name']}@{meta['resourceVersion']}")
            if len(seen) >= count:
                enough.set()

        async with serving(script.answer) as client:
            informer = Informer(client, PODS)
            informer.on_change(told)
            following = asyncio.create_task(informer.run())
            await asyncio.wait_for(enough.wait(), DEADLINE_S)
            following.cancel()

    asyncio.run(run())
    return seen


def test_a_list_is_followed_by_what_happens_after_it() -> None:
    events = [
        event("ADDED", pod("b", 6)),
        event("MODIFIED", pod("a", 7)),
        event("BOOKMARK", {"metadata": {"resourceVersion": "8"}}),
        event("DELETED", pod("b", 9)),
    ]
    script = Script([listing(5, pod("a", 3))], [events])
    assert watched(script, 4) == ["+a@3", "+b@6", "~a@7", "-b@9"]


def test_a_watch_that_ends_goes_on_where_it_was_bookmarks_counted() -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "8"}})
    script = Script(
        [listing(5)], [[event("ADDED", pod("a", 6)), bookmark], [event("ADDED", pod("b", 9))]]
    )
    assert watched(script, 2) == ["+a@6", "+b@9"]
    assert script.asked == ["list", "5", "8"]


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(410, id="refused at once"),
        pytest.param(
            [event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})],
            id="refused in the stream",
        ),
        pytest.param(500, id="any other trouble"),
    ],
)
def test_after_an_expired_watch_a_new_list_tells_what_was_missed(refusal: Any) -> None:
    lists = [
        listing(5, pod("a", 3), pod("b", 4), pod("c", 5)),
        listing(20, pod("a", 3), pod("b", 15), pod("c", 16, uid="another"), pod("d", 17)),
    ]
    said = watched(Script(lists, [refusal, []]), 7)
    assert said[:3] == ["+a@3", "+b@4", "+c@5"]
    assert said[3:] == ["~b@15", "-c@5", "+c@16", "+d@17"]


def test_an_object_larger_than_any_buffer_arrives_whole() -> None:
    large = pod("a", 6)
    large["data"] = "x" * 1_000_000
    assert watched(Script([listing(5)], [[event("ADDED", large)]]), 1) == ["+a@6"]


def test_waiting_for_a_write_ends_when_the_cache_has_it() -> None:
    async def run() -> None:
        script = Script([listing(5)], [[event("ADDED", pod("a", 6))], []])
        async with serving(script.answer) as client:
            informer = Informer(client, PODS)
            following = asyncio.create_task(informer.run())
            await informer.reached("6", timeout_s=DEADLINE_S)
            assert informer.get(("ns", "a")) is not None
            following.cancel()

    asyncio.run(run())


def test_refusals_are_told_apart() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        status = int(request.match_info["path"].rsplit("/", 1)[1])
        return web.json_response({"reason": "Because", "message": "of that"}, status=status)

    async def run() -> None:
        async with serving(answer) as client:
            with pytest.raises(NotFoundError, match="404 Because: of that"):
                await client.get(PODS, "ns", "404")
            with pytest.raises(ConflictError):
                await client.patch(PODS, ("ns", "409"), {})
            await client.delete(PODS, ("ns", "404"))  # gone is what was wanted

    asyncio.run(run())


def test_a_server_that_is_not_there_is_unreachable() -> None:
    async def run() -> None:
        async with Client(Kubeconfig("http://127.0.0.1:9", None)) as client:
            with pytest.raises(UnreachableError):
                await client.list(PODS)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("cluster", "user", "complaint"),
    [
        pytest.param(
            {"insecure-skip-tls-verify": True}, {}, "insecure-skip-tls-verify", id="unverified"
        ),
        pytest.param({}, {"exec": {"command": "x"}}, "user.exec is not supported", id="a plugin"),
    ],
)
def test_a_kubeconfig_that_we_do_not_follow_is_refused(
    tmp_path: Path, cluster: Obj, user: Obj, complaint: str
) -> None:
    path = write(tmp_path, cluster, user)
    with pytest.raises(InvalidKubeconfigError, match=complaint):
        Kubeconfig.load(path)


def test_a_kubeconfig_without_its_context_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("current-context: none\n")
    with pytest.raises(InvalidKubeconfigError, match="contexts has no entry named 'none'"):
        Kubeconfig.load(path)


def test_a_token_may_lie_in_a_file_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush\n")
    config = Kubeconfig.load(write(tmp_path, {}, {"tokenFile": "token"}))
    assert config.token == "hush"
    assert "hush" not in repr(config)


def write(folder: Path, cluster: Obj, user: Obj) -> Path:
    path = folder / "config"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
