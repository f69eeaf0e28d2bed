"""What deleted jobs leave behind, removed in chunks: the rows of their runs."""

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import Row
from sqlmodel import SQLModel

from cloud.storage import schema  # declares every table
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, fetch, fetch_one, is_sqlite, listed

# A gateway that awaits an acknowledgment is told of the end for so long, before that is forgotten.
UNTOLD_MS: Final = 86_400_000
# What was being written while a run was swept has been committed after this.
AGAIN_AFTER_MS: Final = 60_000
# Not a run's own: what stays of it, what another operation counts, and what devices hold.
_KEPT: Final = frozenset({"deleted_runs", "gateway_drains", "certificates"})
OF_RUNS: Final = tuple(
    table.name
    for table in SQLModel.metadata.sorted_tables
    if "run" in table.c and table.name not in _KEPT
)
assert schema.TaskRow.__tablename__ in OF_RUNS, "the tables are declared"


class Gone(NamedTuple):
    """A run whose rows are to be removed."""

    run: str
    org: str
    job: str


def next_run(session: Session, now: int) -> str | None:
    """A run that has ended and whose job was deleted, or one to be looked at once more."""
    row = fetch_one(
        session,
        "SELECT r.id FROM deleted_jobs d JOIN runs r ON r.org = d.org AND r.job = d.job "
        "AND r.created_at <= d.upto WHERE r.ended_at IS NOT NULL AND (r.ended_at < :untold OR "
        "NOT EXISTS (SELECT 1 FROM untold_ends u WHERE u.run = r.id)) LIMIT 1",
        untold=now - UNTOLD_MS,
    ) or fetch_one(
        session,
        "SELECT run AS id FROM deleted_runs WHERE NOT swept AND at < :before ORDER BY at LIMIT 1",
        before=now - AGAIN_AFTER_MS,
    )
    return None if row is None else row.id


def delete_some(session: Session, table: str, run: str, limit: int) -> int:
    """Delete at most `limit` rows of a run, by its index; returns how many."""
    return _delete(session, table, "run = :run", limit, run=run)


def delete_others(session: Session, org: str, run: str, limit: int) -> int:
    """The same for what names a run otherwise: refused items of its tasks, what it was fed by."""
    refused = "org = :org AND task LIKE :tasks"
    return _delete(session, "refused", refused, limit, org=org, tasks=f"{run}-%") + _delete(
        session, "run_feeds", "handler = :run", limit, run=run
    )


def _delete(session: Session, table: str, where: str, limit: int, **parameters: Any) -> int:
    row = "rowid" if is_sqlite(session) else "ctid"
    chosen = f"SELECT {row} FROM {table} WHERE {where} LIMIT :limit"
    among = f"IN ({chosen})" if is_sqlite(session) else f"= ANY(ARRAY({chosen}))"
    return change(session, f"DELETE FROM {table} WHERE {row} {among}", limit=limit, **parameters)


def find(session: Session, run: str) -> tuple[Gone, bool] | None:
    """The run, and whether its own row is gone already; None for one that is not being deleted."""
    row: Row[Any] | None = fetch_one(
        session,
        "SELECT r.id, r.org, r.job FROM runs r JOIN deleted_jobs d ON d.org = r.org "
        "AND d.job = r.job AND d.upto >= r.created_at "
        "WHERE r.id = :run AND r.ended_at IS NOT NULL",
        run=run,
    )
    if row is not None:
        return Gone(row.id, row.org, row.job), False
    left = fetch_one(
        session, "SELECT run, org, job FROM deleted_runs WHERE run = :run AND NOT swept", run=run
    )
    return None if left is None else (Gone(left.run, left.org, left.job), True)


def leave_tombstone(session: Session, gone: Gone, now: int) -> None:
    """Replace the run by what stays of it; the last one takes the note of the deletion along."""
    change(session, "DELETE FROM runs WHERE id = :run", run=gone.run)
    change(
        session,
        "INSERT INTO deleted_runs (run, org, job, at, swept) "
        "VALUES (:run, :org, :job, :now, FALSE)",
        now=now,
        **gone._asdict(),
    )
    change(
        session,
        "DELETE FROM deleted_jobs WHERE org = :org AND job = :job AND NOT EXISTS "
        "(SELECT 1 FROM runs r WHERE r.org = :org AND r.job = :job "
        "AND r.created_at <= deleted_jobs.upto)",
        org=gone.org,
        job=gone.job,
    )


def note_swept(session: Session, run: str) -> None:
    change(session, "UPDATE deleted_runs SET swept = TRUE WHERE run = :run", run=run)


def gone(session: Session, runs: Collection[str]) -> dict[str, Gone]:
    """Those of these runs that were deleted with their job, wholly or about to be."""
    if not runs:
        return {}
    rows = fetch(
        session,
        f"SELECT run, org, job FROM deleted_runs WHERE {any_of(session, 'run', 'runs')} "
        "UNION ALL SELECT r.id, r.org, r.job FROM runs r JOIN deleted_jobs d ON d.org = r.org "
        f"AND d.job = r.job AND d.upto >= r.created_at WHERE {any_of(session, 'r.id', 'runs')}",
        runs=listed(session, sorted(runs)),
    )
    return {row.run: Gone(row.run, row.org, row.job) for row in rows}
