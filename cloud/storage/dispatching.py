"""Dispatch in bulk: who is due, who is free, offering, and what is to be sent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row

from cloud.domain.dispatch import CONFLICT_MS, DueTask, GatewayFacts, Rules, slots
from cloud.domain.serial import Turn
from cloud.storage import extensions
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, fetch_one, for_update, listed
from cloud.storage.schema import DUE, OPEN
from contract.ids import task_id
from contract.lifecycle import TaskStatus
from contract.messages import Failure

_DUE: Final = f"{DUE} AND parked IS NULL"
GATEWAY: Final = "id, journal, session, last_heard_at, conflict_at, verbs, stop"


def live_runs(session: Session, now: int) -> Sequence[Row[Any]]:
    """The runs whose tasks may start, locked.

    One that somebody else is changing right now is left to the next tick.
    """
    return fetch(
        session,
        f"SELECT {LIVE} FROM runs "
        "WHERE ended_at IS NULL AND cancel IS NULL AND status = 'running' AND expires_at > :now "
        "AND kind = 'job' "
        f"ORDER BY id{for_update(session, ' SKIP LOCKED')}",
        now=now,
    )


LIVE: Final = (
    "id, org, job, resource, target_table, concurrency, per_gateway, per_bus, per_site, verbs, "
    "priority, created_at, started_at, offered_at, serial, turn, turn_since, accumulator, "
    "accumulated, delay, offline_after, retry_online, batch"
)


def note_offered(session: Session, runs: Iterable[str], now: int) -> None:
    """These runs were given something: their waiting begins anew."""
    change_many(
        session,
        "UPDATE runs SET offered_at = :now WHERE id = :run",
        [{"run": run, "now": now} for run in sorted(runs)],
    )


def resting_slots(session: Session, run: str, now: int) -> int:
    """How many slots of a run rest after their last task; those that have are forgotten."""
    change(session, "DELETE FROM slot_rests WHERE run = :run AND until <= :now", run=run, now=now)
    row = fetch_one(session, "SELECT count(*) AS number FROM slot_rests WHERE run = :run", run=run)
    return row.number if row else 0


def due_task(session: Session, run: str, ordinal: int) -> Row[Any] | None:
    """One task, whatever it is at, locked."""
    return fetch_one(
        session,
        "SELECT ordinal, org, device, gateway, target, status, parked, stranded, due_at, attempt "
        f"FROM tasks WHERE run = :run AND ordinal = :ordinal{for_update(session)}",
        run=run,
        ordinal=ordinal,
    )


def due_task_of(
    run: str, org: str, row: Any, device: Any | None, facts: Mapping[str, GatewayFacts]
) -> DueTask:
    """A task with its device's row, if it has a device, and the gateways known."""
    gateway = row.gateway if device is None else device.gateway
    tags = json.loads(device.tags) if device is not None and hasattr(device, "tags") else {}
    return DueTask(
        run=run,
        ordinal=row.ordinal,
        id=task_id(run, row.ordinal),
        device=row.device,
        held_by=None if device is None else device.held_by,
        gateway=facts.get(gateway) if gateway else None,
        place=f"gateway:{gateway}" if row.device is None else f"device:{row.device}",
        org=org,
        bus="" if device is None else device.bus,
        site=str(tags.get("site") or "") if isinstance(tags, dict) else "",
        is_retry=row.status == TaskStatus.RESCHEDULED,
        is_down=device is not None and device.link == "down",
    )


def turn_of(row: Row[Any], since: int | None) -> Turn:
    """A row of `due_task` as the turn it is in a serial run."""
    return Turn(
        status=TaskStatus(row.status),
        is_parked=row.parked is not None,
        is_stranded=bool(row.stranded),
        due_at=row.due_at,
        since=since or 0,
    )


def save_turn(session: Session, run: str, turn: int, now: int) -> None:
    """Whose turn it is; what it gives is still to be taken over, also if it had one before."""
    change(
        session,
        "UPDATE runs SET turn = :turn, turn_since = :now, "
        "accumulated = CASE WHEN turn = :turn THEN accumulated ELSE -1 END WHERE id = :run",
        run=run,
        turn=turn,
        now=now,
    )


def save_accumulator(session: Session, run: str, ordinal: int, text: str) -> None:
    change(
        session,
        "UPDATE runs SET accumulator = :text, accumulated = :ordinal WHERE id = :run",
        run=run,
        ordinal=ordinal,
        text=text,
    )


def snapshot(session: Session, run: str, ordinal: int) -> Row[Any] | None:
    """A task with the snapshot of its newest attempt, and what its run froze."""
    return fetch_one(
        session,
        "SELECT t.org, t.device, t.target, t.status, t.failure_code, t.attempt, t.tries, "
        "a.snapshot, r.document, r.context, r.batch FROM tasks t JOIN runs r ON r.id = t.run "
        "LEFT JOIN attempts a ON a.run = t.run AND a.ordinal = t.ordinal "
        "AND a.attempt = t.attempt WHERE t.run = :run AND t.ordinal = :ordinal",
        run=run,
        ordinal=ordinal,
    )


def fail_due(
    session: Session, run: str, ordinals: Iterable[int], status: str, failure: Failure, now: int
) -> None:
    """End due tasks that will never start."""
    change_many(
        session,
        "UPDATE tasks SET status = :status, parked = NULL, ended_at = :now, "
        "failure_code = :code, failure_text = :text "
        f"WHERE run = :run AND ordinal = :ordinal AND {DUE}",
        [
            {"run": run, "ordinal": ordinal, "status": status, "now": now,
             "code": failure.code, "text": failure.text}
            for ordinal in ordinals
        ],
    )  # fmt: skip


def due_tasks(session: Session, run: str, now: int, limit: int) -> Sequence[Row[Any]]:
    """The next due tasks of a run by index, locked."""
    return fetch(
        session,
        f"SELECT ordinal, org, device, gateway, target, status FROM tasks "
        f"WHERE run = :run AND {_DUE} "
        "AND due_at <= :now ORDER BY due_at, ordinal "
        f"LIMIT :limit{for_update(session, ' SKIP LOCKED')}",
        run=run,
        now=now,
        limit=limit,
    )


def devices(
    session: Session, org: str, ids: Iterable[str], tags: bool = False
) -> dict[str, Row[Any]]:
    """Gateway, holder and line of each device, locked in order, so that nobody frees it meanwhile.

    With `tags` also those: they are not read where nothing depends on them.
    """
    columns = "id, gateway, held_by, bus, link" + (", tags" if tags else "")
    rows = fetch(
        session,
        f"SELECT {columns} FROM devices WHERE org = :org "
        f"AND {any_of(session, 'id', 'ids')} ORDER BY id{for_update(session)}",
        org=org,
        ids=listed(session, sorted(set(ids))),
    )
    return {row.id: row for row in rows}


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
        is_stopped=row.stop not in ("", "retired"),
        is_retired=row.stop == "retired",
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


def in_places(session: Session, org: str, run: str) -> dict[str, int]:
    """How many open tasks a run has on each line and site that it limits."""
    rows = fetch(
        session,
        f"SELECT places, count(*) AS number FROM tasks WHERE {OPEN} AND org = :org "
        "AND run = :run AND status <> 'awaiting' AND NOT stranded AND places IS NOT NULL "
        "GROUP BY places",
        org=org,
        run=run,
    )
    found: dict[str, int] = {}
    for row in rows:
        for place in json.loads(row.places):
            found[place] = found.get(place, 0) + row.number
    return found


def park(session: Session, parked: Iterable[tuple[DueTask, str]]) -> None:
    change_many(
        session,
        f"UPDATE tasks SET parked = :place WHERE run = :run AND ordinal = :ordinal AND {_DUE}",
        [{"run": t.run, "ordinal": t.ordinal, "place": place} for t, place in parked],
    )


def offer(session: Session, org: str, chosen: Sequence[DueTask], now: int, rules: Rules) -> None:
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
            "places": _places(task, rules),
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
        "gateway = :gateway, journal = :journal, places = :places, offered_at = :now, "
        "sent_at = NULL, "
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


def _places(task: DueTask, rules: Rules) -> str | None:
    """The slots beside its gateway's that an attempt takes, as JSON."""
    if not rules.has_places:
        return None
    return json.dumps([p for p, _, code in slots(task, rules) if code != "per_gateway"])


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
        SELECT t.run, t.ordinal, t.attempt, t.org, t.gateway, t.device, t.tries, r.priority,
            r.serial, r.accumulator, t.target, t.steps, g.session, r.timeout, r.start_by,
            COALESCE(b.hash, r.body_hash) AS body_hash, r.expires_at, r.resource,
            r.target_table, r.has_parameters, r.batch, t.targets, r.started_at AS run_started_at,
            d.type, d.name, d.tags, d.attributes, d.state
        FROM gateways g
        JOIN tasks t ON {_of_task(SENDABLE)}
        JOIN runs r ON r.id = t.run
        LEFT JOIN devices d ON d.org = t.org AND d.id = t.device
        LEFT JOIN run_bodies b ON b.run = t.run AND b.name = t.steps
        WHERE t.status = 'offered' AND t.cancel IS NULL
            AND (t.sent_at IS NULL OR t.sent_at <= :before)
            AND g.last_heard_at >= :heard
            AND (g.conflict_at IS NULL OR g.conflict_at < :calm)
            AND NOT EXISTS (SELECT 1 FROM instance WHERE recovering)
        ORDER BY r.priority DESC, t.run, t.ordinal LIMIT :limit""",
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


def bodies_of_lists(session: Session, rows: Sequence[Row[Any]]) -> dict[str, str]:
    """The bodies that these offers name and that only some tasks of their run share, by hash."""
    hashes = sorted({row.body_hash for row in rows if row.steps is not None})
    if not hashes:
        return {}
    found = fetch(
        session,
        f"SELECT hash, body FROM run_bodies WHERE {any_of(session, 'hash', 'hashes')} "
        f"AND {any_of(session, 'run', 'runs')}",
        hashes=listed(session, hashes),
        runs=listed(session, sorted({row.run for row in rows})),
    )
    return {row.hash: row.body for row in found}


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


def recall(session: Session, keys: Iterable[tuple[str, int]], deadline: int) -> None:
    """Ask for these attempts back, unless they have begun; the answer is due by the deadline."""
    change_many(
        session,
        "UPDATE tasks SET cancel = 'recall', cancel_sent_at = NULL, deadline = :deadline "
        "WHERE run = :run AND ordinal = :ordinal AND status = 'accepted' AND NOT begun",
        [{"run": run, "ordinal": ordinal, "deadline": deadline} for run, ordinal in sorted(keys)],
    )


def overdue(session: Session, now: int, silence: int, limit: int) -> Sequence[Row[Any]]:
    """Attempts past their deadline whose gateway is online and has been for a silence period."""
    return fetch(
        session,
        f"""
        SELECT t.run, t.ordinal, t.cancel FROM gateways g JOIN tasks t ON {_of_task(SENDABLE)}
        WHERE t.deadline < :now AND g.last_heard_at >= :heard AND g.session_at < :heard
            AND t.status <> 'awaiting'
        ORDER BY t.run, t.ordinal LIMIT :limit""",
        now=now,
        heard=now - silence,
        limit=limit,
    )
