"""How the operator reaches its API server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from primo_operator.cluster import ClusterError, ForbiddenError
from primo_operator.kubernetes_cluster import KubernetesCluster, connect
from primo_operator.mirror import Kind

NAME = {"name": "here"}
SERVER = "https://cluster.example:6443"


@pytest.mark.parametrize(
    ("environment", "of_kubeconfig", "expected"),
    [
        pytest.param({}, None, None, id="directly"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, None, "http://p:1", id="by a proxy"),
        pytest.param({"HTTP_PROXY": "http://p:1"}, None, None, id="not by one for http"),
        pytest.param(
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,.example"},
            None,
            None,
            id="not by one that is not for it",
        ),
        pytest.param(
            {"HTTPS_PROXY": "http://p:1"}, "http://q:2", "http://q:2", id="as its kubeconfig says"
        ),
    ],
)
def test_a_proxy_is_found_once_and_not_at_each_call(
    environment: dict[str, str],
    of_kubeconfig: str | None,
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cluster = {"server": SERVER, **({"proxy-url": of_kubeconfig} if of_kubeconfig else {})}
    kubeconfig = {
        "clusters": [{**NAME, "cluster": cluster}],
        "users": [{**NAME, "user": {"token": "t"}}],
        "contexts": [{**NAME, "context": {"cluster": "here", "user": "here"}}],
        "current-context": "here",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))

    async def proxy() -> tuple[str | None, bool]:
        client = await connect("here")
        try:
            session = client.rest_client._create_pool_manager()
            trusts = session.trust_env
            await session.close()
            return client.rest_client.proxy, trusts
        finally:
            await client.close()

    assert asyncio.run(proxy()) == (expected, False)


PLUGIN = """\
#!/bin/sh
echo once more >> {asked}
printf '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
  "status": {{"token": "%s"}}}}' "$(cat {token})"
"""


class Plugin:
    """A program that tells tokens, as those of clouds do, and an API server that takes one."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken, self.calls = "first", 0
        self._files = {name: folder / name for name in ("token", "asked")}
        self._folder, self._monkeypatch = folder, monkeypatch
        self.tells("first")

    def tells(self, token: str) -> None:
        self._files["token"].write_text(token)

    @property
    def asked(self) -> int:
        return len(self._files["asked"].read_text().splitlines())

    @contextlib.asynccontextmanager
    async def cluster(self) -> AsyncIterator[KubernetesCluster]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = site._server.sockets[0].getsockname()[:2]  # type: ignore[union-attr]
        self._write_kubeconfig(f"http://{host}:{port}")
        client = await connect("here")
        try:
            yield KubernetesCluster(client, 30.0)
        finally:
            await client.close()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls += 1
        if request.headers.get("Authorization") != f"Bearer {self.taken}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        return web.json_response({})

    def _write_kubeconfig(self, server: str) -> None:
        program = self._folder / "plugin"
        program.write_text(PLUGIN.format(**self._files))
        program.chmod(0o755)
        asks = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}
        kubeconfig = {
            "clusters": [{**NAME, "cluster": {"server": server}}],
            "users": [{**NAME, "user": {"exec": asks}}],
            "contexts": [{**NAME, "context": {"cluster": "here", "user": "here"}}],
            "current-context": "here",
        }
        file = self._folder / "kubeconfig"
        file.write_text(yaml.safe_dump(kubeconfig))
        of = "kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        self._monkeypatch.setattr(of, str(file))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    return Plugin(tmp_path, monkeypatch)


def test_a_token_that_has_expired_is_asked_for_anew_once_for_all_calls(plugin: Plugin) -> None:
    async def scenario() -> None:
        async with plugin.cluster() as cluster:
            assert await cluster.get_job("team", "j") == {}
            plugin.taken = "second"
            plugin.tells("second")
            assert (
                await asyncio.gather(*(cluster.get_job("team", "j") for _ in range(9))) == [{}] * 9
            )
            assert plugin.asked == 2

    asyncio.run(scenario())


def test_a_watch_asks_for_it_too(plugin: Plugin) -> None:
    async def scenario() -> None:
        async with plugin.cluster() as cluster:
            plugin.taken = "second"
            plugin.tells("second")
            with pytest.raises(ForbiddenError):
                await anext(cluster.events(Kind.JOB, "team", 7))
            assert [event async for event in cluster.events(Kind.JOB, "team", 7)] == []

    asyncio.run(scenario())


def test_what_is_refused_for_good_is_not_asked_for_at_each_call(plugin: Plugin) -> None:
    async def scenario() -> None:
        async with plugin.cluster() as cluster:
            plugin.taken = "another"
            for _ in range(5):
                with pytest.raises(ForbiddenError, match="Unauthorized"):
                    await cluster.get_job("team", "j")
            assert plugin.asked == 2

    asyncio.run(scenario())


def test_a_plugin_that_hangs_holds_a_call_up_for_so_long_only(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(**_: object) -> None:
        await asyncio.sleep(60.0)

    async def scenario() -> None:
        async with plugin.cluster() as cluster:
            plugin.taken = "second"
            monkeypatch.setattr("primo_operator.renewal.config.load_kube_config", hangs)
            monkeypatch.setattr("primo_operator.renewal.LIMIT_S", 0.2)
            with pytest.raises(ClusterError, match="no credentials"):
                await cluster.get_job("team", "j")

    asyncio.run(scenario())


def test_without_a_token_there_is_none_to_ask_for(plugin: Plugin) -> None:
    async def scenario() -> None:
        async with plugin.cluster() as cluster:
            cluster._client.configuration.api_key.clear()  # as with certificates
            calls = plugin.calls
            with pytest.raises(ForbiddenError, match="Unauthorized"):
                await cluster.get_job("team", "j")
            assert plugin.calls == calls + 1

    asyncio.run(scenario())
