"""Holds as rows, and the tasks that wait for them."""

from cloud.storage.database import Session
from cloud.storage.dialect import change, fetch
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


def expired(session: Session, now: int) -> list[tuple[str, str, str]]:
    """`(org, kind, id)` of holds that have run out and still stand as rows."""
    rows = fetch(session, "SELECT org, kind, id FROM holds WHERE until <= :now", now=now)
    return [(row.org, row.kind, row.id) for row in rows]


def delete(session: Session, org: str, kind: str, id: str) -> bool:
    sql = "DELETE FROM holds WHERE org = :org AND kind = :kind AND id = :id"
    return change(session, sql, org=org, kind=kind, id=id) > 0
