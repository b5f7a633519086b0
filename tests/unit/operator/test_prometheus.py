"""What Prometheus answers, and a server that does anything but: a number or a named gap."""

import asyncio
import json
import ssl
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from primo_local import pki
from primo_operator.mirror import Key
from primo_operator.prometheus import PrometheusMetrics, read_answer
from primo_operator.settings import BadSettingError, Settings
from primo_study.queries import Gap, Question, Reading

KEY = Key("team", "digits")
UP = Question("energy", "up", 1_800_000_000.0)


def sample(value: Any, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1_800_000_000.0, value]}


def answer(result: Any, kind: str = "vector", **more: Any) -> bytes:
    return json.dumps(
        {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    ).encode()


def refused(kind: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": "words"}).encode()


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        pytest.param(200, answer([sample("1.5e3")]), 1500.0, id="one series"),
        pytest.param(200, answer([1.8e9, "2"], "scalar"), 2.0, id="a scalar"),
        pytest.param(200, answer([sample("0")]), 0.0, id="a zero that was measured"),
        pytest.param(200, answer([sample("-3")], infos=["a gauge"]), -3.0, id="a hint is none"),
        pytest.param(200, answer([]), Gap.NO_SERIES, id="no series"),
        pytest.param(
            200, answer([sample("1", gpu="0"), sample("2")]), Gap.SEVERAL_SERIES, id="two series"
        ),
        pytest.param(200, answer([sample("NaN")]), Gap.NOT_FINITE, id="NaN"),
        pytest.param(200, answer([sample("+Inf")]), Gap.NOT_FINITE, id="infinity"),
        pytest.param(200, answer([sample("1e999")]), Gap.NOT_FINITE, id="too large"),
        pytest.param(200, answer([], "matrix"), Gap.WRONG_TYPE, id="a range"),
        pytest.param(200, answer([1.8e9, "1"], "string"), Gap.WRONG_TYPE, id="a string"),
        pytest.param(
            200,
            answer([{"metric": {}, "histogram": [1.8e9, {"count": "1"}]}]),
            Gap.WRONG_TYPE,
            id="a native histogram",
        ),
        pytest.param(
            200, answer([sample("1")], warnings=["a store is away"]), Gap.INCOMPLETE, id="partial"
        ),
        pytest.param(200, answer([sample(1)]), Gap.BAD_ANSWER, id="a number that is no text"),
        pytest.param(200, answer([sample("")]), Gap.BAD_ANSWER, id="an empty number"),
        pytest.param(200, answer([{"metric": {}}]), Gap.BAD_ANSWER, id="a series without a value"),
        pytest.param(200, answer({"0": sample("1")}), Gap.BAD_ANSWER, id="an object for a list"),
        pytest.param(200, answer("x"), Gap.BAD_ANSWER, id="a word for a list"),
        pytest.param(200, b'{"status":"success"}', Gap.BAD_ANSWER, id="no data"),
        pytest.param(200, b"<html>login</html>", Gap.BAD_ANSWER, id="a login page"),
        pytest.param(200, b"", Gap.BAD_ANSWER, id="nothing"),
        pytest.param(200, b"[" * 100_000, Gap.BAD_ANSWER, id="too deep"),
        pytest.param(200, answer([sample("1")])[:-9], Gap.BAD_ANSWER, id="cut off"),
        pytest.param(400, refused("bad_data"), Gap.BAD_QUERY, id="not PromQL"),
        pytest.param(400, b"plain HTTP to an HTTPS port", Gap.REFUSED, id="a proxy's 400"),
        pytest.param(401, b"", Gap.REFUSED, id="no token"),
        pytest.param(302, b"", Gap.REFUSED, id="a redirect"),
        pytest.param(404, b"nothing here", Gap.REFUSED, id="another path"),
        pytest.param(422, refused("execution"), Gap.REFUSED, id="it cannot be executed"),
        pytest.param(503, refused("timeout"), Gap.TIMED_OUT, id="the server's own limit"),
        pytest.param(503, b"starting", Gap.FAILED, id="a server that starts"),
        pytest.param(500, answer([sample("1")]), Gap.FAILED, id="a value with a 500"),
    ],
)
def test_an_answer(status: int, content: bytes, expected: float | Gap) -> None:
    reading = read_answer(status, content)
    if isinstance(expected, Gap):
        assert (reading.value, reading.gap) == (None, expected)
        assert reading.message
    else:
        assert reading == Reading(expected)


def test_only_what_no_repetition_can_cure_is_final() -> None:
    assert {gap for gap in Gap if gap.final} == {
        Gap.BAD_QUERY,
        Gap.SEVERAL_SERIES,
        Gap.WRONG_TYPE,
    }


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "data", "result", "resultType", "value", "metric"]), inner
        )
    ),
    max_leaves=8,
)
kinds = st.sampled_from(["vector", "scalar", "matrix", "string", None])


@given(st.integers(100, 599), st.binary() | anything.map(lambda a: json.dumps(a).encode()))
def test_whatever_comes_is_a_gap(status: int, content: bytes) -> None:
    reading = read_answer(status, content)
    assert reading.gap
    assert reading.value is None


@given(kinds, anything)
def test_whatever_the_result_there_is_a_value_or_a_gap(kind: str | None, result: Any) -> None:
    reading = read_answer(200, answer(result, kind))  # type: ignore[arg-type]
    assert (reading.value is None) == (reading.gap is not None)


# --- against a server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Told = list[tuple[str, Mapping[str, Reading]]]


async def good(_: web.Request) -> web.Response:
    return web.Response(body=answer([sample("7")]), content_type="application/json")


def served(
    handler: Handler,
    scenario: Callable[[str], Awaitable[Any]],
    tls: ssl.SSLContext | None = None,
) -> Any:
    """Run a scenario against a server on loopback, given its URL."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_post("/prometheus/{rest:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            scheme = "https" if tls else "http"
            return await scenario(f"{scheme}://{host}:{port}/prometheus/")
        finally:
            await runner.cleanup()

    return asyncio.run(run())


async def asked(url: str, *questions: Question, **settings: Any) -> Mapping[str, Reading]:
    """One answer."""
    told: asyncio.Future[Mapping[str, Reading]] = asyncio.get_running_loop().create_future()
    given = Settings(prometheus_url=url, prometheus_namespaces="*", **settings)
    metrics = PrometheusMetrics(given, lambda *answered: told.set_result(answered[2]))
    try:
        metrics.ask(KEY, "job", questions or (UP,))
        return await told
    finally:
        await metrics.close()


def test_a_question_as_a_server_gets_it(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(path=request.path, form=dict(await request.post()), headers=request.headers)
        return await good(request)

    token = tmp_path / "token"
    token.write_text("secret\n")
    found = served(
        handler,
        lambda url: asked(
            url + "$(namespace)", prometheus_token_file=str(token), prometheus_timeout_s=5.0
        ),
    )
    assert found == {"energy": Reading(7.0)}
    assert seen["path"] == "/prometheus/team/api/v1/query"
    assert seen["form"] == {"query": "up", "time": "1800000000.000", "timeout": "5.000"}
    assert seen["headers"]["Authorization"] == "Bearer secret"


def test_a_server_that_is_not_there() -> None:
    found = asyncio.run(asked("http://127.0.0.1:1"))
    assert found["energy"].gap is Gap.UNREACHABLE


@pytest.mark.parametrize(("trusted", "expected"), [("ours", None), ("others", Gap.UNREACHABLE)])
def test_a_server_is_trusted_by_its_authority_alone(
    trusted: str, expected: Gap | None, tmp_path: Path
) -> None:
    authorities = {name: pki.prepare(tmp_path / name) for name in ("ours", "others")}
    found = served(
        good,
        lambda url: asked(url, prometheus_ca_file=str(authorities[trusted].certificate("ca"))),
        pki.server_context(authorities["ours"], "apiserver"),
    )
    assert found["energy"].gap is expected


def test_a_token_that_cannot_be_read(tmp_path: Path) -> None:
    found = served(good, lambda url: asked(url, prometheus_token_file=str(tmp_path / "none")))
    assert found["energy"].gap is Gap.UNREACHABLE
    assert "none" in found["energy"].message


def test_a_token_that_is_no_header(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a\r\nX-Admin: 1")
    found = served(good, lambda url: asked(url, prometheus_token_file=str(token)))
    assert found["energy"].gap is Gap.BAD_ANSWER


def test_a_server_that_breaks_off() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.close()
        return web.Response()

    assert served(handler, asked)["energy"].gap is Gap.UNREACHABLE


def test_a_server_that_hangs() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    found = served(handler, lambda url: asked(url, prometheus_timeout_s=0.2))
    assert found["energy"].gap is Gap.TIMED_OUT


def test_an_answer_without_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(64):
            await response.write(b" " * 65536)
        return response

    found = served(handler, asked)
    assert found["energy"].gap is Gap.BAD_ANSWER
    assert "1 MiB" in found["energy"].message


@pytest.mark.parametrize("size", [1, 100])
def test_a_packed_answer_is_unpacked_as_far_as_its_limit(size: int) -> None:
    """A hundred MiB of spaces are a tenth of one on their way."""
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(b" " * 1_000_000) for _ in range(size)]
    packed = b"".join([*pieces, packer.compress(answer([sample("7")])), packer.flush()])

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    tracemalloc.start()
    try:
        found = served(handler, lambda url: asked(url, prometheus_timeout_s=60.0))["energy"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if size == 1:
        assert found == Reading(7.0)
    else:
        assert found.gap is Gap.BAD_ANSWER
        assert "1 MiB" in found.message
    assert peak < 32 << 20


def test_a_redirect_is_not_followed() -> None:
    visited = []

    async def handler(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.Response(status=307, headers={"Location": "/prometheus/elsewhere"})

    assert served(handler, asked)["energy"].gap is Gap.REFUSED
    assert len(visited) == 1


def test_a_study_that_waits_for_its_answers_delays_no_other() -> None:
    async def scenario(url: str) -> Told:
        told: Told = []
        both = asyncio.Event()

        def tell(_: Key, job: str, readings: Mapping[str, Reading]) -> None:
            told.append((job, readings))
            both.set()

        metrics = PrometheusMetrics(Settings(prometheus_url=url), tell)
        for i in range(40):
            for _ in range(3):  # each run once, however often it is asked for
                metrics.ask(KEY, f"slow-{i}", [Question("energy", "slow", 0.0)])
        metrics.ask(Key("team", "other"), "other", [UP])
        await both.wait()
        await metrics.close()
        return told

    waiting = []

    async def handler(request: web.Request) -> web.Response:
        if (await request.post())["query"] == "slow":
            waiting.append(request)
            await asyncio.Event().wait()
        return await good(request)

    assert served(handler, scenario) == [("other", {"energy": Reading(7.0)})]
    assert len(waiting) <= 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prometheus_url": "prometheus:9090"}, "PRIMO_PROMETHEUS_URL: 'prometheus:9090' is no"),
        ({"prometheus_url": "file:///etc/passwd"}, "PRIMO_PROMETHEUS_URL: 'file:"),
        ({"prometheus_timeout_s": 0.0}, "PRIMO_PROMETHEUS_TIMEOUT_S: 0 is not above 0"),
        ({"prometheus_ca_file": "/none"}, "PRIMO_PROMETHEUS_CA_FILE: '/none' holds no"),
    ],
)
def test_a_bad_setting_is_named_at_the_start(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        PrometheusMetrics(Settings(**given), lambda *_: None)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("url", "namespaces", "refused"),
    [
        ("", "*", Gap.NOT_ENABLED),
        ("http://p", "", Gap.NOT_ALLOWED),
        ("http://p", "other, teams", Gap.NOT_ALLOWED),
        ("http://p", "other, team", None),
        ("http://p", "*", None),
    ],
)
def test_who_may_ask(url: str, namespaces: str, refused: Gap | None) -> None:
    settings = Settings(prometheus_url=url, prometheus_namespaces=namespaces)
    assert settings.access("team").refused is refused
