"""`kill -9` of everything there is, at random moments of a real study on the local cluster.

`make kills KILLS=50` for more of it; PRIMO_KILLS_SEED draws other moments and victims.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from support.cluster import install, study
from support.kills import (
    LIMIT_S,
    Diary,
    Killer,
    Operators,
    Supervisor,
    check,
    check_nothing_is_left,
    no_process_left,
)
from support.local_cluster import needs_proc
from support.waiting import eventually

KILLS = int(os.environ.get("PRIMO_KILLS", "6"))
SEED = int(os.environ.get("PRIMO_KILLS_SEED", "0"))
NAME = "kills"

pytestmark = [pytest.mark.cluster, needs_proc, pytest.mark.timeout(60 + 60 * KILLS)]


def a_study(diary: Path, trials: int) -> dict[str, Any]:
    given = study(
        NAME,
        algorithm={"name": "moasha"},
        fidelity={"name": "epochs", "min": 1, "max": 9, "eta": 3},
        budget={"trials": trials},
        parallelism=3,
        retries={"application": 20, "infrastructure": 20},
    )
    (container,) = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "DIARY", "value": str(diary)}]
    return given


def moments(rng: np.random.Generator, kinds: list[str], runs: int) -> list[tuple[int, float, str]]:
    """After how many runs, how many seconds later, and whom: all kinds as often as each other."""
    drawn = [str(k) for _ in range(-(-KILLS // len(kinds))) for k in rng.permutation(kinds)]
    after = np.linspace(1, runs - 2, KILLS).astype(int)
    return [(int(n), float(rng.uniform(0, 0.7)), k) for n, k in zip(after, drawn, strict=False)]


def test_a_study_survives_the_death_of_everything(tmp_path: Path) -> None:
    trials = max(6, KILLS)
    diary = Diary(tmp_path / "diary")
    diary.folder.mkdir()
    rng = np.random.default_rng([SEED, KILLS])
    with (
        no_process_left(tmp_path),
        LocalCluster.start(
            tmp_path / "state",
            gpus=3,
            workdir=Path(__file__).parent,
            timeout_s=90,
            job_backoff_s=0.5,
            keep=True,
        ) as cluster,
    ):
        kube = install(cluster.kubeconfig)
        operators = Operators(cluster, tmp_path)
        operators.start()
        killer = Killer(cluster, kube, tmp_path, rng)
        try:
            with Supervisor(cluster, operators, kube, NAME) as supervisor:
                kube.apply(a_study(diary.folder, trials), "default")
                for after, wait_s, kind in moments(rng, list(killer.kinds()), trials):
                    eventually(
                        lambda n=after: diary.began() >= n or has_ended(kube),
                        f"{after} runs have begun",
                        LIMIT_S,
                    )
                    time.sleep(wait_s)  # the drawn moment
                    killer.strike(kind)
                eventually(lambda: has_ended(kube), "the study ends", LIMIT_S)
            assert supervisor.error is None
            assert not supervisor.changed
            found = kube.get("PriMOStudy", NAME, "default")
            assert found
            assert found["status"]["phase"] == "Completed", found["status"]
            check(kube, NAME, trials, diary, killer)
            check_nothing_is_left(cluster, NAME)
        finally:
            operators.stop()
            for line in (*killer.log, f"{diary.began()} runs, {len(killer.log)} kills"):
                sys.stdout.write(f"{line}\n")
            sys.stdout.write(f"exits of operators: {dict(operators.exits)}\n")


def has_ended(kube: Kube) -> bool:
    try:
        found = kube.get("PriMOStudy", NAME, "default")
    except Exception:  # an API server that is away
        return False
    return bool(found and (found.get("status") or {}).get("phase") in ("Completed", "Failed"))
