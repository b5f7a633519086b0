"""Deleting: preconditions, grace periods, finalizers and what is to become of dependents."""

import datetime
from dataclasses import dataclass

from primo_local.apiserver.api import Api, is_released
from primo_local.apiserver.clock import timestamp
from primo_local.apiserver.errors import bad_request, conflict
from primo_local.apiserver.objects import Json, Key, is_deleting
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.store import Record

BACKGROUND, FOREGROUND, ORPHAN = "Background", "Foreground", "Orphan"
FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"
_POLICY_FINALIZERS = {FOREGROUND: FOREGROUND_FINALIZER, ORPHAN: ORPHAN_FINALIZER}


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What a DELETE asks for; None leaves the choice to the kind."""

    propagation: str | None = None
    grace_period_s: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


def parse_delete_options(body: Json, query: dict[str, str]) -> DeleteOptions:
    """The body wins over the query, as a real server has it."""
    preconditions = body.get("preconditions") or {}
    dry_run = body.get("dryRun") or ([query["dryRun"]] if query.get("dryRun") else [])
    if dry_run not in ([], ["All"]):
        raise bad_request(f"invalid dryRun {dry_run!r}: must be All")
    return DeleteOptions(
        propagation=_propagation(body, query),
        grace_period_s=_grace_period(body, query),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        dry_run=bool(dry_run),
    )


def _propagation(body: Json, query: dict[str, str]) -> str | None:
    policy = body.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = body.get("orphanDependents")
    if policy is None and orphan is not None:
        return ORPHAN if orphan else BACKGROUND
    if policy not in (None, BACKGROUND, FOREGROUND, ORPHAN):
        raise bad_request(
            f"invalid propagationPolicy {policy!r}: must be Background, Foreground or Orphan"
        )
    return policy


def _grace_period(body: Json, query: dict[str, str]) -> int | None:
    asked = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    if asked is None:
        return None
    try:
        return max(int(asked), 0)
    except (TypeError, ValueError) as error:
        raise bad_request(f"invalid gracePeriodSeconds {asked!r}: must be an integer") from error


def delete(api: Api, resource: Resource, key: Key, options: DeleteOptions) -> tuple[Record, bool]:
    """Delete an object, or mark it where something holds it.

    Returns:
        Its last state, and whether it is gone.
    """
    record = api.get(resource, key)
    _check_preconditions(resource, key, record, options)
    marked = _marked(api, resource, record.obj, options)
    gone = is_released(resource, marked)
    if options.dry_run:
        return record, gone
    if gone:
        return api.store.remove(resource.shelf, key, marked), True
    if marked == record.obj:
        return record, False
    return api.store.put(resource.shelf, key, marked), False


def _check_preconditions(
    resource: Resource, key: Key, record: Record, options: DeleteOptions
) -> None:
    stored = record.obj["metadata"]
    for word, asked, field in (
        ("UID", options.uid, "uid"),
        ("ResourceVersion", options.resource_version, "resourceVersion"),
    ):
        if asked and asked != stored[field]:
            why = (
                f"Precondition failed: {word} in precondition: {asked}, "
                f"{word} in object meta: {stored[field]}"
            )
            raise conflict(resource, key.name, why)


def _marked(api: Api, resource: Resource, obj: Json, options: DeleteOptions) -> Json:
    strategy = resource.strategy
    fields = dict(obj["metadata"])
    finalizers = _finalizers(resource, fields.get("finalizers") or [], options, is_deleting(obj))
    fields.pop("finalizers", None)
    if finalizers:
        fields["finalizers"] = finalizers
    grace = strategy.grace_period_s(obj, options.grace_period_s)
    if not is_deleting(obj):
        at = api.clock() + datetime.timedelta(seconds=grace)
        fields["deletionTimestamp"] = timestamp(at)
        fields["deletionGracePeriodSeconds"] = grace
        if "generation" in fields:
            fields["generation"] += 1
    elif grace < fields["deletionGracePeriodSeconds"]:
        # A second delete may shorten the wait, never lengthen it.
        at = api.clock() + datetime.timedelta(seconds=grace)
        fields["deletionTimestamp"] = timestamp(at)
        fields["deletionGracePeriodSeconds"] = grace
    return strategy.deleting({**obj, "metadata": fields})


def _finalizers(
    resource: Resource, present: list[str], options: DeleteOptions, deleting: bool
) -> list[str]:
    """Finalizers with the one for the propagation policy; no policy given keeps what is there."""
    policy = options.propagation
    if policy is None and not deleting and not set(present) & set(_POLICY_FINALIZERS.values()):
        policy = resource.strategy.default_propagation
    if policy is None:
        return present
    others = [each for each in present if each not in _POLICY_FINALIZERS.values()]
    return others + ([_POLICY_FINALIZERS[policy]] if policy in _POLICY_FINALIZERS else [])
