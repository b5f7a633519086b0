"""A Katib Experiment (kubeflow.org/v1beta1), as far as a study can take it over.

Katib's schema takes any field, and its numbers are texts: so are they here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from primo_cli.katib.notes import CannotConvertError

API_VERSION = "kubeflow.org/v1beta1"
KIND = "Experiment"


class Part(BaseModel):
    """A part of an Experiment; fields that it does not have are kept, to be told."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )


class Setting(Part):
    """Of an algorithm."""

    name: str
    value: str = ""


class Algorithm(Part):
    """Of the search, or of early stopping."""

    algorithm_name: str
    algorithm_settings: tuple[Setting, ...] = ()

    def settings(self) -> dict[str, str]:
        return {setting.name: setting.value for setting in self.algorithm_settings}


class Strategy(Part):
    """How the values of a metric become one: min, max or latest."""

    name: str
    value: str


class Objective(Part):
    """One metric and its direction, and metrics that are only recorded."""

    type: str
    goal: float | None = None
    objective_metric_name: str
    additional_metric_names: tuple[str, ...] = ()
    metric_strategies: tuple[Strategy, ...] = ()

    def strategy(self, metric: str) -> str:
        """Katib's default is the best value on the way."""
        given = {strategy.name: strategy.value for strategy in self.metric_strategies}
        return given.get(metric) or {"minimize": "min", "maximize": "max"}.get(self.type, "latest")


class FeasibleSpace(Part):
    """Bounds, or a list."""

    min: str | None = None
    max: str | None = None
    step: str | None = None
    list: tuple[str, ...] = ()
    distribution: str | None = None


class Parameter(Part):
    """A double, int, discrete or categorical parameter."""

    name: str
    parameter_type: str
    feasible_space: FeasibleSpace


class FileSystemPath(Part):
    """Where a collector reads."""

    path: str | None = None
    kind: str | None = None
    format: str | None = None


class Filter(Part):
    """Regular expressions of Go."""

    metrics_format: tuple[str, ...] = ()


class Source(Part):
    """What a collector reads."""

    file_system_path: FileSystemPath | None = None
    filter: Filter | None = None
    http_get: dict[str, Any] | None = None


class Collector(Part):
    """Who reads the metrics."""

    kind: str = "StdOut"
    custom_collector: dict[str, Any] | None = None


class MetricsCollectorSpec(Part):
    """How the metrics leave the pod."""

    collector: Collector | None = None
    source: Source | None = None


class TrialParameter(Part):
    """A placeholder of the template."""

    name: str
    description: str = ""
    reference: str


class ConfigMapSource(Part):
    """A template that stands in a ConfigMap."""

    config_map_name: str
    config_map_namespace: str
    template_path: str


class TrialTemplate(Part):
    """What a trial is made from, with `${trialParameters.NAME}` in it."""

    retain: bool | None = None
    trial_spec: dict[str, Any] | None = None
    config_map: ConfigMapSource | None = None
    trial_parameters: tuple[TrialParameter, ...] = ()
    primary_pod_labels: dict[str, str] = {}
    primary_container_name: str = ""
    success_condition: str = ""
    failure_condition: str = ""


class Spec(Part):
    """Of an Experiment."""

    objective: Objective
    algorithm: Algorithm | None = None
    early_stopping: Algorithm | None = None
    parameters: tuple[Parameter, ...] = ()
    parallel_trial_count: int = 3
    max_trial_count: int | None = None
    max_failed_trial_count: int | None = None
    metrics_collector_spec: MetricsCollectorSpec | None = None
    nas_config: dict[str, Any] | None = None
    resume_policy: str = "Never"
    trial_template: TrialTemplate | None = None

    @property
    def collector(self) -> Collector:
        return (self.metrics_collector_spec and self.metrics_collector_spec.collector) or (
            Collector()
        )

    @property
    def source(self) -> Source:
        return (self.metrics_collector_spec and self.metrics_collector_spec.source) or Source()


def read(manifest: Mapping[str, Any]) -> Spec:
    """The spec of an Experiment's manifest.

    Raises:
        CannotConvertError: another version, or the first field that is wrong.
    """
    if manifest.get("apiVersion") != API_VERSION:
        version = manifest.get("apiVersion")
        raise CannotConvertError(f"apiVersion: {version!r} is not {API_VERSION}")
    try:
        return Spec.model_validate(_without_nulls(manifest.get("spec") or {}))
    except ValidationError as error:
        first = error.errors()[0]
        path = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
        )
        raise CannotConvertError(f"spec{path}: {first['msg'][0].lower()}{first['msg'][1:]}") from (
            error
        )


def unknown_fields(part: Part, path: str = "") -> Iterator[str]:
    """Fields that an Experiment does not have: Katib takes them without a word."""
    yield from (f"{path}{name}" for name in part.model_extra or ())
    for name, info in type(part).model_fields.items():
        value, here = getattr(part, name), f"{path}{info.alias}"
        if isinstance(value, Part):
            yield from unknown_fields(value, f"{here}.")
        for i, item in enumerate(value if isinstance(value, tuple) else ()):
            if isinstance(item, Part):
                yield from unknown_fields(item, f"{here}[{i}].")


def _without_nulls(value: Any) -> Any:
    """To an API server a null is a field that is not given."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
