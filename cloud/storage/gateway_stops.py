"""Gateways that are asked to drain, and the attempts that were in flight there when they were."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, fetch, fetch_one, is_sqlite, listed
from cloud.storage.schema import OPEN

# An attempt that only awaits its acknowledgment needs its gateway no more.
_BUSY = f"{OPEN} AND status <> 'awaiting'"


@dataclass(frozen=True)
class Drained:
    """Of the attempts that were in flight: how many, and what has become of them since."""

    in_flight: int
    finished: int
    handed_back: int


def ask(session: Session, org: str, ids: Collection[str], operation: str) -> int:
    """Ask gateways to drain, and for what they have not begun; how many were not asked before."""
    asked = listed(session, sorted(ids))
    number = change(
        session,
        "UPDATE gateways SET stop = 'stopping', stop_run = :operation WHERE org = :org "
        f"AND {any_of(session, 'id', 'ids')} AND stop = ''",
        org=org,
        ids=asked,
        operation=operation,
    )
    mine = (
        f"{_BUSY} AND org = :org AND gateway IN (SELECT id FROM gateways WHERE org = :org "
        f"AND stop_run = :operation AND {any_of(session, 'id', 'ids')})"
    )
    change(
        session,
        "INSERT INTO gateway_drains (operation, run, ordinal, attempt) "
        f"SELECT CAST(:operation AS varchar), run, ordinal, attempt FROM tasks WHERE {mine} "
        "ON CONFLICT (operation, run, ordinal, attempt) DO NOTHING",
        org=org,
        ids=asked,
        operation=operation,
    )
    change(
        session,
        "UPDATE tasks SET cancel = 'recall', cancel_sent_at = NULL "
        f"WHERE {mine} AND status IN ('offered', 'accepted') AND cancel IS NULL",
        org=org,
        ids=asked,
        operation=operation,
    )
    return number


def draining(session: Session, org: str, operation: str) -> list[str]:
    """The gateways that this operation asked and that have not drained yet."""
    rows = fetch(
        session,
        "SELECT id FROM gateways WHERE org = :org AND stop_run = :operation "
        "AND stop = 'stopping' ORDER BY id",
        org=org,
        operation=operation,
    )
    return [row.id for row in rows]


def busy(session: Session, org: str, ids: Sequence[str]) -> set[str]:
    """Those of these gateways where something is in flight."""
    rows = fetch(
        session,
        f"SELECT DISTINCT gateway FROM tasks WHERE {_BUSY} AND org = :org "
        f"AND {any_of(session, 'gateway', 'ids')}",
        org=org,
        ids=listed(session, ids),
    )
    return {row.gateway for row in rows}


def wait_for_dispatch(session: Session, lease: str) -> None:
    """Wait until every transaction of the lease's holder that began before this has ended.

    A dispatch that read a gateway before it was asked to stop may not have written its offers yet.
    """
    if not is_sqlite(session):
        fetch_one(session, "SELECT term FROM leases WHERE name = :lease FOR UPDATE", lease=lease)


def set_stopped(session: Session, org: str, ids: Collection[str], operation: str) -> None:
    change(
        session,
        "UPDATE gateways SET stop = 'stopped' WHERE org = :org AND stop_run = :operation "
        f"AND {any_of(session, 'id', 'ids')}",
        org=org,
        ids=listed(session, sorted(ids)),
        operation=operation,
    )


def lift(session: Session, org: str, ids: Collection[str]) -> list[str]:
    """Take the wish back; returns those that had one."""
    rows = fetch(
        session,
        "UPDATE gateways SET stop = '', stop_run = NULL WHERE org = :org "
        "AND stop IN ('stopping', 'stopped') "
        f"AND {any_of(session, 'id', 'ids')} RETURNING id",
        org=org,
        ids=listed(session, sorted(ids)),
    )
    return sorted(row.id for row in rows)


def drained(session: Session, operation: str) -> Drained:
    row = fetch_one(
        session,
        "SELECT count(*) AS number, sum(CASE WHEN a.ended_at IS NOT NULL AND a.begun THEN 1 "
        "ELSE 0 END) AS finished, sum(CASE WHEN a.ended_at IS NOT NULL AND NOT a.begun THEN 1 "
        "ELSE 0 END) AS handed_back FROM gateway_drains d JOIN attempts a ON a.run = d.run "
        "AND a.ordinal = d.ordinal AND a.attempt = d.attempt WHERE d.operation = :operation",
        operation=operation,
    )
    assert row is not None, "an aggregate has a row"
    return Drained(row.number, int(row.finished or 0), int(row.handed_back or 0))


def forget(session: Session, operation: str) -> None:
    """The operation has ended: what it watched is counted in its results."""
    change(session, "DELETE FROM gateway_drains WHERE operation = :operation", operation=operation)
