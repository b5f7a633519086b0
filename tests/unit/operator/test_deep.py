"""An object nested as deep as an API server lets it be hides no others."""

import json
import sys
import time

import pytest

from primo_operator.deep import loads


def nested(depth: int) -> bytes:
    half = depth // 2
    return b'{"a":[' * half + b'"\\u00fc \xc3\xbc",1.5,null' + b"]}" * half


@pytest.mark.parametrize("depth", [10, 900, 1100, 5000, 10_000])
def test_it_is_read_whole(depth: int) -> None:
    limit = sys.getrecursionlimit()
    found = loads(b'{"items":[' + nested(depth) + b',{"name":"b"}]}')
    assert sys.getrecursionlimit() == limit
    inner, other = found["items"]
    assert other == {"name": "b"}
    for _ in range(depth // 2):
        inner = inner["a"][0] if inner["a"][1:] == [] else inner["a"]
    assert inner == ["\u00fc \u00fc", 1.5, None]


def test_it_takes_a_megabyte_in_no_time() -> None:
    wide = b"[" + b",".join([b'{"a": "b"}'] * 100_000) + b"]"
    content = b'{"deep":' + nested(5000) + b',"wide":' + wide + b"}"
    began = time.process_time()
    assert len(loads(content)["wide"]) == 100_000
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[" * 5000, b"[" * 500_000, b'{"a":' * 100_000, nested(200_000)],
)
def test_what_is_none_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        loads(content)
    assert json.loads("[1]") == [1]
