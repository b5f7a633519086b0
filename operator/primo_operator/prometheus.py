"""`Metrics` over HTTP: Prometheus is asked beside the passes, which never wait for it.

Whatever the server does, each question is answered: by a finite number or by a gap with a name. A
value is never made up, and a partial one is none.
"""

import asyncio
import json
import logging
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from primo_operator.mirror import Key
from primo_operator.settings import BadSettingError, Settings
from primo_study.queries import Gap, Question, Reading

log = logging.getLogger(__name__)

AT_ONCE = 16
AT_ONCE_OF_A_STUDY = 4
MAX_ANSWER_BYTES = 1024 * 1024
MAX_WORDS = 300

Tell = Callable[[Key, str, Mapping[str, Reading]], None]


class PrometheusMetrics:
    """Asks about each run once at a time, and tells what came of it."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        """Without a URL nothing may be asked; raises BadSettingError."""
        self._settings = settings
        self._tell = tell
        self._ssl = trusted(settings)
        self._asking: dict[tuple[Key, str], asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._turns_of: dict[Key, asyncio.Semaphore] = {}
        self._session: aiohttp.ClientSession | None = None

    def ask(self, key: Key, job: str, questions: Sequence[Question]) -> None:
        if (key, job) not in self._asking:
            answer = self._answer(key, job, questions)
            self._asking[key, job] = asyncio.create_task(answer, name=f"metrics of {job}")

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def _answer(self, key: Key, job: str, questions: Sequence[Question]) -> None:
        turns = self._turns_of.setdefault(key, asyncio.Semaphore(AT_ONCE_OF_A_STUDY))
        readings = {}
        try:
            for question in questions:
                async with turns, self._turns:
                    readings[question.objective] = await self._reading(key, question)
        finally:
            del self._asking[key, job]
            if not any(other == key for other, _ in self._asking):
                del self._turns_of[key]
        self._tell(key, job, readings)

    async def _reading(self, key: Key, question: Question) -> Reading:
        try:
            reading = await self._request(key, question)
        except TimeoutError:
            limit_s = self._settings.prometheus_timeout_s
            return Reading(gap=Gap.TIMED_OUT, message=f"no answer within {limit_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Reading(gap=Gap.UNREACHABLE, message=_words(str(error) or type(error).__name__))
        except Exception as error:  # the border: a question without an answer would never end
            log.exception("a query failed", extra={"study": key.name})
            return Reading(gap=Gap.BAD_ANSWER, message=_words(f"{type(error).__name__}: {error}"))
        if reading.gap:
            log.info(
                "no value from Prometheus",
                extra={"study": key.name, "objective": question.objective, "reason": reading.gap},
            )
        return reading

    async def _request(self, key: Key, question: Question) -> Reading:
        timeout_s = self._settings.prometheus_timeout_s
        if self._session is None:
            self._session = aiohttp.ClientSession()
        form = {
            "query": question.query,
            "time": f"{question.time:.3f}",
            "timeout": f"{timeout_s:.3f}",  # a number of seconds: as duration it had to be whole
        }
        base = self._settings.prometheus_url.replace("$(namespace)", key.namespace)
        async with self._session.post(
            f"{base.rstrip('/')}/api/v1/query",
            data=form,
            headers=await self._headers(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            ssl=self._ssl,
            allow_redirects=False,  # the token is for this server
        ) as response:
            content = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    return Reading(gap=Gap.BAD_ANSWER, message="it is longer than 1 MiB")
            return read_answer(response.status, bytes(content))

    async def _headers(self) -> dict[str, str]:
        file = self._settings.prometheus_token_file
        if not file:
            return {}
        token = await asyncio.to_thread(Path(file).read_text, encoding="utf-8")
        return {"Authorization": f"Bearer {token.strip()}"}


def trusted(settings: Settings) -> ssl.SSLContext | bool:
    """Who may sign the server's certificate.

    Raises:
        BadSettingError: the URL is none, the certificates cannot be read, or there is no limit.
    """
    if settings.prometheus_timeout_s <= 0:  # which would mean: for ever
        raise BadSettingError("PRIMO_PROMETHEUS_TIMEOUT_S: 0 is not above 0")
    if settings.prometheus_url and not _is_http(settings.prometheus_url):
        raise BadSettingError(
            f"PRIMO_PROMETHEUS_URL: {settings.prometheus_url!r} is no http:// or https:// URL"
        )
    if not settings.prometheus_ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=settings.prometheus_ca_file)
    except OSError as error:  # of which ssl.SSLError is one
        raise BadSettingError(
            f"PRIMO_PROMETHEUS_CA_FILE: {settings.prometheus_ca_file!r} holds no certificates"
            f" that can be read: {error}"
        ) from error


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:  # of brackets that stay open, and of a port that is none
        return False
    return url.scheme in ("http", "https") and bool(url.hostname) and port != 0


def read_answer(status: int, content: bytes) -> Reading:
    """The one finite number in an answer of `/api/v1/query`, or why there is none."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    kind, said = answer.get("errorType"), answer.get("error")
    words = _words(f"{status} {kind}: {said}" if said else status)
    if status == 400 and kind == "bad_data":
        return Reading(gap=Gap.BAD_QUERY, message=words)
    if kind == "timeout":
        return Reading(gap=Gap.TIMED_OUT, message=words)
    if status >= 500:
        return Reading(gap=Gap.FAILED, message=words)
    if status != 200:
        return Reading(gap=Gap.REFUSED, message=words)
    data = answer.get("data")
    if answer.get("status") != "success" or not isinstance(data, dict):
        return Reading(gap=Gap.BAD_ANSWER, message="it is no answer of Prometheus")
    if warnings := answer.get("warnings"):  # a store was not there, a bucket made no sense
        return Reading(gap=Gap.INCOMPLETE, message=_words(warnings))
    return _of_result(data.get("resultType"), data.get("result"))


def _of_result(kind: Any, result: Any) -> Reading:
    if kind not in ("scalar", "vector"):
        message = f"the result is a {_words(kind)}, expected a vector of one series, or a scalar"
        return Reading(gap=Gap.WRONG_TYPE, message=message)
    if kind == "scalar":
        return _of_sample(result)
    if not isinstance(result, list):
        return Reading(gap=Gap.BAD_ANSWER, message="the result is no list")
    if not result:
        return Reading(gap=Gap.NO_SERIES, message="the query has no result")
    if len(result) > 1:
        message = f"the query has {len(result)} series, expected one: aggregate, as by sum(...)"
        return Reading(gap=Gap.SEVERAL_SERIES, message=message)
    series = result[0]
    if isinstance(series, dict) and "histogram" in series:
        message = "the result is a native histogram, expected a number"
        return Reading(gap=Gap.WRONG_TYPE, message=message)
    return _of_sample(series.get("value") if isinstance(series, dict) else None)


def _of_sample(sample: Any) -> Reading:
    try:
        _, text = sample
        if not isinstance(text, str):
            raise ValueError
        value = float(text)
    except (TypeError, ValueError):
        return Reading(gap=Gap.BAD_ANSWER, message="the sample is no time and number")
    if not math.isfinite(value):
        return Reading(gap=Gap.NOT_FINITE, message=f"the result is {value}")
    return Reading(value)


def _words(said: object) -> str:
    """From outside: short, and without control characters."""
    text = str(said)
    return "".join(c if c.isprintable() else "�" for c in text[:MAX_WORDS])
