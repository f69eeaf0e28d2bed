"""The short form of a query means what its JSON form means, and says where it is wrong."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.query import QueryInvalid, matches, parse
from contract.query_text import QueryTextInvalid, parse_text, to_text
from tests.integration.storage.test_targets import DOCUMENTS, QUERIES


@pytest.mark.row("A3")
@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", {}),
        ("type:pump", {"type": "pump"}),
        (
            "type:pump AND tags.site:berlin AND state.version<2.4 AND NOT group:lab",
            {
                "$and": [
                    {"type": "pump"},
                    {"tags.site": "berlin"},
                    {"state.version": {"$lt": 2.4}},
                    {"$not": {"group": "lab"}},
                ]
            },
        ),
        (
            "type:a OR type:b AND id:c",
            {"$or": [{"type": "a"}, {"$and": [{"type": "b"}, {"id": "c"}]}]},
        ),
        ("tags.floor:(1, 2, ground)", {"tags.floor": {"$in": [1, 2, "ground"]}}),
        ("tags.floor!=(1)", {"tags.floor": {"$nin": [1]}}),
        ("tags.site:*", {"tags.site": {"$exists": True}}),
        ("name~pump%", {"name": {"$like": "pump%"}}),
        ('tags.on:true AND name:"AND \\"x\\""', {"$and": [{"tags.on": True}, {"name": 'AND "x"'}]}),
        ('state.version:"2.4"', {"state.version": "2.4"}),
        ("tags.site:{{ ctx.site }}", {"tags.site": "{{ ctx.site }}"}),
        ('"tags.a b">=-1.5e3', {"tags.a b": {"$gte": -1500.0}}),
    ],
)
def test_people_write_short_queries(text: str, query: object) -> None:
    assert parse_text(text) == query


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("type", 5),
        ("type:", 6),
        ("type:pump tags.site:x", 11),
        ("(type:pump", 11),
        ("type:pump AND", 14),
        ("AND type:pump", 1),
        ('name:"x', 6),
        ("type:a)", 7),
        ("type::a", 6),
        ("a:(1 2)", 6),
        ("(" * 50 + "a:1", 17),
        ("NOT " * 5000 + "a:1", 10_000),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, position: int) -> None:
    with pytest.raises(QueryTextInvalid) as raised:
        parse_text(text)
    assert raised.value.position == position


@given(text=st.text(max_size=60))
def test_any_text_is_a_query_or_a_mistake(text: str) -> None:
    with suppress(QueryInvalid):
        parse(parse_text(text))


@given(query=QUERIES, documents=st.lists(DOCUMENTS, min_size=1, max_size=4))
def test_the_short_form_reads_back(query: object, documents: list[dict[str, object]]) -> None:
    try:
        parsed = parse(query)  # type: ignore[arg-type]
    except QueryInvalid:
        return
    again = parse(parse_text(to_text(parsed)))
    for n, document in enumerate(documents):
        whole = {"id": f"device-{n}", **document}
        assert matches(again, whole) == matches(parsed, whole)  # type: ignore[arg-type]
