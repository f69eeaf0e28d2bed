"""Tasks of gateways that are silent for long, in bulk."""

from collections.abc import Iterable
from typing import Final

from cloud.storage.database import Session
from cloud.storage.dialect import change, change_many, fetch, fetch_one, for_update
from cloud.storage.schema import DUE, OPEN
from cloud.storage.tasks import COLUMNS, Key, StoredTask, stored
from contract.lifecycle import TaskStatus
from contract.messages import Failure

_SILENT: Final = "COALESCE(g.last_heard_at, g.created_at)"
_MINE: Final = ", ".join(f"t.{name.strip()}" for name in COLUMNS.split(","))
# Attempts that hold a slot.
_HOLDING: Final = f"{OPEN.replace('status', 't.status')} AND t.status <> 'awaiting'"


def silent(
    session: Session, now: int, silence: int, limit: int
) -> list[tuple[StoredTask, str, int | None]]:
    """Open tasks whose gateway is silent for longer than their run waits, locked.

    Those that are not stranded yet, or past their deadline where the run does not wait; each with
    the run's policy and its deadline.
    """
    rows = fetch(
        session,
        f"""
        SELECT {_MINE}, t.deadline, r.offline FROM gateways g
        JOIN tasks t ON {_HOLDING} AND t.org = g.org AND t.gateway = g.id
        JOIN runs r ON r.id = t.run
        WHERE {_SILENT} < :silent AND {_SILENT} < :now - r.offline_after AND r.cancel IS NULL
            AND (NOT t.stranded OR (r.offline <> 'wait' AND t.deadline < :now))
        ORDER BY t.run, t.ordinal LIMIT :limit{for_update(session, " OF t SKIP LOCKED")}""",
        silent=now - silence,
        now=now,
        limit=limit,
    )
    return [(stored(row), row.offline, row.deadline) for row in rows]


def flag(session: Session, keys: Iterable[Key]) -> None:
    _flag(session, keys, "TRUE")


def unflag(session: Session, keys: Iterable[Key]) -> None:
    _flag(session, keys, "FALSE")


def _flag(session: Session, keys: Iterable[Key], value: str) -> None:
    change_many(
        session,
        f"UPDATE tasks SET stranded = {value} WHERE run = :run AND ordinal = :ordinal AND {OPEN}",
        [{"run": run, "ordinal": ordinal} for run, ordinal in sorted(keys)],
    )


def back(session: Session, now: int, silence: int) -> list[Key]:
    """Stranded tasks whose gateway is online, locked."""
    some = "SELECT run FROM run_counts GROUP BY run HAVING sum(stranded) > 0 LIMIT 1"
    if fetch_one(session, some) is None:
        return []
    rows = fetch(
        session,
        f"""
        SELECT t.run, t.ordinal FROM gateways g
        JOIN tasks t ON {_HOLDING} AND t.org = g.org AND t.gateway = g.id
        WHERE g.last_heard_at >= :heard AND t.stranded
        ORDER BY t.run, t.ordinal LIMIT 1000{for_update(session, " OF t")}""",
        heard=now - silence,
    )
    return [(row.run, row.ordinal) for row in rows]


def parked(
    session: Session, now: int, silence: int, limit: int
) -> list[tuple[str, int, TaskStatus, str]]:
    """Tasks of runs that do not wait for silent gateways: run, ordinal, status and policy."""
    policy = "SELECT 1 FROM runs WHERE ended_at IS NULL AND offline <> 'wait' LIMIT 1"
    if fetch_one(session, policy) is None:
        return []
    rows = fetch(
        session,
        f"""
        SELECT t.run, t.ordinal, t.status, r.offline FROM gateways g
        JOIN tasks t ON {DUE.replace("status", "t.status")} AND t.parked IS NOT NULL
            AND t.org = g.org AND t.parked = 'gateway:' || g.id
        JOIN runs r ON r.id = t.run
        WHERE {_SILENT} < :silent AND {_SILENT} < :now - r.offline_after
            AND r.offline <> 'wait' AND r.cancel IS NULL AND r.ended_at IS NULL
        ORDER BY t.run, t.ordinal LIMIT :limit{for_update(session, " OF t SKIP LOCKED")}""",
        silent=now - silence,
        now=now,
        limit=limit,
    )
    return [(row.run, row.ordinal, TaskStatus(row.status), row.offline) for row in rows]


def end_parked(
    session: Session, run: str, ordinal: int, status: TaskStatus, failure: Failure, now: int
) -> None:
    change(
        session,
        "UPDATE tasks SET status = :status, parked = NULL, ended_at = :now, "
        "failure_code = :code, failure_text = :text "
        f"WHERE run = :run AND ordinal = :ordinal AND {DUE}",
        run=run,
        ordinal=ordinal,
        status=status.value,
        now=now,
        code=failure.code,
        text=failure.text,
    )
