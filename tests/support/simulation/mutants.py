"""Operators that are wrong on purpose: the simulation must catch each, which is the test of it.

Each is one change to the code under test, as a bug would be one, and the faults that bring it out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest

from primo_operator import manifests, observe, reconcile
from primo_operator.cluster import Object
from primo_operator.leadership import Elector
from primo_operator.memory import Memory
from primo_operator.mirror import Kind, Mirror
from primo_operator.reconcile import Reconciler
from primo_operator.runs import Runs
from primo_operator.views import TrialView
from primo_operator.writing import Writer
from primo_study import plan, record
from primo_study.phases import Reason
from primo_study.plan import Stop
from primo_study.study import JobState, Outcome, Study, TrialRecord
from support.simulation.api import Api, merged
from support.simulation.cluster import Call, SimulatedCluster
from support.simulation.runs import BadRunError, simulate
from support.simulation.scenario import Scenario

Patch = pytest.MonkeyPatch
BASE = Scenario(trials=4, parallelism=2, rungs=2, calm_after_s=120.0)


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        change: makes it.
        faults: of the scenario that it is tried in.
        caught: what the violation says, so that it is caught for what it is.
    """

    change: Callable[[Patch], None]
    faults: Mapping[str, Any]
    caught: str


def catch(mutant: Mutant, seeds: range) -> tuple[int, str]:
    """The first seed that catches it, and what the violation says; -1 if none does."""
    for seed in seeds:
        try:
            simulate(replace(BASE, **mutant.faults), seed)
        except BadRunError as error:
            return seed, str(error).splitlines()[-1]
    return -1, ""


def random_trial_names(patch: Patch) -> None:
    """A repeated create does not meet what the first one made."""
    made, number = manifests.trial_object, count()

    def trial_object(*arguments: Any) -> Object:
        obj = made(*arguments)
        obj["metadata"]["name"] += f"-{next(number)}"
        return obj

    patch.setattr(manifests, "trial_object", trial_object)


def slots_counted_from_jobs(patch: Patch) -> None:
    def unfinished(study: Study) -> int:
        return sum(t.unfinished and t.evidence.job is JobState.PRESENT for t in study.trials)

    patch.setattr(Study, "unfinished", property(unfinished))


def attempts_not_written_ahead(patch: Patch) -> None:
    async def opened(runs: Runs, key: Any, study: Any, trial: Any, opened: TrialRecord) -> bool:
        runs.writer.memories[key].jobs[opened.run.job] = JobState.UNMADE
        await runs.launch(key, study, opened)
        return await runs.writer.trial(key, trial, opened)

    patch.setattr(Runs, "_open", opened)


def no_resync(patch: Patch) -> None:
    """What a watch has lost stays lost."""
    init = Reconciler.__post_init__

    def never(reconciler: Reconciler) -> None:
        reconciler.settings = replace(reconciler.settings, resync_s=1e9)
        init(reconciler)

    patch.setattr(Reconciler, "__post_init__", never)


def status_without_version(patch: Patch) -> None:
    async def forced(
        cluster: SimulatedCluster, namespace: str, name: str, status: Object, version: str
    ) -> Object:
        api: Api = cluster._api

        def apply() -> Object:
            now = api.get(Kind.TRIAL, name)
            if now is None or merged(now.get("status"), status) == now.get("status"):
                return now or {}
            return api.patch_status(Kind.TRIAL, name, status, now["metadata"]["resourceVersion"])

        return await Call("patch trial", apply, True)

    patch.setattr(SimulatedCluster, "patch_trial_status", forced)


def foreign_trials_adopted(patch: Patch) -> None:
    """Whatever names the study is its own: an earlier one's, or an orphan."""

    def named(views: Iterable[TrialView], _uid: str) -> Iterator[TrialView]:
        return (view for view in views if view.record)

    patch.setattr(observe, "own_trials", named)


def recorded_twice(patch: Patch) -> None:
    """An observation is appended though the trial has it."""
    ended = record.ended

    def twice(trial: TrialRecord, outcome: Outcome, *rest: Any, **more: Any) -> TrialRecord:
        new = ended(trial, outcome, *rest, **more)
        if outcome.reason is Reason.COMPLETED and new.run.attempt > 0:
            return replace(new, observations=(*new.observations, new.observations[-1]))
        return new

    patch.setattr(record, "ended", twice)


def deleted_objects_come_back(patch: Patch) -> None:
    absorb = Mirror.absorb

    def forgetful(mirror: Mirror, kind: Any, obj: Object, *, deleted: bool = False) -> Any:
        for key in mirror.studies():
            mirror.family(key).gone.clear()
        return absorb(mirror, kind, obj, deleted=deleted)

    patch.setattr(Mirror, "absorb", forgetful)


def numbers_counted_from_trials(patch: Patch) -> None:
    """Without the watermark, what a user deletes frees its number."""

    def next_number(study: Study) -> int:
        return max((trial.number + 1 for trial in study.trials), default=0)

    patch.setattr(Study, "next_number", property(next_number))


def retries_not_counted(patch: Patch) -> None:
    patch.setattr(TrialRecord, "attempts", lambda *_: 0)


def jobs_given_up_unasked(patch: Patch) -> None:
    """What a view lacks is gone."""

    async def look(runs: Runs, key: Any, _study: Study, trial: TrialRecord) -> bool:
        runs.writer.memories[key].jobs[trial.run.job] = JobState.GONE
        return True

    patch.setattr(Runs, "look", look)


def lingering_pods_overlooked(patch: Patch) -> None:
    patch.setattr(observe, "lingers", lambda _pod: False)


def lead_never_lost(patch: Patch) -> None:
    """Who has held the Lease goes on, however long it was stopped."""
    patch.setattr(Elector, "leads", property(lambda elector: elector._stop_at > 0))


def wishes_forgotten(patch: Patch) -> None:
    """A retry is granted, and not that it was."""
    attempt = record.attempt
    patch.setattr(record, "retried", lambda trial, job: attempt(trial, job))


def ends_not_final(patch: Patch) -> None:
    patch.setattr(Study, "has_ended", property(lambda _: False))


def promoted_without_observation(patch: Patch) -> None:
    """A lost run counts as one that has reached its rung."""
    ended = record.ended

    def lenient(trial: TrialRecord, outcome: Outcome, *rest: Any, **more: Any) -> TrialRecord:
        if outcome.reason is Reason.LOST and trial.observations:
            lost = ended(trial, outcome, *rest, **more)
            return record.promoted(
                replace(lost, phase=record.TrialPhase.PAUSED),
                f"{trial.run.job[:-6]}-r{trial.run.rung + 1}-a0", trial.run.fidelity, None,
            )  # fmt: skip
        return ended(trial, outcome, *rest, **more)

    patch.setattr(record, "ended", lenient)


def budget_of_the_next_number(patch: Patch) -> None:
    """Numbers above one that may be missing are not counted."""
    patch.setattr(Study, "numbers_used", property(lambda study: study.next_number))


def stopped_by_name(patch: Patch) -> None:
    """Whatever has the name of the open run's Job is deleted."""

    async def remove(runs: Runs, key: Any, trial: TrialRecord) -> None:
        await Call("delete job", lambda: delete(runs.writer.cluster, trial.run.job), True)

    def delete(cluster: Any, name: str) -> None:
        cluster._api.world.checker.acts_on_job(name, cluster._api.author)
        cluster._api.delete(Kind.JOB, name)

    patch.setattr(Runs, "_remove_open", remove)
    patch.setattr(plan, "_stop", Stop)


def said_again_and_again(patch: Patch) -> None:
    patch.setattr(reconcile, "NOTED_FOR_S", 0.0)


def ended_unlisted(patch: Patch) -> None:
    """A study ends though its status counts trials that nobody has shown us."""
    patch.setattr(Writer, "lacks_trials", lambda *_: False)


def too_large_sent_again(patch: Patch) -> None:
    """A trial that cannot be written is tried again in each pass."""
    patch.setattr(Memory, "fits", lambda *_: True)


KILLS = {"crash": 0.1, "disrupt": 0.5}
MUTANTS = {
    "random trial names": Mutant(random_trial_names, {"operators": 2, "delay_s": 5.0}, "I2"),
    "slots counted from Jobs": Mutant(slots_counted_from_jobs, {"crash": 0.1}, "I"),
    "attempts not written ahead": Mutant(attempts_not_written_ahead, KILLS, "I3"),
    "no resync": Mutant(no_resync, {"drop": 0.3, "delete_job": 20.0}, "not finished"),
    "status without version": Mutant(
        status_without_version, {"operators": 2, "delay_s": 5.0, "crash": 0.05}, "I"
    ),
    "foreign trials adopted": Mutant(
        foreign_trials_adopted, {"recreate_at_s": 15.0, "orphan": True}, "I"
    ),
    "recorded twice": Mutant(recorded_twice, {"disrupt": 0.5}, "I4"),
    "deleted objects come back": Mutant(
        deleted_objects_come_back,
        {
            "operators": 2,
            "trials": 7,
            "delete_pod": 30.0,
            "delete_trial": 50.0,
            "delay_s": 5.0,
        },
        "I2",
    ),
    "numbers counted from trials": Mutant(
        numbers_counted_from_trials, {"delete_trial": 20.0}, "I2"
    ),
    "retries not counted": Mutant(
        retries_not_counted, {"disrupt": 0.7, "infrastructure": 1}, "I11"
    ),
    "Jobs given up unasked": Mutant(
        jobs_given_up_unasked,
        {"operators": 2, "crash": 0.1, "stale": 0.9, "delay_s": 5.0},
        "called lost",
    ),
    "lingering pods overlooked": Mutant(
        lingering_pods_overlooked, {"node_dies": 0.5, "delete_job": 50.0}, "I12"
    ),
    "lead never lost": Mutant(
        lead_never_lost, {"operators": 2, "lease": True, "freeze": 0.02}, "lead at once"
    ),
    "wishes forgotten": Mutant(wishes_forgotten, {"annotate": 80.0, "fails": 1}, "granted twice"),
    "ends not final": Mutant(
        ends_not_final, {"fake": 60.0, "delay_s": 5.0, "delete_job": 20.0}, "I8"
    ),
    "promoted without observation": Mutant(
        promoted_without_observation, {"disrupt": 0.5, "rungs": 3}, "I14"
    ),
    "budget of the next number": Mutant(
        budget_of_the_next_number,
        {"edit": 50.0, "refuse": 0.3, "trials": 7, "parallelism": 6},
        "I5",
    ),
    "stopped by name": Mutant(
        stopped_by_name, {"annotate": 80.0, "squat": 50.0, "crash": 0.05, "disrupt": 0.5}, "I15"
    ),
    "said again and again": Mutant(
        said_again_and_again, {"operators": 2, "prometheus": 0.8, "delay_s": 0.01}, "I13"
    ),
    "ended unlisted": Mutant(
        ended_unlisted,
        {"operators": 2, "parallelism": 1, "delay_s": 5.0, "delete_trial": 30.0, "crash": 0.03},
        "I8",
    ),
    "too large, and sent again": Mutant(
        too_large_sent_again, {"bulk": 95.0, "trials": 7, "parallelism": 5, "rungs": 3}, "I13"
    ),
}
