"""What comes in as a body is JSON that any other client can read again."""

import json

import pytest

from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.requests import load_json
from primo_local.apiserver.schema import walk
from primo_local.wire import decode, encode


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a": Infinity}', b"[1e999]", b"\xff"])
def test_what_is_not_json_is_a_400(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        load_json(body)
    assert refused.value.code == 400


def test_numbers_keep_their_kind() -> None:
    assert [type(each) for each in load_json(b"[1, 1.0, 1e3]")] == [int, float, float]


def test_half_a_surrogate_pair_does_not_break_the_reply() -> None:
    assert encode(load_json(rb'"\ud800"')) == b'"?"'


def nested(depth: int) -> object:
    value: object = "ü"
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize("value", [nested(2), nested(300), 2**70, {"a": 2**70, "b": 0.1}])
def test_what_is_written_is_read_again(value: object) -> None:
    assert json.loads(encode(value)) == value
    assert decode(encode(nested(300))) == nested(300)


@pytest.mark.parametrize(("value", "causes"), [(2**63 - 1, 0), (-(2**63), 0), (2**63, 1)])
def test_an_integer_has_64_bits(value: int, causes: int) -> None:
    assert len(walk({"type": "integer"}, value).causes) == causes
