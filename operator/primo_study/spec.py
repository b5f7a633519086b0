"""The spec of a PriMOStudy: what a user writes, as frozen models.

`parse` reads it and names every field at fault. Each rule over several fields is said twice: here
or by `primo_optimizer.Problem`, and as CEL, so that `kubectl apply` says it. Limits on lengths keep
those rules below the API server's cost limit.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from primo_optimizer import InvalidSpecError, Problem, check
from primo_study.messages import follows, line, tuples
from primo_study.objects import MAX_RUNS
from primo_study.problem import (
    Algorithm,
    Constraint,
    Fidelity,
    Objective,
    Parameter,
    Preferences,
    Prior,
)
from primo_study.schema import Duration, Int, Model, list_map, rules
from primo_study.template import TrialTemplate

# A pod's spec has about twelve.
MAX_DEPTH = 100
MAX_PROBLEMS = 50
MAX_PROBLEM = 500
MAX_TTL_S = 2**31 - 1


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


class WarmStart(Model):
    """A study to learn from."""

    study: Annotated[
        str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    ] = Field(description="Its name; it is in the same namespace.")


class Reports(Model):
    """Where metrics come from besides the report file."""

    tensorboard: Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/")] = Field(
        description="A folder to which the training writes TensorBoard's event files: an emptyDir "
        "of each run is mounted there, and the scalars in it are metrics by their tags. Its path "
        "is in PRIMO_TENSORBOARD_DIR too."
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
        # That no parameter depends on itself is beyond CEL: parse says it.
        (
            "self.parameters.all(p, !has(p.when) || p.when.all(w, self.parameters.exists(q,"
            " q.name == w && has(q.categorical))))",
            "a condition names a parameter that is not there or not categorical",
            ".parameters",
        ),
        (
            "self.parameters.all(p, !has(p.when) || p.when.all(w,"
            " self.parameters.filter(q, q.name == w && has(q.categorical))"
            ".map(q, q.categorical.choices).all(c, p.when[w].all(v, v in c))))",
            "a condition names a choice that is not one of its parameter",
            ".parameters",
        ),
        (
            "!has(self.preferences) || self.preferences.weights.all(w, self.objectives.exists(o,"
            " o.name == w))",
            "a preference names an objective that is not there",
            ".preferences.weights",
        ),
        _immutable("objectives", optional=False),
        _immutable("constraints", optional=True),
        _immutable("parameters", optional=False),
        _immutable("fidelity", optional=True),
        (
            "!has(oldSelf.priors) || has(self.priors)"
            " && oldSelf.priors.all(b, self.priors.exists(c, c == b))",
            "priors may only be added",
            ".priors",
        ),
        _immutable("algorithm", optional=True),
        _immutable("checkpoints", optional=True),
        _immutable("reports", optional=True),
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
    constraints: Annotated[tuple[Constraint, ...], Field(max_length=8)] | None = Field(
        None,
        description="What results must keep to. A trial that breaks a constraint is off the front "
        "and meets no targets; the search learns where that happens. Immutable.",
        json_schema_extra=list_map("metric"),
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
        "One may be added while the study runs, and counts from the next new trial on; none may be "
        "changed or removed.",
        json_schema_extra=list_map("objective"),
    )
    preferences: Preferences | None = Field(
        None,
        description="The one trade-off to search for, instead of the whole front. May be changed.",
    )
    warm_start: Annotated[tuple[WarmStart, ...], Field(max_length=8)] | None = Field(
        None,
        description="Other studies of the same objectives, parameters and fidelity, whose "
        "observations primo learns from. Their trials are not on the front and count for no "
        "budget. The condition WarmStarted says what could be used. May be changed.",
        json_schema_extra=list_map("study"),
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
        " the default) or are stopped (Terminate). Those that have not started do not start where"
        " time or GPU-hours are used up, or a target is met.",
    )
    checkpoints: Checkpoints | None = Field(
        None, description="Storage that outlives a run. Immutable."
    )
    reports: Reports | None = Field(
        None,
        description="Where metrics come from besides the report file. Immutable.",
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
        return self._problem

    @cached_property
    def _problem(self) -> Problem:
        # Each pass asks for it several times.
        return Problem.from_spec(self.model_dump(by_alias=True, exclude_none=True))

    @cached_property
    def template_hash(self) -> str:
        """Ten hex digits that tell one trial template from another."""
        given = self.trial_template.model_dump(by_alias=True, exclude_none=True, mode="json")
        text = json.dumps(given, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def reported(self) -> tuple[Objective | Constraint, ...]:
        """Whose metrics a run must report."""
        return (*(o for o in self.objectives if o.metric), *(self.constraints or ()))

    @property
    def queries(self) -> dict[str, str]:
        """Objective -> query, of those that Prometheus is asked for."""
        return {o.name: o.prometheus.query for o in self.objectives if o.prometheus}

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
        InvalidSpecError: every mistake, as `field: value expectation` below `spec`, in words that
            may be shown wherever. Nothing else is raised, whatever the JSON.
    """
    if is_too_deep(spec):
        raise InvalidSpecError(f"spec: is nested deeper than {MAX_DEPTH} levels")
    try:
        return _parse(spec)
    except InvalidSpecError as error:
        more = len(error.problems) - MAX_PROBLEMS
        lines = [harmless(problem) for problem in error.problems[:MAX_PROBLEMS]]
        raise InvalidSpecError(*lines, *([f"and {more} more"] if more > 0 else [])) from error


def is_too_deep(value: object) -> bool:
    """Whether there are more than MAX_DEPTH levels; before anything goes into it recursively."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list | tuple):
                inner += each
        if not inner:
            return False
        level = inner
    return True


def harmless(text: str) -> str:
    """It quotes what users wrote: no control characters, and not all of a long value."""
    plain = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return plain if len(plain) <= MAX_PROBLEM else f"{plain[:MAX_PROBLEM]}..."


def _parse(spec: Mapping[str, Any]) -> StudySpec:
    try:
        # Tuples and enums come as lists and strings from JSON; strictness is about the values.
        parsed = StudySpec.model_validate(tuples(spec))
    except ValidationError as error:
        lines = (line(details) for details in error.errors() if not follows(details))
        raise InvalidSpecError(*lines) from error
    problems = [f"spec.{line}" for line in (*_case_twins(parsed), *_named_twice(parsed))]
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
    ttl = parsed.retention and parsed.retention.ttl
    if ttl and seconds(ttl) > MAX_TTL_S:
        problems.append(f"spec.retention.ttl: {ttl!r} is more than the {MAX_TTL_S} s of a Job")
    problems += [*_unclear_sources(parsed), *_too_many_rungs(parsed)]
    if problems:
        raise InvalidSpecError(*problems)
    return parsed


def _unclear_sources(spec: StudySpec) -> list[str]:
    lines = []
    for i, objective in enumerate(spec.objectives):
        field = f"spec.objectives[{i}]"
        if (objective.metric is None) == (objective.prometheus is None):
            given = "both are" if objective.metric else "none is"
            lines.append(f"{field}: {given} given, expected exactly one of metric, prometheus")
        elif objective.reduce and objective.prometheus:
            lines.append(f"{field}.reduce: {objective.reduce!r} is given, and belongs to a metric")
    return lines


def _too_many_rungs(spec: StudySpec) -> list[str]:
    given = spec.fidelity
    eta = (given and given.eta) or 3.0
    if given is None or not (given.min < given.max and eta > 1):
        return []
    # Each in logarithms: of the largest numbers there are the quotient is none.
    rungs = math.floor((math.log(given.max) - math.log(given.min)) / math.log(eta)) + 1
    if rungs <= MAX_RUNS:
        return []
    return [
        f"spec.fidelity: {given.min:g} to {given.max:g} by eta {eta:g} are {rungs} rungs, and a"
        f" trial has room for {MAX_RUNS} runs"
    ]


def _named_twice(spec: StudySpec) -> list[str]:
    names = [source.study for source in spec.warm_start or ()]
    return [
        f"warmStart[{i}].study: {name!r} is named twice, expected each study once"
        for i, name in enumerate(names)
        if name in names[:i]
    ]


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
