"""What a simulated run is made of, drawn from a seed: its study, and which faults are on."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from primo_operator.mirror import Key

START = 1_800_000_000.0
NAMESPACE, STUDY = "team", "digits"
KEY = Key(NAMESPACE, STUDY)
RUNGS = (1.0, 3.0, 9.0)


class ViolationError(AssertionError):
    """An invariant does not hold."""


def stamp(now: float) -> str:
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Scenario:
    """What a run is made of; the faults are probabilities.

    Attributes:
        refuse, lose: a call is refused, or has its effect and the answer is lost.
        crash: the operator dies before or after a call.
        disrupt: a pod is evicted on its way.
        fails: trials whose number leaves this remainder mod 5 fail; None: none does.
        drop, delay_s: watch events that never arrive, and how late the others are.
        delete_job, delete_trial: of 100 steps of a user's.
        annotate: of 100 steps of a user's: a trial is to be stopped or retried.
        own_trials: how many a user makes by hand; the first at once, and every third is no good.
        preempt: Jobs wait in a queue, and a pod is sent back into it with this probability.
        retention: which Jobs are kept.
        checkpoints: a promoted trial goes on from its checkpoint.
        prometheus: the cost is asked of one, which has no answer with this probability; None: it is
            reported.
        patience_s: so long after a run's end.
        suspend_at_s: the study is suspended then, for a minute.
        calm_after_s: faults stop then.
    """

    trials: int = 6
    parallelism: int = 2
    rungs: int = 2
    refuse: float = 0.0
    lose: float = 0.0
    crash: float = 0.0
    disrupt: float = 0.0
    fails: int | None = None
    drop: float = 0.0
    delay_s: float = 0.1
    delete_job: float = 0.0
    delete_trial: float = 0.0
    annotate: float = 0.0
    own_trials: int = 0
    preempt: float | None = None
    suspend_at_s: float | None = None
    retention: str | None = None
    checkpoints: bool = False
    prometheus: float | None = None
    patience_s: float = 3600.0
    calm_after_s: float = 400.0

    @property
    def faulty(self) -> bool:
        return any((self.refuse, self.lose, self.crash, self.drop))

    @classmethod
    def drawn(cls, seed: int) -> "Scenario":
        """Each seed first draws which faults are on, and how often (swarm testing)."""
        rng = np.random.default_rng([seed, 0])

        def on(rate: float) -> float:
            return float(rng.uniform(0, rate)) if rng.random() < 0.5 else 0.0

        return cls(
            trials=int(rng.integers(1, 13)),
            parallelism=int(rng.integers(1, 6)),
            rungs=int(rng.integers(1, 4)),
            refuse=on(0.15),
            lose=on(0.15),
            crash=on(0.05),
            disrupt=on(0.3),
            fails=int(rng.integers(0, 5)) if rng.random() < 0.5 else None,
            drop=on(0.3),
            delay_s=float(rng.choice([0.01, 0.5, 5.0])),
            delete_job=on(3.0),
            delete_trial=on(1.0),
            annotate=on(5.0),
            own_trials=int(rng.integers(0, 5)) if rng.random() < 0.5 else 0,
            preempt=float(rng.uniform(0, 0.5)) if rng.random() < 0.3 else None,
            retention=str(rng.choice(["All", "Failed", "None"])) if rng.random() < 0.5 else None,
            suspend_at_s=float(rng.uniform(1, 60)) if rng.random() < 0.3 else None,
            checkpoints=bool(rng.random() < 0.5),
            prometheus=float(rng.uniform(0, 0.9)) if rng.random() < 0.3 else None,
        )


def study_spec(scenario: Scenario) -> dict[str, Any]:
    cost: dict[str, Any] = {"metric": "kmacs"}
    if scenario.prometheus is not None:
        cost = {"prometheus": {"query": "trial=$(trial)"}}
    spec: dict[str, Any] = {
        "objectives": [
            {"name": "error", "goal": "Minimize", "metric": "val_error"},
            {"name": "cost", "goal": "Minimize", **cost},
        ],
        "parameters": [{"name": "x", "int": {"min": 0, "max": 9999}}],
        "algorithm": {"name": "random"},
        "budget": {"trials": scenario.trials},
        "parallelism": scenario.parallelism,
        "retries": {"infrastructure": 20},
        "trialTemplate": {
            "spec": {
                "template": {
                    "spec": {"containers": [{"name": "train", "image": "i", "command": ["c"]}]}
                }
            }
        },
    }
    if scenario.retention:
        spec["retention"] = {"jobs": scenario.retention}
    if scenario.checkpoints:
        spec["checkpoints"] = {"claimName": "c", "mountPath": "/checkpoints"}
    if scenario.rungs > 1:
        spec["fidelity"] = {"name": "epochs", "min": 1, "max": RUNGS[scenario.rungs - 1], "eta": 3}
    return spec
