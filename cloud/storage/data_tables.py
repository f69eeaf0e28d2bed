"""Rows of data tables, in bulk."""

from collections.abc import Sequence

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch_one, for_update, listed
from cloud.storage.schema_targets import DataTableRow


def take_keys(session: Session, org: str, table: str, number: int) -> int | None:
    """Reserve keys that follow each other; the first, or None without such a table."""
    row = fetch_one(
        session,
        f"SELECT next_key FROM data_tables WHERE org = :org AND id = :id{for_update(session)}",
        org=org,
        id=table,
    )
    if row is None:
        return None
    change(
        session,
        "UPDATE data_tables SET next_key = :next WHERE org = :org AND id = :id",
        org=org,
        id=table,
        next=row.next_key + number,
    )
    first: int = row.next_key
    return first


def insert(
    session: Session, org: str, table: str, first: int, rows: Sequence[str], now: int
) -> None:
    """Store rows, each the JSON of its values, under the keys from `first` on."""
    change_many(
        session,
        "INSERT INTO data_rows (org, of_table, key, data, updated_at) "
        "VALUES (:org, :of_table, :key, :data, :now)",
        [
            {"org": org, "of_table": table, "key": first + n, "data": data, "now": now}
            for n, data in enumerate(rows)
        ],
    )


def delete(session: Session, org: str, table: str, keys: Sequence[int]) -> int:
    return change(
        session,
        f"DELETE FROM data_rows WHERE org = :org AND of_table = :of_table "
        f"AND {any_of(session, 'key', 'keys')}",
        org=org,
        of_table=table,
        keys=listed(session, keys),
    )


def delete_some(session: Session, org: str, table: str, limit: int) -> int:
    """Delete up to `limit` rows of a table that is going."""
    return change(
        session,
        "DELETE FROM data_rows WHERE org = :org AND of_table = :of_table AND key IN "
        "(SELECT key FROM data_rows WHERE org = :org AND of_table = :of_table ORDER BY key "
        "LIMIT :limit)",
        org=org,
        of_table=table,
        limit=limit,
    )


def get(session: Session, org: str, table: str) -> DataTableRow | None:
    return session.get(DataTableRow, (org, table))
