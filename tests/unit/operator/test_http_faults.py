"""An API server that is busy, slow, broken or of another time, as the operator's calls meet it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from primo_operator.clock import SystemClock
from primo_operator.cluster import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    RefusedError,
    TooLargeError,
)
from primo_operator.kubernetes_cluster import KubernetesCluster
from primo_operator.mirror import Kind
from primo_operator.runs import ABOUT_THE_OBJECT

Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]
GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "the token has expired"}


def against(handler: Handler, use: Callable[[KubernetesCluster], Any], **given: Any) -> Any:
    """What calls come to when a server answers like this."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = site._server.sockets[0].getsockname()[:2]  # type: ignore[union-attr]
        client = ApiClient(Configuration(host=f"http://{host}:{port}"))
        try:
            return await use(KubernetesCluster(client, given.pop("timeout_s", 30.0), **given))
        finally:
            await client.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(runner.cleanup(), 1.0)

    return asyncio.run(run())


def page(names: list[str], token: str | None = None) -> web.Response:
    metadata = {"resourceVersion": "7"} | ({"continue": token} if token else {})
    items = [{"metadata": {"name": name}, "spec": {}} for name in names]
    return web.json_response({"items": items, "metadata": metadata})


def test_half_a_list_is_never_used() -> None:
    """A token for the next page may expire: then it is listed from the start."""
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.query.get("continue"))
        if len(asked) == 1:
            return page(["a", "b"], "next")
        if len(asked) == 2:
            return web.json_response(GONE, status=410)
        return page(["a"], "again") if asked[-1] is None else page(["c"])

    found = against(handler, lambda cluster: cluster.list_jobs("team", "digits"))
    assert [item["metadata"]["name"] for item in found.items] == ["a", "c"]
    assert asked == [None, "next", None, "again"]


def test_a_list_whose_pages_always_expire_is_given_up() -> None:
    """The pass is repeated, later and later: in a loop of its own the call would never end."""
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.query.get("continue"))
        if asked[-1] is None:
            return page(["a"], "next")
        return web.json_response(GONE, status=410)

    with pytest.raises(RefusedError, match="410"):
        against(handler, lambda cluster: cluster.list_jobs("team", "digits"))
    assert asked == [None, "next"] * 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"items": None, "metadata": {"resourceVersion": "7"}},
        {"items": [], "metadata": {}},
        {"items": [], "metadata": {"resourceVersion": "seven"}},
        {"error": "log in"},
    ],
    ids=str,
)
def test_an_answer_that_is_no_list_is_none(answer: dict[str, Any]) -> None:
    """It is neither taken for a bug of ours, nor the end of the watches."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer)

    calls: list[Callable[[KubernetesCluster], Any]] = [
        lambda cluster: cluster.list_jobs("team", "digits"),
        lambda cluster: anext(cluster.pages(Kind.JOB, "team")),
        lambda cluster: cluster.failed_creates("team"),
    ]
    for call in calls:
        with pytest.raises(ClusterError, match="the answer is no list"):
            against(handler, call)


@pytest.mark.parametrize(
    "error", [OSError("No such file or directory"), ConfigException("Token file exists but empty.")]
)
def test_a_token_that_cannot_be_read_is_asked_for_again_with_the_next_call(
    error: Exception,
) -> None:
    """Else it would end the watches, and the lead."""

    def refresh(configuration: Configuration) -> None:
        raise error

    async def calls(cluster: KubernetesCluster) -> None:
        configuration = cluster._client.configuration
        configuration.api_key["BearerToken"] = "bearer old"
        configuration.refresh_api_key_hook = refresh
        with pytest.raises(ClusterError, match=r"GET .*/jobs/j: no credentials"):
            await cluster.get_job("team", "j")
        with pytest.raises(ClusterError, match=r"GET .*/jobs: no credentials"):
            await anext(cluster.events(Kind.JOB, "team", 7))
        configuration.refresh_api_key_hook = None
        assert await cluster.get_job("team", "j") == {}

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    against(handler, calls)


def test_a_busy_server_is_given_the_time_that_it_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("primo_operator.kubernetes_cluster.asyncio.sleep", sleep)
    answers = [("1", 429), ("3600", 429), ("1", 429)]

    async def handler(request: web.Request) -> web.Response:
        wait, status = answers.pop(0) if answers else ("", 200)
        return web.json_response({}, status=status, headers={"Retry-After": wait})

    with pytest.raises(RefusedError, match="429"):
        against(handler, lambda cluster: cluster.get_job("team", "j"))
    assert [s for s in slept if s] == [1.0, 10.0], "but not an hour, and not for ever"
    assert against(handler, lambda cluster: cluster.get_job("team", "j")) == {}


def test_a_job_is_deleted_with_its_pods_and_no_other_of_its_name() -> None:
    async def handler(request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["propagationPolicy"] == "Background"
        if asked["preconditions"] == {"uid": "ours"}:
            return web.json_response({"kind": "Status", "status": "Success"})
        return web.json_response({"reason": "Conflict", "message": "another UID"}, status=409)

    against(handler, lambda cluster: cluster.delete_job("team", "j", "ours"))
    with pytest.raises(ConflictError, match="another UID"):
        against(handler, lambda cluster: cluster.delete_job("team", "j", "earlier"))


async def broken(request: web.Request) -> web.Response:
    return web.json_response({"message": "etcdserver: no space"}, status=500)


async def page_of_a_proxy(request: web.Request) -> web.Response:
    return web.Response(text="<html>log in", content_type="text/html")


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"items": [')
    assert request.transport
    request.transport.close()
    return response


async def silent(request: web.Request) -> web.Response:
    await asyncio.sleep(5.0)
    return web.json_response({})


@pytest.mark.parametrize("handler", [broken, page_of_a_proxy, cut, silent])
def test_what_is_no_answer_may_have_had_an_effect_and_names_the_call(handler: Handler) -> None:
    with pytest.raises(ClusterError, match="DELETE /apis/batch/v1/namespaces/team/jobs/j") as got:
        against(handler, lambda cluster: cluster.delete_job("team", "j", "u"), timeout_s=0.3)
    assert not isinstance(got.value, RefusedError)


def test_time_is_that_of_the_api_server() -> None:
    """Whatever its own clock says, or is set to on the way, no deadline comes early."""
    clock = SystemClock()

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({}, headers={"Date": "Fri, 15 Jan 2027 08:00:00 GMT"})

    against(handler, lambda cluster: cluster.get_job("team", "j"), told_date=clock.tell)
    assert abs(clock.now() - 1_800_000_000.0) < 30.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Nov 2026 00:00:00 GMT"])
def test_a_date_that_cannot_be_read_changes_nothing(date: str | None) -> None:
    clock = SystemClock()
    before = clock._start
    clock.tell(date)
    assert clock._start == before


SERVICE_ACCOUNT = "system:serviceaccount:primo-system:primo-operator"


@pytest.mark.parametrize(
    "words",
    [
        f'jobs.batch is forbidden: User "{SERVICE_ACCOUNT}" cannot create resource "jobs" in API'
        ' group "batch" in the namespace "team"',
        f'primotrials.primo.dev "digits-1" is forbidden: User "{SERVICE_ACCOUNT}" cannot patch'
        ' resource "primotrials/status" in API group "primo.dev" in the namespace "team": RBAC:'
        ' clusterrole.rbac.authorization.k8s.io "primo" not found',
        f'pods is forbidden: User "{SERVICE_ACCOUNT}" cannot list resource "pods" in API group ""'
        " at the cluster scope",
        'forbidden: User "a \\"b\\"" cannot get path "/apis"',
        'jobs.batch "digits-1-r0-a0" is forbidden: cannot set blockOwnerDeletion if an'
        " ownerReference refers to a resource you can't set finalizers on: , <nil>",
    ],
)
def test_a_right_that_is_missing_is_told_by_the_authorizers_words(words: str) -> None:
    assert isinstance(refused(403, words), ForbiddenError)


@pytest.mark.parametrize(
    "words",
    [
        'jobs.batch "j" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1',
        'pods "j" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'pods "j" is forbidden: error looking up service account team/x: serviceaccount "x" not'
        " found",
        'jobs.batch "j" is forbidden: unable to create new content in namespace team because it is'
        " being terminated",
        'admission webhook "policy.example" denied the request: forbidden: User "a" cannot create'
        ' resource "jobs"',
        'jobs.batch "j" is forbidden: ValidatingAdmissionPolicy "p" with binding "b" denied'
        ' request: User "a" cannot create resource "jobs" here',
    ],
)
def test_what_admission_thinks_of_an_object_is_no_matter_of_rights(words: str) -> None:
    error = refused(403, words)
    assert not isinstance(error, ForbiddenError)
    assert error.message == words


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 422, 500])
@pytest.mark.parametrize(
    "words",
    [
        "jobs.batch \"j\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied"
        " request: no Jobs on holidays",
        'admission webhook "policy.example" denied the request: no Jobs on holidays',
        'admission webhook "policy.example" denied the request without explanation',
    ],
)
def test_what_a_policy_denies_it_may_allow_later_whatever_its_status(
    status: int, words: str
) -> None:
    error = refused(status, words)
    assert (type(error), error.status, error.message) == (RefusedError, 403, words)
    assert error.status not in ABOUT_THE_OBJECT


def test_a_call_whose_webhook_cannot_be_asked_had_no_effect() -> None:
    words = (
        'Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: Post'
        ' "https://kueue-webhook-service.kueue-system.svc:443/mutate-batch-v1-job?timeout=10s":'
        " dial tcp 10.96.3.7:443: connect: connection refused"
    )
    error = refused(500, words)
    assert (type(error), error.status, error.message) == (RefusedError, 500, words)
    assert error.status not in ABOUT_THE_OBJECT


def test_a_token_that_is_not_accepted_is_a_missing_right_and_names_the_call() -> None:
    error = refused(401, "Unauthorized")
    assert isinstance(error, ForbiddenError)
    assert error.message == "POST /apis/batch/v1/namespaces/team/jobs: Unauthorized"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(413, "Request entity too large: limit is 3145728", id="the request"),
        pytest.param(500, "etcdserver: request is too large", id="the store"),
        pytest.param(
            500,
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max"
            " (2100000 vs. 2097152)",
            id="a client of the store",
        ),
    ],
)
def test_an_object_that_is_too_large_had_no_effect_and_names_the_call(
    status: int, words: str
) -> None:
    error = refused(status, words)
    assert isinstance(error, TooLargeError)
    assert error.message == f"POST /apis/batch/v1/namespaces/team/jobs: {words}"


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_job_that_is_too_large_is_told_from_one_whose_labels_are_wrong(dry_run: bool) -> None:
    """Both are refused in these words, the first one not before it is to be stored."""
    words = (
        'Job.batch "j" is invalid: [spec.template.metadata.labels[controller-uid]: Invalid value:'
        ' {"controller-uid":"80b6"}: must be \'c741\', spec.template.metadata.labels'
        '[batch.kubernetes.io/controller-uid]: Invalid value: {"controller-uid":"80b6"}: must be'
        " 'c741', spec.selector: Invalid value: {}: `selector` not auto-generated]"
    )
    error = refused(422, words, dry_run=dry_run)
    if dry_run:
        assert (type(error), error.message) == (RefusedError, words)
    else:
        assert isinstance(error, TooLargeError)
        assert error.message.endswith("/namespaces/team/jobs: the Job is too large to be stored")


def test_a_proxy_may_say_so_too() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="<html>413", status=413, content_type="text/html")

    with pytest.raises(TooLargeError, match="DELETE /apis/batch/v1/namespaces/team/jobs/j"):
        against(handler, lambda cluster: cluster.delete_job("team", "j", "u"))


def refused(status: int, words: str, *, dry_run: bool = False) -> RefusedError:
    """What a create of a Job that is answered so comes to."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": words}, status=status)

    job = {"metadata": {"namespace": "team", "name": "j"}}
    with pytest.raises(RefusedError) as got:
        against(handler, lambda cluster: cluster.create_job(job, dry_run=dry_run))
    return got.value
