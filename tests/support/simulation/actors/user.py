"""A user, who edits, deletes, annotates and interferes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.mirror import Kind
from support.simulation.api import labels
from support.simulation.scenario import NAMESPACE, STUDY, ViolationError, study_spec

if TYPE_CHECKING:
    from support.simulation.world import World

STEP_S = 3.0


@dataclass
class User:
    """What she does of her own accord is drawn; tests call the same methods.

    Attributes:
        touched: trials, by UID, of which she has written the status by hand.
        erased: what their Jobs' names begin with: nobody knows any more which there were.
    """

    world: "World"
    touched: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)

    def start(self) -> None:
        scenario = self.world.scenario
        for k in range(scenario.own_trials):
            # An administrator's policy may have refused it: then nobody is told of it here.
            self.world.after(k * 15.0, lambda k=k: self.make_trial(f"mine-{k}", _own_x(k)))
        if scenario.suspend_at_s is not None:
            self.world.after(scenario.suspend_at_s, lambda: self._suspend(True))
            self.world.after(scenario.suspend_at_s + 60.0, lambda: self._suspend(False))
        if scenario.recreate_at_s is not None:
            self.world.after(scenario.recreate_at_s, self._recreate)
        self.world.later(STEP_S, self._step)

    # --- what she may do

    def make_study(self, name: str = STUDY) -> None:
        study = {
            "apiVersion": names.API_VERSION,
            "kind": names.STUDY_KIND,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": study_spec(self.world.scenario),
        }
        self.world.api.create(Kind.STUDY, study)

    def edit_study(self, spec: Object) -> None:
        """A merge patch of its spec, as `kubectl patch` would send it."""
        self.world.api.edit(Kind.STUDY, STUDY, {"spec": spec})

    def annotate(self, trial: str, key: str, value: str | None) -> None:
        self.world.api.edit(Kind.TRIAL, trial, {"metadata": {"annotations": {key: value}}})

    def make_trial(self, name: str, x: int, study: str = STUDY) -> None:
        """A trial of her own."""
        trial = {
            "apiVersion": names.API_VERSION,
            "kind": names.TRIAL_KIND,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"study": study, "parameters": {"x": x}},
        }
        self.world.api.create(Kind.TRIAL, trial)

    def counted_trials(self) -> list[str]:
        """Those that she has seen in a study's status, by name."""
        seen = {
            name: (study.get("status") or {}).get("nextTrial", 0)
            for name, study in self.world.api.objects[Kind.STUDY].items()
        }
        return [
            name
            for name, trial in self.world.api.objects[Kind.TRIAL].items()
            if trial["spec"].get("number", 1e9) < seen.get(trial["spec"]["study"], 0)
        ]

    def delete_study(self, *, orphan: bool = False) -> None:
        self.world.api.delete(Kind.STUDY, STUDY, orphan=orphan)

    # --- what she does by chance

    def _step(self) -> None:
        if self.world.calm:
            self._let_go_on()
            return
        scenario = self.world.scenario
        acts: tuple[tuple[float, Callable[[], list[str]], Callable[[str], None]], ...] = (
            (scenario.delete_job, self._all(Kind.JOB), self._deletes(Kind.JOB)),
            (scenario.delete_pod, self._all(Kind.POD), self._deletes(Kind.POD)),
            (scenario.delete_trial, self.counted_trials, self._deletes(Kind.TRIAL)),
            (scenario.annotate, self._all(Kind.TRIAL), self._wishes),
            (scenario.strip, self._all(Kind.JOB), self._strips),
            (scenario.fake, self.counted_trials, self._fakes),
            (scenario.squat, self._to_squat, self._squats),
            (scenario.bulk, self._all(Kind.TRIAL), self._fills),
            (scenario.edit, self._all(Kind.STUDY), self._edits),
        )
        for rate, find, act in acts:
            if rate and self.world.chance(rate / 100) and (found := find()):
                act(found[int(self.world.rng.integers(len(found)))])
        self.world.later(STEP_S, self._step)

    def _let_go_on(self) -> None:
        """When the faults are over she wants to see the study's end."""
        scenario = self.world.scenario
        if scenario.edit or scenario.suspend_at_s is not None:
            self.edit_study({"suspend": None})
        for name, job in list(self.world.api.objects[Kind.JOB].items()):
            if not self.world.checker.owned(Kind.JOB, job):
                self.world.api.delete(Kind.JOB, name)

    def _all(self, kind: Kind) -> Callable[[], list[str]]:
        return lambda: list(self.world.api.objects[kind])

    def _deletes(self, kind: Kind) -> Callable[[str], None]:
        def delete(name: str) -> None:
            self.world.say(f"USER deletes {kind} {name}")
            self.world.api.delete(kind, name)

        return delete

    def _wishes(self, trial: str) -> None:
        stop = bool(self.world.rng.random() < 0.3)
        self.world.say(f"USER asks {trial} to {stop=}")
        key = names.STOP_ANNOTATION if stop else names.RETRY_ANNOTATION
        self.annotate(trial, key, f"{self.world.now:.0f}")

    def _strips(self, job: str) -> None:
        """The labels of a Job, as by `kubectl label job --all primo.dev/study-`, or by another."""
        labelled = {names.STUDY_LABEL: "another"} if self.world.rng.random() < 0.3 else None
        self.world.say(f"USER strips {job}: {labelled}")
        self.world.api.edit(Kind.JOB, job, {"metadata": {"labels": labelled}})

    def _fakes(self, trial: str) -> None:
        """Write a status that the schema lets through and that makes no sense."""
        old = self.world.api.objects[Kind.TRIAL][trial]
        fakes: tuple[Any, ...] = (
            {"phase": "Completed", "observations": None},
            {"phase": "Paused", "observations": None},
            {"observations": [{"values": {}, "observedAt": "2027-01-15T08:00:00Z"}]},
            {"phase": "Running", "runs": None},
            {"phase": "Failed", "reason": None},
            None,
        )
        pick = fakes[int(self.world.rng.integers(len(fakes)))]
        self.world.say(f"USER fakes {trial}: {pick}")
        self.touched.add(old["metadata"]["uid"])
        for run in (old.get("status") or {}).get("runs") or ():
            self.erased.add(run["job"].rpartition("-r")[0])
        self.world.api.edit(Kind.TRIAL, trial, {"status": pick})

    def _fills(self, trial: str) -> None:
        """Annotate a trial so that nothing more can be written to it, and take that back."""
        self.world.say(f"USER fills {trial}")
        self.world.api.bulky.add(trial)

        def empty() -> None:
            self.world.api.bulky.discard(trial)
            self.annotate(trial, "bulk", f"{self.world.now:.0f}")

        self.world.later(float(self.world.rng.uniform(5.0, 120.0)), empty)

    def _to_squat(self) -> list[str]:
        """Names of Jobs that may come next."""
        runs = [
            trial["status"]["runs"][-1]
            for trial in self.world.api.objects[Kind.TRIAL].values()
            if (trial.get("status") or {}).get("runs")
        ]
        stems = [(run["job"].rpartition("-r")[0], run["rung"], run["attempt"]) for run in runs]
        free = [f"{stem}-r{r}-a{a + 1}" for stem, r, a in stems]
        free += [f"{stem}-r{r + 1}-a0" for stem, r, _ in stems]
        return [name for name in free if name not in self.world.api.objects[Kind.JOB]]

    def _squats(self, name: str) -> None:
        self.world.say(f"USER makes a Job {name}")
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"made-by": "somebody"}}
        template = {"metadata": {}, "spec": {"containers": [{"name": "other"}]}}
        spec = {"template": template, "suspend": True}
        self.world.api.create(Kind.JOB, {"metadata": metadata, "spec": spec})

    def _edits(self, _study: str) -> None:
        rng = self.world.rng
        edits: tuple[Object, ...] = (
            {"parallelism": int(rng.integers(1, 7))},
            {"budget": {"trials": int(rng.integers(1, 10))}},
            {"suspend": True},
            {"suspend": None},
            {"onComplete": "Terminate"},
            {"onComplete": None},
            {"parallelism": -1},  # no good: it got through, and she corrects it
        )
        edit = edits[int(rng.integers(len(edits)))]
        self.world.say(f"USER edits the study: {edit}")
        self.edit_study(edit)
        if edit.get("parallelism") == -1:
            self.world.after(7.0, lambda: self.edit_study({"parallelism": 2}))
        if edit.get("suspend"):
            self.world.after(30.0, lambda: self.edit_study({"suspend": None}))

    def _suspend(self, suspend: bool) -> None:
        if self.world.phase in ("Completed", "Failed", "Deleted"):
            return
        self.edit_study({"suspend": suspend})
        if suspend:
            self.world.after(55.0, self._check_suspended)

    def _recreate(self) -> None:
        orphan = self.world.scenario.orphan
        self.world.say(f"USER deletes the study and makes it anew, {orphan=}")
        if STUDY in self.world.api.objects[Kind.STUDY]:
            self.delete_study(orphan=orphan)
            self.world.after(float(self.world.rng.uniform(0, 5)), self.make_study)

    def _check_suspended(self) -> None:
        """Without faults, a minute is enough: what ran has ended, and nothing waits for a pod."""
        if (
            self.world.scenario.faulty
            or self.world.script.faults
            or self.world.phase != "Suspended"
        ):
            return
        for name, job in self.world.api.objects[Kind.JOB].items():
            if labels(job).get(names.STUDY_LABEL) == STUDY and not _has_ended(job):
                raise ViolationError(f"suspended for 55 s, and Job {name} has not ended")

    def check_own_trials(self) -> None:
        """Each has become a trial of the study, or says why not."""
        for k in range(self.world.scenario.own_trials):
            trial = self.world.api.objects[Kind.TRIAL].get(f"mine-{k}")
            if trial is None or "number" in trial["spec"]:
                continue
            wanted = "InvalidTrial" if k % 3 == 1 else "StudyEnded"
            reason = (trial.get("status") or {}).get("reason")
            if reason != wanted:
                raise ViolationError(f"mine-{k} says {reason}, not {wanted}")


def _has_ended(job: Object) -> bool:
    return bool((job.get("status") or {}).get("conditions"))


def _own_x(k: int) -> int:
    """Every third is outside the range."""
    return -1 if k % 3 == 1 else 5000 + k
