"""Holds as rows, and the tasks that wait for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, listed
from cloud.storage.schema import HoldRow


def active(session: Session, org: str, now: int) -> frozenset[tuple[str, str]]:
    """`(kind, id)` of every hold that stands."""
    rows = fetch(
        session,
        "SELECT kind, id FROM holds WHERE org = :org AND (until IS NULL OR until > :now)",
        org=org,
        now=now,
    )
    return frozenset((row.kind, row.id) for row in rows)


def get(session: Session, org: str, kind: str, id: str) -> HoldRow | None:
    return session.get(HoldRow, (org, kind, id))


def set_many(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set holds, over those that stand: org, kind, id, reason, until, by and at of each."""
    change_many(
        session,
        "INSERT INTO holds (org, kind, id, reason, until, by, at) "
        "VALUES (:org, :kind, :id, :reason, :until, :by, :at) ON CONFLICT (org, kind, id) "
        "DO UPDATE SET reason = excluded.reason, until = excluded.until, by = excluded.by, "
        "at = excluded.at",
        rows,
    )


def delete_many(session: Session, org: str, kind: str, ids: Sequence[str]) -> list[str]:
    """Delete the holds on these; returns those that had one."""
    rows = fetch(
        session,
        "DELETE FROM holds WHERE org = :org AND kind = :kind "
        f"AND {any_of(session, 'id', 'ids')} RETURNING id",
        org=org,
        kind=kind,
        ids=listed(session, ids),
    )
    return sorted(row.id for row in rows)


def expired(session: Session, now: int) -> list[tuple[str, str, str]]:
    """`(org, kind, id)` of holds that have run out and still stand as rows."""
    rows = fetch(session, "SELECT org, kind, id FROM holds WHERE until <= :now", now=now)
    return [(row.org, row.kind, row.id) for row in rows]


def delete(session: Session, org: str, kind: str, id: str) -> bool:
    sql = "DELETE FROM holds WHERE org = :org AND kind = :kind AND id = :id"
    return change(session, sql, org=org, kind=kind, id=id) > 0
