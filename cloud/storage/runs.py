"""Runs as the engine needs them: facts by id, live ones with their counts, frozen bodies."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row
from sqlmodel import select

from cloud.domain.tasks import RetryPolicy, RunFacts
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, is_sqlite, listed
from cloud.storage.schema import RunRow

FACTS: Final = "id, retry, timeout, start_by, expires_at, cancel, ended_at"


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


def live(session: Session) -> Sequence[Row[Any]]:
    """Every run that has not ended, in short, for the loops; there are few at any time."""
    return fetch(
        session,
        "SELECT id, org, creating, cancel, cancelled_to, total, expires_at FROM runs "
        "WHERE ended_at IS NULL ORDER BY created_at, id",
    )
