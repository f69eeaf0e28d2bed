"""Tasks and attempts in bulk: loaded with their locks, moved, closed, and what that sets free."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row

from cloud.domain.counts import Deltas
from cloud.domain.tasks import ClosedAttempt, Taken, TaskFacts
from cloud.storage import acknowledgments, counts, triggers
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, for_update, listed
from cloud.storage.json_text import clean, clean_or_none
from cloud.storage.schema import DUE, OPEN
from contract.ids import task_id
from contract.lifecycle import TaskStatus

Key = tuple[str, int]

COLUMNS: Final = (
    "run, ordinal, org, device, gateway, status, attempt, tries, attempts, revision, journal, "
    "begun, started_at, progress, sent_at, stranded, places"
)


# Thrice as fast as TaskStatus(text), and this is read for every report.
_STATUSES: Final = {status.value: status for status in TaskStatus}


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as it was read, with what only storage needs to know of it."""

    run: str
    ordinal: int
    org: str
    device: str | None
    progress: int
    sent: bool
    facts: TaskFacts
    stranded: bool = False
    places: str | None = None

    @property
    def key(self) -> Key:
        return self.run, self.ordinal

    @property
    def id(self) -> str:
        return task_id(self.run, self.ordinal)


@dataclass(frozen=True, slots=True)
class Move:
    """A task's move, and the snapshot that caused it, as JSON; None where the cloud decided."""

    task: StoredTask
    taken: Taken
    snapshot: str | None = None


def stored(row: Row[Any]) -> StoredTask:
    """A row with `COLUMNS` as a value."""
    return StoredTask(
        run=row.run,
        ordinal=row.ordinal,
        org=row.org,
        device=row.device,
        progress=row.progress,
        sent=row.sent_at is not None,
        stranded=bool(row.stranded),
        places=row.places,
        facts=TaskFacts(
            status=_STATUSES[row.status],
            attempt=row.attempt,
            revision=row.revision,
            begun=bool(row.begun),
            tries=row.tries,
            attempts=row.attempts,
            gateway=row.gateway,
            journal=row.journal,
            started_at=row.started_at,
        ),
    )


def load(session: Session, keys: Iterable[Key]) -> dict[Key, StoredTask]:
    """The tasks that exist among these, locked in the order of their keys."""
    ordinals_by_run: defaultdict[str, list[int]] = defaultdict(list)
    for run, ordinal in sorted(set(keys)):
        ordinals_by_run[run].append(ordinal)
    sql = (
        f"SELECT {COLUMNS} FROM tasks WHERE run = :run AND "
        f"{any_of(session, 'ordinal', 'ordinals')} ORDER BY ordinal{for_update(session)}"
    )
    found = {}
    for run, ordinals in ordinals_by_run.items():
        for row in fetch(session, sql, run=run, ordinals=listed(session, ordinals)):
            found[run, row.ordinal] = stored(row)
    return found


def load_closed(
    session: Session, keys: Iterable[tuple[str, int, int]]
) -> dict[tuple[str, int, int], ClosedAttempt]:
    """The attempts that exist among these `(run, ordinal, attempt)`."""
    wanted = set(keys)
    ordinals_by_run: defaultdict[str, set[int]] = defaultdict(set)
    for run, ordinal, _ in wanted:
        ordinals_by_run[run].add(ordinal)
    sql = (
        "SELECT run, ordinal, attempt, gateway, journal, revision, late_revision FROM attempts "
        f"WHERE run = :run AND {any_of(session, 'ordinal', 'ordinals')}"
    )
    return {
        (row.run, row.ordinal, row.attempt): ClosedAttempt(
            row.gateway, row.journal, row.revision, row.late_revision
        )
        for run, ordinals in sorted(ordinals_by_run.items())
        for row in fetch(session, sql, run=run, ordinals=listed(session, sorted(ordinals)))
        if (row.run, row.ordinal, row.attempt) in wanted
    }


_MOVE: Final = f"""
UPDATE tasks SET status = :status, {{rest}}
WHERE run = :run AND ordinal = :ordinal AND attempt = :attempt AND revision <= :revision
AND {OPEN}"""
_REST: Final = """revision = :revision, begun = :begun, tries = :tries, due_at = :due_at,
deadline = :deadline, progress = :progress, current_step = :current_step,
waiting_for = :waiting_for, started_at = :started_at, ended_at = :ended_at,
failure_code = :failure_code, failure_text = :failure_text"""
# An unchanged status is not named: naming it costs the maintenance of every partial index.
_STAY: Final = _MOVE.replace("status = :status, ", "").format(rest=_REST)
_GO: Final = _MOVE.format(rest=_REST + ", cancel = :cancel, stranded = FALSE")
_ATTEMPT: Final = """
UPDATE attempts SET status = :attempt_status, revision = :revision, begun = :begun,
started_at = :started_at, ended_at = :closed_at, failure_code = :failure_code,
failure_text = :failure_text{snapshot}
WHERE run = :run AND ordinal = :ordinal AND attempt = :attempt"""
_ATTEMPT_REPORTED: Final = _ATTEMPT.format(snapshot=", snapshot = :snapshot")
_ATTEMPT_DECIDED: Final = _ATTEMPT.format(snapshot="")


def save_moves(
    session: Session,
    moves: Sequence[Move],
    now: int,
    shard: int,
    deltas: Deltas | None = None,
    keep_devices: Collection[Key] = (),
) -> None:
    """Save moves of open attempts, free what the closed ones held, and move the counts.

    The tasks are locked by `load`. Each task stands here once. Devices, waiting tasks and counts
    follow in this order everywhere, so that two transactions never wait in a circle.
    `keep_devices` are tasks whose device stays held: their gateway may still be at work on it.
    """
    deltas = deltas or Deltas()
    stay: list[dict[str, Any]] = []
    go: list[dict[str, Any]] = []
    reported: list[dict[str, Any]] = []
    decided: list[dict[str, Any]] = []
    went: list[Move] = []
    for move in moves:
        task, taken = move.task, move.taken
        row = _row(move, now)
        (decided if move.snapshot is None else reported).append(row)
        deltas.moved(task.run, task.facts.status, task.progress, taken.status, taken.progress)
        if taken.status is task.facts.status:
            stay.append(row)
            continue
        go.append(row)
        went.append(move)
        if task.stranded:
            deltas.stranded(task.run, -1)
    change_many(session, _STAY, stay)
    change_many(session, _GO, go)
    change_many(session, _ATTEMPT_REPORTED, reported)
    change_many(session, _ATTEMPT_DECIDED, decided)
    change_many(session, _REST_SLOT, [_rest(move) for move in went if move.taken.rests_until])
    free(session, [move.task for move in went if _gives_back(move)], keep_devices)
    gone = [move.task.key for move in went if move.taken.status is TaskStatus.TIMED_OUT]
    triggers.note_timeouts(session, gone, now)
    acknowledgments.note_untold(session, [_untold(move) for move in went if _is_untold(move)])
    counts.move(session, deltas, shard)


def _is_untold(move: Move) -> bool:
    """Whether an attempt that awaits its acknowledgment has been ended here."""
    was_awaiting = move.task.facts.status is TaskStatus.AWAITING
    return was_awaiting and move.snapshot is None and move.taken.closes


def _untold(move: Move) -> dict[str, Any]:
    task = move.task
    return {
        "run": task.run,
        "ordinal": task.ordinal,
        "attempt": task.facts.attempt,
        "org": task.org,
        "gateway": task.facts.gateway,
        "journal": task.facts.journal,
    }


_REST_SLOT: Final = """
INSERT INTO slot_rests (run, ordinal, attempt, until) VALUES (:run, :ordinal, :attempt, :until)
ON CONFLICT (run, ordinal, attempt) DO NOTHING"""


def _rest(move: Move) -> dict[str, Any]:
    return {
        "run": move.task.run,
        "ordinal": move.task.ordinal,
        "attempt": move.task.facts.attempt,
        "until": move.taken.rests_until,
    }


def _gives_back(move: Move) -> bool:
    """Whether the attempt needs its device and slots no more: it ended, or awaits its end."""
    return move.taken.closes or move.taken.status is TaskStatus.AWAITING


def _row(move: Move, now: int) -> dict[str, Any]:
    task, taken = move.task, move.taken
    failure = taken.failure
    return {
        "run": task.run,
        "ordinal": task.ordinal,
        "attempt": task.facts.attempt,
        "status": taken.status.value,
        "attempt_status": taken.attempt_status.value,
        "revision": taken.revision,
        "begun": taken.begun,
        "tries": taken.tries,
        "due_at": taken.due_at,
        "deadline": taken.deadline,
        "progress": taken.progress,
        "current_step": clean_or_none(taken.current_step),
        "waiting_for": clean_or_none(taken.waiting_for),
        "started_at": taken.started_at,
        "ended_at": taken.ended_at,
        "closed_at": now if taken.closes else None,
        "cancel": None,
        "failure_code": None if failure is None else clean(failure.code),
        "failure_text": None if failure is None else clean(failure.text),
        "snapshot": move.snapshot,
    }


_FREE: Final = (
    "UPDATE devices SET held_by = NULL WHERE org = :org AND id = :device AND held_by = :task"
)


def free(session: Session, tasks: Sequence[StoredTask], keep_devices: Collection[Key] = ()) -> None:
    """Give back the devices and slots of closed attempts, and wake who waits for them."""
    freed = sorted(
        (task for task in tasks if task.device and task.key not in keep_devices),
        key=lambda task: (task.org, task.device),
    )
    change_many(session, _FREE, [{"org": t.org, "device": t.device, "task": t.id} for t in freed])
    unpark(session, {(t.org, f"device:{t.device}") for t in freed})
    slots: defaultdict[str, defaultdict[tuple[str, str], int]] = defaultdict(
        lambda: defaultdict(int)
    )
    for task in tasks:
        if task.facts.gateway:
            slots[task.org][task.run, f"slots:{task.facts.gateway}"] += 1
        for place in json.loads(task.places) if task.places else ():
            slots[task.org][task.run, place] += 1
    for org, found in sorted(slots.items()):
        _unpark_slots(session, org, found)


_PARKED: Final = f"{DUE} AND parked IS NOT NULL"


def unpark(session: Session, places: Iterable[tuple[str, str]]) -> set[str]:
    """Put the tasks parked at these `(org, place)` back among the due; returns their runs."""
    by_org: defaultdict[str, list[str]] = defaultdict(list)
    for org, place in sorted(set(places)):
        by_org[org].append(place)
    runs: set[str] = set()
    for org, found in by_org.items():
        where = f"{_PARKED} AND org = :org AND {any_of(session, 'parked', 'places')}"
        parameters = {"org": org, "places": listed(session, found)}
        woken = fetch(session, f"SELECT DISTINCT run FROM tasks WHERE {where}", **parameters)
        if woken:
            change_many(session, f"UPDATE tasks SET parked = NULL WHERE {where}", [parameters])
            runs.update(row.run for row in woken)
    return runs


def _unpark_slots(session: Session, org: str, slots: Mapping[tuple[str, str], int]) -> None:
    where = f"{_PARKED} AND org = :org AND {any_of(session, 'parked', 'places')}"
    places = listed(session, sorted({place for _, place in slots}))
    rows = fetch(
        session, f"SELECT DISTINCT run, parked FROM tasks WHERE {where}", org=org, places=places
    )
    for row in rows:
        # Only as many as there are slots: who found none would be parked again at once.
        if number := slots.get((row.run, row.parked), 0):
            change(
                session,
                "UPDATE tasks SET parked = NULL WHERE run = :run AND ordinal IN (SELECT ordinal "
                f"FROM tasks WHERE {_PARKED} AND org = :org AND parked = :place AND run = :run "
                "ORDER BY due_at, ordinal LIMIT :number)",
                run=row.run,
                org=org,
                place=row.parked,
                number=number,
            )


def save_late(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep late outcomes beside their attempts: `run, ordinal, attempt, revision, late`."""
    change_many(
        session,
        "UPDATE attempts SET late = :late, late_revision = :revision WHERE run = :run "
        "AND ordinal = :ordinal AND attempt = :attempt "
        "AND (late_revision IS NULL OR late_revision < :revision)",
        rows,
    )


def open_of_gateway(
    session: Session, org: str, gateway: str, *, lock: bool = False
) -> list[StoredTask]:
    """The tasks whose open attempt sits on a gateway, in order."""
    rows = fetch(
        session,
        f"SELECT {COLUMNS} FROM tasks WHERE {OPEN} AND org = :org AND gateway = :gateway "
        f"ORDER BY run, ordinal{for_update(session) if lock else ''}",
        org=org,
        gateway=gateway,
    )
    return [stored(row) for row in rows]
