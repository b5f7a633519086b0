"""The spec of a PriMOStudy: what a user writes, as frozen models.

`parse` reads it and names every field at fault. Rules within the search problem are those of
`primo_optimizer.Problem`; each rule over several fields also stands here as CEL, so that
`kubectl apply` says it. Limits on lengths keep those rules below the API server's cost limit.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from primo_optimizer import InvalidSpecError, Problem, check
from primo_study.schema import Duration, Int, Model, Name, Number, list_map, rules


class Objective(Model):
    """A measured quantity with a direction."""

    name: Name = Field(description="What the objective is called in priors, status and plots.")
    goal: Literal["Minimize", "Maximize"] = Field(description="Which direction is better.")
    metric: str = Field(
        min_length=1, max_length=128, description="The name under which a trial reports it."
    )
    reduce: Literal["Last", "Min", "Max", "Mean"] | None = Field(
        None,
        description="How the values of one run become one: that of the highest step (Last, the "
        "default), the smallest, the largest, or their mean.",
    )
    target: float | None = Field(
        None,
        description="Good enough, in the objective's unit. When one trial meets the targets of all "
        "objectives that have one, the study is complete.",
    )
    reference_point: float | None = Field(
        None,
        description="The worst value that still counts in the hypervolume. Derived from the "
        "results if left out.",
    )


class FloatRange(Model):
    """A real number in a range."""

    model_config = rules(
        ("self.min < self.max", "min must be below max"),
        ("!has(self.log) || !self.log || self.min > 0.0", "log needs min above 0"),
    )
    min: float = Field(description="The lowest value, included.")
    max: float = Field(description="The highest value, included.")
    log: bool | None = Field(None, description="Search on a logarithmic scale. Default: false.")


class IntRange(Model):
    """A whole number in a range."""

    model_config = rules(
        ("self.min < self.max", "min must be below max"),
        ("!has(self.log) || !self.log || self.min > 0", "log needs min above 0"),
    )
    min: Int = Field(description="The lowest value, included.")
    max: Int = Field(description="The highest value, included.")
    log: bool | None = Field(None, description="Search on a logarithmic scale. Default: false.")


class Values(Model):
    """One of some numbers, of which the order matters and not the distance."""

    model_config = rules(
        (
            "self.values.isSorted() && self.values.all(v, self.values.exists_one(w, w == v))",
            "values must be distinct and ascending",
        ),
    )
    values: tuple[Number, ...] = Field(
        min_length=2, max_length=64, description="Distinct and ascending."
    )


class Choices(Model):
    """One of some words without order."""

    choices: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        min_length=2,
        max_length=32,
        description="Distinct words. Numbers belong into an ordinal parameter.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Parameter(Model):
    """One hyperparameter: its name and exactly one kind."""

    model_config = rules(
        (
            "[has(self.float), has(self.int), has(self.categorical), has(self.ordinal)]"
            ".filter(k, k).size() == 1",
            "exactly one of float, int, ordinal, categorical is required",
        ),
    )
    name: Name = Field(
        description="The trial finds its value in PRIMO_PARAM_<NAME> and, by this name, in "
        "PRIMO_PARAMS."
    )
    float: FloatRange | None = Field(None, description="A real number in a range.")
    int: IntRange | None = Field(None, description="A whole number in a range.")
    ordinal: Values | None = Field(None, description="One of some numbers in order.")
    categorical: Choices | None = Field(None, description="One of some words without order.")


class Fidelity(Model):
    """How much of the full cost a run spends; trials start low, and the good ones go on."""

    model_config = rules(
        ("self.min <= self.max", "min must not be above max"),
        # Not a minimum of the schema: to an API server, a whole 1 is not below a minimum of 1.5.
        ("!has(self.eta) || self.eta >= 1.5", "eta must be at least 1.5", ".eta"),
    )
    name: Name = Field(description="What is counted, for example epochs.")
    min: Annotated[float, Field(gt=0)] = Field(description="The least that tells anything.")
    max: float = Field(description="Full fidelity: what the results are for.")
    eta: float | None = Field(
        None,
        description="Of eta trials compared on a rung one is promoted, to eta times the fidelity. "
        "Default: 3.",
    )


class Belief(Model):
    """Where one parameter is believed to be good."""

    model_config = rules(
        (
            "[has(self.center), has(self.choice), has(self.weights)].filter(k, k).size() == 1",
            "exactly one of center, choice, weights is required",
        ),
        (
            "!has(self.weights) || self.weights.exists(w, self.weights[w] > 0.0)",
            "weights needs one above 0",
            ".weights",
        ),
    )
    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="A parameter.")
    center: float | None = Field(
        None, description="Of a float, int or ordinal parameter: the value believed best."
    )
    choice: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Of a categorical parameter: the choice believed best."
    )
    weights: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(max_length=32)] | None = (
        Field(
            None,
            description="Of a categorical parameter: how likely each choice is believed to be the "
            "best, in any unit; a choice left out has none.",
        )
    )
    confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Overrides the prior's, for this parameter."
    )


class Prior(Model):
    """A belief about where configurations are good for one objective."""

    objective: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="The objective that the belief is about."
    )
    confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="How sure, from 0 (not at all) to 1. On the unit scale of a parameter the "
        "belief spreads by 1 - confidence. Default: 0.75.",
    )
    parameters: tuple[Belief, ...] = Field(
        min_length=1,
        max_length=64,
        description="A parameter left out is believed to be good anywhere.",
        json_schema_extra=list_map("name"),
    )


class Algorithm(Model):
    """Who proposes the configurations."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="primo (the default) or random."
    )
    seed: Annotated[Int, Field(ge=0)] | None = Field(
        None, description="Of all random draws. Default: 0."
    )
    settings: dict[str, Any] | None = Field(
        None,
        description="The algorithm's own settings.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Budget(Model):
    """What a study may spend. It ends when any of its limits is reached."""

    model_config = rules(
        (
            "has(self.trials) || has(self.fullEvaluations) || has(self.duration)"
            " || has(self.gpuHours)",
            "at least one of trials, fullEvaluations, duration, gpuHours is required",
        ),
        (
            "!has(oldSelf.trials) || !has(self.trials) || self.trials >= oldSelf.trials",
            "trials may only be raised",
            ".trials",
        ),
        (
            "!has(oldSelf.fullEvaluations) || !has(self.fullEvaluations)"
            " || self.fullEvaluations >= oldSelf.fullEvaluations",
            "fullEvaluations may only be raised",
            ".fullEvaluations",
        ),
        (
            "!has(oldSelf.duration) || !has(self.duration)"
            " || duration(self.duration) >= duration(oldSelf.duration)",
            "duration may only be raised",
            ".duration",
        ),
        (
            "!has(oldSelf.gpuHours) || !has(self.gpuHours) || self.gpuHours >= oldSelf.gpuHours",
            "gpuHours may only be raised",
            ".gpuHours",
        ),
    )
    trials: Annotated[Int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many configurations may be tried."
    )
    full_evaluations: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="How much training may be done, in units of one run at full fidelity. A "
        "promoted trial that continues from its checkpoint pays the difference only.",
    )
    failed_trials: Annotated[Int, Field(ge=0)] | None = Field(
        None, description="With more failed trials than this, the study fails."
    )
    duration: Duration | None = Field(
        None,
        description="Time from the study's creation, such as 90m or 6h, without the time for which "
        "it is suspended.",
    )
    gpu_hours: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="GPUs that the template's limits ask for, times the hours for which runs held "
        "them, whatever came of these. A MIG slice such as nvidia.com/mig-3g.20gb counts as 3/7.",
    )


class Checkpoints(Model):
    """Storage that outlives a run, so that a promoted trial continues instead of starting again."""

    claim_name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="A PersistentVolumeClaim in the study's namespace."
    )
    mount_path: Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/")] = Field(
        description="Where it is mounted. Each trial has a directory of its own below, named in "
        "PRIMO_CHECKPOINT_DIR."
    )


class Retries(Model):
    """How often a run that ended without a result is started again, on each rung."""

    infrastructure: Annotated[Int, Field(ge=0, le=20)] | None = Field(
        None,
        description="After the cluster's doing (eviction, preemption, a lost node). Default: 3.",
    )
    application: Annotated[Int, Field(ge=0, le=20)] | None = Field(
        None, description="After the training script's own failure. Default: 0."
    )


class Retention(Model):
    """How long the Jobs of ended runs are kept; trials keep what was observed in any case."""

    model_config = rules(
        (
            "!has(self.ttl) || !has(self.jobs) || self.jobs != 'None'",
            "ttl says how long Jobs are kept, and jobs None keeps none",
            ".ttl",
        ),
    )
    jobs: Literal["All", "Failed", "None"] | None = Field(
        None,
        description="Which Jobs are kept, with their pods and logs: of All runs (the default), of "
        "those that ended without a result (Failed), or None.",
    )
    ttl: Duration | None = Field(
        None,
        description="For how long these are kept after their end, such as 24h. Default: as long as "
        "their trial.",
    )

    def ttl_s(self, *, completed: bool) -> int | None:
        """For how long the Job of an ended run is kept; None: as long as its trial."""
        if self.jobs == "None" or (self.jobs == "Failed" and completed):
            return 0
        return math.ceil(seconds(self.ttl)) if self.ttl else None


class TemplateMetadata(Model):
    """Labels and annotations for each Job."""

    labels: dict[str, str] | None = Field(None, description="Added to each Job and its pod.")
    annotations: dict[str, str] | None = Field(None, description="Added to each Job and its pod.")


_CONTAINER: dict[str, Any] = {
    "type": "object",
    "required": ["name", "image"],
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "name": {"type": "string", "maxLength": 63},
        "image": {"type": "string"},
    },
}

# Typed only as far as no Kubernetes version will ever change it: the full schema of a Job would
# freeze one version's fields and prune the newer ones without a word.
JOB_SPEC_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A batch/v1 JobSpec. Retries, completions and deletion are the study's own.",
    "required": ["template"],
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "activeDeadlineSeconds": {"type": "integer", "format": "int64"},
        "template": {
            "type": "object",
            "required": ["spec"],
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["containers"],
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {
                        "containers": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 16,
                            "items": _CONTAINER,
                            **list_map("name"),
                        }
                    },
                }
            },
        },
    },
}


class TrialTemplate(Model):
    """What each run of a trial is made from."""

    metadata: TemplateMetadata | None = Field(None, description="Of each Job.")
    spec: dict[str, Any] = Field(
        description="A batch/v1 JobSpec.", json_schema_extra={"x-primo-schema": JOB_SPEC_SCHEMA}
    )


def _immutable(name: str, optional: bool) -> tuple[str, str, str]:
    same = f"self.{name} == oldSelf.{name}"
    if optional:
        same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
    return same, f"{name} is immutable", f".{name}"


class StudySpec(Model):
    """A study: its problem, its budget, the template of a trial."""

    model_config = rules(
        (
            "!has(self.priors) || self.priors.all(b, self.objectives.exists(o,"
            " o.name == b.objective))",
            "a prior names an objective that is not there",
            ".priors",
        ),
        (
            "!has(self.priors) || self.priors.all(b, b.parameters.all(q, self.parameters.exists(p,"
            " p.name == q.name)))",
            "a prior names a parameter that is not there",
            ".priors",
        ),
        (
            "!has(self.priors) || self.priors.all(b, b.parameters.all(q, !has(q.center)"
            " || self.parameters.exists(p, p.name == q.name && ("
            "has(p.float) && p.float.min <= q.center && q.center <= p.float.max"
            " || has(p.int) && double(p.int.min) <= q.center && q.center <= double(p.int.max)"
            " || has(p.ordinal) && p.ordinal.values[0] <= q.center"
            " && q.center <= p.ordinal.values[p.ordinal.values.size() - 1]))))",
            "a center lies outside its parameter, or belongs to a categorical one",
            ".priors",
        ),
        (
            "!has(self.priors) || self.priors.all(b, b.parameters.all(q, !has(q.choice)"
            " || self.parameters.exists(p, p.name == q.name && has(p.categorical)"
            " && q.choice in p.categorical.choices)))",
            "a choice is not one of its parameter",
            ".priors",
        ),
        (
            "!has(self.priors) || self.priors.all(b, b.parameters.all(q, !has(q.weights)"
            " || self.parameters.exists(p, p.name == q.name && has(p.categorical))))",
            "weights belong to a categorical parameter",
            ".priors",
        ),
        # exists() in place of filter().map().all() is 15 times over the API server's cost limit.
        (
            "!has(self.priors) || self.priors.all(b, b.parameters.all(q, !has(q.weights)"
            " || self.parameters.filter(p, p.name == q.name && has(p.categorical))"
            ".map(p, p.categorical.choices).all(c, q.weights.all(w, w in c))))",
            "weights holds a key that is not a choice",
            ".priors",
        ),
        _immutable("objectives", optional=False),
        _immutable("parameters", optional=False),
        _immutable("fidelity", optional=True),
        _immutable("priors", optional=True),
        _immutable("algorithm", optional=True),
        _immutable("checkpoints", optional=True),
        (
            "self.trialTemplate == oldSelf.trialTemplate"
            " || has(oldSelf.suspend) && oldSelf.suspend",
            "trialTemplate may only change while the study is suspended",
            ".trialTemplate",
        ),
    )
    objectives: tuple[Objective, ...] = Field(
        min_length=1,
        max_length=8,
        description="What is traded off. Immutable.",
        json_schema_extra=list_map("name"),
    )
    parameters: tuple[Parameter, ...] = Field(
        min_length=1,
        max_length=64,
        description="What may vary. Immutable.",
        json_schema_extra=list_map("name"),
    )
    fidelity: Fidelity | None = Field(
        None, description="Partial trainings. Without it each trial is one full run. Immutable."
    )
    priors: Annotated[tuple[Prior, ...], Field(max_length=8)] | None = Field(
        None,
        description="What is believed about good configurations, at most one prior an objective. "
        "Immutable.",
        json_schema_extra=list_map("objective"),
    )
    algorithm: Algorithm | None = Field(
        None, description="Who proposes. Default: primo with seed 0. Immutable."
    )
    budget: Budget = Field(description="What may be spent. May be raised.")
    parallelism: Annotated[Int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="How many runs may be unfinished at once, queued ones included. Default: 1.",
    )
    suspend: bool | None = Field(
        None,
        description="Start nothing: runs that still wait for their pod are taken back, and start "
        "anew when this is false again; runs under way may end. Default: false.",
    )
    on_complete: Literal["Drain", "Terminate"] | None = Field(
        None,
        description="What happens to runs under way when the study ends early: they may end (Drain,"
        " the default) or are stopped (Terminate).",
    )
    checkpoints: Checkpoints | None = Field(
        None, description="Storage that outlives a run. Immutable."
    )
    retries: Retries | None = Field(None, description="Runs that ended without a result.")
    retention: Retention | None = Field(
        None, description="How long Jobs are kept. Default: as long as their trial."
    )
    trial_template: TrialTemplate = Field(
        description="The Job of each run. May be changed while the study is suspended; each run "
        "tells in status.runs which template it was made from."
    )

    def problem(self) -> Problem:
        """The search problem in it."""
        return Problem.from_spec(self.model_dump(by_alias=True, exclude_none=True))

    @property
    def template_hash(self) -> str:
        """Ten hex digits that tell one trial template from another."""
        given = self.trial_template.model_dump(by_alias=True, exclude_none=True, mode="json")
        text = json.dumps(given, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def seed(self) -> int:
        return (self.algorithm and self.algorithm.seed) or 0

    @property
    def slots(self) -> int:
        """How many runs may be unfinished at once."""
        return self.parallelism or 1

    @property
    def infrastructure_retries(self) -> int:
        given = self.retries.infrastructure if self.retries else None
        return 3 if given is None else given

    @property
    def application_retries(self) -> int:
        return (self.retries and self.retries.application) or 0

    @property
    def duration_s(self) -> float | None:
        return seconds(self.budget.duration) if self.budget.duration else None


_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """`90s`, `1h30m`, `500ms` in seconds."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", duration)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def parse(spec: Mapping[str, Any]) -> StudySpec:
    """Read the spec of a PriMOStudy.

    Raises:
        InvalidSpecError: every mistake, as `field: value expectation` below `spec`.
    """
    try:
        # Tuples and enums come as lists and strings from JSON; strictness is about the values.
        parsed = StudySpec.model_validate(_tuples(spec))
    except ValidationError as error:
        lines = (_line(details) for details in error.errors() if not _follows(details))
        raise InvalidSpecError(*lines) from error
    problems = [f"spec.{line}" for line in _case_twins(parsed)]
    try:
        check(parsed.problem())
    except InvalidSpecError as error:
        problems += [f"spec.{line}" for line in error.problems]
    budget = parsed.budget
    if not (budget.trials or budget.full_evaluations or budget.duration or budget.gpu_hours):
        problems.append(
            "spec.budget: no limit given, expected one of trials, fullEvaluations, duration,"
            " gpuHours"
        )
    if parsed.retention and parsed.retention.jobs == "None" and parsed.retention.ttl:
        problems.append(
            f"spec.retention.ttl: {parsed.retention.ttl!r} is given, and jobs None keeps no Job"
        )
    if problems:
        raise InvalidSpecError(*problems)
    return parsed


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: item if key == "trialTemplate" else _tuples(item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _follows(details: ErrorDetails) -> bool:
    """Whether a list is called too short only because its bad items are not counted."""
    return (
        details["type"] == "too_short" and len(details["input"]) > details["ctx"]["actual_length"]
    )


def _line(details: ErrorDetails) -> str:
    path = "spec"
    for part in details["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    match details["type"]:
        case "missing":
            return f"{path}: is missing"
        case "extra_forbidden":
            return f"{path}: is not a field"
        case "model_type" | "dict_type":
            return f"{path}: {_shown(details['input'])} should be an object"
        case "tuple_type":
            return f"{path}: {_shown(details['input'])} should be a list"
        case _:
            # pydantic begins with the type: "Input should be", "String should have".
            _, should, expectation = (
                details["msg"].replace(" after validation", "").partition("should ")
            )
            return f"{path}: {_shown(details['input'])} {should}{expectation}"


def _shown(value: object) -> str:
    """A value as its user wrote it; of a list or an object only that it is one."""
    match value:
        case tuple() | list():
            return "a list"
        case Mapping():
            return "an object"
        case bool():
            return str(value).lower()
        case _:
            return f"{value!r:.80}"


def _case_twins(spec: StudySpec) -> list[str]:
    seen: dict[str, str] = {}
    lines = []
    for i, parameter in enumerate(spec.parameters):
        twin = seen.setdefault(parameter.name.upper(), parameter.name)
        if twin != parameter.name:
            lines.append(
                f"parameters[{i}].name: {parameter.name!r} differs from {twin!r} in case only, and"
                " both would be the same environment variable"
            )
    return lines
