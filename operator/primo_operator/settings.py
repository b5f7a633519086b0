"""What an administrator sets, by environment variables.

Each is `PRIMO_` and the field's name in capitals, such as `PRIMO_SIDECAR_IMAGE`.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from primo_optimizer import PrimoError
from primo_study.queries import Access, Gap


class BadSettingError(PrimoError, ValueError):
    """An environment variable does not hold what is expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings.

    Attributes:
        sidecar_image: of the reporting sidecar; needs `python -m primo_report`.
        sidecar_metrics_address: where the sidecar serves its metrics; pods of a laptop share one
            host, and stay on its loopback.
        sidecar_metrics_port: 0 takes any free one.
        sidecar_user: whom the sidecar runs as; 0 leaves it to its image, or to what admission says.
        workers: passes that may run at once, each of another study.
        resync_s: an unfinished study is looked at so often though nothing happened.
        status_interval_s: the status of a study is written at most so often.
        request_timeout_s: of one API call.
        suggestion_timeout_s: of one ask; then the worker is killed and a fallback used.
        suggestion_memory_mib: of a process that computes suggestions, of which there are two at
            most, besides what torch takes when it is loaded; 0: no limit. Held to on Linux.
        lease_name: of the Lease that one operator holds while it works; empty: it works at once,
            and nothing keeps a second one from working beside it.
        lease_namespace: where that lies; empty: the pod's own, else the first one watched.
        lease_identity: of this operator, unlike that of any other; empty: host and process.
        lease_duration_s: a Lease that has not been renewed for so long is taken by another.
        lease_renew_s: an operator that could not renew it for so long stops working and ends.
        lease_retry_s: the Lease is renewed, or looked at, so often.
        operator_metrics_address: where the operator serves its own metrics.
        operator_metrics_port: nowhere if 0.
        metrics_trials: of a study, that have series of their own: the front, what runs, the latest.
        metrics_parameters: of a trial, that have series of their own.
        metrics_keep_s: so long after its end a study's trials have series of their own.
        prometheus_url: whom to ask for objectives that the trial cannot measure, without the path
            `/api/v1/query`; nobody if empty. `$(namespace)` in it stands for the study's.
        prometheus_namespaces: whose studies may ask, by commas; `*` for all. A study's query sees
            what the operator may see there.
        prometheus_ca_file: the authority that signed the server's certificate; the system's if
            empty.
        prometheus_token_file: its content is sent as bearer token, read anew each time.
        prometheus_timeout_s: of one query.
        prometheus_settle_s: a run is asked about so long after its end: the scrape interval, the
            exporter's own, and what a remote write takes.
        prometheus_patience_s: then a value that is still missing is given up.
    """

    sidecar_image: str = "primo-sidecar:0.1.0"
    sidecar_metrics_address: str = "0.0.0.0"  # noqa: S104  # a pod's own address, for Prometheus
    sidecar_metrics_port: int = 9400
    sidecar_user: int = 65532
    workers: int = 8
    resync_s: float = 300.0
    status_interval_s: float = 1.0
    request_timeout_s: float = 30.0
    suggestion_timeout_s: float = 120.0
    suggestion_memory_mib: int = 600
    lease_name: str = "primo-operator"
    lease_namespace: str = ""
    lease_identity: str = ""
    lease_duration_s: int = 15
    lease_renew_s: float = 10.0
    lease_retry_s: float = 2.0
    operator_metrics_address: str = "0.0.0.0"  # noqa: S104  # the pod's own, for Prometheus
    operator_metrics_port: int = 0
    metrics_trials: int = 200
    metrics_parameters: int = 16
    metrics_keep_s: float = 86400.0
    prometheus_url: str = ""
    prometheus_namespaces: str = ""
    prometheus_ca_file: str = ""
    prometheus_token_file: str = ""
    prometheus_timeout_s: float = 10.0
    prometheus_settle_s: float = 30.0
    prometheus_patience_s: float = 900.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read those that are set.

        Raises:
            BadSettingError: naming the variable, its value and what was expected.
        """
        environment = os.environ if environment is None else environment
        given: dict[str, Any] = {}
        for field in fields(cls):
            variable = f"PRIMO_{field.name.upper()}"
            if variable in environment:
                given[field.name] = _read(variable, environment[variable], type(field.default))
        return cls(**given)

    def access(self, namespace: str) -> Access:
        """Whether and when a study of this namespace may ask Prometheus."""
        times = (self.prometheus_settle_s, self.prometheus_patience_s)
        if not self.prometheus_url:
            message = "the operator has no PRIMO_PROMETHEUS_URL"
            return Access(Gap.NOT_ENABLED, message, *times)
        allowed = {name.strip() for name in self.prometheus_namespaces.split(",")}
        if not allowed & {"*", namespace}:
            message = f"PRIMO_PROMETHEUS_NAMESPACES does not name {namespace}"
            return Access(Gap.NOT_ALLOWED, message, *times)
        return Access(None, "", *times)


# Without a pause between two lists, or any time for an answer, there would be nothing else.
_NOT_0 = ("PRIMO_RESYNC_S", "PRIMO_REQUEST_TIMEOUT_S", "PRIMO_SUGGESTION_TIMEOUT_S")


def _read(variable: str, text: str, kind: type) -> Any:
    try:
        value = kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise BadSettingError(f"{variable}: {text!r} is not {expected}") from None
    least = 1 if variable == "PRIMO_WORKERS" else 0  # without workers no study would ever go on
    if kind is not str and not value >= least:  # nor is NaN
        raise BadSettingError(f"{variable}: {text} is not at least {least}")
    if value == 0 and variable in _NOT_0:
        raise BadSettingError(f"{variable}: {text} is not above 0")
    if value == math.inf:
        raise BadSettingError(f"{variable}: {text} is not finite")
    return value
