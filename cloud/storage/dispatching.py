"""Dispatch in bulk: who is due, who is free, offering, and what is to be sent."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row

from cloud.domain.dispatch import CONFLICT_MS, DueTask, GatewayFacts
from cloud.storage import extensions
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change_many, fetch, for_update, listed
from cloud.storage.schema import DUE, OPEN

_DUE: Final = f"{DUE} AND parked IS NULL"
GATEWAY: Final = "id, journal, session, last_heard_at, conflict_at, verbs"


def live_runs(session: Session, now: int) -> Sequence[Row[Any]]:
    """The runs whose tasks may start, locked: the most urgent first, then the oldest.

    One that somebody else is changing right now is left to the next tick.
    """
    return fetch(
        session,
        "SELECT id, org, job, concurrency, per_gateway, verbs, priority FROM runs "
        "WHERE ended_at IS NULL AND cancel IS NULL AND status = 'running' AND expires_at > :now "
        f"ORDER BY priority DESC, created_at, id{for_update(session, ' SKIP LOCKED')}",
        now=now,
    )


def due_tasks(session: Session, run: str, now: int, limit: int) -> Sequence[Row[Any]]:
    """The next due tasks of a run by index, locked."""
    return fetch(
        session,
        f"SELECT ordinal, org, device, gateway, status FROM tasks WHERE run = :run AND {_DUE} "
        "AND due_at <= :now ORDER BY due_at, ordinal "
        f"LIMIT :limit{for_update(session, ' SKIP LOCKED')}",
        run=run,
        now=now,
        limit=limit,
    )


def devices(session: Session, org: str, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Gateway and holder of each device, locked in order, so that nobody frees it meanwhile."""
    rows = fetch(
        session,
        f"SELECT id, gateway, held_by FROM devices WHERE org = :org "
        f"AND {any_of(session, 'id', 'ids')} ORDER BY id{for_update(session)}",
        org=org,
        ids=listed(session, sorted(set(ids))),
    )
    return {row.id: (row.gateway, row.held_by) for row in rows}


def gateways(session: Session, org: str, ids: Iterable[str]) -> dict[str, GatewayFacts]:
    rows = fetch(
        session,
        f"SELECT {GATEWAY} FROM gateways WHERE org = :org AND {any_of(session, 'id', 'ids')}",
        org=org,
        ids=listed(session, sorted(set(ids))),
    )
    return {row.id: gateway_facts(row) for row in rows}


def gateway_facts(row: Row[Any]) -> GatewayFacts:
    """A row with the columns of `GATEWAY` as a value."""
    return GatewayFacts(
        id=row.id,
        journal=row.journal,
        session=row.session,
        last_heard_at=row.last_heard_at,
        conflict_at=row.conflict_at,
        verbs=frozenset(json.loads(row.verbs)),
    )


def in_flight(session: Session, org: str, run: str, ids: Iterable[str]) -> dict[str, int]:
    """How many open tasks a run has on each of these gateways."""
    rows = fetch(
        session,
        f"SELECT gateway, count(*) AS number FROM tasks WHERE {OPEN} AND org = :org "
        f"AND {any_of(session, 'gateway', 'ids')} AND run = :run AND status <> 'awaiting' "
        "GROUP BY gateway",
        org=org,
        run=run,
        ids=listed(session, sorted(set(ids))),
    )
    return {row.gateway: row.number for row in rows}


def park(session: Session, parked: Iterable[tuple[DueTask, str]]) -> None:
    change_many(
        session,
        f"UPDATE tasks SET parked = :place WHERE run = :run AND ordinal = :ordinal AND {_DUE}",
        [{"run": t.run, "ordinal": t.ordinal, "place": place} for t, place in parked],
    )


def offer(session: Session, org: str, chosen: Sequence[DueTask], now: int) -> None:
    """Take the devices of locked tasks, and open their next attempts."""
    rows = [
        {
            "org": org,
            "run": task.run,
            "ordinal": task.ordinal,
            "task": task.id,
            "device": task.device,
            "gateway": task.gateway.id,
            "journal": task.gateway.journal,
            "now": now,
        }
        for task in chosen
        if task.gateway is not None
    ]
    by_device = sorted(rows, key=lambda row: str(row["device"]))
    change_many(
        session,
        "UPDATE devices SET held_by = :task WHERE org = :org AND id = :device "
        "AND (held_by IS NULL OR held_by = :task)",
        by_device,
    )
    change_many(
        session,
        "UPDATE tasks SET status = 'offered', attempt = attempt + 1, revision = 0, begun = FALSE, "
        "gateway = :gateway, journal = :journal, offered_at = :now, sent_at = NULL, "
        "deadline = NULL, progress = 0, current_step = NULL, waiting_for = NULL, cancel = NULL, "
        "cancel_sent_at = NULL, failure_code = NULL, failure_text = NULL "
        f"WHERE run = :run AND ordinal = :ordinal AND {_DUE}",
        rows,
    )
    change_many(
        session,
        "INSERT INTO attempts (run, ordinal, attempt, org, gateway, journal, status, revision, "
        "begun, offered_at) SELECT run, ordinal, attempt, org, gateway, journal, 'offered', 0, "
        "FALSE, offered_at FROM tasks WHERE run = :run AND ordinal = :ordinal",
        rows,
    )


SENDABLE: Final = (
    f"{OPEN} AND t.org = g.org AND t.gateway = g.id AND t.journal = g.journal "
    "AND g.session IS NOT NULL"
)


def offers(
    session: Session, now: int, resend_after: int, silence: int, limit: int
) -> Sequence[Row[Any]]:
    """Offers to gateways online that were never sent, or sent too long ago without an answer."""
    return fetch(
        session,
        f"""
        SELECT t.run, t.ordinal, t.attempt, t.org, t.gateway, t.device, t.tries, t.priority,
            g.session, r.body_hash, r.timeout, r.start_by, r.expires_at,
            r.has_parameters,
            t.target, g.session, r.body_hash, r.timeout, r.start_by, r.expires_at, r.resource,
            r.target_table,
            d.type, d.name, d.tags, d.attributes, d.state
        FROM gateways g
        JOIN tasks t ON {_of_task(SENDABLE)}
        JOIN runs r ON r.id = t.run
        LEFT JOIN devices d ON d.org = t.org AND d.id = t.device
        WHERE t.status = 'offered' AND t.cancel IS NULL
            AND (t.sent_at IS NULL OR t.sent_at <= :before)
            AND g.last_heard_at >= :heard
            AND (g.conflict_at IS NULL OR g.conflict_at < :calm)
        ORDER BY t.priority DESC, t.run, t.ordinal LIMIT :limit""",
        before=now - resend_after,
        heard=now - silence,
        calm=now - CONFLICT_MS,
        limit=limit,
    )


def parameters(session: Session, rows: Sequence[Row[Any]]) -> dict[tuple[str, int], str]:
    """What the tasks among these offers bring for themselves, as JSON."""
    by_run: dict[str, list[int]] = {}
    for row in rows:
        if row.has_parameters:
            by_run.setdefault(row.run, []).append(row.ordinal)
    return {
        (run, ordinal): text
        for run, ordinals in sorted(by_run.items())
        for ordinal, text in extensions.parameters_of(session, run, ordinals).items()
    }


def cancels(
    session: Session, now: int, resend_after: int, silence: int, limit: int
) -> Sequence[Row[Any]]:
    """Cancels that no report has answered yet, to gateways online."""
    return fetch(
        session,
        f"""
        SELECT t.run, t.ordinal, t.attempt, t.org, t.gateway, t.cancel, g.session, r.reason
        FROM gateways g
        JOIN tasks t ON {_of_task(SENDABLE)}
        JOIN runs r ON r.id = t.run
        WHERE t.cancel IS NOT NULL AND (t.cancel_sent_at IS NULL OR t.cancel_sent_at <= :before)
            AND g.last_heard_at >= :heard
        ORDER BY t.run, t.ordinal LIMIT :limit""",
        before=now - resend_after,
        heard=now - silence,
        limit=limit,
    )


def _of_task(condition: str) -> str:
    return condition.replace("status IN", "t.status IN")


def bodies(session: Session, runs: Iterable[str]) -> dict[str, str]:
    """The frozen bodies of runs, as JSON."""
    rows = fetch(
        session,
        f"SELECT id, body FROM runs WHERE {any_of(session, 'id', 'runs')}",
        runs=listed(session, sorted(set(runs))),
    )
    return {row.id: row.body for row in rows}


def mark_sent(
    session: Session, sent: Iterable[tuple[str, int, int]], column: str, now: int
) -> None:
    """Note when `(run, ordinal, attempt)`s were sent; `column` is sent_at or cancel_sent_at."""
    change_many(
        session,
        f"UPDATE tasks SET {column} = :now WHERE run = :run AND ordinal = :ordinal "
        f"AND attempt = :attempt AND {OPEN}",
        [
            {"run": run, "ordinal": ordinal, "attempt": attempt, "now": now}
            for run, ordinal, attempt in sorted(sent)
        ],
    )


def parked_at_online(session: Session, now: int, silence: int) -> list[tuple[str, str]]:
    """Gateways in session at which tasks are parked: nobody has told those tasks yet."""
    rows = fetch(
        session,
        f"""
        SELECT g.org, g.id FROM gateways g WHERE g.session IS NOT NULL AND g.last_heard_at >= :heard
            AND (g.conflict_at IS NULL OR g.conflict_at < :calm)
            AND EXISTS (SELECT 1 FROM tasks WHERE {DUE} AND parked IS NOT NULL
                AND org = g.org AND parked = 'gateway:' || g.id)""",
        heard=now - silence,
        calm=now - CONFLICT_MS,
    )
    return [(row.org, f"gateway:{row.id}") for row in rows]


def overdue(session: Session, now: int, silence: int, limit: int) -> Sequence[Row[Any]]:
    """Attempts past their deadline whose gateway is online and has been for a silence period."""
    return fetch(
        session,
        f"""
        SELECT t.run, t.ordinal FROM gateways g JOIN tasks t ON {_of_task(SENDABLE)}
        WHERE t.deadline < :now AND g.last_heard_at >= :heard AND g.session_at < :heard
        ORDER BY t.run, t.ordinal LIMIT :limit""",
        now=now,
        heard=now - silence,
        limit=limit,
    )
