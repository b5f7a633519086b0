"""What a user writes of the search problem, as frozen models.

Rules within it are those of `primo_optimizer.Problem`; each over several fields also stands here,
or in spec.py, as CEL.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from primo_study.queries import PLACEHOLDERS, unknown_placeholder
from primo_study.schema import Int, Model, Name, Number, list_map, rules

Metric = Annotated[str, Field(min_length=1, max_length=128)]
Reduce = Literal["Last", "Min", "Max", "Mean"]


def _with_known_placeholders(query: str) -> str:
    if unknown := unknown_placeholder(query):
        known = ", ".join(f"$({name})" for name in PLACEHOLDERS)
        message = "should have known placeholders only: {unknown} is none of {known}"
        raise PydanticCustomError("placeholder", message, {"unknown": unknown, "known": known})
    return query


# RE2, as the API server has it, cannot say "not": each $( opens one of the known.
_KNOWN = "|".join(PLACEHOLDERS)
_KNOWN_PLACEHOLDERS = rf"^([^$]|[$]+[^$(]|[$]+[(]({_KNOWN})[)])*[$]*$"
Query = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="PromQL with one series as its result: an instant query at the run's end. "
        "$(pod), $(namespace) and $(trial) stand for names, $(window) for how long the run took, "
        "such as 90s, $(start) and $(end) for seconds since the epoch.",
        json_schema_extra={"pattern": _KNOWN_PLACEHOLDERS},
    ),
    AfterValidator(_with_known_placeholders),
]


class PrometheusQuery(Model):
    """A number that Prometheus knows about a run and the run itself does not."""

    query: Query


class Objective(Model):
    """A measured quantity with a direction."""

    model_config = rules(
        (
            "has(self.metric) != has(self.prometheus)",
            "exactly one of metric, prometheus is required",
        ),
        ("!has(self.reduce) || has(self.metric)", "reduce belongs to a metric", ".reduce"),
    )
    name: Name = Field(description="What the objective is called in priors, status and plots.")
    goal: Literal["Minimize", "Maximize"] = Field(description="Which direction is better.")
    metric: Metric | None = Field(None, description="The name under which a trial reports it.")
    prometheus: PrometheusQuery | None = Field(
        None,
        description="In place of metric: asked of Prometheus at the end of each run. An "
        "administrator of the operator allows it (docs/prometheus-objectives.md).",
    )
    reduce: Reduce | None = Field(
        None,
        description="How the reported values of one run become one: that of the highest step "
        "(Last, the default), the smallest, the largest, or their mean.",
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


class Constraint(Model):
    """A measured quantity with a bound. A trial that breaks it is infeasible, not failed."""

    model_config = rules(
        (
            "has(self.atMost) || has(self.atLeast)",
            "at least one of atMost, atLeast is required",
        ),
        (
            "!has(self.atMost) || !has(self.atLeast) || self.atLeast <= self.atMost",
            "atLeast must not be above atMost",
            ".atLeast",
        ),
    )
    metric: Metric = Field(description="The name under which a trial reports it.")
    at_most: float | None = Field(None, description="The highest value allowed, in its unit.")
    at_least: float | None = Field(None, description="The lowest value allowed, in its unit.")
    reduce: Reduce | None = Field(
        None, description="How the values of one run become one, as for objectives. Default: Last."
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


Needed = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=128)], ...],
    Field(
        min_length=1,
        max_length=32,
        description="Choices.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    ),
]


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
    when: Annotated[dict[str, Needed], Field(min_length=1, max_length=4)] | None = Field(
        None,
        description="The parameter is there only where each of these categorical parameters is "
        "there and has one of these choices, such as {optimizer: [sgd]}; elsewhere the trial has "
        "neither value nor variable. A parent may have a condition of its own.",
    )


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


class Preferences(Model):
    """The one trade-off that is wanted; without it the whole front is."""

    model_config = rules(
        (
            "self.weights.exists(w, self.weights[w] > 0.0)",
            "weights needs one above 0",
            ".weights",
        ),
    )
    weights: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(max_length=8)] = Field(
        description="How much each objective counts, in any unit; one left out does not."
    )
    scalarization: Literal["Chebyshev", "Linear"] | None = Field(
        None,
        description="How the weighted losses, each scaled to its range, become one: the largest "
        "(Chebyshev, the default), which reaches every point of a front, or the sum (Linear), "
        "which reaches the convex parts only.",
    )


class Algorithm(Model):
    """Who proposes the configurations."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="primo (the default): cheap runs first, then a model weighted with the priors; "
        "moasha: successive halving without a model; parego and qlognehvi: Bayesian optimization "
        "with full runs only, by changing trade-offs or by the hypervolume; random: the baseline."
    )
    seed: Annotated[Int, Field(ge=0)] | None = Field(
        None, description="Of all random draws. Default: 0."
    )
    settings: dict[str, Any] | None = Field(
        None,
        description="The algorithm's own settings.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
