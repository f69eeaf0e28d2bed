"""Runs as the engine needs them: facts by id, live ones with their counts, frozen bodies."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Row
from sqlmodel import col, select

from cloud.domain.tasks import RetryPolicy, RunFacts
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, is_sqlite, listed
from cloud.storage.schema import RunRow
from contract.lifecycle import TASK_ENDS, TASK_OPEN

# How long after its last look a continuous run looks for new targets.
LOOK_AGAIN_MS: Final = 10_000
FACTS: Final = "id, retry, timeout, start_by, expires_at, cancel, ended_at, delay"


def retry_json(policy: RetryPolicy) -> str:
    return json.dumps(
        {
            "on_timeout": policy.on_timeout,
            "on_failure": policy.on_failure,
            "delay": policy.delay,
            "backoff": policy.backoff,
            "max_delay": policy.max_delay,
        }
    )


def facts_of(row: Row[Any]) -> RunFacts:
    """A row with `FACTS` as a value."""
    return RunFacts(
        retry=RetryPolicy(**json.loads(row.retry)),
        timeout=row.timeout,
        start_by=row.start_by,
        expires_at=row.expires_at,
        cancelled=row.cancel is not None,
        ended=row.ended_at is not None,
        delay=row.delay,
    )


def load_facts(session: Session, runs: Iterable[str]) -> Mapping[str, RunFacts]:
    wanted = sorted(set(runs))
    if not wanted:
        return {}
    rows = fetch(
        session,
        f"SELECT {FACTS} FROM runs WHERE {any_of(session, 'id', 'runs')}",
        runs=listed(session, wanted),
    )
    return {row.id: facts_of(row) for row in rows}


def get(session: Session, run: str, *, lock: bool = False) -> RunRow | None:
    query = select(RunRow).where(RunRow.id == run)
    if lock and not is_sqlite(session):
        query = query.with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).first()


def to_fill(session: Session, now: int) -> list[str]:
    """Runs whose tasks are still being created, and those that look for more targets."""
    rows = fetch(
        session,
        "SELECT id FROM runs WHERE ended_at IS NULL AND started_at IS NOT NULL AND (creating "
        "OR (continuous AND status = 'running' AND looked_at <= :before)) "
        "ORDER BY created_at, id",
        before=now - LOOK_AGAIN_MS,
    )
    return [row.id for row in rows]


def to_sweep(session: Session) -> list[str]:
    """Runs that were cancelled, paused or retried and still have tasks to look at."""
    rows = fetch(
        session,
        "SELECT id FROM runs WHERE ended_at IS NULL AND kind = 'job' AND ((cancel IS NOT NULL "
        "AND cancelled_to < total) OR (cancel IS NULL AND retry_asked IS NOT NULL) "
        "OR (cancel IS NULL AND paused_by <> '' AND recalled_to < total)) "
        "ORDER BY created_at, id",
    )
    return [row.id for row in rows]


def to_settle(session: Session, now: int) -> list[str]:
    """Runs whose tasks may all have ended, and those that are cancelled or expired."""
    ended = " + ".join(f"sum(c.{status})" for status in sorted(TASK_ENDS))
    open_ = " + ".join(f"sum(c.{status})" for status in sorted(TASK_OPEN))
    rows = fetch(
        session,
        f"""
        SELECT r.id FROM runs r LEFT JOIN run_counts c ON c.run = r.id WHERE r.ended_at IS NULL
            AND r.kind = 'job'
        GROUP BY r.id, r.cancel, r.expires_at, r.creating, r.total, r.created_at, r.status,
            r.fed
        HAVING r.cancel IS NOT NULL OR r.expires_at <= :now
            OR (r.status = 'pausing' AND COALESCE({open_}, 0) = 0)
            OR (NOT r.creating AND NOT r.fed AND COALESCE({ended}, 0) >= r.total)
        ORDER BY r.created_at, r.id""",
        now=now,
    )
    return [row.id for row in rows]


def to_start(session: Session, now: int) -> list[str]:
    """Runs whose start has come and that take over from no run still in flight, the oldest first.

    Another run of the job may still keep one from starting.
    """
    rows = fetch(
        session,
        """
        SELECT r.id FROM runs r WHERE r.ended_at IS NULL AND r.started_at IS NULL
            AND r.cancel IS NULL AND r.paused_by = ''
            AND (r.starts_at IS NULL OR r.starts_at <= :now)
            AND NOT EXISTS (SELECT 1 FROM runs o WHERE o.ended_at IS NULL AND o.replaced_by = r.id)
            AND NOT EXISTS (SELECT 1 FROM runs o WHERE o.org = r.org AND o.job = r.job
                AND o.ended_at IS NULL AND o.started_at IS NOT NULL)
        ORDER BY r.created_at, r.id LIMIT 1000""",
        now=now,
    )
    return [row.id for row in rows]


def of_job(session: Session, org: str, job: str) -> list[RunRow]:
    """A job's runs that have not ended, locked in the order of their ids."""
    query = select(RunRow).where(
        RunRow.org == org, RunRow.job == job, col(RunRow.ended_at).is_(None)
    )
    if not is_sqlite(session):
        query = query.with_for_update()
    found = query.order_by(RunRow.id).execution_options(populate_existing=True)
    return list(session.exec(found).all())
