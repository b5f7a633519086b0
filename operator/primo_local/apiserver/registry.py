"""Which resources are served, and what each does differently from the others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from primo_local.apiserver import metadata
from primo_local.apiserver.errors import Cause, group_resource, no_such_path
from primo_local.apiserver.models import shared_models
from primo_local.apiserver.objects import Json
from primo_local.apiserver.schema import Shape
from primo_local.apiserver.tables import AGE_ONLY, Columns

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


class Strategy:
    """How one kind is defaulted, validated and shown; this base is the plainest kind.

    Hooks take and give whole objects and change nothing in place. `defaulted` is applied to
    creates and updates alike and must be idempotent.
    """

    model: str = ""  # the client's model that describes the kind; "" accepts any fields
    counts_generation: bool = False
    unconditional_update: bool = True  # whether a PUT may come without resourceVersion
    strategic: bool = True  # whether strategic merge patches are taken
    decodes_strictly: bool = True  # a wrong type is 400, as for Go structs, not a 422 cause
    protected: tuple[str, ...] = ()  # fields that only a subresource changes
    status_on_create: bool = False  # whether a new object may bring its status along
    returns_deleted: bool = False  # DELETE answers with the object, not with a Status
    default_propagation: str | None = None
    selectable: tuple[str, ...] = ()
    columns: Columns = AGE_ONLY

    def schema(self) -> Json:
        return shared_models().schema(self.model) if self.model else {}

    def definitions(self) -> Mapping[str, Json]:
        return shared_models().definitions

    @cached_property
    def shape(self) -> Shape:
        """Its schema, as it is walked."""
        return Shape(self.schema(), self.definitions())

    def name_problem(self, name: str) -> str | None:
        return metadata.subdomain(name)

    def defaulted(self, obj: Json) -> Json:
        return obj

    def prepared_create(self, obj: Json) -> Json:
        """Fields that only the server gives a new object, its first status for example."""
        return obj

    def prepared_update(self, new: Json, old: Json) -> Json:  # noqa: ARG002 the hook's signature
        return new

    def validate(self, obj: Json) -> Sequence[Cause]:  # noqa: ARG002
        return ()

    def validate_rules(self, obj: Json, old: Json | None) -> Sequence[Cause]:  # noqa: ARG002
        """Rules that are only checked where types and fields are right."""
        return ()

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:  # noqa: ARG002
        return ()

    def create_warnings(self, obj: Json) -> Sequence[str]:  # noqa: ARG002
        return ()

    def delete_warnings(self, propagation: str | None) -> Sequence[str]:  # noqa: ARG002
        return ()

    def grace_period_s(self, obj: Json, asked: int | None) -> int:  # noqa: ARG002
        """How long the object stays after a DELETE for whoever runs it; 0 removes it at once."""
        return 0

    def deleting(self, obj: Json) -> Json:
        """The object as it is marked for deletion while something still holds it."""
        return obj

    def held(self, obj: Json) -> bool:  # noqa: ARG002
        """Whether something beside finalizers keeps a deleted object."""
        return False

    def to_storage(self, obj: Json) -> Json:
        """This resource's objects in the form they are stored in."""
        return obj

    def from_storage(self, obj: Json) -> Json:
        return obj


@dataclass(frozen=True, slots=True)
class Subresource:
    """A path below an object; kind, group and version are the parent's where left empty."""

    name: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    kind: str = ""
    group: str | None = None
    version: str = ""


STATUS = Subresource("status")
SCALE = Subresource("scale", kind="Scale", group="autoscaling", version="v1")


@dataclass(frozen=True, slots=True)
class Resource:
    """A served resource, as discovery tells of it.

    Attributes:
        shelf: where its objects are stored; versions of one resource share a shelf.
    """

    group: str
    version: str
    plural: str
    kind: str
    strategy: Strategy
    namespaced: bool = True
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    shelf: str = ""
    custom: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "singular", self.singular or self.kind.lower())
        object.__setattr__(self, "list_kind", self.list_kind or f"{self.kind}List")
        object.__setattr__(self, "shelf", self.shelf or group_resource(self))

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def has_status(self) -> bool:
        return self.subresource("status") is not None

    @property
    def selectable(self) -> tuple[str, ...]:
        own = ("metadata.name", "metadata.namespace") if self.namespaced else ("metadata.name",)
        return own + self.strategy.selectable

    def subresource(self, name: str) -> Subresource | None:
        for each in self.subresources:
            if each.name == name:
                return each
        return None


@dataclass(slots=True)
class Registry:
    """The served resources; `generation` moves with each change, for caches of documents."""

    generation: int = 0
    _resources: dict[tuple[str, str, str], Resource] = field(default_factory=dict)

    def add(self, resources: Iterable[Resource]) -> None:
        for each in resources:
            self._resources[each.group, each.version, each.plural] = each
        self.generation += 1

    def remove(self, group: str, plural: str) -> None:
        """Take all versions of a resource away."""
        for found in [k for k in self._resources if (k[0], k[2]) == (group, plural)]:
            del self._resources[found]
        self.generation += 1

    def get(self, group: str, version: str, plural: str) -> Resource:
        """Raises a 404 for what is not served."""
        found = self._resources.get((group, version, plural))
        if found is None:
            raise no_such_path()
        return found

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        for each in self._resources.values():
            if each.kind == kind and each.api_version == api_version:
                return each
        return None

    def of_shelf(self, shelf: str) -> Resource | None:
        """A resource stored on a shelf; the first that was added, if versions share it."""
        return next((each for each in self._resources.values() if each.shelf == shelf), None)

    def stored(self) -> list[Resource]:
        """One resource for each shelf that objects can be on."""
        found = {
            each.shelf: each for each in reversed(self._resources.values()) if "list" in each.verbs
        }
        return list(found.values())

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Resources by group and version, in the order in which they were added."""
        groups: dict[str, dict[str, list[Resource]]] = {}
        for each in self._resources.values():
            groups.setdefault(each.group, {}).setdefault(each.version, []).append(each)
        return groups
