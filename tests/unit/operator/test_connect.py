"""How the operator reaches its API server."""

import asyncio
from pathlib import Path

import pytest
import yaml

from primo_operator.kubernetes_cluster import connect

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
