"""What `primo run` and `primo up` say when something that they started has ended."""

import io
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from primo_cli import run
from primo_cli.kube import UnavailableError
from primo_cli.session import Session, SessionError
from primo_local.cluster import ClusterStartError, Program
from support.waiting import eventually

STUDY = {"metadata": {"name": "digits"}}


class FakeCluster:
    """One of its programs may have ended."""

    def __init__(self, ended: str = "") -> None:
        self._ended = ended

    def check(self) -> None:
        if self._ended:
            raise ClusterStartError(self._ended)


class FakeKube:
    """A cluster that gives no answer to so many calls."""

    def __init__(self, silent: int) -> None:
        self._silent = silent

    def get(self, kind: str, name: str, namespace: str) -> Any:
        if self._silent:
            self._silent -= 1
            raise UnavailableError(f"{kind} {name}: no answer")
        return STUDY if name == "digits" else None

    def trials(self, study: str, namespace: str) -> list[Any]:
        return []


def session(cluster: FakeCluster, operator: Any) -> Session:
    return Session(cluster, operator, kube=None, prometheus=None)  # type: ignore[arg-type]


def test_the_end_of_a_program_of_the_cluster_is_told() -> None:
    with pytest.raises(SessionError, match="the node has ended: no space"):
        session(FakeCluster("the node has ended: no space"), operator=None).tend()


def test_a_program_ends_although_an_interrupt_came_while_its_end_was_looked_for(
    tmp_path: Path,
) -> None:
    """In the midst of `Popen.poll`, which then keeps its lock: CPython does not mend it."""
    program = Program("sleep", [sys.executable, "-c", "input()"], tmp_path / "log")
    assert program._keeper._waitpid_lock.acquire(timeout=1)  # type: ignore[attr-defined]
    stopping = threading.Thread(target=program.stop, args=[1.0], daemon=True)
    stopping.start()
    stopping.join(30)
    assert not stopping.is_alive()
    assert program.has_ended


def test_the_end_of_the_operator_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['WORDS'])"]
    operator = Program("operator", command, tmp_path / "log", {"WORDS": "no credentials"})
    try:
        eventually(lambda: operator.has_ended, "its end is noticed")
        with pytest.raises(SessionError, match=r"the operator has ended; .*\nno credentials"):
            session(FakeCluster(), operator).tend()
    finally:
        operator.stop(1.0)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "POLL_S", 0.0)


def look(kube: FakeKube, tend: Any = lambda: None, name: str = "digits") -> Any:
    return run._look(kube, name, "team", tend)  # type: ignore[arg-type]


def test_a_cluster_that_does_not_answer_for_a_moment_is_waited_for(no_pause: None) -> None:
    assert look(FakeKube(silent=3)) == (STUDY, [])


def test_one_that_stays_away_is_given_up(no_pause: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PATIENCE_S", 0.0)
    with pytest.raises(UnavailableError):
        look(FakeKube(silent=1000))


def test_what_has_ended_is_told_and_not_waited_for(no_pause: None) -> None:
    with pytest.raises(SessionError):
        look(FakeKube(silent=1000), session(FakeCluster("it has ended"), operator=None).tend)


def test_a_study_that_is_deleted_meanwhile(no_pause: None) -> None:
    with pytest.raises(run.StudyGoneError, match="other: was deleted"):
        look(FakeKube(silent=0), name="other")


def test_a_study_that_no_operator_looks_at_is_told_once(
    no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "UNSEEN_S", -1.0)
    spec = {"objectives": [{"name": "error"}], "budget": {}}
    unseen = {**STUDY, "spec": spec}
    looks = iter([unseen, unseen, {**unseen, "status": {"phase": "Failed"}}])
    monkeypatch.setattr(run, "_look", lambda *_: (next(looks), []))
    out = io.StringIO()
    console = Console(file=out, width=120)
    run._watch(None, "digits", "team", lambda: None, console)  # type: ignore[arg-type]
    words = "no operator has looked at this study; does one run, and watch namespace team?"
    assert out.getvalue().count(words) == 1
