"""`primo validate`: what a cluster would say about manifests, without one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from primo_cli.checks import Checker, Finding, Says, UnknownKindError, check_trial
from primo_cli.files import read_texts
from primo_operator import names
from primo_operator.manifest_files import Document, load_documents, path_parts
from primo_optimizer import InvalidSpecError

FINE, MISTAKES, UNREADABLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one document, or of a file that cannot be read.

    Attributes:
        problem: why the file cannot be read; empty if it can.
        unchecked: why nothing can be said of the document; empty if something can.
        lacking: what there would have to be to say more; empty if nothing.
    """

    file: str
    document: Document | None = None
    findings: Sequence[Finding] = ()
    problem: str = ""
    unchecked: str = ""
    lacking: str = ""

    @property
    def title(self) -> str:
        """Kind and name, as far as they are given."""
        manifest = self.document.manifest if self.document else {}
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        return " ".join(str(part) for part in (manifest.get("kind"), name) if part)


def validate(files: Sequence[str], *, as_json: bool) -> int:
    """Print what is wrong with the manifests of files and folders; the exit code sums it up."""
    outcomes = check(files)
    if as_json:
        print(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        print("\n".join(line for outcome in outcomes for line in _lines(outcome)))
    if any(outcome.problem for outcome in outcomes):
        return UNREADABLE
    return MISTAKES if any(outcome.findings for outcome in outcomes) else FINE


def check(files: Sequence[str]) -> list[Outcome]:
    """Of each document of files and folders; of trials beside their studies, wherever those are."""
    checker = Checker()
    outcomes = [o for name, text in read_texts(files) for o in _outcomes(checker, name, text)]
    studies = {_key(m, m["metadata"].get("name")): m for m in _faultless(outcomes)}
    return [_beside_its_study(outcome, studies) for outcome in outcomes]


def _faultless(outcomes: Sequence[Outcome]) -> Iterator[Mapping[str, Any]]:
    """The studies in which nothing is wrong."""
    for outcome in outcomes:
        if outcome.document and not outcome.findings:
            manifest = outcome.document.manifest
            if manifest["kind"] == names.STUDY_KIND:
                yield manifest


def _beside_its_study(
    outcome: Outcome, studies: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Outcome:
    """Of a trial made by hand what its study says of it too; all others as they are."""
    if not outcome.document or outcome.findings:
        return outcome
    manifest = outcome.document.manifest
    ours = names.STUDY_LABEL in (manifest["metadata"].get("labels") or {})
    if manifest["kind"] != names.TRIAL_KIND or ours:
        return outcome
    study = studies.get(_key(manifest, manifest["spec"]["study"]))
    if study is None:
        return replace(outcome, lacking="its study is not given, or wrong")
    return replace(outcome, findings=check_trial(manifest, study))


def _key(manifest: Mapping[str, Any], study: str) -> tuple[str, str]:
    return manifest["metadata"].get("namespace") or "default", study


def _outcomes(checker: Checker, name: str, text: str | OSError | UnicodeError) -> Iterator[Outcome]:
    """Of each document of a file, or of what could not be read."""
    if not isinstance(text, str):
        yield Outcome(name, problem=getattr(text, "strerror", None) or str(text))
        return
    try:
        documents = [each for one in load_documents(text) for each in one.items()]
    except InvalidSpecError as error:
        yield Outcome(name, problem=str(error))
        return
    if not documents:
        yield Outcome(name, problem="there is no manifest in it")
    for document in documents:
        try:
            yield Outcome(name, document, checker.check(document.manifest))
        except UnknownKindError as error:
            yield Outcome(name, document, unchecked=f"only a cluster knows the kind {error}")


# --- for people


def _lines(outcome: Outcome) -> Iterator[str]:
    where = outcome.file
    if outcome.problem:
        yield f"{where}: {outcome.problem}"
        return
    assert outcome.document
    if outcome.unchecked:
        yield f"{where}:{outcome.document.line_of('')}: not checked: {outcome.unchecked}"
    elif not outcome.findings:
        lacking = f" ({outcome.lacking})" if outcome.lacking else ""
        yield f"{where}: {outcome.title}: ok{lacking}"
    yield from mistakes(outcome)


def mistakes(outcome: Outcome) -> Iterator[str]:
    """What is wrong with a document: where, who says it, what."""
    for finding in outcome.findings:
        assert outcome.document
        line = outcome.document.line_of(finding.field)
        at = finding.field or outcome.title
        yield f"{outcome.file}:{line}: {finding.says.value}: {at}: {finding.message}"
        yield from (f"    {more}" for more in finding.more)


# --- for programs


def _as_json(outcome: Outcome) -> dict[str, Any]:
    document = outcome.document
    manifest = document.manifest if document else {}
    metadata = manifest.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    return {
        "file": outcome.file,
        "document": document.number if document else None,
        "kind": manifest.get("kind"),
        "name": named.get("name"),
        "namespace": named.get("namespace"),
        "ok": not (outcome.problem or outcome.findings or outcome.unchecked),
        "problem": outcome.problem or None,
        "unchecked": outcome.unchecked or None,
        "lacking": outcome.lacking or None,
        "findings": [_finding_json(document, each) for each in outcome.findings if document],
    }


def _finding_json(document: Document, finding: Finding) -> dict[str, Any]:
    refused = finding.says is Says.REFUSED
    return {
        "line": document.line_of(finding.field),
        "field": finding.field,
        "value": _value(document.manifest, finding.field),
        "message": finding.message,
        "more": list(finding.more),
        "by": "APIServer" if refused else "Operator",
        "reason": "Refused" if refused else finding.says.value.partition("/")[2],
    }


def _value(manifest: Any, path: str) -> Any:
    """What stands at a path; None if nothing does."""
    for part in path_parts(path):
        if isinstance(manifest, Mapping):
            manifest = manifest.get(part)
        elif isinstance(manifest, list) and isinstance(part, int) and part < len(manifest):
            manifest = manifest[part]
        else:
            return None
    return manifest
