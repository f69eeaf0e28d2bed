"""A target query as SQL means what `contract.query.matches` says, on both databases."""

from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from cloud.storage.database import Database, Session
from cloud.storage.dialect import fetch, is_sqlite
from cloud.storage.json_text import to_json
from cloud.storage.schema import DeviceRow
from cloud.storage.targets import compile_query
from contract.query import SECTIONS, QueryInvalid, matches, parse

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
