"""Reads the studies from which a study is warm started: two calls each, whenever it is listed."""

from collections.abc import Iterator, Sequence

from primo_operator.cluster import Cluster, Object, RefusedError
from primo_optimizer import (
    InvalidSpecError,
    Observation,
    SearchSpace,
    Trial,
    learns_from_earlier,
)
from primo_study.phases import BLAMELESS
from primo_study.spec import StudySpec, parse
from primo_study.study import Study
from primo_study.warm_start import Source, difference, read


async def read_sources(cluster: Cluster, study: Study) -> tuple[Source, ...]:
    """What the studies named in `spec.warmStart` have observed, in their order.

    Raises:
        ClusterError: try again later.
    """
    assert study.spec
    wanted = [source.study for source in study.spec.warm_start or ()]
    problem = study.spec.problem()
    if not learns_from_earlier(problem):
        message = f"the algorithm, {problem.algorithm}, does not learn from other studies"
        return tuple(Source(name, "AlgorithmDoesNotLearn", message) for name in wanted)
    return tuple([await _tried(cluster, study, name) for name in wanted])


async def _tried(cluster: Cluster, study: Study, name: str) -> Source:
    """What we may not read must not hold up the study."""
    try:
        return await _read(cluster, study, name)
    except RefusedError as error:
        if error.status != 403:
            raise
        return Source(name, "Forbidden", error.message)


async def _read(cluster: Cluster, study: Study, name: str) -> Source:
    assert study.spec
    found = await cluster.get_study(study.namespace, name)
    if found is None:
        return Source(name, "StudyNotFound", "there is no such study in the namespace")
    if found["metadata"]["uid"] == study.uid:
        return Source(name, "SameStudy", "it is this study")
    try:
        theirs = parse(found["spec"])
    except InvalidSpecError as error:
        return Source(name, "InvalidSpec", f"its spec cannot be read: {error.problems[0]}")
    if unlike := difference(study.spec, theirs):
        return Source(name, *unlike)
    listing = await cluster.list_trials(study.namespace, name)
    return read(name, _trials(listing.items, found["metadata"]["uid"], study.spec))


def _trials(objects: Sequence[Object], uid: str, spec: StudySpec) -> Iterator[Trial]:
    """The study's own trials whose configurations are of our space."""
    space = spec.problem().space
    for obj in objects:
        owners = {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}
        if uid not in owners or "number" not in obj["spec"]:
            continue
        try:
            yield _trial(obj, space, spec)
        except InvalidSpecError:
            continue  # made by hand, and of no use


def _trial(obj: Object, space: SearchSpace, spec: StudySpec) -> Trial:
    status = obj.get("status") or {}
    seen = tuple(
        Observation(o.get("fidelity"), o["values"], o.get("constrained") or {})
        for o in status.get("observations") or ()
        if _usable(o, spec)
    )
    runs, reason = status.get("runs") or (), status.get("reason")
    failed = status.get("phase") == "Failed" and reason not in BLAMELESS
    return Trial(
        number=obj["spec"]["number"],
        configuration=space.configuration(obj["spec"]["parameters"]),
        observations=seen,
        fidelity=runs[-1].get("fidelity") if runs else None,
        failed=(reason or "Failed") if failed else None,
    )


def _usable(observation: Object, spec: StudySpec) -> bool:
    """Whether it has what the models look at: it may be of another constraint, or by hand."""
    metrics = {constraint.metric for constraint in spec.constraints or ()}
    return (
        {objective.name for objective in spec.objectives} <= observation["values"].keys()
        and metrics <= (observation.get("constrained") or {}).keys()
        and (spec.fidelity is None or (observation.get("fidelity") or 0.0) > 0.0)
    )
