"""A target query as SQL means what `contract.query.matches` says, on both databases."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from sqlmodel import select

from cloud.storage.database import Database, Session
from cloud.storage.dialect import fetch, is_sqlite
from cloud.storage.json_text import to_json
from cloud.storage.schema import DeviceRow, GatewayRow
from cloud.storage.schema_targets import ContactRow, DataRow, GroupRow
from cloud.storage.targets import SHAPES, compile_query
from contract.query import SECTIONS, Query, QueryInvalid, matches, parse

TEXTS = st.sampled_from(
    ["", "a", "A", "ab", "a%b", "a_b", "\\", "é", "ß", "\U0001f600", "0", "true"]
)
NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, -1.5, 1.0, 1e15, 2**53, 2**62, 0.1, 1e-7])
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
KEYS = st.sampled_from(["site", "version", "a b", "0", "é", "x'y", "k-1"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS, inner, max_size=2)),
    max_leaves=4,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {
        "type": TEXTS,
        "name": TEXTS,
        "gateway": st.one_of(st.none(), st.sampled_from(["berlin", "paris"])),
        "tags": OBJECTS,
        "attributes": OBJECTS,
        "state": OBJECTS,
    }
)
PATHS = st.one_of(
    st.sampled_from(["id", "type", "gateway", "name", "group", "tags", "id.x", "other", "other.x"]),
    st.tuples(st.sampled_from(SECTIONS), KEYS).map(".".join),
    st.tuples(st.sampled_from(SECTIONS), KEYS, KEYS).map(".".join),
)
VALUES = st.one_of(TEXTS, NUMBERS, st.sampled_from(["device-0", "berlin"]))
CONDITIONS = st.one_of(
    VALUES,
    st.booleans(),
    st.none(),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), VALUES),
    st.builds(lambda v: {"$ne": v}, SCALARS),
    st.builds(
        lambda op, v: {op: v}, st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=3)
    ),
    st.builds(lambda v: {"$exists": v}, st.booleans()),
    st.builds(
        lambda v: {"$like": v}, st.sampled_from(["%", "a%", "_", "%b", "a\\%b", "A", "", "é"])
    ),
)
QUERIES = st.recursive(
    st.dictionaries(PATHS, CONDITIONS, max_size=2),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts}),
        inner.map(lambda part: {"$not": part}),
    ),
    max_leaves=4,
)


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(documents=st.lists(DOCUMENTS, min_size=1, max_size=5), queries=st.lists(QUERIES, max_size=8))
def test_sql_and_python_agree(
    database: Database, documents: list[dict[str, JsonValue]], queries: list[JsonValue]
):
    devices = {f"device-{n}": document for n, document in enumerate(documents)}
    database.run_now(_replace, devices)
    for query in queries:
        try:
            parsed = parse(query)
        except QueryInvalid:
            continue
        expected = {
            device
            for device, document in devices.items()
            if matches(parsed, {"id": device, **document})
        }
        found = database.read_now(_found, parsed)
        assert found == expected, query


def _replace(session: Session, devices: Mapping[str, dict[str, JsonValue]]) -> None:
    for row in fetch(session, "SELECT id FROM devices"):
        session.delete(session.get(DeviceRow, ("default", row.id)))
    session.flush()
    for device, document in devices.items():
        fields = {
            name: to_json(value) if name in SECTIONS else value for name, value in document.items()
        }
        session.add(DeviceRow(org="default", id=device, created_at=0, **fields))  # type: ignore[arg-type]


def _found(session: Session, parsed: object) -> set[str]:
    where, parameters = compile_query(parsed, sqlite=is_sqlite(session))  # type: ignore[arg-type]
    return {row.id for row in fetch(session, f"SELECT id FROM devices WHERE {where}", **parameters)}


ROW_PATHS = st.one_of(KEYS, st.tuples(KEYS, KEYS).map(".".join), st.just("id"), st.just("id.x"))


@pytest.mark.parametrize("resource", ["row", "user", "gateway", "group"])
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_sql_and_python_agree_on_every_kind_of_target(
    database: Database, resource: str, data: st.DataObject
):
    kind: st.SearchStrategy[Any] = OBJECTS if resource == "row" else DOCUMENTS
    documents = data.draw(st.lists(kind, max_size=4))
    paths = ROW_PATHS if resource == "row" else PATHS
    queries = data.draw(st.lists(st.dictionaries(paths, CONDITIONS, max_size=2), max_size=6))
    stored = database.run_now(_store, resource, documents)
    for query in queries:
        try:
            parsed = parse(query)
        except QueryInvalid:
            continue
        expected = {key for key, document in stored.items() if matches(parsed, document)}
        assert database.read_now(_keys, resource, parsed) == expected, query


def _store(
    session: Session, resource: str, documents: list[dict[str, JsonValue]]
) -> dict[str, dict[str, JsonValue]]:
    """Store targets in place of those there are; returns them as queries see them."""
    kinds: dict[str, Any] = {
        "row": DataRow,
        "user": ContactRow,
        "gateway": GatewayRow,
        "group": GroupRow,
    }
    for row in session.exec(select(kinds[resource])).all():
        session.delete(row)
    session.flush()
    found: dict[str, dict[str, JsonValue]] = {}
    for n, document in enumerate(documents, 1):
        if resource == "row":
            data = to_json(document)
            session.add(DataRow(org="default", of_table="t", key=n, data=data, updated_at=0))
            found[str(n)] = {**document, "id": n}
            continue
        shown = {"id": f"t-{n}", "type": document["type"], "name": document["name"]}
        shown |= {"tags": document["tags"], "attributes": document["attributes"]}
        fields: dict[str, Any] = {**shown, "org": "default", "created_at": 0}
        fields |= {name: to_json(shown[name]) for name in ("tags", "attributes")}
        if resource == "gateway":
            shown["state"] = document["state"]
            fields |= {"health": to_json(document["state"]), "token_hash": f"hash-{n}"}
        else:
            fields["updated_at"] = 0
        session.add(kinds[resource](**fields))
        found[f"t-{n}"] = shown
    return found


def _keys(session: Session, resource: str, parsed: Query) -> set[str]:
    shape = SHAPES[resource]
    where, parameters = compile_query(parsed, sqlite=is_sqlite(session), shape=shape)
    sql = f"SELECT {shape.key} AS found FROM {shape.table} WHERE {where}"
    return {str(row.found) for row in fetch(session, sql, **parameters)}
