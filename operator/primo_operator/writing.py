"""What a pass writes about trials and study: their status, if it differs, and Events.

`Writer` also holds what all parts of a pass share: the cluster, our view of it, and the memories.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from primo_operator import names
from primo_operator.cluster import (
    Cluster,
    ClusterError,
    ConflictError,
    NotFoundError,
    Notice,
    Object,
    OutdatedError,
    RefusedError,
    TooLargeError,
    merge_patch,
    pruned,
)
from primo_operator.memory import Memory, TooLarge
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.observe import observe
from primo_operator.ports import Clock
from primo_operator.settings import Settings
from primo_operator.views import TrialView
from primo_study import record
from primo_study.ending import ending
from primo_study.objects import StudyStatus, TrialStatus
from primo_study.phases import Obstacle
from primo_study.record import MAX_MESSAGE
from primo_study.status import phase, summarise
from primo_study.study import Evidence, Study, TrialRecord, Waiting, numbers_from
from primo_study.unknown import with_unknown

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Writer:
    """Writes status; our own writes are in our view at once."""

    cluster: Cluster
    clock: Clock
    settings: Settings
    mirror: Mirror
    memories: dict[Key, Memory] = field(default_factory=dict)

    def observe(self, key: Key) -> Study | None:
        """The study as our view shows it now; None if it does not exist."""
        family, memory = self.mirror.family(key), self.memories[key]
        uid = family.study["metadata"]["uid"] if family.study else ""
        if memory.uid != uid:
            # After another one of this name there may be much that nobody has shown us.
            self.memories[key] = memory = Memory(
                uid=uid, synced_at=memory.synced_at, doubted=bool(memory.uid)
            )
        template = memory.template
        retry_at, now = memory.template_retry_at, self.clock.monotonic()
        if template.problem and not template.fatal and now >= retry_at:
            memory.template_generation = 0  # to be asked again
        return observe(family, memory, self.settings.access(key.namespace))

    def lacks_trials(self, key: Key, study: Study) -> bool:
        """Whether there may be trials that our view lacks, so that it must be listed anew.

        The study's status counts them, or others have higher numbers. They may hold slots, and a
        study does not end before they do. What a list lacks as well is not there.
        """
        memory, counted = self.memories[key], study.status.get("nextTrial") or 0
        there = numbers_from(memory.looked_up_to, study.rest, study.moving)
        upto = max(counted, memory.looked_up_to, study.latest + 1)
        lacks = len(there) < upto - memory.looked_up_to
        memory.doubted |= lacks
        memory.looked_up_to = upto
        return lacks

    @contextlib.contextmanager
    def in_doubt(self, key: Key) -> Iterator[None]:
        """Around a call about a trial that may take a slot: it may have, though no answer came."""
        try:
            yield
        except RefusedError:
            raise
        except ClusterError:
            self.memories[key].doubted = True
            raise

    def stamp(self) -> str:
        """The time now, as objects hold it."""
        return datetime.fromtimestamp(int(self.clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def trial_view(self, key: Key, trial: TrialRecord) -> TrialView | None:
        """As our view shows it now; None if it has been deleted during this pass."""
        view = self.mirror.family(key).trials.get(trial.name)
        own = view and view.record and self.memories[key].uid in view.owners
        return view if own else None

    async def trial(self, key: Key, old: TrialRecord, new: TrialRecord) -> bool:
        """Write a trial's record. True if something was written, or the trial is gone.

        Raises:
            ConflictError: it is not what it was when `new` was decided on.
            TooLargeError: it is more than the API server keeps; it is not sent again as it is.
        """
        view = self.trial_view(key, old)
        # The version alone does not tell: a watch may have shown a newer one during this pass.
        if view and view.record != replace(old, evidence=Evidence()):
            raise ConflictError(409, f"trial {old.name} has changed since it was read")
        return await self._trial_status(key, view, record.status(new))

    async def request(self, key: Key, name: str, phase: str, why: Waiting) -> bool:
        """Write what is said about a trial of the user's that has no number yet."""
        said = {"phase": phase, "reason": why.reason, "message": why.message[:MAX_MESSAGE]}
        return await self._trial_status(key, self.mirror.family(key).trials.get(name), said)

    async def _trial_status(self, key: Key, view: TrialView | None, status: Object) -> bool:
        if view is None:
            return True
        before = view.status
        patch = merge_patch(before, with_unknown(TrialStatus, before, status))
        if not patch:
            return False
        memory = self.memories[key]
        if not memory.fits(view.name, view.version):
            raise TooLargeError(413, memory.too_large[view.name].message)
        try:
            with self.in_doubt(key):
                written = await self.cluster.patch_trial_status(
                    key.namespace, view.name, patch, view.version
                )
        except NotFoundError:  # deleted by hand: its Jobs follow it
            self.mirror.deleted(key, view)
            return True
        except TooLargeError as error:
            log.warning("trial too large", extra={"trial": view.name, "error": error.message})
            memory.too_large[view.name] = TooLarge(view.version, error.message)
            raise
        self.mirror.absorb(Kind.TRIAL, written)
        self._check_kept(key, Kind.TRIAL, patch, written)
        return True

    async def study(self, key: Key, seen: Study | None = None) -> float | None:
        """Patch the study's status if it differs.

        Args:
            seen: the study as our view shows it now, if that has just been looked at.

        Returns:
            Seconds until it may be written, if it is too early now; None if it is as it should be.
        """
        memory, family = self.memories[key], self.mirror.family(key)
        before = (family.study or {}).get("status") or {}
        early = memory.status_at + self.settings.status_interval_s - self.clock.monotonic()
        # What it would say is work: not before it may be said, but for a study that may end.
        study = seen or (self.observe(key) if family.study else None)
        if study is None or study.deleting or family.study is None:
            return None
        if self.lacks_trials(key, study):  # another operator may have written it in the meantime
            return 0.0
        if early > 0 and before.get("phase") == phase(study, ending(study, self.clock.now())):
            return early
        after = summarise(study, self.clock.now(), self.stamp(), names.selector(study.name))
        patch = merge_patch(before, with_unknown(StudyStatus, before, after))
        if not patch:
            return None
        memory.status_at = self.clock.monotonic()
        try:
            written = await self.cluster.patch_study_status(
                study.namespace, study.name, patch, family.study["metadata"]["resourceVersion"]
            )
        except (ConflictError, NotFoundError):
            memory.doubted = True
            return 0.0
        self.mirror.absorb(Kind.STUDY, written)
        self._check_kept(key, Kind.STUDY, patch, written)
        self._notify_transition(key, before, after)
        self._notify_degraded(key, before, after)
        return None

    def _check_kept(self, key: Key, kind: Kind, patch: Object, written: Object) -> None:
        """Else the next pass would write it again at once, and so on.

        Raises:
            OutdatedError: the definition is older than it was found to be.
        """
        unkept = self.memories[key].unkept
        unkept.pop(kind, None)
        if lost := pruned(patch, written.get("status") or {}, "status"):
            unkept[kind] = (
                f"the API server did not keep {', '.join(lost[:3])} of a {kind.value}; apply the"
                " definitions of the operator's release"
            )
            raise OutdatedError(unkept[kind])

    def notify(self, key: Key, reason: str, message: str, *, warning: bool = False) -> None:
        """Show an Event with the study."""
        if study := self.mirror.family(key).study:
            self.cluster.notify(Notice(study, reason, message, warning))

    def _notify_degraded(self, key: Key, before: Object, after: Object) -> None:
        """What keeps the operator from its work; what the optimizer lacks comes and goes."""
        old, new = _degraded(before), _degraded(after)
        if new.get("reason") in set(Obstacle) and new["reason"] != old.get("reason"):
            self.notify(key, new["reason"], new["message"], warning=True)

    def _notify_transition(self, key: Key, before: Object, after: Object) -> None:
        if after["phase"] in (before.get("phase"), "Pending"):
            return
        wanted = after["phase"] if after["phase"] in ("Completed", "Failed") else "Running"
        condition = next((c for c in after["conditions"] if c["type"] == wanted), None)
        message = condition["message"] if condition else ""
        log.info("study phase", extra={"study": key.name, "phase": after["phase"]})
        self.notify(key, after["phase"], message, warning=after["phase"] == "Failed")


def _degraded(status: Object) -> Object:
    conditions = status.get("conditions") or ()
    return next((c for c in conditions if c["type"] == "Degraded"), {})
