"""Selectors parse what Kubernetes parses, refuse the rest, and match as it does."""

from typing import Any

import pytest

from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.selectors import parse_fields, parse_labels, parse_selection

LABELS = {"app": "web", "tier": "front", "example.com/team": "a", "empty": ""}


def obj(labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "namespace": "here", "labels": labels or {}}, **fields}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier = front", True),
        ("app=api", False),
        ("app!=api", True),
        pytest.param("color!=red", True, id="an absent label differs"),
        ("app in (web, api)", True),
        ("app in (api)", False),
        ("app notin (api)", True),
        pytest.param("color notin (red)", True, id="an absent label is in no set"),
        pytest.param("color in (red)", False, id="nor is it in one"),
        ("app", True),
        ("color", False),
        ("!color", True),
        ("! app", False),
        ("example.com/team=a", True),
        ("empty=", True),
        pytest.param("app in (web),tier notin (back),!color", True, id="all must hold"),
    ],
)
def test_label_selectors(selector: str, matches: bool) -> None:
    assert all(requirement(LABELS) for requirement in parse_labels(selector)) is matches


@pytest.mark.parametrize("selector", ["a in (", "a in b", "=b", "a=b=c", "a,,b", "-a"])
def test_a_label_selector_that_does_not_parse_is_a_400(selector: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_labels(selector)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("status.phase=Running", True),
        ("status.phase==Running", True),
        ("status.phase!=Running", False),
        ("status.phase=Running,spec.node=", True),
        pytest.param("spec.node=", True, id="an absent field is the empty text"),
        pytest.param("spec.on=true", True, id="booleans are lower case"),
        ("spec.count=3", True),
    ],
)
def test_field_selectors(selector: str, matches: bool) -> None:
    supported = ("status.phase", "spec.node", "spec.on", "spec.count")
    subject = obj(status={"phase": "Running"}, spec={"on": True, "count": 3})
    assert parse_selection("", selector, supported)(subject) is matches


def test_a_field_that_is_not_selectable_is_a_400() -> None:
    with pytest.raises(ApiError, match=r"field label not supported: spec\.size"):
        parse_fields("spec.size=1", ("metadata.name",))


def test_a_selection_keeps_to_its_namespace() -> None:
    assert parse_selection("", "", (), "here")(obj())
    assert not parse_selection("", "", (), "there")(obj())
