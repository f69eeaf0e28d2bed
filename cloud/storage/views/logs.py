"""A run's log, the oldest line first."""

import json
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import tuple_
from sqlmodel import col

from cloud.storage.database import Session
from cloud.storage.schema import LogRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors, runs
from cloud.storage.views.parts import bounded, moment
from contract.http import Page
from contract.http.runs import RunLogLine
from contract.ids import task_id
from contract.periods import Period

TASK_LINES: Final = 200


def run_log(
    session: Session,
    org: str,
    run: str,
    *,
    levels: Collection[str] = (),
    contains: str | None = None,
    period: Period = Period(),  # noqa: B008  (frozen)
    words: Sequence[str | None] | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page[RunLogLine]:
    """A page of a run's log. Raises NotFound for the run.

    `words` are the period as it was asked for: `2h` until now begins later with each page.
    """
    runs.find(session, org, run)
    asked = (period.start, period.end) if words is None else words
    filters = cursors.fingerprint("log", org, run, sorted(levels), contains, asked)
    after = cursors.decode(cursor, filters, int, str, str, int)
    limit = bounded(limit)
    key = (col(LogRow.at), col(LogRow.journal), col(LogRow.stream), col(LogRow.number))
    query = of_org(LogRow, org).where(col(LogRow.run) == run).order_by(*key)
    if levels:
        query = query.where(col(LogRow.level).in_(list(levels)))
    if contains:
        query = query.where(col(LogRow.text).contains(contains, autoescape=True))
    if period.start is not None:
        query = query.where(col(LogRow.at) >= period.start)
    if period.end is not None:
        query = query.where(col(LogRow.at) < period.end)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    rows: Sequence[LogRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    last = page[-1] if more else None
    return Page(
        items=[_line(row) for row in page],
        next_cursor=cursors.encode([last.at, last.journal, last.stream, last.number], filters)
        if last
        else None,
    )


def newest(session: Session, org: str, run: str, limit: int) -> list[RunLogLine]:
    """The end of a run's log, the oldest line first. Raises NotFound for the run."""
    runs.find(session, org, run)
    query = of_org(LogRow, org).where(col(LogRow.run) == run)
    last = query.order_by(col(LogRow.at).desc(), col(LogRow.journal).desc()).limit(limit)
    rows: Sequence[LogRow] = session.execute(last).scalars().all()
    return [_line(row) for row in reversed(rows)]


def of_task(session: Session, org: str, run: str, ordinal: int) -> list[RunLogLine]:
    """The end of one task's log, the oldest line first."""
    query = (
        of_org(LogRow, org)
        .where(col(LogRow.run) == run, col(LogRow.ordinal) == ordinal)
        .order_by(col(LogRow.at).desc(), col(LogRow.number).desc())
        .limit(TASK_LINES)
    )
    rows: Sequence[LogRow] = session.execute(query).scalars().all()
    return [_line(row) for row in reversed(rows)]


def _line(row: LogRow) -> RunLogLine:
    return RunLogLine(
        at=moment(row.at),
        level=row.level,
        text=row.text,
        source=row.stream if row.stream in ("cloud", "client") else "gateway",
        task=None if row.ordinal is None else task_id(row.run, row.ordinal),
        device=row.device,
        data=json.loads(row.data),
    )
