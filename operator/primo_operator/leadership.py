"""One operator works at a time: the one that holds a Lease (coordination.k8s.io/v1).

The rules are those of client-go's leader election. A Lease says who holds it and for how long;
whoever sees it unchanged for that long, by a clock of its own, may take it. Times in it are for
people: clocks of two machines are never compared. The holder renews it, and stops some time before
others may take it. Between the two lies what a slow clock, or a process that was paused, may use
up; beyond that, names and resource versions keep two operators from harm (docs/decisions/0001).
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

from primo_operator.cluster import AlreadyExistsError, ClusterError, ConflictError, Object
from primo_operator.ports import Clock
from primo_operator.settings import BadSettingError, Settings
from primo_optimizer import PrimoError

log = logging.getLogger(__name__)

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class LeadershipLostError(PrimoError):
    """The Lease could not be renewed in time, or another holds it: all work must stop."""


class Leases(Protocol):
    """The calls that an election needs. All raise ClusterError."""

    async def get_lease(self, namespace: str, name: str) -> Object | None: ...

    async def create_lease(self, lease: Object) -> Object: ...

    async def update_lease(self, lease: Object) -> Object:
        """Replace it; ConflictError if it has changed since it was read."""
        ...


@dataclass(frozen=True, slots=True)
class Candidacy:
    """Who stands for which Lease.

    Attributes:
        identity: unlike that of any other process that runs. A container that is started again in
            its pod may have the same one: its predecessor is gone.
        duration_s: others take a Lease that they have not seen renewed for so long.
        renew_s: a holder that has not renewed it for so long stops.
        retry_s: between two attempts to take or renew it.
    """

    namespace: str
    name: str
    identity: str
    duration_s: int = 15
    renew_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration_s > self.renew_s > self.retry_s > 0:
            raise BadSettingError(
                "PRIMO_LEASE_DURATION_S, PRIMO_LEASE_RENEW_S, PRIMO_LEASE_RETRY_S: expected each "
                f"above the next, and the last above 0, not {self.duration_s}, {self.renew_s:g}, "
                f"{self.retry_s:g}"
            )


def candidacy(
    settings: Settings, watched: Sequence[str], own_namespace: Path = OWN_NAMESPACE
) -> Candidacy | None:
    """What the settings say; None if there is no election.

    The Lease lies in the pod's own namespace; outside a pod in the first one that is watched.
    """
    if not settings.lease_name:
        return None
    own = own_namespace.read_text().strip() if own_namespace.exists() else ""
    return Candidacy(
        settings.lease_namespace or own or next(iter(watched), "default"),
        settings.lease_name,
        settings.lease_identity or f"{socket.gethostname()}_{os.getpid()}",
        settings.lease_duration_s,
        settings.lease_renew_s,
        settings.lease_retry_s,
    )


class Elector:
    """One candidate's view of the Lease.

    All waiting is by the event loop's clock, which must run as fast as `clock.monotonic`.
    """

    def __init__(self, candidacy: Candidacy, leases: Leases, clock: Clock) -> None:
        self._ours = candidacy
        self._leases = leases
        self._clock = clock
        self._seen = ("", 0.0)
        self._held: Object | None = None
        self._stop_at = float("-inf")
        self._told = ""

    @property
    def leads(self) -> bool:
        """Whether we may work now. Needs no word from anyone: it ends by our own clock."""
        return self._clock.monotonic() < self._stop_at

    async def attempt(self) -> str:
        """Take or renew the Lease if we may: the identity of its holder, ours if we now lead.

        Raises:
            ClusterError: whether we hold it is not known; by `leads` we may still work.
        """
        began = self._clock.monotonic()
        # A holder knows what it wrote last: one call renews it.
        lease, self._held = self._held, None
        if lease is None:
            lease = await self._leases.get_lease(self._ours.namespace, self._ours.name)
        if lease is None:
            held = await self._leases.create_lease(self._claim({}))
        else:
            holder = self._holder(lease)
            if holder not in ("", self._ours.identity) and not self._has_expired(lease):
                self._stop_at = float("-inf")
                return holder
            held = await self._leases.update_lease(self._claim(lease))
        # From when we asked: nobody can have seen the renewal earlier.
        self._held, self._stop_at = held, began + self._ours.renew_s
        return self._ours.identity

    async def acquire(self) -> None:
        """Wait until we lead."""
        holder = await self._try()
        while not self.leads:
            if holder:
                self._tell(logging.INFO, f"waiting: {holder} leads")
            await asyncio.sleep(self._ours.retry_s)
            holder = await self._try()
        self._tell(logging.INFO, f"leading as {self._ours.identity}")

    async def hold(self) -> NoReturn:
        """Renew the Lease for as long as that works.

        Raises:
            LeadershipLostError: at the latest when `leads` ends.
        """
        while True:
            try:
                async with asyncio.timeout(self._stop_at - self._clock.monotonic()):
                    await asyncio.sleep(self._ours.retry_s)
                    holder = await self._try()
            except TimeoutError:
                self._stop_at = float("-inf")
                raise LeadershipLostError(
                    f"Lease {self._ours.name}: not renewed within {self._ours.renew_s:g} s"
                ) from None
            if holder not in ("", self._ours.identity):
                raise LeadershipLostError(f"Lease {self._ours.name}: {holder} holds it")

    async def release(self) -> None:
        """Give the Lease up, so that nobody has to wait for its end. Only when all work is over."""
        if not self.leads:
            return
        self._stop_at = float("-inf")
        try:
            async with asyncio.timeout(self._ours.retry_s):
                lease, self._held = self._held, None
                if lease is None:
                    lease = await self._leases.get_lease(self._ours.namespace, self._ours.name)
                if lease is not None and self._holder(lease) == self._ours.identity:
                    await self._leases.update_lease(self._given_up(lease))
        except (ClusterError, TimeoutError) as error:
            log.warning("the lease was not given up: %s", str(error) or type(error).__name__)

    async def _try(self) -> str:
        """As `attempt`; "" if that failed."""
        try:
            return await self.attempt()
        except (ConflictError, AlreadyExistsError):
            return ""  # somebody else was faster: the next attempt says who
        except ClusterError as error:
            self._tell(logging.WARNING, f"the lease could not be read or written: {error}")
            return ""

    def _has_expired(self, lease: Object) -> bool:
        """Whether it has not changed for as long as its holder said."""
        version, now = lease["metadata"]["resourceVersion"], self._clock.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
        duration_s = (lease.get("spec") or {}).get("leaseDurationSeconds") or self._ours.duration_s
        return bool(now >= self._seen[1] + duration_s)

    @staticmethod
    def _holder(lease: Object) -> str:
        return (lease.get("spec") or {}).get("holderIdentity") or ""

    def _claim(self, lease: Object) -> Object:
        """The Lease as ours; whatever else it holds stays."""
        before, stamp = lease.get("spec") or {}, self._stamp()
        spec = {
            **before,
            "holderIdentity": self._ours.identity,
            "leaseDurationSeconds": self._ours.duration_s,
            "renewTime": stamp,
        }
        if self._holder(lease) != self._ours.identity:
            transitions = before.get("leaseTransitions")
            spec["acquireTime"] = stamp
            spec["leaseTransitions"] = 0 if transitions is None else transitions + 1
        own = {"name": self._ours.name, "namespace": self._ours.namespace}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": lease.get("metadata") or own,
            "spec": spec,
        }

    def _given_up(self, lease: Object) -> Object:
        spec = {**lease["spec"], "leaseDurationSeconds": 1, "renewTime": self._stamp()}
        del spec["holderIdentity"]
        return {**lease, "spec": spec}

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _tell(self, level: int, message: str) -> None:
        """Say something once, not at each attempt."""
        if message != self._told:
            self._told = message
            log.log(level, message, extra={"lease": self._ours.name})
