"""What the optimizer's process has been told of each study: an ask then tells what is new.

A study of ten thousand trials is four megabytes of JSON, and a few of its trials change between two
asks. What is kept here is lost with the process that was told.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any

from primo_optimizer import SearchSpace
from primo_study.blocks import Block
from primo_study.study import Study, TrialRecord

# Of more trials than this in all, the studies that were asked about longest ago are forgotten.
REMEMBERED = 50_000


@dataclass(slots=True)
class Told:
    """Of one study.

    Attributes:
        trials: by number, as told.
        keys: of their configurations in `space`; of equal ones the later number.
        rest: the blocks of trials that were told, by identity.
    """

    space: SearchSpace
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    keys: dict[Any, int] = field(default_factory=dict)
    rest: dict[int, Block[TrialRecord]] = field(default_factory=dict)

    def update(self, study: Study) -> tuple[Sequence[TrialRecord], Sequence[int]]:
        """What is to be told now: trials that are new or changed, and numbers that are gone."""
        unseen = [block.items for block in study.rest if id(block) not in self.rest]
        self.rest = {id(block): block for block in study.rest}
        trials = chain(*unseen, study.moving)
        changed = [t for t in trials if self.trials.get(t.number) is not t]
        changed.sort(key=attrgetter("number"))
        for trial in changed:
            self.trials[trial.number] = trial
            self.keys[self.space.key(trial.configuration)] = trial.number
        gone: list[int] = []
        if len(self.trials) > study.total:
            gone = sorted(self.trials.keys() - {trial.number for trial in study.trials})
            for number in gone:
                del self.trials[number]
            self.keys = {self.space.key(t.configuration): n for n, t in self.trials.items()}
        return changed, gone


class Notebook:
    """Of all studies that the process knows, by UID, the latest asked about last."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, Told] = OrderedDict()

    def of(self, study: Study) -> Told:
        """Of this study; empty if nothing was told, or its space was another one."""
        assert study.spec
        space = study.spec.problem().space
        told = self._told.get(study.uid)
        if told is None or told.space != space:
            told = self._told[study.uid] = Told(space)
        self._told.move_to_end(study.uid)
        return told

    def forget(self) -> list[str]:
        """The UIDs of the studies that are too many, which are forgotten now."""
        total = sum(len(told.trials) for told in self._told.values())
        forgotten = []
        while total > REMEMBERED and len(self._told) > 1:
            uid, told = self._told.popitem(last=False)
            total -= len(told.trials)
            forgotten.append(uid)
        return forgotten

    def drop(self, uid: str) -> None:
        """It is told everything of this study at the next ask."""
        self._told.pop(uid, None)

    def clear(self) -> None:
        """The process that was told is gone."""
        self._told.clear()
