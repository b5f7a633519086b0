"""`python -m primo_operator.selftest`: does the installed operator run a study to its end?

It makes a study of two trials that last a second each, waits for it, and removes it. The trials run
in the sidecar's image, so that nothing else has to be pulled. A study that does not complete is
left for `kubectl describe`; the next self-test replaces it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from primo_operator import names

POLL_S = 1.0
CALL_S = 10.0
# An API server that restarts, or a connection that breaks, says nothing about the operator.
AWAY_S = 60.0
NOT_FOUND, CONFLICT, BUSY, SERVER_ERROR = 404, 409, 429, 500
USER = 65532
TRIAL = "from primo_report import params, report; report(step=1, distance=abs(params()['x'] - 0.3))"

Object = dict[str, Any]
T = TypeVar("T")


class SelfTestError(Exception):
    """The study did not come to a good end; the message says what is known of it."""


def study(
    name: str, image: str, pod: Mapping[str, Any] = MappingProxyType({}), user: int = USER
) -> Object:
    """Two trials, and a pod that the Pod Security Standard `restricted` lets through.

    Args:
        pod: more of the pod's spec, such as tolerations.
        user: whom it runs as; 0 leaves it to the image.
    """
    container = {
        "name": "trial",
        "image": image,
        "command": ["python", "-c", TRIAL],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user:
        security["runAsUser"] = user
    template = {"spec": {**pod, "securityContext": security, "containers": [container]}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.STUDY_KIND,
        "metadata": {"name": name},
        "spec": {
            "objectives": [{"name": "distance", "goal": "Minimize", "metric": "distance"}],
            "parameters": [{"name": "x", "float": {"min": 0, "max": 1}}],
            "budget": {"trials": 2},
            "parallelism": 2,
            "trialTemplate": {"spec": {"template": template}},
        },
    }


def run(
    api: client.CustomObjectsApi,
    namespace: str,
    manifest: Object,
    timeout_s: float,
    say: Callable[[str], None],
) -> None:
    """Make the study, wait until it is completed, remove it.

    Raises:
        SelfTestError: it failed, or was not completed in time.
        ApiException: the API server refuses a call.
    """
    name = manifest["metadata"]["name"]
    deadline = time.monotonic() + timeout_s
    _delete(api, namespace, name)
    while _get(api, namespace, name) is not None:
        _wait(deadline, f"an earlier PriMOStudy {name} is not gone")
    _create(api, namespace, manifest)
    said = ""
    while True:
        found = _get(api, namespace, name)
        if found is None:
            raise SelfTestError(f"PriMOStudy {name} was deleted while it ran")
        status = found.get("status") or {}
        phase = status.get("phase") or "not seen by an operator"
        if (line := f"{phase}, trials {status.get('progress') or '0/2'}") != said:
            said = line
            say(line)
        if phase == "Completed":
            break
        if phase == "Failed":
            raise SelfTestError(_story(found))
        _wait(deadline, f"not completed after {timeout_s:g} s: {_story(found)}")
    if status.get("trials", {}).get("failed"):
        raise SelfTestError(f"it completed with failed trials: {_story(found)}")
    _delete(api, namespace, name)


def _kind(namespace: str) -> tuple[str, str, str, str]:
    return names.GROUP, names.VERSION, namespace, names.STUDIES


def _get(api: client.CustomObjectsApi, namespace: str, name: str) -> Object | None:
    def get() -> Object:
        found: Object = api.get_namespaced_custom_object(
            *_kind(namespace), name, _request_timeout=CALL_S
        )
        return found

    try:
        return _insist(get)
    except client.ApiException as error:
        if error.status == NOT_FOUND:
            return None
        raise


def _create(api: client.CustomObjectsApi, namespace: str, manifest: Object) -> None:
    tries = 0

    def create() -> None:
        nonlocal tries
        tries += 1
        api.create_namespaced_custom_object(*_kind(namespace), manifest, _request_timeout=CALL_S)

    try:
        _insist(create)
    except client.ApiException as error:
        # A try whose answer was lost has made it.
        if error.status != CONFLICT or tries == 1:
            raise


def _delete(api: client.CustomObjectsApi, namespace: str, name: str) -> None:
    def delete() -> None:
        api.delete_namespaced_custom_object(*_kind(namespace), name, _request_timeout=CALL_S)

    try:
        _insist(delete)
    except client.ApiException as error:
        if error.status != NOT_FOUND:
            raise


def _insist(call: Callable[[], T]) -> T:
    """Its result; while the API server is away or busy it is called again.

    Raises:
        SelfTestError: that lasts for too long.
        ApiException: the call is refused.
    """
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            return call()
        except (client.ApiException, HTTPError) as error:
            status = error.status if isinstance(error, client.ApiException) else None
            if status is not None and 0 < status < SERVER_ERROR and status != BUSY:
                raise
            _wait(deadline, f"no answer from the API server for {AWAY_S:g} s: {error}")


def _wait(deadline: float, otherwise: str) -> None:
    if time.monotonic() > deadline:
        raise SelfTestError(otherwise)
    time.sleep(POLL_S)


def _story(found: Object) -> str:
    conditions = (found.get("status") or {}).get("conditions") or ()
    told = [f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions]
    return "; ".join(told) or "it has no conditions: is an operator running that watches here?"


def _object(text: str) -> Object:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m primo_operator.selftest", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--namespace", required=True, help="one that the operator watches")
    parser.add_argument("--name", default="self-test", help="of the study")
    parser.add_argument("--image", required=True, help="the sidecar's")
    parser.add_argument(
        "--pod", type=_object, default={}, metavar="JSON", help="more of the trials' pod spec"
    )
    parser.add_argument("--user", type=int, default=USER, help="of the trials; 0 for the image's")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS")
    given = parser.parse_args(arguments)
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    api = client.CustomObjectsApi()

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        manifest = study(given.name, given.image, given.pod, given.user)
        run(api, given.namespace, manifest, given.timeout, say)
    except (SelfTestError, client.ApiException) as error:
        say(f"self-test failed: {error}")
        return 1
    say("self-test passed: the operator ran two trials to their end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
