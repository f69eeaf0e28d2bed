"""Data tables and their rows: created, edited, deleted; written by people, files and steps."""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from cloud.coordinator.access import Caller
from cloud.domain.data_rows import RowInvalid, checked
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import data_tables, jobs
from cloud.storage.database import Session
from cloud.storage.gateways import edited
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema_targets import DataRow, DataTableRow
from cloud.storage.views import targets as views
from contract import query as queries
from contract.http import Page
from contract.http.problems import ProblemItem
from contract.http.targets import Column, NewTable, Row, Table
from contract.query_fields import check_fields
from contract.query_text import query_of

MAX_ROWS_DELETED_AT_ONCE = 10_000


def create_table(session: Session, caller: Caller, new: NewTable, now: int) -> Table:
    """Raises Conflict("exists"), and Invalid for a column that stands twice."""
    names = [column.name for column in new.columns]
    if len(set(names)) < len(names):
        raise Invalid("invalid", "columns: a name stands twice")
    row = DataTableRow(
        org=caller.org,
        id=new.id,
        name=clean(new.name),
        columns=to_json([column.model_dump() for column in new.columns]),
        created_at=now,
        updated_at=now,
    )
    if not jobs.insert(session, row):
        raise Conflict("exists", f"there is a data table `{new.id}`")
    return views.get_table(session, caller.org, new.id)


def delete_table(session: Session, caller: Caller, table: str) -> None:
    """Delete a table. Raises NotFound, and Conflict("not_empty") while it has many rows."""
    row = views.table_row(session, caller.org, table)
    data_tables.delete_some(session, caller.org, table, MAX_ROWS_DELETED_AT_ONCE)
    if data_tables.delete_some(session, caller.org, table, 1):
        raise Conflict(
            "not_empty", f"`{table}` has more than {MAX_ROWS_DELETED_AT_ONCE} rows: delete those "
            "first, as a run of their own"
        )  # fmt: skip
    session.delete(row)


def columns_of(row: DataTableRow) -> list[Column]:
    return [Column.model_validate(column) for column in json.loads(row.columns)]


def add_rows(
    session: Session, org: str, table: str, rows: Sequence[Mapping[str, JsonValue]], now: int
) -> list[int]:
    """Store rows; returns their keys. Raises NotFound, and Invalid with every row that is wrong."""
    columns = columns_of(views.table_row(session, org, table))
    texts, items = [], []
    for index, values in enumerate(rows):
        try:
            texts.append(to_json(checked(values, columns)))
        except RowInvalid as error:
            key = f"rows[{index}].{error.column}" if error.column else f"rows[{index}]"
            items.append(ProblemItem(key=key, message=str(error)))
    if items:
        raise Invalid("invalid", f"{items[0].key}: {items[0].message}", items[:100])
    first = data_tables.take_keys(session, org, table, len(texts))
    if first is None:
        raise NotFound(f"data table `{table}`")
    data_tables.insert(session, org, table, first, texts, now)
    return list(range(first, first + len(texts)))


def create_rows(
    session: Session,
    caller: Caller,
    table: str,
    rows: Sequence[Mapping[str, JsonValue]],
    now: int,
) -> list[Row]:
    """As `add_rows`, and what is stored."""
    keys = add_rows(session, caller.org, table, rows, now)
    return [views.get_row(session, caller.org, table, key) for key in keys]


def edit_row(
    session: Session,
    org: str,
    table: str,
    key: int,
    values: Mapping[str, JsonValue],
    now: int,
) -> Row:
    """Set values of a row; a null takes one away. Raises NotFound and Invalid."""
    columns = columns_of(views.table_row(session, org, table))
    row = session.get(DataRow, (org, table, key))
    if row is None:
        raise NotFound(f"row {key} in data table `{table}`")
    try:
        row.data = to_json(checked(edited(json.loads(row.data), values), columns))
    except RowInvalid as error:
        items = [ProblemItem(key=f"values.{error.column}", message=str(error))]
        raise Invalid("invalid", str(error), items) from error
    row.updated_at = now
    session.add(row)
    session.flush()
    return views.get_row(session, org, table, key)


def delete_row(session: Session, caller: Caller, table: str, key: int) -> None:
    """Raises NotFound."""
    if not data_tables.delete(session, caller.org, table, [key]):
        raise NotFound(f"row {key} in data table `{table}`")


def row_query(session: Session, org: str, table: str, query: JsonValue) -> queries.Query:
    """A query over a table's rows, read and checked. Raises NotFound and Invalid."""
    names = [column.name for column in columns_of(views.table_row(session, org, table))]
    try:
        read = queries.parse(query_of(query))
        check_fields(read, "row", names)
    except queries.QueryInvalid as error:
        raise Invalid("invalid", f"query: {error}", [
            ProblemItem(key=f"query.{error.path}" if error.path else "query", message=error.reason)
        ]) from error  # fmt: skip
    return read


def find_rows(
    session: Session,
    org: str,
    table: str,
    query: JsonValue,
    cursor: str | None,
    limit: int,
) -> Page[Row]:
    """A page of the rows that fit. Raises NotFound and Invalid."""
    read = row_query(session, org, table, query)
    return views.list_rows(session, org, table, read, cursor=cursor, limit=limit)
