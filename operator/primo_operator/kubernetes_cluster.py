"""The cluster calls, spoken to an API server as raw JSON.

The typed methods of the kubernetes client refuse what an API server takes (`nvidia.com/gpu: 1`), so
only its transport and its way to credentials are used.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from primo_operator import answers, deep, names
from primo_operator.cluster import (
    ClusterError,
    Listing,
    NotFoundError,
    Notice,
    Object,
    RefusedError,
    TooLargeError,
)
from primo_operator.mirror import Kind
from primo_operator.notices import Throttle, event
from primo_operator.proxies import proxy
from primo_operator.renewal import LIMIT_S, Renewal
from primo_operator.watching import Event, Page

log = logging.getLogger(__name__)

EVERYWHERE = {
    Kind.STUDY: (f"/apis/{names.API_VERSION}", names.STUDIES, ""),
    Kind.TRIAL: (f"/apis/{names.API_VERSION}", names.TRIALS, ""),
    # Filtered by the server: all other Jobs and pods of the cluster never reach us.
    Kind.JOB: ("/apis/batch/v1", "jobs", names.STUDY_LABEL),
    Kind.POD: ("/api/v1", "pods", names.STUDY_LABEL),
}
STUDIES = f"/apis/{names.API_VERSION}/namespaces/{{}}/{names.STUDIES}"
TRIALS = f"/apis/{names.API_VERSION}/namespaces/{{}}/{names.TRIALS}"
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
PODS = "/api/v1/namespaces/{}/pods"
EVENTS = "/api/v1/namespaces/{}/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"

Count = Callable[[str, str, int | None], None]

PAGE = 500
LIST_AGAIN = 2  # times from the start, when its pages have expired
# A watch is ended by the server before it falls silent; without even a bookmark it is dead.
WATCH_S = 300
SILENCE_S = 150.0
WAITING_NOTICES = 200
# So long at most a busy server (429) is left alone, at its first such answers to one call.
BUSY_WAITS_S = (5.0, 10.0)
MERGE_PATCH = "application/merge-patch+json"


async def connect(context: str | None = None) -> ApiClient:
    """A client with the pod's own credentials, or those of KUBECONFIG.

    Raises:
        ClusterError: there are no credentials.
    """
    configuration = Configuration()
    try:
        if context is None:
            with contextlib.suppress(config.ConfigException):
                config.load_incluster_config(client_configuration=configuration)
                return _client(configuration)
        async with asyncio.timeout(LIMIT_S):
            await config.load_kube_config(context=context, client_configuration=configuration)
        configuration.refresh_api_key_hook = Renewal(context)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"no credentials for a cluster: {error}") from error
    return _client(configuration)


def _client(configuration: Configuration) -> ApiClient:
    # Left to itself aiohttp asks the environment for a proxy, and ~/.netrc for a password, at each
    # call and in a thread: a quarter of the operator's CPU time under load.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or proxy(configuration.host)
    return ApiClient(configuration)


class KubernetesCluster:
    """`Cluster` and `Leases` by HTTP. Give it `post_notices` as a task, or Events are never shown.

    `may_write` is asked before each call that writes: a process that was paused while another took
    its place must not finish what it had begun. `count` is told of each call and of the HTTP status
    that came, None if nothing came; `told_date` of the time that each answer was given, in
    the words of HTTP.
    """

    def __init__(
        self,
        client: ApiClient,
        timeout_s: float,
        may_write: Callable[[], bool] = lambda: True,
        count: Count = lambda *_: None,
        told_date: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._may_write = may_write
        self._count = count
        self._told_date = told_date
        self._throttle = Throttle()
        self._notices: asyncio.Queue[Notice] = asyncio.Queue(WAITING_NOTICES)

    # --- reads

    async def get_study(self, namespace: str, name: str) -> Object | None:
        return await self._get(_one(STUDIES, namespace, name))

    async def get_trial(self, namespace: str, name: str) -> Object | None:
        return await self._get(_one(TRIALS, namespace, name))

    async def get_job(self, namespace: str, name: str) -> Object | None:
        return await self._get(_one(JOBS, namespace, name))

    async def list_trials(self, namespace: str, study: str) -> Listing:
        path = TRIALS.format(namespace)
        # Unlabelled ones first: one that is labelled in between is then in both, not in neither.
        unlabelled = await self._list(path, names.UNLABELLED)
        labelled = await self._list(path, names.selector(study))
        own = [trial for trial in unlabelled.items if trial["spec"].get("study") == study]
        return Listing([*labelled.items, *own], labelled.version)

    async def list_jobs(self, namespace: str, study: str) -> Listing:
        return await self._list(JOBS.format(namespace), names.selector(study))

    async def list_pods(self, namespace: str, study: str) -> Listing:
        return await self._list(PODS.format(namespace), names.selector(study))

    async def failed_creates(self, namespace: str) -> Mapping[str, str]:
        fields = "involvedObject.kind=Job,reason=FailedCreate"
        found = await self._page(EVENTS.format(namespace), {"fieldSelector": fields})
        events = sorted(found["items"], key=lambda event: event.get("lastTimestamp") or "")
        return {e["involvedObject"].get("name", ""): e.get("message") or "" for e in events}

    # --- everything

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        path, selector = _everywhere(kind, namespace)
        query: dict[str, Any] = {"limit": PAGE, **selector}
        while True:
            page = await self._page(path, query)
            head = {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List")}
            items = [{**head, **item} for item in page["items"]]
            yield items, int(page["metadata"]["resourceVersion"])
            token = page["metadata"].get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    async def events(self, kind: Kind, namespace: str, version: int) -> AsyncIterator[Event]:
        path, selector = _everywhere(kind, namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH_S,
            **selector,
        }
        url = f"{self._client.configuration.host.rstrip('/')}{path}?{urlencode(query)}"
        limits = aiohttp.ClientTimeout(sock_connect=self._timeout_s, sock_read=SILENCE_S)
        headers = {"Accept": "application/json"}
        await self._authorize(headers, "GET", path)
        try:
            answer = await self._client.rest_client.request(
                "GET", url, headers=headers, _request_timeout=limits
            )
            async with answer.response as response:
                if response.status >= 400:
                    self._renews(headers, response.status)
                    answers.read("GET", path, response.status, await response.read())
                async for line in _lines(response.content):
                    yield _event(path, line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"watch {path}: {str(error) or type(error).__name__}") from error

    # --- writes

    async def create_trial(self, trial: Object) -> Object:
        namespace = trial["metadata"]["namespace"]
        return await self._call("POST", TRIALS.format(namespace), body=trial)

    async def create_job(self, job: Object, *, dry_run: bool = False) -> Object:
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        path = JOBS.format(job["metadata"]["namespace"])
        try:
            return await self._call("POST", path, query=query, body=job)
        except RefusedError as error:
            if dry_run or not answers.is_of_large_job(error):
                raise
            raise TooLargeError(413, f"POST {path}: the Job is too large to be stored") from error

    async def dry_run_pod(self, pod: Object) -> None:
        query = {"fieldValidation": "Strict", "dryRun": "All"}
        path = PODS.format(pod["metadata"]["namespace"])
        await self._call("POST", path, query=query, body=pod)

    async def patch_trial(self, namespace: str, name: str, patch: Object, version: str) -> Object:
        body = {**patch, "metadata": {**patch["metadata"], "resourceVersion": version}}
        path = _one(TRIALS, namespace, name)
        return await self._call("PATCH", path, body=body, kind=MERGE_PATCH)

    async def patch_trial_status(
        self, namespace: str, name: str, patch: Object, version: str
    ) -> Object:
        return await self._patch_status(_one(TRIALS, namespace, name), patch, version)

    async def patch_study_status(
        self, namespace: str, name: str, patch: Object, version: str
    ) -> Object:
        return await self._patch_status(_one(STUDIES, namespace, name), patch, version)

    async def patch_job(self, namespace: str, name: str, patch: Object) -> Object:
        path = _one(JOBS, namespace, name)
        return await self._call("PATCH", path, body=patch, kind=MERGE_PATCH)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            # Without a policy the API server leaves a Job's pods behind, running.
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        with contextlib.suppress(NotFoundError):
            await self._call("DELETE", _one(JOBS, namespace, name), body=options)

    # --- what is served

    async def published(self) -> Object | None:
        """The OpenAPI document of our group and version, which everybody who may log in may read.

        None if the API server serves nothing of it.
        """
        return await self._get(f"/openapi/v3/apis/{names.API_VERSION}")

    # --- leases

    async def get_lease(self, namespace: str, name: str) -> Object | None:
        return await self._get(_one(LEASES, namespace, name))

    async def create_lease(self, lease: Object) -> Object:
        path = LEASES.format(lease["metadata"]["namespace"])
        return await self._call("POST", path, body=lease)

    async def update_lease(self, lease: Object) -> Object:
        metadata = lease["metadata"]
        path = _one(LEASES, metadata["namespace"], metadata["name"])
        return await self._call("PUT", path, body=lease)

    # --- events

    def notify(self, notice: Notice) -> None:
        admitted = self._throttle.admit(notice, time.monotonic())
        if admitted:
            with contextlib.suppress(asyncio.QueueFull):
                self._notices.put_nowait(admitted)

    async def post_notices(self) -> None:
        """Post what was notified, for ever; one that is refused is dropped."""
        while True:
            notice = await self._notices.get()
            try:
                await self._post_notice(notice)
            except ClusterError as error:
                log.debug("event dropped", extra={"reason": notice.reason, "error": str(error)})
            except Exception:  # the next ones may do
                log.exception("event dropped", extra={"reason": notice.reason})

    async def _post_notice(self, notice: Notice) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251  # shown only
        body = event(notice, stamp)
        await self._call("POST", EVENTS.format(body["metadata"]["namespace"]), body=body)

    # --- transport

    async def _get(self, path: str) -> Object | None:
        try:
            return await self._call("GET", path)
        except NotFoundError:
            return None

    async def _list(self, path: str, selector: str, again: int = LIST_AGAIN) -> Listing:
        query: dict[str, Any] = {"labelSelector": selector, "limit": PAGE}
        items: list[Object] = []
        try:
            page = await self._page(path, query)
            items += page["items"]
            while token := page["metadata"].get("continue"):
                page = await self._page(path, {**query, "continue": token})
                items += page["items"]
        except RefusedError as error:
            if error.status != 410 or not items or not again:
                raise
            # The pages have expired: half a list is never used.
            return await self._list(path, selector, again - 1)
        return Listing(items, int(page["metadata"]["resourceVersion"]))

    async def _page(self, path: str, query: Mapping[str, Any]) -> Object:
        """Some of a list, or all of it; what else is JSON may be a proxy's."""
        page = await self._call("GET", path, query=query)
        try:
            items, _ = page["items"], int(page["metadata"]["resourceVersion"])
        except (KeyError, TypeError, ValueError):
            items = None
        if not isinstance(items, list):
            raise ClusterError(f"GET {path}: the answer is no list")
        return page

    async def _patch_status(self, path: str, patch: Object, version: str) -> Object:
        body = {"metadata": {"resourceVersion": version}, "status": patch}
        return await self._call("PATCH", f"{path}/status", body=body, kind=MERGE_PATCH)

    async def _authorize(self, headers: dict[str, str], method: str, path: str) -> None:
        """Add the token, which is read anew when it may have been rotated."""
        try:
            await self._client.update_params_for_auth(
                headers, [], ["BearerToken"], path, method, None
            )
        except (config.ConfigException, OSError) as error:
            raise ClusterError(f"{method} {path}: no credentials: {error}") from error

    def _renews(self, headers: Mapping[str, str], status: int) -> bool:
        """Whether the next call has other credentials than this one, which were refused."""
        configuration = self._client.configuration
        renewal = configuration.refresh_api_key_hook
        if status != 401 or not isinstance(renewal, Renewal):
            return False
        return renewal.want(configuration, headers.get("authorization"))

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> Object:
        url = self._client.configuration.host.rstrip("/") + path
        if query:
            url += "?" + urlencode(query)
        headers = {"Accept": "application/json", "Content-Type": kind}
        for wait_s in (*BUSY_WAITS_S, None):
            await self._authorize(headers, method, path)
            if method != "GET" and not self._may_write():
                message = f"{method} {path}: not sent, this operator does not lead any more"
                raise ClusterError(message)
            try:
                response = await self._client.rest_client.request(
                    method, url, headers=headers, body=body, _request_timeout=self._timeout_s
                )
                content = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._count(method, path, None)
                raise ClusterError(
                    f"{method} {path}: {str(error) or type(error).__name__}"
                ) from error
            self._count(method, path, response.status)
            self._told_date(response.headers.get("Date"))
            if self._renews(headers, response.status):
                continue
            asked_s = response.headers.get("Retry-After", "")
            if response.status != 429 or wait_s is None or not asked_s.isdigit():
                break
            # It has had no effect; a busy server says how long it wants to be left alone.
            await asyncio.sleep(min(float(asked_s), wait_s))
        return answers.read(method, path, response.status, content)


def _everywhere(kind: Kind, namespace: str) -> tuple[str, Mapping[str, str]]:
    root, resource, label = EVERYWHERE[kind]
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{place}/{resource}", {"labelSelector": label} if label else {}


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not by readline(): it refuses lines over its buffer, and an object may have a megabyte.
    rest = b""
    async for piece in stream.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                yield line


def _event(path: str, line: bytes) -> Event:
    try:
        event = deep.loads(line)
        kind, obj = str(event["type"]), dict(event["object"])
    except (ValueError, TypeError, KeyError) as error:
        raise ClusterError(f"watch {path}: not an event: {error}") from None
    if kind == "ERROR":
        raise RefusedError(int(obj.get("code") or 500), str(obj.get("message") or "watch failed"))
    return kind, obj


def _one(path: str, namespace: str, name: str) -> str:
    """The path of one object.

    Raises:
        NotFoundError: no object can have such a name. Some come from what users wrote, and one like
            `../../other/jobs/x` must not lead elsewhere.
    """
    if len(name) > 253 or not names.SUBDOMAIN.fullmatch(name):
        raise NotFoundError(404, f"{name[:63]!r} is no name")
    return f"{path.format(namespace)}/{name}"
