"""A restored database: its new incarnation, whom it waits for, and what it never heard of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row

from cloud.domain.dispatch import SILENCE_MS
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, fetch_one, listed
from cloud.storage.schema import DUE, OPEN

# What stands with an orphaned attempt of which only the mark is known.
MARKED: Final = "in the gateway's journal, and never heard of here"
LOST_CODE: Final = "gateway_lost"
LOST_TEXT: Final = "the cloud was restored, and its gateway has tried again since"


def begin(session: Session, incarnation: str, now: int) -> None:
    """Make it a new incarnation that is recovering, and forget who was in session.

    Gateways that were online when the backup was made are waited for.
    """
    change(
        session,
        "UPDATE instance SET incarnation = :incarnation, recovering = TRUE, restored_at = :now",
        incarnation=incarnation,
        now=now,
    )
    change(session, "UPDATE admissions SET awaited = FALSE, mark = '', ended_session = NULL")
    newest = fetch_one(session, "SELECT max(last_heard_at) AS at FROM gateways")
    online = fetch(
        session,
        "SELECT org, id FROM gateways WHERE session IS NOT NULL AND stop <> 'retired' "
        "AND last_heard_at >= :since ORDER BY org, id",
        since=((newest.at if newest else None) or 0) - SILENCE_MS,
    )
    change_many(
        session,
        "INSERT INTO admissions (org, gateway, mark, must_prove, awaited) "
        "VALUES (:org, :gateway, '', FALSE, TRUE) "
        "ON CONFLICT (org, gateway) DO UPDATE SET awaited = TRUE",
        [{"org": row.org, "gateway": row.id} for row in online],
    )
    change(
        session,
        "UPDATE gateways SET session = NULL, session_at = NULL, instance = NULL, "
        "previous_instance = NULL, conflict_at = NULL, digest_misses = 0",
    )


def is_recovering(session: Session) -> bool:
    return fetch_one(session, "SELECT 1 FROM instance WHERE recovering") is not None


def was_restored(session: Session) -> bool:
    return fetch_one(session, "SELECT 1 FROM instance WHERE restored_at IS NOT NULL") is not None


def awaited(session: Session, limit: int) -> list[tuple[str, str]]:
    """`(org, gateway)` of those that have not said hello since."""
    rows = fetch(
        session,
        "SELECT org, gateway FROM admissions WHERE awaited ORDER BY org, gateway LIMIT :limit",
        limit=limit,
    )
    return [(row.org, row.gateway) for row in rows]


def release(session: Session) -> None:
    change(session, "UPDATE instance SET recovering = FALSE")
    change(session, "UPDATE admissions SET awaited = FALSE WHERE awaited")


_OLDER: Final = f"run = :run AND ordinal = :ordinal AND attempt < :attempt AND ({DUE} OR {OPEN})"


def adopt(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Have tasks be at the attempt that their gateway tells of, as offered there.

    `run, ordinal, attempt, before, org, gateway, journal, device, task, deadline, now`.
    """
    change_many(
        session,
        f"UPDATE attempts SET status = 'failed', ended_at = :now, failure_code = '{LOST_CODE}', "
        f"failure_text = '{LOST_TEXT}' WHERE run = :run AND ordinal = :ordinal "
        "AND attempt = :before AND ended_at IS NULL",
        rows,
    )
    change_many(
        session,
        "UPDATE tasks SET status = 'offered', attempt = :attempt, revision = 0, begun = FALSE, "
        "gateway = :gateway, journal = :journal, parked = NULL, offered_at = :now, "
        "sent_at = :now, deadline = :deadline, progress = 0, current_step = NULL, "
        "waiting_for = NULL, cancel = NULL, cancel_sent_at = NULL, stranded = FALSE, "
        f"failure_code = NULL, failure_text = NULL WHERE {_OLDER}",
        rows,
    )
    change_many(
        session,
        "INSERT INTO attempts (run, ordinal, attempt, org, gateway, journal, status, revision, "
        "begun, offered_at) VALUES (:run, :ordinal, :attempt, :org, :gateway, :journal, "
        "'offered', 0, FALSE, :now) ON CONFLICT (run, ordinal, attempt) DO NOTHING",
        rows,
    )
    change_many(
        session,
        "UPDATE devices SET held_by = :task WHERE org = :org AND id = :device AND held_by IS NULL",
        [row for row in rows if row["device"] is not None],
    )
    change_many(
        session,
        "DELETE FROM refused WHERE org = :org AND gateway = :gateway AND task = :task "
        "AND attempt <= :attempt AND code IN ('unknown_task', 'unknown_attempt')",
        rows,
    )


def kept_whole(
    session: Session, org: str, gateway: str, tasks: Iterable[str]
) -> dict[tuple[str, int], int]:
    """The orphaned attempts whose whole snapshot was kept, with its revision."""
    rows = fetch(
        session,
        "SELECT task, attempt, revision FROM refused WHERE org = :org AND gateway = :gateway "
        f"AND detail <> :marked AND {any_of(session, 'task', 'tasks')}",
        org=org,
        gateway=gateway,
        marked=MARKED,
        tasks=listed(session, sorted(set(tasks))),
    )
    return {(row.task, row.attempt): row.revision for row in rows}


def orphans(
    session: Session, org: str, gateway: str, after: tuple[str, int] | None, limit: int
) -> Sequence[Row[Any]]:
    """What a gateway holds of tasks that were never heard of here, by task and attempt."""
    beyond = "" if after is None else "AND (task > :task OR (task = :task AND attempt > :attempt)) "
    given: dict[str, Any] = {} if after is None else {"task": after[0], "attempt": after[1]}
    return fetch(
        session,
        "SELECT task, attempt, revision, detail, raw, at FROM refused WHERE org = :org "
        f"AND gateway = :gateway AND code = 'unknown_task' {beyond}"
        "ORDER BY task, attempt LIMIT :limit",
        org=org,
        gateway=gateway,
        limit=limit,
        **given,
    )
