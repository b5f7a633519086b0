"""What a cluster would say of a manifest, without one.

The door is the API server of `primo_local`, in memory and with our definitions: what it refuses
never becomes an object. What it takes, the operator reads: by `parse`, by the rules of templates,
and by a dry-run of the trial's Job, as it does in a cluster.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from primo_local.apiserver.api import WriteOptions
from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.objects import Key
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.schema import Shape
from primo_local.apiserver.server import new_api
from primo_operator import crds, manifests, names
from primo_operator.manifest_files import path_parts
from primo_operator.settings import Settings
from primo_operator.templates import template_mistakes
from primo_optimizer import InvalidSpecError
from primo_study.requests import mistakes
from primo_study.spec import StudySpec, parse
from primo_study.study import Request, Study

Manifest = Mapping[str, Any]

_UNDECODABLE = re.compile(r".* cannot be handled as an? \w+: (.*)", re.DOTALL)
_UNKNOWN = re.compile(r'unknown field "(.*)"')
_SAMPLE = "study"
# So alike two names must be, from 0 to 1, for one to be a misspelling of the other.
SIMILAR = 0.75


class Says(StrEnum):
    """Who would say it, and as what."""

    REFUSED = "refused by the API server"
    INVALID_SPEC = "taken, then Failed/InvalidSpec"
    INVALID_TEMPLATE = "taken, then Failed/InvalidTemplate"
    INVALID_TRIAL = "taken, then Failed/InvalidTrial"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    Attributes:
        field: its path; "" for the manifest as a whole.
        message: value and expectation, in the words of who says it.
        more: what the operator's own rules say of fields below, often more exactly.
    """

    says: Says
    field: str
    message: str
    more: tuple[str, ...] = ()


class UnknownKindError(Exception):
    """The manifest is of a kind that only a cluster can check."""


class Checker:
    """Checks one manifest after another; makes its API server once."""

    def __init__(self) -> None:
        self._api = new_api()
        definitions = self._api.registry.get(
            "apiextensions.k8s.io", "v1", "customresourcedefinitions"
        )
        for kind in crds.KINDS:
            self._api.create(definitions, "", crds.definition(kind), WriteOptions())

    def check(self, manifest: Manifest) -> list[Finding]:
        """All that is wrong with it, in the order in which a cluster would come to it.

        Raises:
            UnknownKindError: its kind is neither ours nor Kubernetes' own.
        """
        given = [
            Finding(Says.REFUSED, field, "Required value")
            for field in ("apiVersion", "kind")
            if not isinstance(manifest.get(field), str)
        ]
        if given:
            return given
        resource = self._api.registry.of_kind(manifest["apiVersion"], manifest["kind"])
        if resource is None:
            return [_no_match(manifest)]
        found = list(self._refused(resource, manifest))
        spec = manifest.get("spec")
        if resource.kind == names.STUDY_KIND and isinstance(spec, Mapping):
            found = _merged(found, self._reported(spec, taken=not found))
        return found

    # --- the door

    def _refused(self, resource: Resource, manifest: Manifest) -> Iterator[Finding]:
        metadata = manifest.get("metadata")
        namespace = ""
        if resource.namespaced:
            named = metadata.get("namespace") if isinstance(metadata, Mapping) else None
            namespace = named if named and isinstance(named, str) else "default"
            self._make_namespace(namespace)
        sent = dict(manifest)
        if isinstance(metadata, Mapping):  # of an object that was exported from a cluster
            sent["metadata"] = {k: v for k, v in metadata.items() if k != "resourceVersion"}
        options = WriteOptions(dry_run=True)
        try:
            self._api.create(resource, namespace, sent, options)
            causes: Sequence[tuple[str, str]] = ()
        except ApiError as error:
            causes = _causes(error)
        # With strict validation, which kubectl asks for, a warning of this kind is a refusal.
        for warning in options.warnings:
            if match := _UNKNOWN.fullmatch(warning):
                meant = _meant(resource.strategy.shape, match[1])
                yield Finding(Says.REFUSED, match[1], warning + meant)
        for field, message in causes:
            yield Finding(Says.REFUSED, field, message)

    def _make_namespace(self, name: str) -> None:
        namespaces = self._api.registry.get("", "v1", "namespaces")
        if self._api.store.get(namespaces.shelf, Key("", name)) is None:
            self._api.store.put(namespaces.shelf, Key("", name), {"metadata": {"name": name}})

    # --- the operator

    def _reported(self, spec: Mapping[str, Any], taken: bool) -> list[Finding]:
        try:
            parsed = parse(spec)
            lines: Sequence[str] = template_mistakes(parsed)
        except InvalidSpecError as error:
            return [_finding(Says.INVALID_SPEC, line) for line in error.problems]
        if lines or not taken:
            return [_finding(Says.INVALID_TEMPLATE, line) for line in lines]
        return list(self._dry_run(parsed))

    def _dry_run(self, spec: StudySpec) -> Iterator[Finding]:
        """Of the Job of a run: it finds what our schema leaves to Kubernetes."""
        job = manifests.probe_job(_study(spec), Settings())
        jobs = self._api.registry.get("batch", "v1", "jobs")
        for found in self._refused(jobs, job):
            field = _in_template(found.field, job["spec"], spec.trial_template.spec)
            message = found.message.replace(found.field, field) if found.field else found.message
            yield Finding(Says.INVALID_TEMPLATE, field, message)


def check_trial(trial: Manifest, study: Manifest) -> list[Finding]:
    """What the operator says of a trial made by hand, of a study in which nothing is wrong."""
    spec = trial["spec"]
    request = Request(_SAMPLE, spec["parameters"], spec.get("fidelity"), number=spec.get("number"))
    found = mistakes(_study(parse(study["spec"])), request)
    return [_finding(Says.INVALID_TRIAL, line) for line in found]


def _study(spec: StudySpec) -> Study:
    return Study("default", _SAMPLE, "0" * 8, 1, 0.0, spec)


def _no_match(manifest: Manifest) -> Finding:
    version, kind = manifest["apiVersion"], manifest["kind"]
    if not version.startswith(f"{names.GROUP}/") and kind not in (
        names.STUDY_KIND,
        names.TRIAL_KIND,
    ):
        raise UnknownKindError(f"{kind} ({version})")
    kinds = f"{names.STUDY_KIND} and {names.TRIAL_KIND} in version {names.API_VERSION!r}"
    message = f'no matches for kind "{kind}" in version "{version}" (there are: {kinds})'
    return Finding(Says.REFUSED, "apiVersion", message)


def _meant(shape: Shape | None, field: str) -> str:
    """Of an unknown field the known one beside it that is spelt like it, as a question."""
    *above, name = path_parts(field)
    for part in above:
        if shape:
            found = shape.items if isinstance(part, int) else shape.members.get(part)
            shape = found or shape.others
    close = get_close_matches(str(name), shape.members if shape else (), 1, SIMILAR)
    return f", did you mean {close[0]}?" if close else ""


def _causes(error: ApiError) -> list[tuple[str, str]]:
    """Field and message of each cause; of a refusal that names no field, the message alone."""
    if error.reason == "AlreadyExists":  # `kubectl apply` then changes what is there
        return []
    if causes := error.details.get("causes"):
        return [(cause["field"], cause["message"]) for cause in causes]
    if match := _UNDECODABLE.fullmatch(str(error)):
        parts = [text.partition(": ") for text in match[1].split("; ")]
        return [(field, message) for field, _, message in parts]
    return [("", str(error))]


def _finding(says: Says, line: str) -> Finding:
    field, _, message = line.partition(": ")
    return Finding(says, field, message)


def _merged(refused: Sequence[Finding], reported: Sequence[Finding]) -> list[Finding]:
    """All of it, each mistake once: what is said below a refused field explains the refusal.

    So do words where it gives a pattern.
    """
    found = list(refused)
    for each in reported:
        above = [i for i, one in enumerate(refused) if _within(each.field, one.field)]
        if not above:
            found.append(each)
        elif all(_explains(each, refused[i]) for i in above):
            nearest = max(above, key=lambda i: len(refused[i].field))
            more = (*found[nearest].more, f"{each.field}: {each.message}")
            found[nearest] = replace(found[nearest], more=more)
    return found


def _explains(reported: Finding, refused: Finding) -> bool:
    words = "should match" in refused.message and "should match" not in reported.message
    return reported.field != refused.field or words


def _within(field: str, other: str) -> bool:
    return field == other or field.startswith((f"{other}.", f"{other}["))


def _in_template(field: str, job: Any, template: Any) -> str:
    """A field of the Job that we made, as its user knows it: what we put into lists comes first."""
    path = "spec.trialTemplate"
    parts = path_parts(field)
    if parts and parts[0] == "spec":
        path, parts = f"{path}.spec", parts[1:]
    for part in parts:
        ours, theirs = _at(job, part), template
        if isinstance(part, int):
            part -= max(_length(job) - _length(template), 0)
            path += f"[{part}]"
        else:
            path += f".{part}"
        job, template = ours, _at(theirs, part)
    return path


def _at(value: Any, part: str | int) -> Any:
    if isinstance(part, int):
        return value[part] if isinstance(value, list) and 0 <= part < len(value) else None
    return value.get(part) if isinstance(value, Mapping) else None


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0
