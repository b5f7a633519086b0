"""The few cluster calls we need, as a Protocol, and the errors they raise.

Objects are plain JSON data. `kubernetes_cluster.py` speaks to an API server; the simulation in the
tests is the other implementation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from primo_optimizer import PrimoError

Object = dict[str, Any]


class ClusterError(PrimoError):
    """Try again later. Whether the call has had an effect is not known."""


class OutdatedError(ClusterError):
    """What we write would not be kept: the definitions are older than the operator."""


class RefusedError(ClusterError):
    """The API server refused the call; it has had no effect.

    Attributes:
        status: the HTTP status: 400 and 422 will not get better, 403 and 429 may.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"{status}: {message}")


class ConflictError(RefusedError):
    """The object has changed since it was read."""


class AlreadyExistsError(RefusedError):
    """There is an object of this name."""


class NotFoundError(RefusedError):
    """There is no such object."""


class TooLargeError(RefusedError):
    """The object is more than the API server takes, or its store."""


class ForbiddenError(RefusedError):
    """The operator lacks a right, whatever it sends: a role has to be changed, or a token."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list and the version of the whole that it shows."""

    items: Sequence[Object]
    version: int


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to be shown with an object.

    Attributes:
        warning: something may have to be done about it.
    """

    about: Mapping[str, Any]
    reason: str
    message: str
    warning: bool = False


class Cluster(Protocol):
    """What a pass may ask of a cluster. All calls raise ClusterError.

    Lists and gets are answered by the store, not from a cache of the server's.
    """

    async def get_study(self, namespace: str, name: str) -> Object | None: ...

    async def list_trials(self, namespace: str, study: str) -> Listing:
        """Those that wear the study's label, and those of users that wear none yet."""
        ...

    async def list_jobs(self, namespace: str, study: str) -> Listing: ...

    async def list_pods(self, namespace: str, study: str) -> Listing: ...

    async def get_trial(self, namespace: str, name: str) -> Object | None: ...

    async def get_job(self, namespace: str, name: str) -> Object | None: ...

    async def create_trial(self, trial: Object) -> Object: ...

    async def create_job(self, job: Object, *, dry_run: bool = False) -> Object: ...

    async def dry_run_pod(self, pod: Object) -> None: ...

    async def patch_trial(self, namespace: str, name: str, patch: Object, version: str) -> Object:
        """A merge patch of all but the status; ConflictError if the version is not current."""
        ...

    async def patch_trial_status(
        self, namespace: str, name: str, patch: Object, version: str
    ) -> Object:
        """A merge patch of the status, refused with ConflictError if the version is not current."""
        ...

    async def patch_study_status(
        self, namespace: str, name: str, patch: Object, version: str
    ) -> Object:
        """A merge patch of the status, refused with ConflictError if the version is not current."""
        ...

    async def patch_job(self, namespace: str, name: str, patch: Object) -> Object:
        """A merge patch, whatever the version."""
        ...

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete it and its pods, if it still is the one with this UID.

        That it is not there is no error; ConflictError if another one has its name.
        """
        ...

    async def failed_creates(self, namespace: str) -> Mapping[str, str]:
        """Why pods of Jobs were refused of late, by the Job's name: only their Events tell.

        The API server goes through all Events of the namespace for it.
        """
        ...

    def notify(self, notice: Notice) -> None:
        """Show an Event sometime; it may be dropped, and never delays or fails a pass."""
        ...


def pruned(patch: Object, obj: Object, path: str) -> list[str]:
    """What a merge patch has set and an answer lacks, below a path."""
    lost: list[str] = []
    for name, value in patch.items():
        here = f"{path}.{name}"
        if value is not None and name not in obj:
            lost.append(here)
        elif isinstance(value, Mapping) and isinstance(obj.get(name), Mapping):
            lost += pruned(dict(value), obj[name], here)
        elif isinstance(value, list) and isinstance(obj.get(name), list):
            for given, kept in zip(value, obj[name], strict=False):
                if isinstance(given, Mapping) and isinstance(kept, Mapping):
                    lost += pruned(dict(given), dict(kept), here)
    return lost


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """What turns one object into the other by JSON merge patch (RFC 7386): removed keys are null.

    Lists are replaced whole. Empty if the two are equal.
    """
    patch: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if key in old and before == value:
            continue
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            patch[key] = merge_patch(before, value)
        else:
            patch[key] = value
    return patch
