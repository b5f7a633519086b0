"""What we write into objects: the spec and status of a trial, the status of a study.

The schemas of the custom resources are generated from these. What a user writes is in spec.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from primo_study.schema import Int, Model, list_map, rules

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Text = Annotated[str, Field(max_length=1024)]
Values = dict[str, float]
MAX_RUNS = 64  # of one trial, in its status; each rung has one

PARAMETERS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "maxProperties": 64,
    "x-kubernetes-preserve-unknown-fields": True,
}


class TrialSpec(Model):
    """One configuration: proposed by the optimizer, or by a user who gives study and parameters."""

    model_config = rules(
        (
            "!has(oldSelf.number) || self == oldSelf",
            "a trial's spec is immutable",
        )
    )
    study: Annotated[str, Field(max_length=63)] = Field(description="The study it belongs to.")
    number: Annotated[Int, Field(ge=0)] | None = Field(
        None,
        description="From 0, never used again. Leave it out of a trial of your own: the operator "
        "gives it when the trial may run, and from then on nothing here can change.",
    )
    parameters: dict[str, Any] = Field(
        description="The configuration: parameter name to value. A trial of your own has a value "
        "for each parameter of the study; it counts as data, and in the study's budget.",
        json_schema_extra={"x-primo-schema": PARAMETERS_SCHEMA},
    )
    fidelity: float | None = Field(
        None,
        description="Of its first run, in the study's unit. Left out of a trial of your own: full.",
    )
    suggestion: dict[str, Any] | None = Field(
        None,
        description="Why it was proposed: stage, origin, prior, prediction; and whose priors were "
        "known, by objective. Written by the operator.",
        json_schema_extra={
            "x-primo-schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    )


class ReportedStatus(Model):
    """What is known of a run whose pod has ended and that waits for Prometheus."""

    pod: Annotated[str, Field(max_length=253)] = Field(description="The pod's name.")
    ended_at: Time = Field(description="When its last container ended.")
    values: Values | None = Field(None, description="Objective name to value, as reported.")
    constrained: Values | None = Field(None, description="Metric of each constraint to value.")
    feasible: bool | None = Field(None, description="Whether it keeps all constraints.")
    step: Int | None = Field(None, description="The last step that was reported.")


class RunStatus(Model):
    """One Job of a trial: a rung and an attempt."""

    job: Annotated[str, Field(max_length=63)] = Field(description="The Job's name.")
    rung: Annotated[Int, Field(ge=0)] = Field(
        description="0 for the trial's first fidelity, 1 for the one it was promoted to, and so on."
    )
    attempt: Annotated[Int, Field(ge=0)] = Field(description="From 0, on each rung.")
    fidelity: float | None = Field(None, description="To be reached, in the study's unit.")
    resume_from: float | None = Field(None, description="Reached by an earlier run.")
    template: Annotated[str, Field(max_length=63)] | None = Field(
        None,
        description="Hash of the study's trialTemplate as its Job was made from it; also the "
        "Job's label primo.dev/template.",
    )
    gpus: float | None = Field(None, description="That its pod holds while it runs.")
    started_at: Time | None = Field(None, description="When its first container started.")
    finished_at: Time | None = Field(
        None,
        description="When its last container ended, or when that was noticed.",
    )
    reason: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="How it ended, in one word; while it waits, what it waits for."
    )
    message: Text | None = Field(None, description="The same in a sentence.")
    reported: ReportedStatus | None = Field(
        None,
        description="Its pod has ended well, and what only Prometheus knows of it is still to come,"
        " or did not come.",
    )
    asked: bool | None = Field(
        None,
        description="The user asked for it by primo.dev/retry; retries count anew from here.",
    )


class ObservationStatus(Model):
    """What was reported at one fidelity. Never changes once written."""

    fidelity: float | None = Field(None, description="In the study's unit.")
    values: Values = Field(description="Objective name to value.")
    constrained: Values | None = Field(None, description="Metric of each constraint to value.")
    feasible: bool | None = Field(
        None, description="Whether it keeps all constraints; left out if there are none."
    )
    step: Int | None = Field(None, description="The last step that was reported.")
    observed_at: Time = Field(description="When it was recorded.")


class TrialStatus(Model):
    """What has become of a trial. It is the record: its Jobs and pods may vanish."""

    phase: Literal["Queued", "Running", "Paused", "Completed", "Failed", "Stopped"] = Field(
        description="Queued: a run waits for its pod. Paused: observed, waits for promotion."
    )
    reason: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Why, in one word."
    )
    message: Text | None = Field(None, description="Why, in a sentence.")
    summary: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="The objective values, for kubectl get."
    )
    fidelity: float | None = Field(None, description="The highest one observed.")
    retried: Annotated[str, Field(max_length=63)] | None = Field(
        None, description="The annotation primo.dev/retry that was followed last."
    )
    observations: tuple[ObservationStatus, ...] | None = Field(
        None, max_length=MAX_RUNS, description="One for each fidelity reached, in ascending order."
    )
    runs: tuple[RunStatus, ...] | None = Field(
        None, max_length=MAX_RUNS, description="Its Jobs, in the order of their creation."
    )


class ConditionStatus(Model):
    """A standard Kubernetes condition."""

    type: Annotated[str, Field(max_length=316)] = Field(description="What it is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(max_length=1024)] = Field(
        description="Why, in one word that stays the same over releases."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="Why, in a sentence.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: Int | None = Field(None, description="The spec this is about.")


class TrialCounts(Model):
    """Trials by phase."""

    total: Int = Field(description="All of them.")
    queued: Int = Field(description="Whose run waits for its pod.")
    running: Int = Field(description="Whose pod runs.")
    paused: Int = Field(description="Observed, and waiting for promotion.")
    completed: Int = Field(description="Observed, with nothing left to do.")
    failed: Int = Field(description="Ended without a result.")
    stopped: Int = Field(description="Ended by the user, or with the study.")


class FrontEntry(Model):
    """A trial that no other dominates."""

    trial: Int = Field(description="Its number.")
    values: Values = Field(description="Objective name to value.")


class BestEntry(Model):
    """The best trial for one objective."""

    trial: Int = Field(description="Its number.")
    value: float = Field(description="In the objective's unit.")


class BudgetUsed(Model):
    """What the study has spent."""

    trials: Int = Field(description="Configurations that have been tried.")
    full_evaluations: float = Field(
        description="In units of one full run; runs under way count in full."
    )
    gpu_hours: float | None = Field(
        None, description="Of runs that have ended; none if no run holds a GPU."
    )


class PriorStatus(Model):
    """Since when a prior counts."""

    objective: Annotated[str, Field(max_length=63)] = Field(description="What it is about.")
    from_trial: Int = Field(description="The lowest number of a trial for which it counts.")


class OptimizerStatus(Model):
    """How far the search is."""

    stage: Annotated[str, Field(max_length=64)] = Field(
        description="Of the latest suggestion: InitialDesign or Optimizing."
    )


class StudyStatus(Model):
    """How a study stands. Bounded, whatever the number of trials."""

    observed_generation: Int | None = Field(None, description="The spec this is about.")
    phase: Literal["Pending", "InitialDesign", "Optimizing", "Suspended", "Completed", "Failed"] = (
        Field(description="In one word.")
    )
    conditions: tuple[ConditionStatus, ...] | None = Field(
        None, max_length=32, json_schema_extra=list_map("type"), description="In more words."
    )
    trials: TrialCounts | None = Field(None, description="Trials by phase.")
    next_trial: Int | None = Field(
        None, description="The lowest number a new trial may get; it never goes back."
    )
    running: Int | None = Field(None, description="Unfinished runs, queued ones included.")
    progress: Annotated[str, Field(max_length=32)] | None = Field(
        None,
        description="Trials tried of those the budget allows, for kubectl get. One counts when its "
        "first run has been observed or it has ended; it may still be promoted, or run again.",
    )
    front: tuple[FrontEntry, ...] | None = Field(
        None, max_length=50, description="The Pareto front at the highest fidelity; 50 at most."
    )
    preferred: FrontEntry | None = Field(
        None, description="Of the front, what comes closest to the preferences; if there are any."
    )
    front_size: Int | None = Field(None, description="How many there are.")
    infeasible: Int | None = Field(
        None,
        description="How many trials at the highest fidelity break a constraint, and so are not "
        "on the front; left out without constraints.",
    )
    hypervolume: float | None = Field(
        None,
        description="Between front and reference point, in the objectives' units; with more than "
        "three objectives estimated, within a few percent. Left out where it is too large for a "
        "number.",
    )
    hypervolume_text: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="The same, for kubectl get."
    )
    reference_point: Values | None = Field(None, description="The hypervolume is measured to it.")
    best: dict[str, BestEntry] | None = Field(None, description="By objective.")
    budget_used: BudgetUsed | None = Field(None, description="What has been spent.")
    optimizer: OptimizerStatus | None = Field(None, description="How far the search is.")
    suspended_seconds: Int | None = Field(
        None,
        description="For how long it has been suspended, up to when it last went on. It does not "
        "count in budget.duration.",
    )
    priors: tuple[PriorStatus, ...] | None = Field(
        None,
        max_length=8,
        json_schema_extra=list_map("objective"),
        description="Since when each prior counts: one that was added later decays from then on.",
    )
    completion_time: Time | None = Field(None, description="When the study ended.")
    selector: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="Label selector of its pods, for kubectl scale."
    )
