"""CEL rules see what Kubernetes shows them, on create and on update."""

from typing import Any

import pytest

from primo_local.apiserver.cel_rules import RuleTree, rule_problem

Schema = dict[str, Any]
NUMBER, TEXT, WHOLE = {"type": "number"}, {"type": "string"}, {"type": "integer"}


def of(*rules: str | dict[str, Any], **properties: Schema) -> Schema:
    """An object schema with rules."""
    listed = [{"rule": each} if isinstance(each, str) else each for each in rules]
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "x-kubernetes-validations": listed} if listed else schema


def broken(schema: Schema, value: Any, old: Any = None) -> list[str]:
    return [str(cause) for cause in RuleTree.of(schema).causes(value, old)]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        pytest.param("self.a <= self.b", {"a": 1, "b": 1.5}, id="an integer beside a fraction"),
        pytest.param("self.a * 2.0 == 2.0", {"a": 1}, id="an integer in a number is a double"),
        pytest.param("self.n + 1 == 3", {"n": 2}, id="an integer stays one"),
        pytest.param("has(self.a) != has(self.b)", {"a": 1}, id="has"),
        pytest.param("self.l.isSorted()", {"l": [1, 2.5, 3]}, id="isSorted"),
        pytest.param("self.l.sum() == 6.5", {"l": [1, 2.5, 3]}, id="sum"),
        pytest.param("self.t.matches('^[a-z]+$')", {"t": "abc"}, id="matches"),
        pytest.param("self.t.find('[0-9]+') == '42'", {"t": "a42b"}, id="find"),
        pytest.param("duration(self.t) >= duration('6h')", {"t": "360m"}, id="duration"),
        pytest.param("self.l.all(x, self.l.exists_one(y, y == x))", {"l": [1, 2]}, id="unique"),
        pytest.param("self.m.all(k, k in ['x', 'y'])", {"m": {"x": 1}}, id="keys of a map"),
        pytest.param("self.dash__dash__ed == 'v'", {"dash-ed": "v"}, id="a name with a dash"),
        pytest.param("self.__namespace__ == 'v'", {"namespace": "v"}, id="a reserved name"),
        pytest.param("self.t.lowerAscii() == 'abc'", {"t": "ABC"}, id="string extensions"),
    ],
)
def test_rules_that_hold(rule: str, value: Any) -> None:
    schema = of(
        rule,
        a=NUMBER,
        b=NUMBER,
        n=WHOLE,
        t=TEXT,
        l={"type": "array", "items": NUMBER},
        m={"type": "object", "additionalProperties": NUMBER},
        **{"dash-ed": TEXT, "namespace": TEXT},
    )
    assert broken(schema, value) == []


def test_a_broken_rule_says_its_message_where_it_stands() -> None:
    rule = {"rule": "self.min < self.max", "message": "min must be below max"}
    inner = of(rule, min=NUMBER, max=NUMBER)
    schema = of(list={"type": "array", "items": inner})
    value = {"list": [{"min": 0, "max": 1}, {"min": 1, "max": 1}]}
    assert broken(schema, value) == ['list[1]: Invalid value: "object": min must be below max']


def test_a_rule_may_name_its_reason_and_another_field() -> None:
    rule = {
        "rule": "self.a == oldSelf.a",
        "message": "a is immutable",
        "reason": "FieldValueForbidden",
        "fieldPath": ".a",
    }
    schema = of(spec=of(rule, a=WHOLE))
    (cause,) = RuleTree.of(schema).causes({"spec": {"a": 2}}, {"spec": {"a": 1}})
    assert str(cause) == "spec.a: Forbidden: a is immutable"
    assert cause.reason == "FieldValueForbidden"


def test_a_transition_rule_waits_for_an_old_value() -> None:
    schema = of("self.a >= oldSelf.a", a=WHOLE)
    assert broken(schema, {"a": 1}) == []
    assert broken(schema, {"a": 2}, {"a": 1}) == []
    assert broken(schema, {"a": 1}, {"a": 2}) != []


def test_the_items_of_a_list_map_find_their_old_selves_by_key() -> None:
    items = of("self.v == oldSelf.v", name=TEXT, v=WHOLE)
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    schema = of(l={"type": "array", "items": items, **keyed})
    old = {"l": [{"name": "a", "v": 1}, {"name": "b", "v": 2}]}
    assert broken(schema, {"l": [{"name": "b", "v": 2}, {"name": "c", "v": 9}]}, old) == []
    (problem,) = broken(schema, {"l": [{"name": "b", "v": 3}]}, old)
    assert problem.startswith("l[0]: ")


@pytest.mark.parametrize(
    ("kind", "equal"),
    [
        pytest.param({"x-kubernetes-list-type": "set"}, True, id="a set has no order"),
        pytest.param({"x-kubernetes-list-type": "atomic"}, False, id="an atomic list has"),
    ],
)
def test_equality_knows_which_lists_have_an_order(kind: Schema, equal: bool) -> None:
    schema = of("self.l == oldSelf.l", l={"type": "array", "items": TEXT, **kind})
    assert (broken(schema, {"l": ["b", "a"]}, {"l": ["a", "b"]}) == []) is equal


def test_a_list_map_has_no_order_either() -> None:
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    schema = of("self.l == oldSelf.l", l={"type": "array", "items": of(name=TEXT), **keyed})
    a, b = {"name": "a"}, {"name": "b"}
    assert broken(schema, {"l": [b, a]}, {"l": [a, b]}) == []
    assert broken(schema, {"l": [b]}, {"l": [a, b]}) != []


def test_what_is_not_changed_need_not_obey_a_newer_rule() -> None:
    schema = of(a=of("self.v > 5", v=WHOLE), b=WHOLE)
    assert broken(schema, {"a": {"v": 1}, "b": 2}, {"a": {"v": 1}, "b": 1}) == []
    assert broken(schema, {"a": {"v": 2}, "b": 2}, {"a": {"v": 1}, "b": 1}) != []


def test_a_rule_without_a_value_is_broken_and_says_why() -> None:
    (problem,) = broken(of("self.none > 1", a=WHOLE), {"a": 1})
    assert "rule evaluation error" in problem


@pytest.mark.parametrize(
    ("text", "is_one"), [("2562047h", True), ("2562048h", False), ("1d", False), ("", False)]
)
def test_a_duration_is_at_most_so_many_nanoseconds_as_go_counts(text: str, is_one: bool) -> None:
    problems = broken(of("duration(self.t) > duration('6h')", t=TEXT), {"t": text})
    assert problems == [] if is_one else "rule evaluation error" in problems[0]


def test_a_message_may_be_an_expression() -> None:
    rule = {"rule": "self.a > 1", "messageExpression": "'a is ' + string(self.a)"}
    assert broken(of(s=of(rule, a=WHOLE)), {"s": {"a": 1}}) == [
        's: Invalid value: "object": a is 1'
    ]


@pytest.mark.parametrize(
    ("rule", "compiles"), [("self.a > 1", True), ("self.a >", False), ("", False)]
)
def test_rules_are_compiled_when_the_definition_comes(rule: str, compiles: bool) -> None:
    assert (rule_problem(rule) is None) is compiles
