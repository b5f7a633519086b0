"""Whatever goes wrong with a call to a cluster is told in a line."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import ProtocolError

from primo_cli.kube import Kube, KubeError, UnavailableError

KUBECONFIG = """
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: t}}]
"""


def refused(status: int, words: str) -> ApiException:
    error = ApiException(status=status)
    error.body = f'{{"message": "{words}"}}'
    return error


class FailingClient:
    """Of the dynamic client what is used; each call ends so."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.resources = self

    def get(self, **_: Any) -> Any:
        return SimpleNamespace(namespaced=True, get=self._fail, create=self._fail)

    def _fail(self, **_: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        pytest.param(refused(403, "not yours"), KubeError, "not yours", id="refused"),
        pytest.param(refused(503, "shutting down"), UnavailableError, "shutting", id="busy"),
        pytest.param(refused(429, "slower"), UnavailableError, "slower", id="too many requests"),
        pytest.param(ProtocolError("broken off"), UnavailableError, "broken off", id="broken off"),
        pytest.param(ResourceNotFoundError("none"), KubeError, "no such kind", id="no operator"),
    ],
)
def test_an_error_of_the_client(error: Exception, kind: type[KubeError], words: str) -> None:
    kube = Kube.__new__(Kube)
    kube._client = FailingClient(error)
    manifest = {"apiVersion": "primo.dev/v1alpha1", "kind": "PriMOStudy", "metadata": {"name": "s"}}
    for call in (
        lambda: kube.apply(manifest, "team"),
        lambda: kube.get("PriMOStudy", "s", "team"),
        lambda: kube.trials("s", "team"),
        lambda: kube.wait_established("s", 1.0),
    ):
        with pytest.raises(KubeError, match=words) as caught:
            call()
        assert type(caught.value) is kind


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    with pytest.raises(UnavailableError, match="no cluster"):
        Kube(kubeconfig)


def test_a_kubeconfig_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("a: [")
    with pytest.raises(KubeError, match=f"no cluster: {kubeconfig}: "):
        Kube(kubeconfig)


def test_a_cluster_of_this_machine_is_asked_by_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy would say that it cannot be reached; nobody listens at either port."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    with pytest.raises(UnavailableError) as refused:
        Kube(kubeconfig)
    assert "roxy" not in str(refused.value)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match=f"no cluster: {tmp_path}/none: "):
        Kube(tmp_path / "none", context="nope")
    with pytest.raises(KubeError, match=f"no cluster: {KUBE_CONFIG_DEFAULT_LOCATION}: "):
        Kube(context="nope")
