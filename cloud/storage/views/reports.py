"""The rows of a run's report: one for each target, in keyset chunks of any number."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import JsonValue

from cloud.storage.database import Session
from cloud.storage.dialect import fetch
from cloud.storage.views import batches, runs
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
    position: int = 0


def rows(
    session: Session, org: str, run: str, after: tuple[int, int] = (-1, 0), limit: int = CHUNK
) -> Sequence[ReportRow]:
    """The next rows after `(ordinal, position)`; fewer than `limit` are the last.

    The position counts the targets of a batch task, else it is 0. Raises NotFound.
    """
    of_run = runs.find(session, org, run)
    if of_run.batch != 1:
        return [_row_of_target(row) for row in batches.targets(session, of_run, after, limit)]
    found = fetch(
        session,
        "SELECT t.run, t.ordinal, t.device, t.target, t.gateway, t.status, t.attempt, t.tries, "
        "t.progress, t.started_at, t.ended_at, t.failure_code, t.failure_text, a.snapshot "
        "FROM tasks t LEFT JOIN attempts a "
        "ON a.run = t.run AND a.ordinal = t.ordinal AND a.attempt = t.attempt "
        "WHERE t.run = :run AND t.org = :org AND t.ordinal > :after "
        "ORDER BY t.ordinal LIMIT :limit",
        run=run,
        org=org,
        after=after[0],
        limit=limit,
    )
    return [_row(row) for row in found]


def _row_of_target(found: batches.TargetRow) -> ReportRow:
    outcome, why = found.outcome, found.outcome.failure
    own = why is not None and why.code != found.task.failure_code
    step = None if own else (found.snapshot.get("failure") or {}).get("step")
    return replace(
        _row(found.task, found.snapshot),
        target=found.target,
        status=outcome.status.value,
        failure=failure(why.code, why.text or outcome.note, step) if why else None,
        result=outcome.response if outcome.response is not None else outcome.note or None,
        position=found.position,
    )


def _row(row: Any, snapshot: Mapping[str, Any] | None = None) -> ReportRow:
    if snapshot is None:
        snapshot = json.loads(row.snapshot) if row.snapshot else {}
    both = row.started_at is not None and row.ended_at is not None
    step = (snapshot.get("failure") or {}).get("step")
    return ReportRow(
        task=task_id(row.run, row.ordinal),
        ordinal=row.ordinal,
        target=getattr(row, "target", None) or getattr(row, "device", None) or "",
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
