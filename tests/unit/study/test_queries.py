"""Placeholders of a query: what stands for them, and that nothing slips in by them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_optimizer import InvalidSpecError
from primo_study.problem import PrometheusQuery
from primo_study.queries import PLACEHOLDERS, fill, unknown_placeholder
from support.builders import spec

POD = "digits-00000001-3-r0-a0-x7k2p"


def filled(query: str, **given: object) -> str:
    fields = {"pod": POD, "namespace": "team", "trial": "3", "start": 1000.0, "end": 1090.0}
    return fill(query, **{**fields, **given})  # type: ignore[arg-type]  # a table's cases


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("up", "up"),
        ('x{pod="$(pod)",namespace="$(namespace)"}', f'x{{pod="{POD}",namespace="team"}}'),
        ("x[$(window)] @ $(end)", "x[90s] @ 1090"),
        ("$(end) - $(start)", "1090 - 1000"),
        ('x{trial="$(trial)"}', 'x{trial="3"}'),
        pytest.param('x{a=~"b$"} + $$(trial)', 'x{a=~"b$"} + $3', id="a lone $ is a $"),
        pytest.param(
            'label_replace(x,"a","$1","b","(.*)")',
            'label_replace(x,"a","$1","b","(.*)")',
            id="groups of a regex stay",
        ),
    ],
)
def test_placeholders_are_filled_in(query: str, expected: str) -> None:
    assert filled(query) == expected


@pytest.mark.parametrize(
    ("start", "window"),
    [(1090.0, "1s"), (1100.0, "1s"), (1089.6, "1s"), (1088.4, "2s"), (0.0, "1090s")],
)
def test_a_window_is_in_whole_seconds_and_never_empty(start: float, window: str) -> None:
    assert filled("$(window)", start=start) == window
    assert filled("$(start)", start=start) == str(1090 - int(window[:-1]))


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("up", None),
        ('x{a="$(pod)"}[$(window)]', None),
        ("$$(end)$", None),
        ("$(study)", "$(study)"),
        ("$(POD)", "$(POD)"),
        ("$( pod)", "$( pod)"),
        ("$()", "$()"),
        ("$(pod", "$(pod"),
        ("$(pod) $(study)", "$(study)"),
        ("$($(pod))", "$($(pod)"),
    ],
)
def test_what_stands_for_nothing_is_named(query: str, unknown: str | None) -> None:
    assert unknown_placeholder(query) == unknown


words = st.sampled_from(["$", "(", ")", "$(", *(f"$({p})" for p in PLACEHOLDERS), "pod", "x", "\n"])


@given(st.lists(words, min_size=1, max_size=8).map("".join))
def test_the_schema_and_the_parser_refuse_the_same(query: str) -> None:
    pattern = PrometheusQuery.model_json_schema()["properties"]["query"]["pattern"]
    # \Z: what $ is to an API server.
    takes = re.match(pattern.removesuffix("$") + r"\Z", query) is not None
    assert takes == (unknown_placeholder(query) is None)


@given(st.text() | st.text('ab-.09"\\{}'))
def test_only_names_that_kubernetes_takes_are_filled_in(name: str) -> None:
    for placeholder in ("pod", "namespace", "trial"):
        query = f'x{{a="$({placeholder})"}}'
        try:
            found = filled(query, **{placeholder: name})
        except ValueError:
            continue
        assert found == f'x{{a="{name}"}}'
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_an_unknown_placeholder_is_a_mistake_of_the_study() -> None:
    objective = {"name": "e", "goal": "Minimize", "prometheus": {"query": "$(x)"}}
    with pytest.raises(InvalidSpecError) as caught:
        spec(objectives=[objective])
    assert caught.value.problems == (
        "spec.objectives[0].prometheus.query: '$(x)' should have known placeholders only: $(x) is "
        "none of $(pod), $(namespace), $(trial), $(window), $(start), $(end)",
    )
