"""The few calls a laptop makes to a cluster, by the kubernetes client's dynamic half."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError as AlreadyExists
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError
from urllib3.exceptions import HTTPError

from primo_optimizer import PrimoError

MERGE_PATCH = "application/merge-patch+json"


class KubeError(PrimoError):
    """The cluster refused, or could not be reached."""


class Kube:
    """A cluster, by its kubeconfig."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        configuration = Configuration()
        try:
            config.load_kube_config(
                config_file=str(kubeconfig) if kubeconfig else None,
                context=context,
                client_configuration=configuration,
            )
            self._client = DynamicClient(ApiClient(configuration))
        except (config.ConfigException, ApiException, OSError) as error:
            raise KubeError(f"no cluster: {error}") from error

    def apply(self, manifest: Mapping[str, Any], namespace: str | None = None) -> dict[str, Any]:
        """Create it, or bring what is there to it; unknown fields are refused."""
        given = dict(manifest)
        metadata = given["metadata"]
        try:
            api = self._client.resources.get(api_version=given["apiVersion"], kind=given["kind"])
            where = {"namespace": metadata.get("namespace") or namespace} if api.namespaced else {}
            strict = [("fieldValidation", "Strict")]
            try:
                made = api.create(body=given, query_params=strict, **where)
            except AlreadyExists:
                made = api.patch(
                    body=given,
                    name=metadata["name"],
                    content_type=MERGE_PATCH,
                    query_params=strict,
                    **where,
                )
        except (ApiException, DynamicApiError) as error:
            kind = f"{given['kind']} {metadata.get('name')}"
            raise KubeError(f"{kind}: {_message(error)}") from error
        found: dict[str, Any] = made.to_dict()
        return found

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One of our objects; None if it is not there."""
        try:
            found: dict[str, Any] = self._ours(kind).get(name=name, namespace=namespace).to_dict()
        except NotFoundError:
            return None
        return found

    def trials(self, study: str, namespace: str) -> Sequence[dict[str, Any]]:
        """A study's trials, by number."""
        listed = self._ours("PriMOTrial").get(
            namespace=namespace, label_selector=f"primo.dev/study={study}"
        )
        items: list[dict[str, Any]] = listed.to_dict()["items"]
        return sorted(items, key=lambda item: int(item["spec"]["number"]))

    def pods(self, selector: str) -> Sequence[dict[str, Any]]:
        """Of all namespaces, by their labels."""
        try:
            api = self._client.resources.get(api_version="v1", kind="Pod")
            found: list[dict[str, Any]] = api.get(label_selector=selector).to_dict()["items"]
        except (ApiException, DynamicApiError, HTTPError) as error:
            raise KubeError(f"pods {selector}: {_message(error)}") from error
        return found

    def log(self, namespace: str, pod: str, container: str) -> str:
        """What a container has printed so far."""
        try:
            answer = CoreV1Api(self._client.client).read_namespaced_pod_log(
                pod, namespace, container=container, _preload_content=False
            )
        except (ApiException, HTTPError) as error:
            raise KubeError(f"log of {pod}: {_message(error)}") from error
        return str(answer.data.decode(errors="replace"))

    def wait_established(self, crd: str, timeout_s: float) -> None:
        """Wait until the API server serves a custom resource."""
        api = self._client.resources.get(
            api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition"
        )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = api.get(name=crd).to_dict().get("status") or {}
            for condition in status.get("conditions") or ():
                if condition["type"] == "Established" and condition["status"] == "True":
                    return
            time.sleep(0.1)
        raise KubeError(f"{crd} was not established within {timeout_s:g} s")

    def _ours(self, kind: str) -> Any:
        return self._client.resources.get(api_version="primo.dev/v1alpha1", kind=kind)


def _message(error: Exception) -> str:
    import json

    body = getattr(error, "body", None)
    try:
        return str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error)
