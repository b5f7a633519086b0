"""Namespaces: Active until deleted, then Terminating until everything in them is gone."""

from primo_local.apiserver import metadata
from primo_local.apiserver.objects import Json, dig, is_deleting
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import AGE, NAME, field_column

PROTECTED = ("default", "kube-system", "kube-public")
CONTENT_FINALIZER = "kubernetes"


class NamespaceStrategy(Strategy):
    """Content is held off by `spec.finalizers`, which only /finalize and we change."""

    model = "V1Namespace"
    protected = ("spec",)
    selectable = ("status.phase",)
    columns = (NAME, field_column("Status", "status", "phase"), AGE)

    def name_problem(self, name: str) -> str | None:
        return metadata.label(name)

    def defaulted(self, obj: Json) -> Json:
        fields = obj["metadata"]
        labels = {**fields.get("labels", {}), "kubernetes.io/metadata.name": fields["name"]}
        return {**obj, "metadata": {**fields, "labels": labels}}

    def prepared_create(self, obj: Json) -> Json:
        return {**obj, "spec": {"finalizers": [CONTENT_FINALIZER]}, "status": {"phase": "Active"}}

    def prepared_update(self, new: Json, old: Json) -> Json:
        phase = "Terminating" if is_deleting(old) else "Active"
        status = {**(new.get("status") or {}), "phase": phase}
        return {**new, "status": status}

    def deleting(self, obj: Json) -> Json:
        return {**obj, "status": {**obj.get("status", {}), "phase": "Terminating"}}

    def held(self, obj: Json) -> bool:
        return bool(dig(obj, "spec", "finalizers"))
