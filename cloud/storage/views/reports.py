"""The rows of a run's report: one for each target, in keyset chunks of any number."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from cloud.storage.database import Session
from cloud.storage.dialect import fetch
from cloud.storage.views import runs
from cloud.storage.views.parts import failure, time
from contract.http.tasks import TaskFailure
from contract.ids import task_id

CHUNK: Final = 1_000


@dataclass(frozen=True)
class ReportRow:
    """One target's outcome. Times are datetimes in UTC; `seconds` is how long it ran."""

    task: str
    ordinal: int
    target: str
    gateway: str
    status: str
    attempt: int
    tries: int
    progress: float
    started_at: Any
    ended_at: Any
    seconds: float | None
    failure: TaskFailure | None
    result: JsonValue


def rows(
    session: Session, org: str, run: str, after: int = -1, limit: int = CHUNK
) -> Sequence[ReportRow]:
    """The next rows after an ordinal; fewer than `limit` are the last. Raises NotFound."""
    runs.find(session, org, run)
    found = fetch(
        session,
        "SELECT t.run, t.ordinal, t.device, t.gateway, t.status, t.attempt, t.tries, t.progress, "
        "t.started_at, t.ended_at, t.failure_code, t.failure_text, a.snapshot FROM tasks t "
        "LEFT JOIN attempts a ON a.run = t.run AND a.ordinal = t.ordinal AND a.attempt = t.attempt "
        "WHERE t.run = :run AND t.org = :org AND t.ordinal > :after "
        "ORDER BY t.ordinal LIMIT :limit",
        run=run,
        org=org,
        after=after,
        limit=limit,
    )
    return [_row(row) for row in found]


def _row(row: Any) -> ReportRow:
    snapshot = json.loads(row.snapshot) if row.snapshot else {}
    both = row.started_at is not None and row.ended_at is not None
    step = (snapshot.get("failure") or {}).get("step")
    return ReportRow(
        task=task_id(row.run, row.ordinal),
        ordinal=row.ordinal,
        target=row.device or "",
        gateway=row.gateway or "",
        status=row.status,
        attempt=row.attempt,
        tries=row.tries,
        progress=row.progress / 100,
        started_at=time(row.started_at),
        ended_at=time(row.ended_at),
        seconds=max(row.ended_at - row.started_at, 0) / 1000 if both else None,
        failure=failure(row.failure_code, row.failure_text, step),
        result=snapshot.get("result"),
    )
