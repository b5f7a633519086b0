"""What a simulated run is made of, drawn from a seed: its study, and which faults are on."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from primo_operator.mirror import Key

START = 1_800_000_000.0
NAMESPACE, STUDY, NEIGHBOUR = "team", "digits", "letters"
KEY, NEIGHBOUR_KEY = Key(NAMESPACE, STUDY), Key(NAMESPACE, NEIGHBOUR)
RUNGS = (1.0, 3.0, 9.0)
AWAY_S = 1800.0


class ViolationError(AssertionError):
    """An invariant does not hold."""


def stamp(now: float) -> str:
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Scenario:
    """What a run is made of. Faults are probabilities unless they say otherwise.

    Attributes:
        fails: trials whose number leaves this remainder mod 5 fail; None: none does.
        infrastructure: free retries of a rung.
        own_trials: how many a user makes by hand; the first at once, and every third is no good.
        retention: which Jobs are kept.
        checkpoints: a promoted trial goes on from its checkpoint.
        prometheus: the cost is asked of one, which has no answer with this probability; None: it is
            reported.
        patience_s: so long after a run's end.
        suspend_at_s: the study is suspended then, for a minute.
        neighbour: there is a second study.
        poison: a pass over the first study raises, by a bug of ours.

        refuse, lose, slow: a call is refused, or has its effect and the answer is lost, or there is
            no answer within the operator's patience, whether or not it has an effect.
        reject: an admission policy says that a Job is no good.
        rights: the operator's right to a call is taken away for up to two minutes, at each call.
        stale: a list shows the state of some versions ago.
        away_at_s: the API server is gone then, for half an hour.

        drop, merge: watch events that never arrive, or only with the next one of their object.
        delay_s: how late the others are, and how far kinds lag behind each other.
        silent: a watch falls silent until it is renewed, at each event.

        crash: the operator dies before or after a call.
        freeze: it is stopped for up to 10 minutes, at each call, and goes on.
        operators: how many there are at once.
        lease: one of them works at a time.
        skew_s: how far operators' clocks are off, and step.
        ask_fails: the optimizer's worker dies or hangs.

        disrupt: a pod is evicted on its way.
        node_dies: a pod's node does, and the pod is stuck for minutes.
        preempt: Jobs wait in a queue, and a pod is sent back into it.
        collect: a bounded collector removes what has ended, at each of its rounds.
        forbidden: the Job controller may not make a pod for up to two minutes.

        delete_job, delete_pod, delete_trial, annotate, strip, fake, squat, bulk, edit: of 100
            steps of a user's: objects deleted; trials stopped or retried; labels taken off; a
            status written by hand; a Job made under the name of one to come; a trial made too large
            to be written, for up to two minutes; the spec edited.
        recreate_at_s: the study is deleted then and made anew under its name.
        orphan: and its children are left behind.

        lists: everything is listed at once now and then, so that passes need not; as it is where
            the API server is not too busy.

        calm_after_s: faults stop then.
        safety: faults never stop, and no end is asked for.
    """

    trials: int = 6
    parallelism: int = 2
    rungs: int = 2
    fails: int | None = None
    infrastructure: int = 20
    own_trials: int = 0
    retention: str | None = None
    checkpoints: bool = False
    prometheus: float | None = None
    patience_s: float = 3600.0
    suspend_at_s: float | None = None
    neighbour: bool = False
    poison: float = 0.0

    refuse: float = 0.0
    lose: float = 0.0
    slow: float = 0.0
    reject: float = 0.0
    rights: float = 0.0
    stale: float = 0.0
    away_at_s: float | None = None

    drop: float = 0.0
    merge: float = 0.0
    delay_s: float = 0.1
    silent: float = 0.0

    crash: float = 0.0
    freeze: float = 0.0
    operators: int = 1
    lease: bool = False
    skew_s: float = 0.0
    ask_fails: float = 0.0

    disrupt: float = 0.0
    node_dies: float = 0.0
    preempt: float | None = None
    collect: float = 0.0
    forbidden: float = 0.0

    delete_job: float = 0.0
    delete_pod: float = 0.0
    delete_trial: float = 0.0
    annotate: float = 0.0
    strip: float = 0.0
    fake: float = 0.0
    squat: float = 0.0
    bulk: float = 0.0
    edit: float = 0.0
    recreate_at_s: float | None = None
    orphan: bool = False

    lists: bool = False

    calm_after_s: float = 400.0
    safety: bool = False

    @property
    def faulty(self) -> bool:
        return any((
            self.refuse, self.lose, self.slow, self.crash, self.drop, self.merge, self.silent,
            self.freeze, self.stale, self.away_at_s, self.operators > 1, self.node_dies,
            self.forbidden, self.edit, self.poison, self.ask_fails, self.skew_s, self.strip,
            self.rights, self.bulk,
        ))  # fmt: skip

    @classmethod
    def drawn(cls, seed: int) -> "Scenario":
        """Each seed first draws which faults are on, and how often (swarm testing)."""
        rng = np.random.default_rng([seed, 0])

        def on(rate: float, chance: float = 0.3) -> float:
            drawn, rate = rng.random(2) < chance, float(rng.uniform(0, rate))
            return rate if drawn[0] else 0.0

        def maybe(low: float, high: float, chance: float) -> float | None:
            at = float(rng.uniform(low, high))
            return at if rng.random() < chance else None

        def happens(chance: float) -> bool:
            return bool(rng.random() < chance)

        operators = 2 if happens(0.2) else 1
        stale = on(0.5)
        # Two that work at once may give one number twice to trials of the user's own.
        alone = operators == 1 and not stale
        return cls(
            trials=int(rng.integers(1, 8)),
            parallelism=int(rng.integers(1, 6)),
            rungs=int(rng.integers(1, 4)),
            fails=int(rng.integers(0, 5)) if happens(0.4) else None,
            infrastructure=int(rng.choice([0, 1, 3, 20])),
            own_trials=int(rng.integers(1, 5)) if happens(0.3) and alone else 0,
            retention=str(rng.choice(["All", "Failed", "None"])) if happens(0.5) else None,
            checkpoints=happens(0.5),
            prometheus=maybe(0, 0.9, 0.2),
            suspend_at_s=maybe(1, 60, 0.2),
            neighbour=happens(0.15),
            poison=on(0.5, 0.1),
            refuse=on(0.15),
            lose=on(0.15),
            slow=on(0.05, 0.2),
            reject=on(0.05, 0.1),
            stale=stale,
            away_at_s=maybe(5, 100, 0.07),
            drop=on(0.3),
            merge=on(0.5),
            delay_s=float(rng.choice([0.01, 0.5, 5.0])),
            silent=on(0.02, 0.15),
            crash=on(0.05, 0.4),
            freeze=on(0.01, 0.2),
            operators=operators,
            lease=happens(0.5) if operators > 1 else happens(0.2),
            skew_s=on(5.0, 0.2),
            ask_fails=on(0.4, 0.2),
            disrupt=on(0.3),
            node_dies=on(0.2, 0.2),
            preempt=maybe(0, 0.5, 0.2),
            collect=on(0.5, 0.2),
            forbidden=on(0.2, 0.2),
            delete_job=on(9.0, 0.25),
            delete_pod=on(9.0, 0.25),
            delete_trial=on(3.0, 0.25),
            annotate=on(15.0, 0.25),
            strip=on(5.0, 0.15),
            fake=on(4.0, 0.1),
            squat=on(4.0, 0.1),
            edit=on(10.0, 0.2),
            recreate_at_s=maybe(2, 80, 0.1),
            orphan=happens(0.4),
            safety=happens(0.15),
            rights=on(0.01, 0.15),
            bulk=on(10.0, 0.15),
            lists=happens(0.5),
        )


def study_spec(scenario: Scenario) -> dict[str, Any]:
    cost: dict[str, Any] = {"metric": "kmacs"}
    if scenario.prometheus is not None:
        cost = {"prometheus": {"query": "trial=$(trial)"}}
    container = {"name": "train", "image": "i", "command": ["c"]}
    spec: dict[str, Any] = {
        "objectives": [
            {"name": "error", "goal": "Minimize", "metric": "val_error"},
            {"name": "cost", "goal": "Minimize", **cost},
        ],
        "parameters": [{"name": "x", "int": {"min": 0, "max": 9999}}],
        "algorithm": {"name": "random"},
        "budget": {"trials": scenario.trials},
        "parallelism": scenario.parallelism,
        "retries": {"infrastructure": scenario.infrastructure},
        "trialTemplate": {"spec": {"template": {"spec": {"containers": [container]}}}},
    }
    if scenario.retention:
        spec["retention"] = {"jobs": scenario.retention}
    if scenario.checkpoints:
        spec["checkpoints"] = {"claimName": "c", "mountPath": "/checkpoints"}
    if scenario.rungs > 1:
        spec["fidelity"] = {"name": "epochs", "min": 1, "max": RUNGS[scenario.rungs - 1], "eta": 3}
    return spec
