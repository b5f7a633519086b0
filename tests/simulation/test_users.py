"""A user does whatever users may do, in any order, while faults come and go.

Hypothesis shrinks what goes wrong.
"""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from primo_operator import names
from primo_operator.mirror import Kind
from support.simulation.scenario import STUDY, Scenario
from support.simulation.world import World

PICK = st.integers(0, 99)
FAULTS: dict[str, float] = {
    "refuse": 0.2,
    "lose": 0.2,
    "slow": 0.1,
    "drop": 0.3,
    "merge": 0.5,
    "silent": 0.05,
    "stale": 0.5,
    "freeze": 0.02,
    "crash": 0.05,
    "ask_fails": 0.5,
    "disrupt": 0.5,
    "node_dies": 0.3,
    "collect": 0.5,
    "forbidden": 0.5,
}


class Steering(RuleBasedStateMachine):
    """One study, edited and interfered with; the checker of the world watches each write."""

    world: World

    @initialize(rungs=st.integers(1, 3), queue=st.booleans(), seed=st.integers(0, 9))
    def start(self, rungs: int, queue: bool, seed: int) -> None:
        preempt = 0.3 if queue else None
        scenario = Scenario(trials=3, rungs=rungs, preempt=preempt, calm_after_s=1e9)
        self.world = World(scenario, seed)
        self.words = 0

    @rule(seconds=st.floats(0.1, 5))
    def a_moment_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.floats(10, 60))
    def a_while_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def it_is_left_alone(self) -> None:
        self.world.advance(300.0)

    @rule(parallelism=st.integers(1, 5))
    def parallelism(self, parallelism: int) -> None:
        self.world.user.edit_study({"parallelism": parallelism})

    @rule(more=st.integers(1, 3))
    @precondition(lambda self: self.world.scenario.trials < 15)
    def raise_budget(self, more: int) -> None:
        trials = self.world.scenario.trials + more
        self.world.scenario = replace(self.world.scenario, trials=trials)
        self.world.user.edit_study({"budget": {"trials": trials}})

    @rule()
    def suspend(self) -> None:
        self.world.user.edit_study({"suspend": True})

    @rule()
    def go_on(self) -> None:
        self.world.user.edit_study({"suspend": False})

    @rule(image=st.sampled_from(["i", "j"]))
    @precondition(lambda self: self.world.spec.get("suspend"))
    def edit_template(self, image: str) -> None:
        container = {"name": "train", "image": image, "command": ["c"]}
        template = {"spec": {"template": {"spec": {"containers": [container]}}}}
        self.world.user.edit_study({"trialTemplate": template, "suspend": False})

    @rule(jobs=st.sampled_from(["All", "Failed", "None"]))
    def retention(self, jobs: str) -> None:
        self.world.user.edit_study({"retention": {"jobs": jobs}})
        self.world.scenario = replace(self.world.scenario, retention=jobs)

    @rule(terminate=st.booleans())
    def on_complete(self, terminate: bool) -> None:
        self.world.user.edit_study({"onComplete": "Terminate" if terminate else "Drain"})

    @rule(pick=PICK)
    def delete_trial(self, pick: int) -> None:
        if known := self.world.user.counted_trials():
            self.world.api.delete(Kind.TRIAL, known[pick % len(known)])

    @rule(pick=PICK)
    def delete_job(self, pick: int) -> None:
        if known := list(self.world.api.objects[Kind.JOB]):
            self.world.api.delete(Kind.JOB, known[pick % len(known)])

    @rule(pick=PICK, stop=st.booleans())
    def annotate(self, pick: int, stop: bool) -> None:
        if known := list(self.world.api.objects[Kind.TRIAL]):
            self.words += 1
            key = names.STOP_ANNOTATION if stop else names.RETRY_ANNOTATION
            self.world.user.annotate(known[pick % len(known)], key, f"word {self.words}")

    @rule(pick=PICK)
    def no_longer_stop(self, pick: int) -> None:
        if known := list(self.world.api.objects[Kind.TRIAL]):
            self.world.user.annotate(known[pick % len(known)], names.STOP_ANNOTATION, None)

    @rule(x=st.integers(-1, 30))
    def try_this_one_too(self, x: int) -> None:
        self.words += 1
        self.world.user.make_trial(f"mine-{self.words}", x)

    @rule(failing=st.booleans())
    def scripts_fail(self, failing: bool) -> None:
        self.world.kubelet.failing = failing

    @rule()
    def operator_dies(self) -> None:
        self.world.crash()

    @rule(fault=st.sampled_from(sorted(FAULTS)))
    def something_goes_wrong(self, fault: str) -> None:
        self.world.scenario = replace(self.world.scenario, **{fault: FAULTS[fault]})

    @rule()
    def all_is_well_again(self) -> None:
        self.world.scenario = replace(self.world.scenario, **dict.fromkeys(FAULTS, 0.0))

    def teardown(self) -> None:
        """Left alone, the study comes to its end, nothing moves any more, and it can be deleted."""
        if not hasattr(self, "world"):
            return
        self.all_is_well_again()
        self.world.kubelet.failing = False
        self.world.user.edit_study({"suspend": False})
        self.world.advance(1200.0)
        self.world.run()
        status = self.world.api.objects[Kind.STUDY][STUDY]["status"]
        ended = next(c for c in status["conditions"] if c["type"] == status["phase"])
        # The scripted optimizer always has another configuration, and ten failures end a study.
        assert ended["reason"] in ("BudgetExhausted", "NothingObserved", "TooManyFailures")
        if status["phase"] == "Completed":
            assert status["nextTrial"] == self.world.scenario.trials
        self.world.delete_study()


TestSteering = Steering.TestCase
TestSteering.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
