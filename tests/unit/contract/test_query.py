import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import query
from contract.query import And, Compare, Exists, In, Like, Member, Not, Or, QueryInvalid
from contract.template_dialect import TemplateFailed

PUMP: dict[str, Any] = {
    "id": "pump-7",
    "type": "pump",
    "name": "Pump 7",
    "gateway": "hall-1",
    "tags": {"site": "berlin", "critical": True},
    "attributes": {"size": 12, "note": None},
    "state": {"version": "2.4.0"},
    "group": ["pumps", "berlin"],
}


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({}, True),
        ({"type": "pump", "tags.site": "berlin"}, True),
        ({"type": "pump", "tags.site": "hamburg"}, False),
        ({"state.version": {"$ne": "2.4.1"}}, True),
        ({"state.missing": {"$ne": "2.4.1"}}, True),
        ({"state.missing": {"$nin": ["a"]}}, True),
        ({"state.missing": {"$not": {"$gt": 3}}}, True),
        ({"state.missing": {"$lt": 3}}, False),
        ({"state.missing": None}, True),
        ({"attributes.note": None}, True),
        ({"attributes.size": {"$ne": None}}, True),
        ({"attributes.note": {"$exists": True}}, False),
        ({"attributes.size": {"$exists": True}}, True),
        ({"attributes.size": {"$gt": 10, "$lte": 12}}, True),
        ({"attributes.size": {"$gt": "1"}}, False),
        ({"attributes.size": 12.0}, True),
        ({"tags.critical": 1}, False),
        ({"tags.critical": True}, True),
        ({"tags": "berlin"}, False),
        ({"tags.site.deeper": {"$exists": True}}, False),
        ({"id": {"$in": ["pump-6", "pump-7"]}}, True),
        ({"id": {"$in": []}}, False),
        ({"state.missing": {"$in": [None, "a"]}}, True),
        ({"id": {"$in": [None, "a"]}}, False),
        ({"id": {"$nin": [None, "a"]}}, True),
        ({"$or": [{"type": "valve"}, {"tags.site": "berlin"}]}, True),
        ({"$not": {"type": "pump"}}, False),
        ({"$and": [{"type": "pump"}, {"$not": {"name": {"$like": "Valve%"}}}]}, True),
        ({"name": {"$like": "Pump _"}}, True),
        ({"name": {"$like": "pump%"}}, False),
        ({"name": {"$like": "%mp%7"}}, True),
        ({"name": {"$like": "Pump \\_"}}, False),
        ({"group": "pumps"}, True),
        ({"group": {"$in": ["valves", "berlin"]}}, True),
        ({"group": {"$ne": "pumps"}}, False),
    ],
)
def test_a_query_says_which_targets_fit(asked, fits):
    parsed = query.parse(asked)
    assert query.matches(parsed, PUMP) is fits
    assert query.matches(query.parse(query.to_json(parsed)), PUMP) is fits


def test_a_query_is_reduced_to_a_few_kinds_of_nodes():
    assert query.parse({}) == query.EVERYTHING
    assert query.parse({"a.b": {"$ne": 1}}) == Not(Compare(("a", "b"), "$eq", 1))
    assert query.parse({"a": {"$exists": False}}) == Not(Exists(("a",)))
    assert query.parse({"a": {"$ne": None}}) == Exists(("a",))
    assert query.parse({"a": {"$nin": ["x"]}}) == Not(In(("a",), ("x",)))
    assert query.parse({"group": "g"}) == Member(("g",))
    assert query.parse({"a": 1, "b": {"$like": "x%"}}) == And(
        (Compare(("a",), "$eq", 1), Like(("b",), "x%"))
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "a query is an object"),
        ({"state.version": {"$nee": 1}}, r"state\.version\.\$nee: unknown operator `\$nee`; did"),
        ({"a": {"gte": 1}}, r"did you mean `\$gte`"),
        ({"$eq": 1}, "stands below a field"),
        ({"$ro": []}, r"did you mean `\$or`"),
        ({"$or": []}, "at least one"),
        ({"$or": [{}, {"a": {}}]}, r"\$or\[1\]\.a: an empty object"),
        ({"a": [1]}, r"did you mean \$in"),
        ({"a": {"$gt": True}}, "compares numbers or texts"),
        ({"a": {"$gt": None}}, "null has no order"),
        ({"a": {"$in": 1}}, "a list is expected"),
        ({"a": {"$in": [[1]]}}, "not a list"),
        ({"a": {"$in": list(range(10_001))}}, "at most 10000"),
        ({"a": {"$exists": 1}}, "true or false"),
        ({"a": {"$like": 1}}, "takes a text"),
        ({"a": {"$like": "x\\"}}, "backslash"),
        ({"a": {"$eq": {"b": 1}}}, "does not take an object"),
        ({"a": 2**63}, "64 bits"),
        ({"a": float("inf")}, "not finite"),
        ({"a": "x" * 1001}, "at most 1000"),
        ({"a..b": 1}, "dotted names"),
        ({'a"': 1}, 'no `"`'),
        ({"a.$b": 1}, "dotted names"),
        ({"group": {"$like": "p%"}}, "takes a group's id"),
        ({"group": 5}, "named by its id"),
        ({"$or": [{"a": n} for n in range(5000)]}, "more than"),
    ],
)
def test_what_is_no_query_is_refused_with_its_place(asked, said):
    with pytest.raises(QueryInvalid, match=said):
        query.parse(asked)


def test_depth_is_bounded():
    deep: Any = {"a": 1}
    for _ in range(500):
        deep = {"$not": deep}
    with pytest.raises(QueryInvalid, match="nested deeper"):
        query.parse(deep)
    field: Any = {"$gt": 1}
    for _ in range(500):
        field = {"$not": field}
    with pytest.raises(QueryInvalid, match="nested deeper"):
        query.parse({"a": field})


SCOPE: dict[str, Any] = {
    "ctx": {"site": "berlin", "sites": ["berlin", "bonn"], "evil": {"$ne": "x"}, "n": 3}
}


def test_templates_stand_for_values():
    asked: Any = {
        "tags.site": "{{ ctx.site }}",
        "a": {"$gt": "{{ ctx.n }}"},
        "b": {"$in": "{{ ctx.sites }}"},
        "c": {"$in": ["{{ ctx.site }}"]},
    }
    assert query.check_query(asked) == {"ctx"}
    assert query.render_query(asked, SCOPE) == And(
        (
            Compare(("tags", "site"), "$eq", "berlin"),
            Compare(("a",), "$gt", 3),
            In(("b",), ("berlin", "bonn")),
            In(("c",), ("berlin",)),
        )
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"a": "{{ ctx.evil }}"},
        {"a": {"$eq": "{{ ctx.evil }}"}},
        {"a": "{{ ctx.sites }}"},
        {"a": {"$in": "{{ [ctx.evil] }}"}},
        {"a": {"$in": "{{ ctx.evil }}"}},
        {"$or": "{{ ctx.sites }}"},
        {"a": {"$not": "{{ ctx.evil }}"}},
    ],
)
def test_a_rendered_value_never_becomes_an_operator(asked):
    with pytest.raises(QueryInvalid):
        query.render_query(asked, SCOPE)


def test_keys_are_never_rendered_and_values_only_once():
    scope: Any = {"x": "{{ x }}"}
    assert query.render_query({"a": "{{ x }}"}, scope) == Compare(("a",), "$eq", "{{ x }}")
    assert query.render_query({"{{ x }}": 1}, scope) == Compare(("{{ x }}",), "$eq", 1)
    with pytest.raises(TemplateFailed):
        query.render_query({"a": "{{ nothing }}"}, scope)
    with pytest.raises(QueryInvalid, match=r"a\.\$eq"):
        query.check_query({"a": {"$eq": "{{ 1 + }}"}})


def test_a_hostile_pattern_is_matched_quickly():
    asked = query.parse({"a": {"$like": "%a" * 400 + "%b"}})
    assert not query.matches(asked, {"a": "a" * 5_000})


# A second evaluator, written over the JSON and sharing nothing with the first.

FIELDS = ["a", "b", "tags.x", "tags.y"]
SCALARS = st.sampled_from([0, 1, 2, 1.5, True, False, "", "a", "ab", "b"])


def naive_value(document, name):
    for key in name.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def same_kind(left, right):
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    return isinstance(left, str) == isinstance(right, str)


def naive_operator(found, operator, operand):
    if operator == "$not":
        return not all(naive_operator(found, key, value) for key, value in operand.items())
    if operator == "$ne":
        return not naive_operator(found, "$eq", operand)
    if operator == "$nin":
        return not naive_operator(found, "$in", operand)
    if operator == "$in":
        return any(naive_operator(found, "$eq", item) for item in operand)
    if operator == "$exists":
        return (found is not None) == operand
    if found is None or operand is None:
        return operator == "$eq" and found is operand
    if operator == "$like":
        pattern = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in operand)
        return isinstance(found, str) and bool(re.fullmatch(pattern, found, re.DOTALL))
    if not same_kind(found, operand):
        return False
    return {
        "$eq": lambda: found == operand,
        "$gt": lambda: found > operand,
        "$gte": lambda: found >= operand,
        "$lt": lambda: found < operand,
        "$lte": lambda: found <= operand,
    }[operator]()


def naive(asked, document):
    results = []
    for key, value in asked.items():
        if key == "$and":
            results.append(all(naive(part, document) for part in value))
        elif key == "$or":
            results.append(any(naive(part, document) for part in value))
        elif key == "$not":
            results.append(not naive(value, document))
        else:
            operators = value if isinstance(value, dict) else {"$eq": value}
            found = naive_value(document, key)
            results.extend(naive_operator(found, *each) for each in operators.items())
    return all(results)


ORDERABLE = SCALARS.filter(lambda value: not isinstance(value, bool))
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "$eq": SCALARS | st.none(),
        "$ne": SCALARS | st.none(),
        "$gt": ORDERABLE,
        "$lte": ORDERABLE,
        "$in": st.lists(SCALARS | st.none(), max_size=3),
        "$nin": st.lists(SCALARS | st.none(), max_size=3),
        "$exists": st.booleans(),
        "$like": st.text(alphabet="ab%_", max_size=4),
        "$not": st.fixed_dictionaries({"$gte": ORDERABLE}, optional={"$lt": ORDERABLE}),
    },
).filter(bool)
LEAVES = st.dictionaries(st.sampled_from(FIELDS), SCALARS | st.none() | CONDITIONS, max_size=2)
QUERIES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "$and": st.lists(inner, min_size=1, max_size=3),
            "$or": st.lists(inner, min_size=1, max_size=3),
            "$not": inner,
        },
    ),
    max_leaves=6,
)
FOUND = SCALARS | st.none()
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "a": FOUND,
        "b": FOUND,
        "tags": FOUND | st.fixed_dictionaries({}, optional={"x": FOUND, "y": FOUND}),
    },
)


@settings(deadline=None, max_examples=300)
@given(QUERIES, DOCUMENTS)
def test_matching_agrees_with_a_naive_evaluator(asked, document):
    parsed = query.parse(asked)
    assert query.matches(parsed, document) is naive(asked, document)
    assert query.matches(query.parse(query.to_json(parsed)), document) is naive(asked, document)


JSON: st.SearchStrategy[Any] = st.recursive(
    FOUND | st.text(max_size=5) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(query.OPERATORS), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(JSON)
def test_any_json_is_a_query_or_refused(asked):
    try:
        parsed = query.parse(asked)
    except QueryInvalid:
        return
    assert query.matches(parsed, PUMP) in (True, False)
    assert isinstance(parsed, And | Or | Not | Compare | In | Exists | Like | Member)
