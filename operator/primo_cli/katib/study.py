"""An Experiment as a PriMOStudy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import floor, inf, log
from typing import Any

from primo_cli.katib.experiment import Algorithm, Parameter, Spec, read, unknown_fields
from primo_cli.katib.metrics import convert_metrics
from primo_cli.katib.notes import CannotConvertError, Notes
from primo_cli.katib.space import Space, bounds, convert_space, identifier, number
from primo_cli.katib.template import ConfigMaps, convert_template
from primo_operator import names

Json = dict[str, Any]

_ALGORITHMS = {
    "bayesianoptimization": "primo",
    "cmaes": "primo",
    "grid": "random",
    "hyperband": "primo",
    "multivariate-tpe": "primo",
    "pbt": "primo",
    "random": "random",
    "sobol": "moasha",
    "tpe": "primo",
}
_SEED = "random_state"
_HYPERBAND = ("eta", "r_l", "resource_name")
_IS_MOASHA = (
    "is moasha: trials spread over the space, of which only the better ones go on to the next"
    " fidelity"
)
_GOALS = {"minimize": "Minimize", "maximize": "Maximize"}
_REDUCE = {"min": "Min", "max": "Max", "latest": "Last"}
_NAS = ("darts", "enas")
# Of a study whose Experiment has no limit: to be changed by hand, and told.
_TRIALS = 100
_MOST_RETRIES = 20
# logarithms of whole powers come out a little too low
_ROUNDING = 1e-9
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants beyond what the Experiment says.

    Attributes:
        objectives: metric to Minimize or Maximize: further objectives.
        fidelity: a parameter that says how long to train.
        wrap: make reports of NAME=VALUE in the output.
    """

    objectives: Mapping[str, str] = field(default_factory=dict)
    fidelity: str | None = None
    wrap: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """A study, and what became of the Experiment's parts."""

    manifest: Json
    notes: Notes


def convert(
    manifest: Mapping[str, Any], config_maps: ConfigMaps | None = None, wishes: Wishes | None = None
) -> Conversion:
    """Make a study of an Experiment.

    Raises:
        CannotConvertError: with the reason, in one line.
    """
    wishes, config_maps = wishes or Wishes(), config_maps or ConfigMaps()
    notes, spec = Notes(), read(manifest)
    _refuse_architectures(spec)
    fidelity, resource = _fidelity(spec, wishes, notes)
    space = convert_space([p for p in spec.parameters if p.name != resource], notes)
    metadata = _metadata(manifest)
    objectives = _objectives(spec, wishes, notes)
    namespace = metadata.get("namespace")
    template = convert_template(spec, space, resource, namespace, config_maps, notes)
    measured = [objective["metric"] for objective in objectives]
    metrics = list(dict.fromkeys([*measured, *spec.objective.additional_metric_names]))
    reports = convert_metrics(
        spec, template.manifest, metrics, fidelity is not None, wishes.wrap, notes
    )
    study: Json = {"objectives": objectives, "parameters": space.parameters}
    if fidelity:
        study["fidelity"] = fidelity
    study |= {
        "algorithm": _algorithm(spec, space, fidelity is not None, notes),
        "budget": _budget(spec, space, notes),
        "parallelism": spec.parallel_trial_count,
    }
    if template.application_retries:
        study["retries"] = {"application": min(template.application_retries, _MOST_RETRIES)}
    if spec.trial_template and spec.trial_template.retain is False:
        study["retention"] = {"jobs": "None"}
    if reports:
        study["reports"] = reports
    study["trialTemplate"] = template.manifest
    _tell_rest(spec, fidelity is not None, notes)
    made = {"apiVersion": names.API_VERSION, "kind": names.STUDY_KIND, "metadata": metadata}
    return Conversion({**made, "spec": study}, notes)


def _refuse_architectures(spec: Spec) -> None:
    algorithm = spec.algorithm.algorithm_name if spec.algorithm else ""
    if spec.nas_config is not None or algorithm in _NAS:
        raise CannotConvertError(
            "nasConfig: an architecture search is no search over named parameters, and PriMO has"
            " none"
        )


def _metadata(manifest: Mapping[str, Any]) -> Json:
    given = manifest.get("metadata")
    metadata: Json = given if isinstance(given, dict) else {}
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str | None):
        raise CannotConvertError(f"metadata.namespace: {namespace!r} is not a name")
    name = metadata.get("name") or str(metadata.get("generateName") or "").rstrip("-")
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != _LAST_APPLIED
    }
    found = {
        "name": name,
        "namespace": namespace,
        "labels": metadata.get("labels"),
        "annotations": annotations,
    }
    return {key: value for key, value in found.items() if value}


# --- objectives


def _objectives(spec: Spec, wishes: Wishes, notes: Notes) -> list[Json]:
    given, taken = spec.objective, set[str]()
    if given.type not in _GOALS:
        raise CannotConvertError(f"objective.type: {given.type!r} is not minimize or maximize")
    main = given.objective_metric_name
    found = [_objective(main, _GOALS[given.type], given.strategy(main), taken, notes)]
    if given.goal is not None:
        found[0]["target"] = number(Decimal(repr(given.goal)))
        notes.mapped("objective.goal", "is target: the study is complete when a trial reaches it")
    asked = {strategy.name: strategy.value for strategy in given.metric_strategies}
    for metric, goal in wishes.objectives.items():
        if metric == main:
            raise CannotConvertError(f"--objective {metric}: is the Experiment's objective already")
        if metric not in given.additional_metric_names:
            notes.to_do(
                f"--objective {metric}", "the Experiment names no such metric: let trials report it"
            )
        # Not Katib's default: values of different moments are no trade-off that a model has.
        found.append(_objective(metric, goal, asked.get(metric, "latest"), taken, notes))
    for metric in given.additional_metric_names:
        if metric not in (main, *wishes.objectives):
            notes.left_out(
                f"objective.additionalMetricNames: {metric}",
                "is no objective (--objective NAME=Minimize or NAME=Maximize makes it one)."
                " Reported, it is shown to Prometheus",
            )
    return found


def _objective(metric: str, goal: str, strategy: str, taken: set[str], notes: Notes) -> Json:
    if strategy not in _REDUCE:
        raise CannotConvertError(
            f"objective.metricStrategies: {strategy!r} is not min, max or latest"
        )
    name = identifier(metric, taken)
    if name != metric:
        notes.mapped(f"objective: {metric}", f"is called {name}; its metric stays {metric}")
    if strategy != "latest":
        notes.mapped(
            f"objective.metricStrategies: {metric}",
            f"{strategy} is reduce: {_REDUCE[strategy]}, the best value on the way. Where the"
            " metric is noisy, Last is the honest choice",
        )
    return {"name": name, "goal": goal, "metric": metric, "reduce": _REDUCE[strategy]}


# --- the search


def _fidelity(spec: Spec, wishes: Wishes, notes: Notes) -> tuple[Json | None, str | None]:
    """The fidelity, and the parameter that it was."""
    algorithm, wished = spec.algorithm, wishes.fidelity
    if algorithm is not None and algorithm.algorithm_name == "hyperband":
        if wished is not None:
            raise CannotConvertError(f"--fidelity {wished}: hyperband has its resource")
        return _hyperband(spec, algorithm, notes)
    if wished is None:
        return None, None
    parameter = _parameter(spec, wished, f"--fidelity {wished}")
    low, high = bounds(parameter)
    if not 0 < low < high:
        raise CannotConvertError(f"--fidelity {wished}: {low} to {high} is no range above 0")
    notes.mapped(f"parameters[{wished}]", "is the fidelity, in PRIMO_FIDELITY")
    return _ladder(parameter, low, high), wished


def _hyperband(spec: Spec, algorithm: Algorithm, notes: Notes) -> tuple[Json, str]:
    settings, at = algorithm.settings(), "algorithm.algorithmSettings"
    parameter = _parameter(spec, settings.get("resource_name"), f"{at}: resource_name")
    # Katib reads both as whole numbers, and hands out whole resources.
    most = _positive(f"{at}: r_l", settings.get("r_l"))
    eta = _positive(f"{at}: eta", settings.get("eta", "3"))
    if eta < 2:
        raise CannotConvertError(f"{at}: eta: {eta} is not 2 or more")
    least = max(most // eta ** floor(log(most) / log(eta) + _ROUNDING), 1)
    notes.approximated(
        "algorithm: hyperband",
        f"is primo: {parameter.name} is the fidelity, from {least} to {most}. Trials go on to the"
        " next level one by one instead of bracket by bracket; maxTrialCount counted each level as"
        " a trial, budget.trials counts configurations. With spec.checkpoints a trial that goes on"
        " continues where it was",
    )
    return {**_ladder(parameter, Decimal(least), Decimal(most)), "eta": eta}, parameter.name


def _parameter(spec: Spec, name: str | None, at: str) -> Parameter:
    found = next((p for p in spec.parameters if p.name == name), None)
    if found is None:
        there_are = ", ".join(p.name for p in spec.parameters)
        raise CannotConvertError(f"{at}: {name!r} is not one of parameters ({there_are})")
    return found


def _ladder(parameter: Parameter, low: Decimal, high: Decimal) -> Json:
    name = identifier(parameter.name, set())
    return {"name": name, "min": number(low), "max": number(high)}


def _positive(at: str, text: str | None) -> int:
    try:
        value = int(float(text or ""))
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise CannotConvertError(f"{at}: {text!r} is not a number of 1 or more")
    return value


def _algorithm(spec: Spec, space: Space, fidelity: bool, notes: Notes) -> Json:
    given = spec.algorithm.algorithm_name if spec.algorithm else "random"
    found: Json = {"name": _ALGORITHMS.get(given, "primo")}
    settings = spec.algorithm.settings() if spec.algorithm else {}
    if _SEED in settings:
        found["seed"] = _seed(settings.pop(_SEED))
    if given == "hyperband":
        settings = {name: v for name, v in settings.items() if name not in _HYPERBAND}
    if settings:
        notes.left_out(
            "algorithm.algorithmSettings", f"{', '.join(sorted(settings))}: settings of {given}"
        )
    why = _how_it_differs(given, space)
    if fidelity and found["name"] == "random":
        found["name"], why = "moasha", _IS_MOASHA
    if why:
        notes.approximated(f"algorithm: {given}", why)
    return found


def _seed(text: str) -> int:
    try:
        return abs(int(text))
    except ValueError:
        raise CannotConvertError(
            f"algorithm.algorithmSettings: {_SEED}: {text!r} is not a whole number"
        ) from None


def _how_it_differs(given: str, space: Space) -> str:
    match given:
        case "random" | "hyperband":
            return ""
        case "grid" if space.points < inf:
            return (
                f"is random: each of the {space.points:.0f} configurations at most once, in random"
                " order"
            )
        case "grid":
            return "is random: a range without a step has no grid"
        case "sobol":
            return (
                "is moasha, which without a fidelity spreads trials over the space by its own means"
            )
        case "pbt":
            return (
                "is primo: values do not change during a training, and trials do not copy each"
                " other's weights"
            )
        case "bayesianoptimization" | "cmaes" | "multivariate-tpe" | "tpe":
            return "is primo, a Bayesian optimization with a model of its own"
    return "is not known here: primo takes its place"


def _budget(spec: Spec, space: Space, notes: Notes) -> Json:
    trials = spec.max_trial_count
    if trials is None:
        trials = int(space.points) if space.points <= _TRIALS else _TRIALS
        notes.approximated(
            "maxTrialCount", f"is missing, and a study needs a limit: {trials} was chosen"
        )
    budget: Json = {"trials": trials}
    if spec.max_failed_trial_count is not None:
        # Katib gives up at this many, a study beyond.
        budget["failedTrials"] = max(spec.max_failed_trial_count - 1, 0)
        notes.mapped(
            "maxFailedTrialCount",
            f"is budget.failedTrials: {budget['failedTrials']}, how many are still borne",
        )
    return budget


def _tell_early_stopping(name: str, fidelity: bool, notes: Notes) -> None:
    at = f"earlyStopping: {name}"
    if fidelity:
        notes.approximated(
            at,
            "the fidelity takes its place: a trial ends at the first level at which it is not among"
            " the best",
        )
    else:
        notes.left_out(
            at,
            "trials run to their end. Where a parameter says how long to train, --fidelity"
            " PARAMETER stops the bad ones early",
        )


def _tell_rest(spec: Spec, fidelity: bool, notes: Notes) -> None:
    if spec.early_stopping is not None:
        _tell_early_stopping(spec.early_stopping.algorithm_name, fidelity, notes)
    if spec.resume_policy != "Never":
        notes.mapped(
            f"resumePolicy: {spec.resume_policy}",
            "needs nothing: a completed study goes on when its budget is raised",
        )
    for name in unknown_fields(spec):
        notes.left_out(name, "is not a field of an Experiment")
