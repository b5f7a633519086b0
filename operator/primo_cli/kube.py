"""The few calls a laptop makes to a cluster, by the kubernetes client's dynamic half."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError as AlreadyExists
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from primo_operator.proxies import is_loopback
from primo_optimizer import PrimoError

MERGE_PATCH = "application/merge-patch+json"
OURS, STUDY = "primo.dev/v1alpha1", "PriMOStudy"
# To connect, and between two pieces of an answer.
TIMEOUT_S = (10.0, 30.0)
TOO_MANY_REQUESTS = 429


class KubeError(PrimoError):
    """The cluster refused, or could not be reached."""


class UnavailableError(KubeError):
    """There was no answer, or not now: another try may help."""


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
        except (config.ConfigException, OSError, YAMLError) as error:
            looked_at = kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
            raise KubeError(f"no cluster: {looked_at}: {error}") from error
        if is_loopback(configuration.host):
            configuration.proxy = None  # the shell's has no way to our loopback
        with _told("no cluster"):
            self._client = DynamicClient(ApiClient(configuration))

    def apply(self, manifest: Mapping[str, Any], namespace: str | None = None) -> dict[str, Any]:
        """Create it, or bring what is there to it; unknown fields are refused.

        Of a study, what the spec has and the manifest has not goes. Others get more in their spec
        than was given: of the server, and trials of the operator.
        """
        given = dict(manifest)
        metadata = given["metadata"]
        with _told(f"{given['kind']} {metadata.get('name')}"):
            api = self._client.resources.get(api_version=given["apiVersion"], kind=given["kind"])
            call: dict[str, Any] = {
                "body": given,
                "query_params": [("fieldValidation", "Strict")],
                "_request_timeout": TIMEOUT_S,
            }
            if api.namespaced:
                call["namespace"] = metadata.get("namespace") or namespace
            try:
                made = api.create(**call)
            except AlreadyExists:
                if given["kind"] == STUDY:
                    name, namespace = metadata["name"], call["namespace"]
                    there = self._get(OURS, STUDY, name=name, namespace=namespace)
                    call["body"] = {**given, "spec": _patch(there["spec"], given["spec"])}
                made = api.patch(name=metadata["name"], content_type=MERGE_PATCH, **call)
        found: dict[str, Any] = made.to_dict()
        return found

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One of our objects; None if it is not there."""
        with _told(f"{kind} {name}"):
            try:
                found = self._get(OURS, kind, name=name, namespace=namespace)
            except NotFoundError:
                return None
        return found

    def trials(self, study: str, namespace: str) -> Sequence[dict[str, Any]]:
        """A study's trials, by number."""
        with _told(f"trials of {study}"):
            selector = f"primo.dev/study={study}"
            listed = self._get(OURS, "PriMOTrial", namespace=namespace, label_selector=selector)
        # One that somebody else has labelled has no number until the operator takes it in.
        numbered = [trial for trial in listed["items"] if "number" in trial["spec"]]
        return sorted(numbered, key=lambda trial: int(trial["spec"]["number"]))

    def pods(self, selector: str) -> Sequence[dict[str, Any]]:
        """Of all namespaces, by their labels."""
        with _told(f"pods {selector}"):
            found: list[dict[str, Any]] = self._get("v1", "Pod", label_selector=selector)["items"]
        return found

    def log(self, namespace: str, pod: str, container: str) -> str:
        """What a container has printed so far."""
        with _told(f"log of {pod}"):
            answer = CoreV1Api(self._client.client).read_namespaced_pod_log(
                pod,
                namespace,
                container=container,
                _preload_content=False,
                _request_timeout=TIMEOUT_S,
            )
        return str(answer.data.decode(errors="replace"))

    def wait_established(self, crd: str, timeout_s: float) -> None:
        """Wait until the API server serves a custom resource."""
        version, kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with _told(crd):
                status = self._get(version, kind, name=crd).get("status") or {}
            for condition in status.get("conditions") or ():
                if condition["type"] == "Established" and condition["status"] == "True":
                    return
            time.sleep(0.1)
        raise KubeError(f"{crd} was not established within {timeout_s:g} s")

    def _get(self, version: str, kind: str, **call: Any) -> dict[str, Any]:
        api = self._client.resources.get(api_version=version, kind=kind)
        found: dict[str, Any] = api.get(_request_timeout=TIMEOUT_S, **call).to_dict()
        return found


def _patch(there: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch (RFC 7396) that makes the one the other."""
    patch: dict[str, Any] = dict.fromkeys(there)
    for key, value in given.items():
        before = there.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _patch(before, value)
        patch[key] = value
    return patch


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the client raises into a KubeError: what it was about, and the server's words."""
    try:
        yield
    except ResourceNotFoundError as error:
        raise KubeError(f"{what}: the cluster has no such kind: {error}") from error
    except ApiException as error:
        busy = not error.status or error.status == TOO_MANY_REQUESTS or error.status >= 500
        raise (UnavailableError if busy else KubeError)(f"{what}: {_message(error)}") from error
    except (HTTPError, OSError) as error:
        raise UnavailableError(f"{what}: {error}") from error


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error)
