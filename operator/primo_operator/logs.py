"""Log lines with their facts: constant text, then `field=value` for each.

kopf's own formats leave out what is given as `extra`, or put all of it into JSON.
"""

import json
import logging
import re
from typing import Any

import kopf

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OF_EVERY_RECORD = {
    *logging.LogRecord("", 0, "", 0, "", (), None).__dict__,
    "asctime",
    "message",
    "taskName",
}
# kopf's, about the object that a handler runs for.
_OF_KOPF = {"k8s_ref", "k8s_skip", "settings"}
_REFUSED = re.compile(r"^Request attempt .* -> API(Unauthorized|Forbidden|NotFound)Error\(")
_PLAIN = re.compile(r"[\w.:/+-]+", re.ASCII)


class FieldsFormatter(logging.Formatter):
    """A line as people read it; whatever a field holds stays on it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        given = record.__dict__.keys() - _OF_EVERY_RECORD - _OF_KOPF
        fields = [f"{name}={_value(record.__dict__[name])}" for name in sorted(given)]
        return " ".join([super().formatMessage(record), *fields])


def _value(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def of_kopf(error: object) -> bool:
    """Whether it is kopf's, of an answer of the API server's. These errors are not exported."""
    module = type(error).__module__
    return module.startswith("kopf.") and isinstance(getattr(error, "status", None), int)


def _is_news(record: logging.LogRecord) -> bool:
    """A refusal that lasts is one line of ours, not kopf's nine tries and two tracebacks."""
    if not record.name.startswith("kopf."):
        return True
    if record.exc_info:
        return not of_kopf(record.exc_info[1])
    return not _REFUSED.search(record.getMessage())


def configure(*, verbose: bool) -> None:
    """Set up logging of the process, kopf's included."""
    kopf.configure(verbose=verbose)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(FieldsFormatter(_LINE))
        handler.addFilter(_is_news)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # a line for each probe
