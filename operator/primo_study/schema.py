"""How our pydantic models are declared, so that a Kubernetes schema can be generated from them.

A model is frozen, refuses unknown keys and speaks camelCase. What a schema can say beyond types
(list maps, rules over several fields) is attached to the model as data; the rules are Common
Expression Language, kept beside the Python that says the same.
"""

import math
import re
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


class Model(BaseModel):
    """Base of everything that users write or we show them."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
    )


def rules(*texts: tuple[str, str] | tuple[str, str, str]) -> ConfigDict:
    """Rules of a model as `(expression, message)` or `(expression, message, field path)`."""
    validations: list[JsonValue] = []
    for expression, message, *path in texts:
        rule: dict[str, JsonValue] = {"rule": expression, "message": message}
        if path:
            rule["fieldPath"] = path[0]
        if "oldSelf" in expression and message.endswith(("immutable", "suspended")):
            rule["reason"] = "FieldValueForbidden"
        validations.append(rule)
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": validations})


def list_map(*keys: str) -> dict[str, JsonValue]:
    """A list whose items are told apart by these keys: they are unique, and merge one by one."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _whole(value: object) -> object:
    # The API server takes 3.0 for an integer and hands it on as written.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: object) -> object:
    # A union of int and float would report each mistake twice, below fields that do not exist.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number_type", "Input should be a valid number")
    if not -math.inf < value < math.inf:
        raise PydanticCustomError("finite_number", "Input should be a finite number")
    return _whole(value)


# Together less than the 2562047 h that fit into Go's 64 bits of nanoseconds: beyond, a rule about
# durations has no value, and nothing of such an object can be written any more.
_DURATION = r"^([0-9]{1,6}(\.[0-9]+)?[hm]|[0-9]{1,9}(\.[0-9]+)?m?s)+$"
_DURATION_LENGTH = 20


def _duration(value: object) -> object:
    if isinstance(value, str) and not (
        len(value) <= _DURATION_LENGTH and re.fullmatch(_DURATION, value)
    ):
        raise PydanticCustomError(
            "duration",
            "Input should be a duration such as 90m or 24h, with 6 digits before h or m at most",
        )
    return value


Int = Annotated[int, BeforeValidator(_whole)]
# Whole numbers stay whole on their way to the trial: a batch size is 16, not 16.0.
Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Duration = Annotated[
    str,
    Field(max_length=_DURATION_LENGTH, pattern=_DURATION),
    BeforeValidator(_duration),
]
