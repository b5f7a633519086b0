"""Reading and writing objects: what every kind has in common, from metadata to finalizers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from primo_local.apiserver import metadata
from primo_local.apiserver.clock import Clock, timestamp
from primo_local.apiserver.errors import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    invalid_value,
    not_found,
    required,
    stale,
)
from primo_local.apiserver.objects import Json, Key, dig, is_deleting
from primo_local.apiserver.registry import Registry, Resource
from primo_local.apiserver.schema import walk
from primo_local.apiserver.store import Record, Store

_GENERATED_NAME_TRIES = 8


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a write is to be done.

    Attributes:
        field_validation: Strict, Warn or Ignore: what becomes of unknown fields.
        patch: the text of the patch this write comes from, "" for none; only for error texts.
        warnings: filled by the write with what the client should be told.
    """

    dry_run: bool = False
    field_validation: str = "Warn"
    patch: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Api:
    """The objects and the rules for changing them; everything above is HTTP."""

    store: Store
    registry: Registry
    clock: Clock

    def now(self) -> str:
        return timestamp(self.clock())

    def get(self, resource: Resource, key: Key) -> Record:
        """Raises a 404."""
        record = self.store.get(resource.shelf, key)
        if record is None:
            raise not_found(resource, key.name)
        return record

    def create(
        self, resource: Resource, namespace: str, obj: Json, options: WriteOptions
    ) -> Record:
        self._check_kind(resource, obj)
        fields = self._new_metadata(resource, namespace, obj.get("metadata") or {})
        name = fields.get("name", "")
        self._check_namespace(resource, namespace, name)
        obj = {**obj, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": fields}
        if resource.has_status and not resource.strategy.status_on_create:
            obj.pop("status", None)
        obj = resource.strategy.to_storage(self._decoded(resource, name, obj, options))
        if not name:  # the kinds' own hooks rely on it
            cause = required("metadata.name", "name or generateName is required")
            raise invalid(resource, "", [cause])
        obj = resource.strategy.prepared_create(resource.strategy.defaulted(obj))
        self._validated(resource, obj, None)
        options.warnings.extend(resource.strategy.create_warnings(obj))
        key = Key(namespace, obj["metadata"]["name"])
        if self.store.get(resource.shelf, key):
            raise already_exists(resource, key.name)
        if options.dry_run:
            return Record(obj, 0)
        return self.store.put(resource.shelf, key, obj)

    def update(
        self,
        resource: Resource,
        key: Key,
        change: Callable[[Json], Json],
        options: WriteOptions,
        subresource: str = "",
    ) -> Record:
        """Replace an object by what `change` makes of it, if the rules let it pass.

        A resourceVersion or uid in the result is a precondition. What equals the stored object
        is not written and keeps its resourceVersion.
        """
        before = self.get(resource, key)
        old = resource.strategy.from_storage(before.obj)
        proposed = change(old)
        self._check_kind(resource, proposed)
        given = proposed.get("metadata") or {}
        self._check_preconditions(resource, key, given, old["metadata"])
        new = _isolated(resource, proposed, old, subresource)
        new["apiVersion"], new["kind"] = resource.api_version, resource.kind
        # Most updates are of the status: what they leave alone has been checked before.
        settled = [name for name, part in new.items() if part is old.get(name)]
        new = self._decoded(resource, key.name, new, options, settled)
        new, old = resource.strategy.to_storage(new), before.obj
        if subresource == "status":  # the rest has been through it before
            new = resource.strategy.prepared_update(new, old)
            self._validated_rules(resource, new, old, [])
        else:
            new = self._prepared(resource, new, old)
        return self._committed(resource, key, before, new, options)

    def _prepared(self, resource: Resource, new: Json, old: Json) -> Json:
        strategy = resource.strategy
        new = strategy.prepared_update(strategy.defaulted(new), old)
        new = _with_generation(resource, new, old)
        causes = metadata.validate_finalizers_update(new, old)
        causes += strategy.validate_update(new, old)
        self._validated(resource, new, old, causes)
        return new

    def _committed(
        self, resource: Resource, key: Key, before: Record, new: Json, options: WriteOptions
    ) -> Record:
        if new == before.obj:
            return before
        if options.dry_run:
            return Record(new, before.revision)
        if is_released(resource, new):
            return self.store.remove(resource.shelf, key, new)
        return self.store.put(resource.shelf, key, new)

    def _check_kind(self, resource: Resource, obj: Json) -> None:
        if not isinstance(obj.get("metadata", {}), dict):
            raise bad_request("metadata: must be an object")
        given = (obj.get("apiVersion"), obj.get("kind"))
        expected = (resource.api_version, resource.kind)
        if any(a is not None and a != b for a, b in zip(given, expected, strict=True)):
            raise bad_request(
                f"the API version in the data ({given[0]}, kind {given[1]}) does not match the "
                f"expected API version ({expected[0]}, kind {expected[1]})"
            )

    def _new_metadata(self, resource: Resource, namespace: str, given: Json) -> Json:
        if given.get("namespace") not in (None, "", namespace):
            raise bad_request(
                f"the namespace of the provided object ({given['namespace']}) does not match the "
                f"namespace sent on the request ({namespace})"
            )
        if given.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        generated = ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace")
        fields = {name: value for name, value in given.items() if name not in generated}
        fields["uid"] = metadata.new_uid()
        fields["creationTimestamp"] = self.now()
        if namespace:
            fields["namespace"] = namespace
        if resource.strategy.counts_generation:
            fields["generation"] = 1
        if not fields.get("name") and fields.get("generateName"):
            fields["name"] = self._free_name(resource, namespace, str(fields["generateName"]))
        return metadata.tidy_metadata(fields)

    def _free_name(self, resource: Resource, namespace: str, base: str) -> str:
        for _ in range(_GENERATED_NAME_TRIES):
            name = metadata.generated_name(base)
            if self.store.get(resource.shelf, Key(namespace, name)) is None:
                break
        return name

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        namespaces = self.registry.get("", "v1", "namespaces")
        found = self.get(namespaces, Key("", namespace))
        if is_deleting(found.obj):
            why = (
                f"unable to create new content in namespace {namespace} "
                "because it is being terminated"
            )
            cause = Cause("metadata.namespace", "NamespaceTerminating", why)
            raise forbidden(resource, name, why, [cause])

    def _check_preconditions(self, resource: Resource, key: Key, given: Json, stored: Json) -> None:
        version = given.get("resourceVersion")
        if version and str(version) != stored["resourceVersion"]:
            raise stale(resource, key.name)
        if given.get("uid") and given["uid"] != stored["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {given['uid']}, "
                f"UID in object meta: {stored['uid']}"
            )
            raise conflict(resource, key.name, why)
        if given.get("name", key.name) != key.name:
            raise bad_request(
                f"the name of the object ({given['name']}) does not match the name on the URL "
                f"({key.name})"
            )

    def _decoded(
        self,
        resource: Resource,
        name: str,
        obj: Json,
        options: WriteOptions,
        settled: Sequence[str] = (),
    ) -> Json:
        """Defaulted and pruned by the schema; raises for wrong types and unknown fields."""
        strategy = resource.strategy
        found = walk(strategy.shape, obj, settled=settled)
        if found.unknown:
            self._unknown_fields(resource, found.unknown, options)
        if found.causes:
            raise _undecodable(resource, name, found.causes)
        return found.value  # type: ignore[no-any-return] # an object stays an object

    def _unknown_fields(
        self, resource: Resource, paths: Sequence[str], options: WriteOptions
    ) -> None:
        texts = [f'unknown field "{path}"' for path in sorted(paths)]
        if options.field_validation == "Warn":
            options.warnings.extend(texts)
        if options.field_validation != "Strict":
            return
        problem = f"strict decoding error: {', '.join(texts)}"
        if options.patch:
            raise invalid(resource, "", [invalid_value("patch", options.patch, problem)])
        raise bad_request(_cannot_handle(resource, problem))

    def _validated(
        self, resource: Resource, obj: Json, old: Json | None, causes: Sequence[Cause] = ()
    ) -> None:
        strategy = resource.strategy
        found = [*causes, *metadata.validate_metadata(obj["metadata"], strategy.name_problem)]
        found += strategy.validate(obj)
        self._validated_rules(resource, obj, old, found)

    def _validated_rules(
        self, resource: Resource, obj: Json, old: Json | None, causes: Sequence[Cause]
    ) -> None:
        """Rules are only looked at where nothing else is wrong."""
        if found := causes or resource.strategy.validate_rules(obj, old):
            raise invalid(resource, obj["metadata"].get("name", ""), found)


def is_released(resource: Resource, obj: Json) -> bool:
    """Whether nothing holds a deleted object any more."""
    fields = obj["metadata"]
    held = fields.get("finalizers") or fields.get("deletionGracePeriodSeconds")
    return is_deleting(obj) and not held and not resource.strategy.held(obj)


def _isolated(resource: Resource, new: Json, old: Json, subresource: str) -> Json:
    """Only the part of a change that its path may touch: status there, the rest here."""
    if subresource == "status":
        kept = {name: value for name, value in old.items() if name != "status"}
        return {**kept, "status": new["status"]} if "status" in new else kept
    result = {**new, "metadata": metadata.kept_metadata(new.get("metadata") or {}, old["metadata"])}
    fixed = ("status",) if resource.has_status else ()
    for name in fixed if subresource else fixed + resource.strategy.protected:
        result.pop(name, None)
        if name in old:
            result[name] = old[name]
    return result


def _with_generation(resource: Resource, new: Json, old: Json) -> Json:
    if "generation" not in old["metadata"]:
        return new
    ignored = ("metadata", "status") if resource.has_status else ("metadata",)
    names = (set(new) | set(old)) - set(ignored)
    if all(new.get(name) == old.get(name) for name in names):
        return new
    generation = old["metadata"]["generation"] + 1
    return {**new, "metadata": {**new["metadata"], "generation": generation}}


def _undecodable(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """Wrong types in a Go struct cannot be read at all; in a custom resource they are invalid."""
    wrong = [cause for cause in causes if cause.reason == "FieldValueTypeInvalid"]
    if wrong and resource.strategy.decodes_strictly:
        return bad_request(_cannot_handle(resource, "; ".join(str(cause) for cause in wrong)))
    return invalid(resource, name, causes)


def _cannot_handle(resource: Resource, problem: str) -> str:
    return (
        f'{resource.kind} in version "{resource.version}" cannot be handled as a '
        f"{resource.kind}: {problem}"
    )


def owner_references(obj: Json) -> list[Json]:
    return dig(obj, "metadata", "ownerReferences") or []
