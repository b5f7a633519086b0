"""The CustomResourceDefinitions, generated from the pydantic models of `primo_study`.

python -m primo_operator.crds              prints them
python -m primo_operator.crds --write DIR  writes DIR/primostudies.yaml, DIR/primotrials.yaml
python -m primo_operator.crds --check DIR  exits with 1 and a diff if these are not up to date
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from primo_operator import generated, names
from primo_study.objects import StudyStatus, TrialSpec, TrialStatus
from primo_study.spec import StudySpec

Schema = dict[str, Any]

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> Schema:
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


@dataclass(frozen=True, slots=True)
class Kind:
    """One of our kinds: its models, and what a schema of spec and status does not hold."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Schema, ...]
    selectable: tuple[str, ...]
    rules: tuple[Schema, ...] = ()
    scale: Schema | None = None

    @property
    def singular(self) -> str:
        return self.kind.lower()


STUDY = Kind(
    kind=names.STUDY_KIND,
    plural=names.STUDIES,
    short_names=("study", "studies"),
    description="One optimization: what is to be optimized, what may vary, what is believed about"
    " it, what may be spent, and the Job that a trial is made from.",
    spec=StudySpec,
    status=StudyStatus,
    columns=(
        _column("Phase", ".status.phase"),
        _column("Trials", ".status.progress"),
        _column("Running", ".status.running", "integer"),
        _column("Failed", ".status.trials.failed", "integer"),
        _column("Front", ".status.frontSize", "integer"),
        _column("Hypervolume", ".status.hypervolumeText"),
        _column("Stage", ".status.optimizer.stage", wide=True),
        _column("Reason", '.status.conditions[?(@.type=="Running")].reason', wide=True),
        _AGE,
    ),
    selectable=(".status.phase",),
    rules=(
        {
            # Trials and Jobs append their numbers to it, and a Job's name has 63 characters.
            "rule": "size(self.metadata.name) <= 40"
            " && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "message": "metadata.name must be a DNS label of at most 40 characters",
        },
        {
            "rule": "!has(self.spec.warmStart)"
            " || self.spec.warmStart.all(w, w.study != self.metadata.name)",
            "message": "a study cannot be warm started from itself",
        },
    ),
    scale={
        "specReplicasPath": ".spec.parallelism",
        "statusReplicasPath": ".status.running",
        "labelSelectorPath": ".status.selector",
    },
)
TRIAL = Kind(
    kind=names.TRIAL_KIND,
    plural=names.TRIALS,
    short_names=("trial", "trials"),
    description="One configuration of a study on its way through the rungs: why it was proposed,"
    " and what was observed. Written by the operator; it outlives its Jobs. Create one by hand"
    " with spec.study and spec.parameters, and this configuration of yours is tried too. Annotate"
    " one with primo.dev/stop to stop it, with primo.dev/retry (any new word) to run a failed one"
    " again.",
    spec=TrialSpec,
    status=TrialStatus,
    columns=(
        _column("Study", ".spec.study"),
        _column("Phase", ".status.phase"),
        _column("Reason", ".status.reason", wide=True),
        _column("Fidelity", ".status.fidelity", "number"),
        _column("Objectives", ".status.summary"),
        _column("Parameters", ".spec.parameters", wide=True),
        _AGE,
    ),
    selectable=(".spec.study", ".spec.number", ".status.phase"),
)
KINDS = (STUDY, TRIAL)


def definition(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind, apiextensions.k8s.io/v1."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": ["primo"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}, **({"scale": kind.scale} if kind.scale else {})},
                    "selectableFields": [{"jsonPath": path} for path in kind.selectable],
                    "additionalPrinterColumns": list(kind.columns),
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _root(kind: Kind) -> Schema:
    root: Schema = {
        "description": kind.description,
        "type": "object",
        "properties": {
            "apiVersion": {"description": f"{names.API_VERSION}.", "type": "string"},
            "kind": {"description": f"{kind.kind}.", "type": "string"},
            "metadata": {"type": "object"},  # the API server allows nothing more, and describes it
            "spec": structural(kind.spec),
            "status": structural(kind.status),
        },
        "required": ["spec"],
    }
    if kind.rules:
        root["x-kubernetes-validations"] = list(kind.rules)
    return root


# --- from JSON Schema to the structural subset of OpenAPI v3.0 that the API server takes

# In the order in which they are written.
_KEYWORDS = (
    "description", "type", "format", "enum", "pattern",
    "minLength", "maxLength", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum",
    "minItems", "maxItems", "minProperties", "maxProperties",
    "items", "properties", "additionalProperties", "required",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
    "x-kubernetes-validations",
)  # fmt: skip
_RULE = ("rule", "message", "reason", "fieldPath")
# pydantic writes a bound under its own name where a validator runs before the type's.
_PYDANTIC_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}
# A default would be written into every object, and `kubectl apply` would call it a change.
_DROPPED = {"title", "default", "$defs"}


def structural(model: type[BaseModel]) -> Schema:
    """The schema of a model as a CustomResourceDefinition holds it.

    A part that its model cannot describe carries its schema ready-made as `x-primo-schema`.
    """
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    schema = _resolve(node, definitions)
    if "x-primo-schema" in schema:
        schema = {"description": schema.get("description"), **schema["x-primo-schema"]}
    for name, keyword in _PYDANTIC_BOUNDS.items():
        if name in schema:
            schema[keyword] = schema.pop(name)
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:  # OpenAPI v3.0: a switch beside the bound
            schema |= {bound: schema[exclusive], exclusive: True}
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    if "items" in schema:
        schema["items"] = _convert(schema["items"], definitions)
    if "properties" in schema:
        schema["properties"] = {
            name: _convert(value, definitions) for name, value in schema["properties"].items()
        }
    match schema.pop("additionalProperties", False):
        case True:
            schema["x-kubernetes-preserve-unknown-fields"] = True
        case False:
            pass  # what is not a property is pruned anyway, and refused under strict validation
        case values:
            schema["additionalProperties"] = _convert(values, definitions)
    if "x-kubernetes-validations" in schema:
        schema["x-kubernetes-validations"] = [
            {key: rule[key] for key in _RULE if key in rule}
            for rule in schema["x-kubernetes-validations"]
        ]
    unknown = schema.keys() - _DROPPED - set(_KEYWORDS)
    assert not unknown, f"not to be said in a structural schema: {sorted(unknown)}"
    return {keyword: schema[keyword] for keyword in _KEYWORDS if keyword in schema}


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """Inline a reference, and drop the null of an optional; what the field says itself holds."""
    schema = dict(node)
    if "$ref" in schema:
        name = schema.pop("$ref").removeprefix("#/$defs/")
        return _resolve({**definitions[name], **schema}, definitions)
    if "anyOf" in schema:
        (one,) = (kind for kind in schema.pop("anyOf") if kind != {"type": "null"})
        return _resolve({**one, **schema}, definitions)
    return schema


# --- files


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  PyYAML calls it so
        return True  # the same fragment twice is written twice


def render(kind: Kind) -> str:
    """The YAML of a kind's definition, equal for equal models."""
    text = yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=100)
    return f"# Generated by python -m primo_operator.crds from primo_study. Do not edit.\n{text}"


def files(folder: Path) -> dict[Path, str]:
    return {folder / f"{kind.plural}.yaml": render(kind) for kind in KINDS}


def main(arguments: Iterable[str] | None = None) -> int:
    return generated.run("primo_operator.crds", __doc__, files, arguments)


if __name__ == "__main__":
    sys.exit(main())
