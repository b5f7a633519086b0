"""What a later version has written into a status, and this one knows nothing of, stays there."""

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

Json = dict[str, Any]
# Lists that only grow, so that the entry at an index is the same one.
GROWING = frozenset({"runs", "observations"})


def with_unknown(model: type[BaseModel], before: Mapping[str, Any], after: Json) -> Json:
    """`after` with those fields of `before` that the model does not have.

    Also those within its parts, and within the entries of lists that only grow; the entries of
    other lists are made anew each time.
    """
    names = {field.alias or name: field for name, field in model.model_fields.items()}
    result = {name: value for name, value in before.items() if name not in names} | after
    for name, field in names.items():
        part = next(_models(field.annotation), None)
        old, new = before.get(name), after.get(name)
        if part is None or old is None or new is None:
            continue
        if isinstance(new, dict) and isinstance(old, Mapping):
            result[name] = with_unknown(part, old, new)
        elif name in GROWING:
            kept = [with_unknown(part, o, n) for o, n in zip(old, new, strict=False)]
            result[name] = kept + list(new[len(kept) :])
    return result


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
