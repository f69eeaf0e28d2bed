"""Groups, users, data tables, their rows and secrets, as lists and pages show them."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from sqlmodel import SQLModel, col

from cloud.errors import NotFound
from cloud.storage import target_documents
from cloud.storage.database import Session
from cloud.storage.dialect import fetch_one, is_sqlite
from cloud.storage.schema_targets import ContactRow, DataTableRow, GroupRow, SecretRow
from cloud.storage.scope import of_org
from cloud.storage.targets import ROWS, SHAPES, Compiled, Shape, compile_query
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment
from contract import query as queries
from contract.http import Page
from contract.http.targets import Column, Group, Member, Row, Secret, Table, User

R = TypeVar("R", bound=SQLModel)
M = TypeVar("M", bound=BaseModel)
EVERYTHING: Final = queries.EVERYTHING


def _by_id(
    session: Session,
    row: type[R],
    org: str,
    key: str,
    shown: Callable[[Any], M],
    cursor: str | None,
    limit: int,
) -> Page[M]:
    filters = cursors.fingerprint(row.__name__, org)
    after = cursors.decode(cursor, filters, str)
    limit = bounded(limit)
    column: Any = getattr(row, key)
    query = of_org(row, org).order_by(col(column))
    if after is not None:
        query = query.where(col(column) > after[0])
    rows: Sequence[Any] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    return Page(
        items=[shown(one) for one in page],
        next_cursor=cursors.encode([getattr(page[-1], key)], filters) if more else None,
    )


# -- groups


def list_groups(
    session: Session, org: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Group]:
    return _by_id(session, GroupRow, org, "id", lambda g: _group(session, g), cursor, limit)


def get_group(session: Session, org: str, group: str) -> Group:
    """Raises NotFound."""
    return _group(session, _group_row(session, org, group))


def _group_row(session: Session, org: str, group: str) -> GroupRow:
    row = session.get(GroupRow, (org, group))
    if row is None:
        raise NotFound(f"group `{group}`")
    return row


def _members(session: Session, row: GroupRow) -> tuple[Shape, Compiled]:
    condition = target_documents.members_condition(
        session, row.org, row.id, row.resource, row.query
    )
    return SHAPES[row.resource], condition


def list_members(
    session: Session, org: str, group: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Member]:
    """The members there are now, by id; of a saved query what fits it. Raises NotFound."""
    row = _group_row(session, org, group)
    filters = cursors.fingerprint("members", org, group)
    after = cursors.decode(cursor, filters, str)
    limit = bounded(limit)
    shape, condition = _members(session, row)
    found = target_documents.page(
        session, org, shape, condition, after=after[0] if after else "", limit=limit + 1
    )
    return Page(
        items=[Member(id=member) for member, _ in found[:limit]],
        next_cursor=cursors.encode([found[limit - 1][0]], filters) if len(found) > limit else None,
    )


def _group(session: Session, row: GroupRow) -> Group:
    shape, condition = _members(session, row)
    return Group(
        id=row.id,
        name=row.name,
        type=row.type,
        resource="user" if row.resource == "user" else "device",
        query=None if row.query is None else json.loads(row.query),
        members=target_documents.count(session, row.org, shape, condition),
        tags=json.loads(row.tags),
        attributes=json.loads(row.attributes),
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


# -- users


def list_users(
    session: Session, org: str, *, cursor: str | None = None, limit: int = 50
) -> Page[User]:
    return _by_id(session, ContactRow, org, "id", _user, cursor, limit)


def get_user(session: Session, org: str, user: str) -> User:
    """Raises NotFound."""
    row = session.get(ContactRow, (org, user))
    if row is None:
        raise NotFound(f"user `{user}`")
    return _user(row)


def _user(row: ContactRow) -> User:
    return User(
        id=row.id,
        name=row.name,
        type=row.type,
        email=row.email,
        phone=row.phone,
        tags=json.loads(row.tags),
        attributes=json.loads(row.attributes),
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


# -- data tables


def list_tables(
    session: Session, org: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Table]:
    return _by_id(session, DataTableRow, org, "id", lambda t: _table(session, t), cursor, limit)


def get_table(session: Session, org: str, table: str) -> Table:
    """Raises NotFound."""
    return _table(session, table_row(session, org, table))


def table_row(session: Session, org: str, table: str) -> DataTableRow:
    row = session.get(DataTableRow, (org, table))
    if row is None:
        raise NotFound(f"data table `{table}`")
    return row


def _table(session: Session, row: DataTableRow) -> Table:
    number = fetch_one(
        session,
        "SELECT count(*) AS number FROM data_rows WHERE org = :org AND of_table = :id",
        org=row.org,
        id=row.id,
    )
    return Table(
        id=row.id,
        name=row.name,
        columns=[Column.model_validate(column) for column in json.loads(row.columns)],
        rows=number.number if number else 0,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


def list_rows(
    session: Session,
    org: str,
    table: str,
    query: queries.Query = EVERYTHING,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Row]:
    """The rows that fit, by key. Raises NotFound."""
    table_row(session, org, table)
    filters = cursors.fingerprint("rows", org, table, queries.to_json(query))
    after = cursors.decode(cursor, filters, int)
    limit = bounded(limit)
    condition = compile_query(query, sqlite=is_sqlite(session), shape=ROWS)
    found = target_documents.rows(
        session, org, table, condition, after=after[0] if after else 0, limit=limit + 1
    )
    page = [_row(row) for row in found[:limit]]
    return Page(
        items=page,
        next_cursor=cursors.encode([page[-1].id], filters) if len(found) > limit else None,
    )


def get_row(session: Session, org: str, table: str, key: int) -> Row:
    """Raises NotFound."""
    found = fetch_one(
        session,
        "SELECT of_table, key, data, updated_at FROM data_rows WHERE org = :org "
        "AND of_table = :of_table AND key = :key",
        org=org,
        of_table=table,
        key=key,
    )
    if found is None:
        raise NotFound(f"row {key} in data table `{table}`")
    return _row(found)


def _row(row: Any) -> Row:
    return Row(
        id=row.key,
        table=row.of_table,
        values=json.loads(row.data),
        updated_at=moment(row.updated_at),
    )


# -- secrets


def list_secrets(
    session: Session, org: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Secret]:
    """The names, never the values."""
    return _by_id(session, SecretRow, org, "name", secret, cursor, limit)


def secret(row: SecretRow) -> Secret:
    return Secret(
        name=row.name,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        updated_by=row.updated_by,
    )
