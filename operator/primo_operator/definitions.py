"""Whether the API server serves our definitions, with every field that we write.

It prunes what an older definition does not have, and says nothing: an observation would be half
gone. What it serves it publishes to everybody who may log in (docs/decisions/0016).
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from primo_operator import names
from primo_operator.cluster import ClusterError, Object, OutdatedError
from primo_operator.crds import KINDS, Kind, structural

log = logging.getLogger(__name__)

LOOK_S = 30.0
LOOK_AGAIN_S = 5.0  # while something is wrong
SHOWN = 3

Schema = Mapping[str, Any]
Document = Callable[[], Awaitable[Object | None]]


class Definitions:
    """What is wrong with those that are served, as of the latest look.

    Args:
        document: the OpenAPI v3 document of our group and version; None if there is none.
        changed: called when what was wrong is so no more.
    """

    def __init__(self, document: Document, changed: Callable[[], None]) -> None:
        self._document, self._changed = document, changed
        self._problem = ""

    def check(self) -> None:
        """Raises:
        OutdatedError: what we write would not be kept.
        """
        if self._problem:
            raise OutdatedError(self._problem)

    async def look(self) -> None:
        """Without an answer all is as it was."""
        try:
            before, self._problem = self._problem, problem(await self._document())
        except ClusterError as error:
            log.debug("definitions not read: %s", error)
            return
        if self._problem and self._problem != before:
            log.error("nothing is done for studies: %s", self._problem)
        if before and not self._problem:
            log.info("the definitions are as they should be")
            self._changed()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S if self._problem else LOOK_S)
            await self.look()


async def wait_until_served(
    document: Document, say: Callable[[str], object] = lambda _: None
) -> None:
    """Until both are served, whichever they are; at once if nobody says.

    Args:
        say: told what is waited for.
    """
    said = ""
    with contextlib.suppress(ClusterError):
        while missing := not_served(await document()):
            if not said:
                log.error("%s; waiting for them", missing)
            if missing != said:
                say(missing)
            said = missing
            await asyncio.sleep(LOOK_AGAIN_S)


def problem(document: Object | None) -> str:
    """What is wrong with the definitions that a document shows; empty if they will do."""
    if missing := not_served(document):
        return missing
    lacking = [f"{_name(kind)}: {path}" for kind in KINDS for path in _lacks(kind, document)]
    if not lacking:
        return ""
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    return (
        f"the definitions are older than the operator, and lack {', '.join(lacking[:SHOWN])}{more};"
        " apply those of its release"
    )


def not_served(document: Object | None) -> str:
    """Which definitions there are not, and what to do; empty if there are all."""
    missing = [_name(kind) for kind in KINDS if _served(kind, document) is None]
    if not missing:
        return ""
    return f"the API server does not serve {', '.join(missing)}; apply these definitions"


def _name(kind: Kind) -> str:
    return f"{kind.plural}.{names.GROUP}"


def _served(kind: Kind, document: Object | None) -> Schema | None:
    wanted = {"group": names.GROUP, "version": names.VERSION, "kind": kind.kind}
    schemas = ((document or {}).get("components") or {}).get("schemas") or {}
    for schema in schemas.values():
        if wanted in (schema.get("x-kubernetes-group-version-kind") or ()):
            return dict(schema)
    return None


def _lacks(kind: Kind, document: Object | None) -> Iterator[str]:
    """Of what we write: the status, and a trial's spec; a study's spec is its user's."""
    parts = (_served(kind, document) or {}).get("properties") or {}
    yield from _missing(_wanted(kind.status), parts.get("status") or {}, "status")
    if kind.kind == names.TRIAL_KIND:
        yield from _missing(_wanted(kind.spec), parts.get("spec") or {}, "spec")


@functools.cache
def _wanted(model: type[BaseModel]) -> Schema:
    return structural(model)


def _missing(wanted: Schema, served: Schema, path: str) -> Iterator[str]:
    if served.get("x-kubernetes-preserve-unknown-fields"):
        return
    if wanted.get("x-kubernetes-preserve-unknown-fields"):
        yield f"{path}.*"
    for name, part in (wanted.get("properties") or {}).items():
        found = (served.get("properties") or {}).get(name)
        if found is None:
            yield f"{path}.{name}"
        else:
            yield from _missing(part, found, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner not in wanted:
            continue
        found = served.get(inner)
        if not found:
            yield f"{path}.*"
        elif isinstance(found, Mapping):
            yield from _missing(wanted[inner], found, path)
