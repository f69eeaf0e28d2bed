"""Targets as the documents that templates and queries see, read in bulk.

A document never holds more than what stands in the rows now: an attempt that starts later sees
later tags. A group's members are listed until they would fill a message.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import Row

from cloud.storage import groups
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, fetch_one, is_sqlite, listed
from cloud.storage.targets import (
    DEVICES,
    GATEWAYS,
    GROUPS,
    ROWS,
    SHAPES,
    USERS,
    Compiled,
    Shape,
    compile_query,
    in_table,
)
from contract import query as queries
from contract.query_fields import expand_groups

Document = dict[str, JsonValue]
# What members may take of the 128 KiB of a message, and how many of them are looked at.
MAX_MEMBERS_BYTES: Final = 32 * 1024
MAX_MEMBERS: Final = 1_000
_COLUMNS: Final = {
    "device": "id, type, name, gateway, tags, attributes, state",
    "gateway": "id, type, name, version, tags, attributes, health AS state",
    "group": "id, type, name, resource, tags, attributes, query",
    "user": "id, type, name, email, phone, tags, attributes",
    "row": "of_table, key, data",
}


def of_ids(
    session: Session,
    org: str,
    shape: Shape,
    ids: Iterable[str],
    table: str = "",
    *,
    members: bool = True,
) -> dict[str, Document]:
    """The documents of these targets by id; what is gone is missing. `table` is that of rows.

    Groups come without their members if those are not asked for.
    """
    wanted: list[Any] = sorted(set(ids))
    if not wanted:
        return {}
    if shape.counts:
        wanted = [int(key) for key in wanted]
    parameters: dict[str, Any] = {"of_table": table} if shape is ROWS else {}
    rows = fetch(
        session,
        f"SELECT {_COLUMNS[shape.resource]} FROM {shape.table} WHERE org = :org{in_table(shape)} "
        f"AND {any_of(session, shape.key, 'ids')}",
        org=org,
        ids=listed(session, wanted),
        **parameters,
    )
    return {_id(shape, row): _document(session, org, shape, row, members) for row in rows}


def known(
    session: Session, org: str, shape: Shape, ids: Iterable[str], table: str = ""
) -> set[str]:
    """Those of these ids that there are; `table` is that of rows."""
    wanted: list[Any] = sorted(set(ids))
    if shape.counts:
        wanted = [int(key) for key in wanted]
    parameters: dict[str, Any] = {"of_table": table} if shape is ROWS else {}
    rows = fetch(
        session,
        f"SELECT {shape.key} AS id FROM {shape.table} WHERE org = :org{in_table(shape)} "
        f"AND {any_of(session, shape.key, 'ids')}",
        org=org,
        ids=listed(session, wanted),
        **parameters,
    )
    return {str(row.id) for row in rows}


def page(
    session: Session,
    org: str,
    shape: Shape,
    condition: Compiled,
    *,
    table: str = "",
    after: str = "",
    limit: int,
) -> list[tuple[str, Document]]:
    """The next targets that fit, by id, with their documents."""
    where, parameters = condition
    if shape is ROWS:
        parameters = {**parameters, "of_table": table}
    rows = fetch(
        session,
        f"SELECT {_COLUMNS[shape.resource]} FROM {shape.table} WHERE {shape.table}.org = :org"
        f"{in_table(shape)} AND {shape.key} > :after AND {where} ORDER BY {shape.key} "
        "LIMIT :limit",
        org=org,
        after=int(after or 0) if shape.counts else after,
        limit=limit,
        **parameters,
    )
    return [(_id(shape, row), _document(session, org, shape, row)) for row in rows]


def count(
    session: Session, org: str, shape: Shape, condition: Compiled, table: str = "", extra: str = ""
) -> int:
    """How many targets fit, of those that fulfil `extra`, a condition without parameters."""
    where, parameters = condition
    if shape is ROWS:
        parameters = {**parameters, "of_table": table}
    row = fetch_one(
        session,
        f"SELECT count(*) AS number FROM {shape.table} WHERE {shape.table}.org = :org"
        f"{in_table(shape)} AND {where}{extra}",
        org=org,
        **parameters,
    )
    return row.number if row else 0


def _id(shape: Shape, row: Row[Any]) -> str:
    return str(row.key if shape is ROWS else row.id)


def _document(
    session: Session, org: str, shape: Shape, row: Row[Any], members: bool = True
) -> Document:
    if shape is ROWS:
        return {**json.loads(row.data), "id": row.key, "table": row.of_table}
    found: Document = {
        name: json.loads(value) if name in shape.sections else value
        for name, value in row._mapping.items()
        if name != "query"
    }
    if shape is GATEWAYS:
        found["gateway"] = row.id
    if shape is GROUPS and members:
        found |= _members(session, org, row)
    return found


def members_condition(
    session: Session, org: str, group: str, resource: str, query: str | None
) -> Compiled:
    """The members of a group as a condition on their table; `query` is the group's, if it has one.

    Groups that its query names are put in place; one that is gone has no members.
    """
    parsed: queries.Query = queries.Member((group,))
    if query is not None:
        saved = groups.saved_queries(session, org, resource)

        def of_group(name: str) -> queries.Query | None:
            return queries.parse(json.loads(saved[name])) if name in saved else None

        parsed = expand_groups(queries.parse(json.loads(query)), of_group)
    return compile_query(parsed, sqlite=is_sqlite(session), shape=SHAPES[resource])


def _members(session: Session, org: str, row: Row[Any]) -> Document:
    shape = DEVICES if row.resource == "device" else USERS
    condition = members_condition(session, org, row.id, row.resource, row.query)
    members, size = [], 0
    for _, document in page(session, org, shape, condition, limit=MAX_MEMBERS):
        document.pop("state", None)
        size += len(json.dumps(document))
        if size > MAX_MEMBERS_BYTES:
            break
        members.append(document)
    total = count(session, org, shape, condition)
    return {"members": list[JsonValue](members), "members_total": total}


def rows(
    session: Session,
    org: str,
    table: str,
    condition: Compiled,
    *,
    after: int,
    limit: int,
    upto: int | None = None,
) -> Sequence[Row[Any]]:
    """The next rows of a data table that fit, as they are stored; none above the key `upto`."""
    where, parameters = condition
    return fetch(
        session,
        "SELECT of_table, key, data, updated_at FROM data_rows WHERE org = :org "
        f"AND of_table = :of_table AND key > :after {'' if upto is None else 'AND key <= :upto'} "
        f"AND {where} ORDER BY key LIMIT :limit",
        org=org,
        of_table=table,
        after=after,
        limit=limit,
        **({} if upto is None else {"upto": upto}),
        **parameters,
    )


def keys_in_use(
    session: Session, org: str, shape: Shape, column: str, table: str = "", limit: int = 500
) -> list[str]:
    """The names in a JSON column of all targets, in order; the first `limit`."""
    parameters: dict[str, Any] = {"of_table": table} if shape is ROWS else {}
    value = f"{shape.table}.{column}"
    if is_sqlite(session):
        source = f"{shape.table}, json_each({value}) AS entry"
        name = "entry.key"
    else:
        source = f"{shape.table}, jsonb_object_keys(CAST({value} AS jsonb)) AS entry(key)"
        name = 'entry.key COLLATE "C"'
    found = fetch(
        session,
        f"SELECT DISTINCT {name} AS name FROM {source} WHERE {shape.table}.org = :org"
        f"{in_table(shape)} ORDER BY 1 LIMIT :limit",
        org=org,
        limit=limit,
        **parameters,
    )
    return [row.name for row in found]


def columns_of(session: Session, org: str, table: str) -> Sequence[str] | None:
    """The names of a data table's columns, empty for a free one; None without such a table."""
    row = fetch_one(
        session, "SELECT columns FROM data_tables WHERE org = :org AND id = :id", org=org, id=table
    )
    return None if row is None else [column["name"] for column in json.loads(row.columns)]
