"""Schemas of strangers: what they say holds, and no pattern or reference takes long."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cloud.coordinator.contexts import check_context, schema_problems
from cloud.errors import Invalid

pytestmark = pytest.mark.row("A4")
BAD = "a" * 5_000 + "!"


def places(context: Any, schema: Any) -> list[str]:
    assert schema_problems(schema) == []
    try:
        check_context(context, schema)
    except Invalid as refused:
        return sorted(item.key for item in refused.items)
    return []


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(.*)*$", ".*.*.*.*.*=", "(a*)*b"])
def test_no_pattern_takes_long(pattern: str):
    assert places({"x": BAD}, {"properties": {"x": {"pattern": pattern}}}) in ([], ["context.x"])
    schema = {"patternProperties": {pattern: {}}, "additionalProperties": {"type": "null"}}
    assert places({BAD: 1}, schema) in ([], [f"context.{BAD}"])


def test_patterns_say_what_they_say():
    schema = {
        "properties": {"site": {"pattern": "^[a-zü]+-[0-9]{2}$"}},
        "patternProperties": {"^n_": {"type": "number"}},
        "additionalProperties": False,
    }
    assert places({"site": "köln-07".replace("ö", "ü"), "n_1": 2}, schema) == []
    wrong = {"site": "köln", "n_1": "x", "other": 1}
    assert places(wrong, schema) == ["context", "context.n_1", "context.site"]
    open_ended = {**schema, "additionalProperties": {"type": "boolean"}}
    assert places({"n_1": 1, "other": 1, "more": True}, open_ended) == ["context.other"]


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"x": {"pattern": "(?=a)b"}}}, "context_schema.properties.x.pattern"),
        ({"items": [{"pattern": r"(a)\1"}]}, "context_schema.items[0].pattern"),
        ({"pattern": "a" * 2_000}, "context_schema.pattern"),
        ({"patternProperties": {"[": {}}}, "context_schema.patternProperties.["),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "context_schema.pattern"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(schema: dict[str, object], place: str):
    (problem,) = schema_problems(schema)  # type: ignore[arg-type]
    assert problem.key == place
    assert "pattern" in problem.message


def test_what_only_looks_like_a_pattern_is_data():
    assert schema_problems({"default": {"pattern": "(?=a)"}, "enum": [{"pattern": "["}]}) == []


def test_references_that_multiply_are_given_up():
    doubled = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**doubled, "d40": {}}, "$ref": "#/$defs/d0"}
    assert places({}, schema) == ["context_schema"]
    assert places({}, {"$ref": "#"}) == ["context_schema"]


def test_unevaluated_properties_are_known_where_no_pattern_is():
    schema = {"properties": {"a": {}}, "unevaluatedProperties": False}
    assert places({"a": 1}, schema) == []
    assert places({"b": 1}, schema) == ["context"]
    assert places({"b": 1}, {**schema, "patternProperties": {"b": {}}}) == ["context_schema"]


def test_additional_properties_mean_what_the_standard_says():
    for wanted in (False, True, {"type": "number"}):
        for context in ({}, {"a": 1}, {"b": 1}, {"b": "x"}):
            schema: dict[str, Any] = {"properties": {"a": {}}, "additionalProperties": wanted}
            assert (not places(context, schema)) == Draft202012Validator(schema).is_valid(context)
