"""Background operations: runs of kind `operation`, and what they read and write in bulk."""

from collections.abc import Sequence
from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, listed
from cloud.storage.schema import RunRow


def open_ones(session: Session) -> list[RunRow]:
    """Operations that have not ended and are not paused, the oldest first."""
    rows = fetch(
        session,
        "SELECT id FROM runs WHERE ended_at IS NULL AND kind = 'operation' AND paused_by = '' "
        "ORDER BY created_at, id LIMIT 100",
    )
    found = [session.get(RunRow, row.id) for row in rows]
    return [row for row in found if row is not None]


def save_users(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store users, over those that are there."""
    change_many(
        session,
        "INSERT INTO contacts (org, id, name, type, email, phone, tags, attributes, created_at, "
        "updated_at) VALUES (:org, :id, :name, :type, :email, :phone, :tags, :attributes, :now, "
        ":now) ON CONFLICT (org, id) DO UPDATE SET name = excluded.name, type = excluded.type, "
        "email = excluded.email, phone = excluded.phone, tags = excluded.tags, "
        "attributes = excluded.attributes, updated_at = excluded.updated_at",
        rows,
    )


def delete_targets(session: Session, org: str, table: str, ids: Sequence[str]) -> int:
    """Delete users, or devices that no gateway owns and no task holds; returns how many."""
    free = " AND gateway IS NULL AND held_by IS NULL" if table == "devices" else ""
    resource = "device" if table == "devices" else "user"
    change(
        session,
        f"DELETE FROM group_members WHERE org = :org AND {any_of(session, 'member', 'ids')} "
        f"AND of_group IN (SELECT id FROM groups WHERE org = :org AND resource = '{resource}')"
        + (
            " AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.org = group_members.org "
            "AND d.id = group_members.member AND (d.gateway IS NOT NULL OR d.held_by IS NOT NULL))"
            if free
            else ""
        ),
        org=org,
        ids=listed(session, ids),
    )
    return change(
        session,
        f"DELETE FROM {table} WHERE org = :org AND {any_of(session, 'id', 'ids')}{free}",
        org=org,
        ids=listed(session, ids),
    )
