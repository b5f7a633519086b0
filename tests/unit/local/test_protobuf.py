"""Protobuf bodies are read for the kinds that kubectl sends in nothing else."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.protobuf import decode_body


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(key: str, value: bytes | str) -> bytes:
    return field(1, key) + field(2, value)


def body(version: str, kind: str, *parts: bytes) -> bytes:
    envelope = field(1, field(1, version) + field(2, kind)) + field(2, b"".join(parts))
    return b"k8s\0" + envelope


OWNER = field(5, "v1") + field(1, "Pod") + field(3, "p") + field(4, "u") + field(6, 1)
METADATA = b"".join(
    [
        field(1, "name"),
        field(11, entry("a", "b")),
        field(11, entry("c", "")),
        field(13, OWNER),
        field(14, "x.io/one"),
        field(14, "x.io/two"),
    ]
)


def test_metadata() -> None:
    assert decode_body(body("v1", "Namespace", field(1, METADATA))) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "name",
            "labels": {"a": "b", "c": ""},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
            ],
            "finalizers": ["x.io/one", "x.io/two"],
        },
    }


@pytest.mark.parametrize(
    ("version", "kind", "part", "name", "decoded"),
    [
        ("v1", "ConfigMap", field(2, entry("k", "v")), "data", {"k": "v"}),
        pytest.param(
            "v1",
            "ConfigMap",
            field(3, entry("k", b"\xff")),
            "binaryData",
            {"k": base64.b64encode(b"\xff").decode()},
            id="bytes come as base64",
        ),
        ("v1", "Secret", field(2, entry("k", "v")), "data", {"k": "dg=="}),
        ("v1", "Secret", field(3, "Opaque"), "type", "Opaque"),
        (
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            field(2, field(1, field(2, "get") + field(5, "pods"))),
            "spec",
            {"resourceAttributes": {"verb": "get", "resource": "pods"}},
        ),
        pytest.param(
            "v1", "DeleteOptions", field(1, 0), "gracePeriodSeconds", 0, id="at once is said"
        ),
        ("v1", "DeleteOptions", field(2, field(1, "u")), "preconditions", {"uid": "u"}),
        ("v1", "DeleteOptions", field(4, "Background"), "propagationPolicy", "Background"),
        ("v1", "DeleteOptions", field(5, "All"), "dryRun", ["All"]),
    ],
)
def test_other_fields(version: str, kind: str, part: bytes, name: str, decoded: Any) -> None:
    assert decode_body(body(version, kind, part))[name] == decoded


def test_fields_that_are_not_known_are_skipped() -> None:
    unknown = field(900, "x") + varint(901 << 3 | 1) + bytes(8) + varint(902 << 3 | 5) + bytes(4)
    decoded = decode_body(body("v1", "ConfigMap", unknown, field(2, entry("k", "v"))))
    assert decoded == {"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}}


def test_other_kinds_are_a_415_that_names_the_way_out() -> None:
    with pytest.raises(ApiError, match="use kubectl apply -f") as refused:
        decode_body(body("batch/v1", "Job"))
    assert refused.value.code == 415


@given(tail=st.binary(max_size=40))
def test_bytes_that_are_no_protobuf_are_refused(tail: bytes) -> None:
    whole = body("v1", "ConfigMap", field(1, METADATA))
    for damaged in (tail, b"k8s\0" + tail, whole[: len(whole) // 2] + tail):
        code = None
        try:
            decode_body(damaged)
        except ApiError as error:
            code = error.code
        assert code in (None, 400, 415)
