"""Tasks about several targets each: made in chunks, and what stands in `task_targets` of them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row

from cloud.storage import target_documents
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, listed
from cloud.storage.run_sweeps import window
from cloud.storage.schema import RunRow
from cloud.storage.targets import SHAPES, Compiled
from contract.ids import CENTRAL


def add_targets(
    session: Session, run: RunRow, condition: Compiled, size: int, limit: int
) -> tuple[int, str | None]:
    """Number those that fit of the next `limit` targets: `size` of them have the same ordinal.

    Returns how many did, and the next cursor; None after the last target.
    """
    shape = SHAPES[run.resource]
    scope, within, cursor = window(session, run, limit)
    where, parameters = condition
    added = change(
        session,
        f"""
        INSERT INTO task_targets (run, ordinal, position, target, gone)
        SELECT :of_run, n / :size, n - n / :size * :size, target, FALSE
        FROM (SELECT CAST({shape.key} AS TEXT) AS target,
            :done + ROW_NUMBER() OVER (ORDER BY {shape.key}) - 1 AS n
            FROM {shape.table} WHERE {scope} AND {where}) AS found""",
        of_run=run.id,
        size=size,
        done=run.targets,
        **within,
        **parameters,
    )
    return added, cursor


def create_tasks(session: Session, run: RunRow, upto: int, due_at: int) -> None:
    """Make the tasks from the run's total up to an ordinal, whose targets are all there."""
    change(
        session,
        f"""
        INSERT INTO tasks (run, ordinal, org, gateway, status, priority, attempt, tries, attempts,
            revision, begun, due_at, progress, targets)
        SELECT b.run, b.ordinal, :org, '{CENTRAL}', 'scheduled', :priority, 0, 0, :attempts, 0,
            FALSE, :due_at, 0, count(*)
        FROM task_targets b WHERE b.run = :of_run AND b.ordinal >= :first AND b.ordinal < :upto
        GROUP BY b.run, b.ordinal""",
        org=run.org,
        priority=run.priority,
        attempts=run.attempts,
        due_at=due_at,
        of_run=run.id,
        first=run.total,
        upto=upto,
    )


def drop_targets(session: Session, run: str) -> None:
    change(session, "DELETE FROM task_targets WHERE run = :run", run=run)


def note_gone(session: Session, run: Any, ordinals: Iterable[int]) -> set[int]:
    """Note which targets of these tasks are deleted now; the tasks that have none left."""
    rows = fetch(
        session,
        "SELECT ordinal, position, target, gone FROM task_targets WHERE run = :run "
        f"AND {any_of(session, 'ordinal', 'ordinals')}",
        run=run.id,
        ordinals=listed(session, sorted(set(ordinals))),
    )
    # By their keys: an EXISTS in an update may be planned as a scan of the whole fleet.
    known = target_documents.known(
        session, run.org, SHAPES[run.resource], (row.target for row in rows), run.target_table
    )
    change_many(
        session,
        "UPDATE task_targets SET gone = :gone WHERE run = :run AND ordinal = :ordinal "
        "AND position = :position",
        [
            {"run": run.id, "ordinal": row.ordinal, "position": row.position,
             "gone": row.target not in known}
            for row in rows
            if bool(row.gone) == (row.target in known)
        ],
    )  # fmt: skip
    left = {row.ordinal for row in rows if row.target in known}
    return {row.ordinal for row in rows} - left


def targets_of(session: Session, run: str, ordinals: Iterable[int]) -> dict[int, list[str]]:
    """The ids of the targets of these tasks, in order."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    rows = fetch(
        session,
        "SELECT ordinal, target FROM task_targets WHERE run = :run "
        f"AND {any_of(session, 'ordinal', 'ordinals')} ORDER BY ordinal, position",
        run=run,
        ordinals=listed(session, sorted(set(ordinals))),
    )
    for row in rows:
        found[row.ordinal].append(row.target)
    return dict(found)


def page(session: Session, run: str, after: tuple[int, int], limit: int) -> Sequence[Row[Any]]:
    """The next targets of a run whose tasks there are: `ordinal, position, target, gone`."""
    return fetch(
        session,
        "SELECT b.ordinal, b.position, b.target, b.gone FROM task_targets b "
        "JOIN tasks t ON t.run = b.run AND t.ordinal = b.ordinal WHERE b.run = :run "
        "AND (b.ordinal, b.position) > (:ordinal, :position) "
        "ORDER BY b.ordinal, b.position LIMIT :limit",
        run=run,
        ordinal=after[0],
        position=after[1],
        limit=limit,
    )
