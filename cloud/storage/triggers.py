"""Triggers of runs and their firings, each written with what it is about."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row

from cloud.domain.triggers import Armed
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, fetch_one, for_update, listed
from cloud.storage.json_text import to_json

COMPLETION: Final = -1


def arm(session: Session, org: str, run: str, triggers: Iterable[Armed]) -> None:
    """Freeze the triggers of a run with it."""
    change_many(
        session,
        "INSERT INTO run_triggers (run, kind, position, org, job, context, conditions) "
        "VALUES (:run, :kind, :position, :org, :job, :context, :conditions)",
        [
            {
                "run": run,
                "kind": trigger.kind,
                "position": trigger.position,
                "org": org,
                "job": trigger.job,
                "context": to_json(dict(trigger.context)),
                "conditions": to_json(sorted(trigger.conditions)),
            }
            for trigger in triggers
        ],
    )


_NOTE: Final = """
INSERT INTO trigger_firings (run, kind, position, ordinal, number, org, job, status, reason, at)
SELECT run, kind, position, :ordinal, 0, org, job, 'pending', '', :now FROM run_triggers
WHERE run = :run AND kind = 'on_timeout'
ON CONFLICT (run, kind, position, ordinal, number) DO NOTHING"""


def note_timeouts(session: Session, tasks: Iterable[tuple[str, int]], now: int) -> None:
    """These tasks have timed out for good; the first time counts."""
    change_many(
        session, _NOTE, [{"run": run, "ordinal": n, "now": now} for run, n in sorted(set(tasks))]
    )


def withdraw_timeouts(session: Session, run: str, after: int, upto: int) -> None:
    """What waits to fire for tasks that are tried again: they have not timed out for good."""
    change(
        session,
        "DELETE FROM trigger_firings WHERE run = :run AND kind = 'on_timeout' "
        "AND status = 'pending' AND ordinal > :after AND ordinal <= :upto AND ordinal IN "
        "(SELECT t.ordinal FROM tasks t WHERE t.run = :run AND t.status = 'rescheduled' "
        "AND t.ordinal > :after AND t.ordinal <= :upto)",
        run=run,
        after=after,
        upto=upto,
    )


def of_run(session: Session, run: str, kind: str) -> Sequence[Row[Any]]:
    """The frozen triggers of a run: `position, job, context, conditions`."""
    return fetch(
        session,
        "SELECT position, job, context, conditions FROM run_triggers "
        "WHERE run = :run AND kind = :kind ORDER BY position",
        run=run,
        kind=kind,
    )


def note_completion(
    session: Session, org: str, run: str, due: Mapping[int, str], skipped: Mapping[int, str],
    now: int,
) -> None:  # fmt: skip
    """A run has ended: these positions fire their job, those do not; both count this end."""
    found = fetch_one(
        session,
        "SELECT COALESCE(MAX(number), 0) + 1 AS number FROM trigger_firings "
        "WHERE run = :run AND kind = 'on_complete'",
        run=run,
    )
    number = 1 if found is None else int(found.number)
    change_many(
        session,
        "INSERT INTO trigger_firings (run, kind, position, ordinal, number, org, job, status, "
        "reason, at) VALUES (:run, 'on_complete', :position, :ordinal, :number, :org, :job, "
        ":status, '', :now) ON CONFLICT (run, kind, position, ordinal, number) DO NOTHING",
        [
            {
                "run": run, "position": position, "ordinal": COMPLETION, "number": number,
                "org": org, "job": job, "status": status, "now": now,
            }
            for status, found in (("pending", due), ("skipped", skipped))
            for position, job in found.items()
        ],
    )  # fmt: skip


def has_work(session: Session) -> bool:
    """Whether anything waits to fire, or is held open for what may come."""
    found = fetch_one(session, "SELECT 1 FROM trigger_firings WHERE status = 'pending' LIMIT 1")
    return found is not None or has_feeds(session)


def waiting_jobs(session: Session) -> list[tuple[str, str]]:
    """Each `(org, job)` that a firing waits for, the one that has waited longest first.

    One seek in the index for each job, however many firings wait for it.
    """
    found: list[tuple[int, str, str]] = []
    last = ("", "")
    while True:
        row = fetch_one(
            session,
            "SELECT org, job, at FROM trigger_firings WHERE status = 'pending' "
            "AND (org, job) > (:org, :job) ORDER BY org, job, at LIMIT 1",
            org=last[0],
            job=last[1],
        )
        if row is None:
            return [(org, job) for _, org, job in sorted(found)]
        last = row.org, row.job
        found.append((row.at, row.org, row.job))


def pending(session: Session, org: str, job: str, limit: int) -> Sequence[Row[Any]]:
    """The next firings that wait for a job, locked, the oldest first."""
    return fetch(
        session,
        "SELECT run, kind, position, ordinal, number, at FROM trigger_firings "
        "WHERE status = 'pending' AND org = :org AND job = :job "
        f"ORDER BY at, run, kind, position, ordinal LIMIT :limit{for_update(session)}",
        org=org,
        job=job,
        limit=limit,
    )


def settle(
    session: Session,
    firings: Iterable[Row[Any]],
    status: str,
    now: int,
    *,
    handler: str | None = None,
    reason: str = "",
) -> None:
    """Say what became of these firings."""
    change_many(
        session,
        "UPDATE trigger_firings SET status = :status, handler = :handler, reason = :reason, "
        "fired_at = :now WHERE run = :run AND kind = :kind AND position = :position "
        "AND ordinal = :ordinal AND number = :number AND status = 'pending'",
        [
            {
                "run": f.run, "kind": f.kind, "position": f.position, "ordinal": f.ordinal,
                "number": f.number, "status": status, "handler": handler, "reason": reason[:1000],
                "now": now,
            }
            for f in firings
        ],
    )  # fmt: skip


def feed(session: Session, handler: str, runs: Collection[str]) -> None:
    """Hold a handler's run open for the timeouts of these runs that have not ended."""
    change_many(
        session,
        "INSERT INTO run_feeds (handler, run) SELECT :handler, id FROM runs "
        "WHERE id = :run AND ended_at IS NULL ON CONFLICT (handler, run) DO NOTHING",
        [{"handler": handler, "run": run} for run in sorted(runs)],
    )


def stop_feeding(session: Session) -> list[str]:
    """Let go of handlers that nothing comes to any more; their runs."""
    change(
        session,
        "DELETE FROM run_feeds WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = run_feeds.run "
        "AND r.ended_at IS NULL) AND NOT EXISTS (SELECT 1 FROM trigger_firings f "
        "WHERE f.run = run_feeds.run AND f.kind = 'on_timeout' AND f.status = 'pending')",
    )
    rows = fetch(
        session,
        "SELECT id FROM runs WHERE ended_at IS NULL AND fed AND NOT EXISTS "
        "(SELECT 1 FROM run_feeds f WHERE f.handler = runs.id) ORDER BY id",
    )
    ready = [str(row.id) for row in rows]
    if ready:
        change(
            session,
            f"UPDATE runs SET fed = FALSE WHERE {any_of(session, 'id', 'ids')}",
            ids=listed(session, ready),
        )
    return ready


def has_feeds(session: Session) -> bool:
    return fetch_one(session, "SELECT 1 FROM run_feeds LIMIT 1") is not None


def timed_out_tasks(session: Session, run: str, ordinals: Iterable[int]) -> Sequence[Row[Any]]:
    """The tasks that firings are about, with what their handler is told."""
    return fetch(
        session,
        "SELECT ordinal, device, target, attempt, tries, failure_code, failure_text, started_at, "
        f"ended_at FROM tasks WHERE run = :run AND {any_of(session, 'ordinal', 'ordinals')} "
        "ORDER BY ordinal",
        run=run,
        ordinals=listed(session, sorted(set(ordinals))),
    )


def contexts_of(session: Session, run: str) -> dict[str, Any]:
    """What a run was started with."""
    row = fetch_one(session, "SELECT context FROM runs WHERE id = :run", run=run)
    return {} if row is None else dict(json.loads(row.context))
