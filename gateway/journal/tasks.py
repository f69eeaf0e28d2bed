"""Every attempt whole, with its revisions: what is ahead of what the cloud stored must be sent."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from sqlite3 import Connection
from typing import Final, NamedTuple

from pydantic import ValidationError

from contract.ids import run_of
from contract.lifecycle import TASK_ENDS, TaskStatus
from contract.messages import (
    CancelItem,
    Failure,
    JobBody,
    LogLine,
    OfferedTask,
    TaskMark,
    TaskRef,
    TaskSnapshot,
)
from gateway.crash_points import reach
from gateway.domain.attempt import advance
from gateway.domain.attempt_record import from_record, snapshot_json, snapshot_of, to_record
from gateway.domain.attempt_state import Attempt, accept, close_by
from gateway.domain.facts import Acknowledged, Acknowledgment, CancelAsked, Instant, Say
from gateway.domain.plain_json import plain_text
from gateway.domain.retention import Stream
from gateway.errors import JournalDamaged
from gateway.journal import outbox

MARKED_ENDED: Final = 2_000


@dataclass(frozen=True)
class Unsent:
    """A row whose revision is ahead: `snapshot` is its JSON, as it stands in a report."""

    task: str
    attempt: int
    revision: int
    is_ended: bool
    snapshot: str


@dataclass(frozen=True)
class Accepted:
    """What became of a batch of offers: lanes that have work now, tasks without their body."""

    lanes: frozenset[str]
    taken: int
    known: int
    without_body: tuple[str, ...]


class Cancelling(NamedTuple):
    """A cancel of a known attempt, and its lane; `is_ended`: nothing is left to be stopped."""

    lane: str
    item: CancelItem
    is_ended: bool


def lane_of(offer: OfferedTask) -> str:
    """Attempts of one lane run one after the other: those of a device, else those of a task."""
    return offer.device or f"task:{offer.task}"


def take_offers(
    db: Connection,
    bodies: Sequence[JobBody],
    offers: Sequence[OfferedTask],
    boot: int,
    now: Instant,
) -> Accepted:
    """Keep what is new. What is not above a known attempt is reported again, and never run."""
    given = {(body.run, body.hash): body for body in bodies}
    lanes, without_body, known = set(), [], 0
    for offer in offers:
        reach("journal.in_offer", offer.device or offer.task)
        if is_known(db, offer.task, offer.attempt, now):
            known += 1
            continue
        body = given.get((offer.run, offer.body)) or _kept_body(db, offer.run, offer.body)
        if body is None:
            without_body.append(offer.task)
            continue
        _keep_body(db, body)
        _end_awaiting(db, offer, now)
        attempt = accept(offer, body, boot, now)
        earlier = _succeeded_before(db, offer)
        if earlier is not None:
            attempt = close_by(attempt, earlier, now)
        _insert(db, attempt, now)
        if not attempt.is_ended:
            lanes.add(lane_of(offer))
    taken = len(offers) - known - len(without_body)
    return Accepted(frozenset(lanes), taken, known, tuple(without_body))


def open_lanes(db: Connection) -> list[str]:
    rows = db.execute(
        "SELECT DISTINCT lane FROM tasks WHERE ended_at IS NULL AND status <> 'awaiting'"
    )
    return [str(lane) for (lane,) in rows]


def next_of(db: Connection, lane: str, now: Instant) -> Attempt | None:
    """The attempt that the lane's worker carries next: one already begun, else the most urgent.

    An attempt whose task succeeded in an earlier one is closed by it on the way.
    """
    met: set[tuple[str, int]] = set()
    while True:
        row = db.execute(
            "SELECT task FROM tasks WHERE lane = ? AND ended_at IS NULL AND status <> 'awaiting'"
            " ORDER BY begun DESC, priority DESC, accepted_at, task LIMIT 1",
            (lane,),
        ).fetchone()
        if row is None:
            return None
        (number,) = db.execute(
            "SELECT min(attempt) FROM tasks WHERE task = ? AND ended_at IS NULL"
            " AND status <> 'awaiting'",
            row,
        ).fetchone()
        if (row[0], number) in met:
            raise JournalDamaged(f"The journal is damaged: nothing ends {row[0][:60]!r} in it.")
        met.add((row[0], number))
        attempt = load(db, row[0], number, now)
        if attempt is None:
            continue
        earlier = None if attempt.begun else _succeeded_before(db, attempt.offer)
        if earlier is None:
            return attempt
        save(db, close_by(attempt, earlier, now), attempt.revision, now)


def load(db: Connection, task: str, attempt: int, now: Instant) -> Attempt | None:
    """One attempt. One that cannot be read any more is ended as failed, and None."""
    row = db.execute(
        "SELECT offer, record, run, body FROM tasks WHERE task = ? AND attempt = ?",
        (task, attempt),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    try:
        body = _kept_body(db, row[2], row[3])
        if body is None:
            raise ValueError("the body of its run is gone")
        return from_record(row[1], OfferedTask.model_validate_json(row[0]), body)
    except ValueError as error:
        _end_unreadable(db, task, attempt, str(error), now)
        return None


def save(
    db: Connection,
    attempt: Attempt,
    expected_revision: int,
    now: Instant,
    lines: Sequence[outbox.Line] = (),
    stream: Stream = "live",
) -> bool:
    """Keep an attempt's new state, with its log lines, if nobody else has changed it.

    False when the row is not at `expected_revision`: load it again.
    """
    changed = db.execute(
        "UPDATE tasks SET record = ?, snapshot = ?, status = ?, begun = ?, revision = ?,"
        " changed = ?, ended_at = ?, receipt_at = CASE WHEN forgotten THEN ? END"
        " WHERE task = ? AND attempt = ? AND revision = ?",
        (
            to_record(attempt),
            snapshot_json(snapshot_of(attempt)),
            attempt.status,
            attempt.begun,
            attempt.revision,
            now.wall,
            attempt.ended_at,
            attempt.ended_at,
            attempt.offer.task,
            attempt.offer.attempt,
            expected_revision,
        ),
    ).rowcount
    if changed and lines:
        outbox.add(db, stream, lines)
    if changed and attempt.is_awaiting:
        # Nobody carries it any more: what was asked meanwhile is obeyed here.
        asked = cancel_asked(db, attempt.offer.task, attempt.offer.attempt)
        after = attempt if asked is None else advance(attempt, asked, now)[0]
        if after.revision != attempt.revision:
            save(db, after, attempt.revision, now)
    return bool(changed)


def cancel(db: Connection, items: Sequence[CancelItem], now: Instant) -> list[Cancelling]:
    """Obey cancels at once where nothing has begun; keeps the others for whoever carries them."""
    running = []
    for item in items:
        row = db.execute(
            "SELECT lane, ended_at, begun, status FROM tasks WHERE task = ? AND attempt = ?",
            (item.task, item.attempt),
        ).fetchone()
        if row is None:
            _keep_cancel(db, item, now)
        elif row[1] is not None:
            report_again(db, [item])
        else:
            if not row[2] or row[3] == TaskStatus.AWAITING:
                attempt = load(db, item.task, item.attempt, now)
                if attempt is not None:
                    asked = CancelAsked(item.mode, item.reason)
                    attempt, before = advance(attempt, asked, now)[0], attempt.revision
                    save(db, attempt, before, now)
                is_ended = attempt is None or attempt.is_ended
            else:
                is_ended = False
                _keep_asked(db, item)
            running.append(Cancelling(str(row[0]), item, is_ended))
    return running


def _keep_asked(db: Connection, item: CancelItem) -> None:
    """For whoever carries the attempt, also after a restart; force is never taken back."""
    if item.mode != "recall":
        db.execute(
            "UPDATE tasks SET cancel = ?1 WHERE task = ?2 AND attempt = ?3"
            " AND (cancel IS NULL OR ?4 = 'force')",
            (item.model_dump_json(), item.task, item.attempt, item.mode),
        )


def cancel_asked(db: Connection, task: str, attempt: int) -> CancelAsked | None:
    """What has been asked of an attempt since it began, whether its worker heard it or not."""
    row = db.execute(
        "SELECT cancel FROM tasks WHERE task = ? AND attempt = ?", (task, attempt)
    ).fetchone()
    if row is None or row[0] is None:
        return None
    item = CancelItem.model_validate_json(row[0])
    return CancelAsked(item.mode, item.reason)


def awaiting(db: Connection, now: Instant) -> list[Attempt]:
    """The attempts whose steps are done, and whose acknowledgment is outstanding."""
    rows = db.execute(
        "SELECT task, attempt FROM tasks WHERE ended_at IS NULL AND status = 'awaiting'"
    ).fetchall()
    return [found for row in rows if (found := load(db, row[0], row[1], now)) is not None]


def with_members(db: Connection, now: Instant) -> list[Attempt]:
    """Begun attempts that update several devices together, or the gateway itself."""
    rows = db.execute(
        "SELECT task, attempt FROM tasks WHERE ended_at IS NULL AND begun = 1"
        """ AND lane LIKE 'task:%'"""
        """ AND (record LIKE '%"together"%' OR record LIKE '%"image_hash"%')"""
    ).fetchall()
    found = [load(db, task, attempt, now) for task, attempt in rows]
    return [attempt for attempt in found if attempt is not None]


def acknowledge(
    db: Connection, task: str, attempt: int, word: Acknowledgment, now: Instant, stream: Stream
) -> bool:
    """Close an awaiting attempt; says whether it has ended, by this word or before it."""
    found = load(db, task, attempt, now)
    if found is None:
        return True
    after, effects = advance(found, Acknowledged(word), now)
    lines = [
        LogLine(number=0, at=max(now.wall, 0), level=effect.level, text=effect.text, task=task,
                attempt=attempt, device=found.offer.device, data=dict(effect.data))
        for effect in effects
        if isinstance(effect, Say)
    ]  # fmt: skip
    if found.is_ended:
        text = "acknowledged after its end: nothing changes"
        late = LogLine(number=0, at=max(now.wall, 0), level="WARNING", text=text, task=task,
                       attempt=attempt, data={"by": word.by[:200]})  # fmt: skip
        outbox.add(db, stream, [late])
    elif after.revision != found.revision:
        save(db, after, found.revision, now, lines, stream)
    return after.is_ended


def _end_awaiting(db: Connection, offer: OfferedTask, now: Instant) -> None:
    """A new attempt says that the cloud has ended the one that was waiting to be acknowledged."""
    rows = db.execute(
        "SELECT attempt FROM tasks WHERE task = ? AND attempt < ? AND ended_at IS NULL"
        " AND status = 'awaiting'",
        (offer.task, offer.attempt),
    ).fetchall()
    forget(db, [TaskRef(task=offer.task, attempt=number) for (number,) in rows], now)


def unacknowledged(db: Connection, limit: int) -> list[Unsent]:
    """What must be sent: ended attempts first, then the longest unchanged. By index."""
    rows = db.execute(
        "SELECT task, attempt, revision, ended_at IS NOT NULL, snapshot FROM tasks"
        " WHERE revision > stored_revision AND revision > refused_revision AND forgotten = 0"
        " ORDER BY ended_at IS NULL, changed LIMIT ?",
        (limit,),
    )
    return [Unsent(task, attempt, rev, bool(end), snap) for task, attempt, rev, end, snap in rows]


def stored(db: Connection, items: Sequence[tuple[str, int, int]], now: Instant) -> None:
    """The cloud has committed these (task, attempt, revision)s."""
    db.executemany(
        "UPDATE tasks SET stored_revision = max(stored_revision, min(?3, revision)),"
        " receipt_at = CASE WHEN ended_at IS NOT NULL AND ?3 >= revision THEN ?4"
        " ELSE receipt_at END WHERE task = ?1 AND attempt = ?2",
        [(*item, now.wall) for item in items],
    )


def refused(db: Connection, items: Sequence[tuple[str, int, int, str]]) -> None:
    """The cloud will not take these revisions: kept, shown, and not sent again by themselves."""
    db.executemany(
        "UPDATE tasks SET refused_revision = max(refused_revision, ?3), refused_code = ?4"
        " WHERE task = ?1 AND attempt = ?2",
        items,
    )


def report_again(db: Connection, refs: Sequence[TaskRef | CancelItem]) -> None:
    """The cloud asks for these, whole, whatever it has stored or refused before."""
    db.executemany(
        "UPDATE tasks SET stored_revision = 0, refused_revision = 0, refused_code = NULL,"
        " forgotten = 0, receipt_at = NULL WHERE task = ? AND attempt = ?",
        [(ref.task, ref.attempt) for ref in refs],
    )


def forget(db: Connection, refs: Sequence[TaskRef], now: Instant) -> None:
    """The cloud has ended these itself: what has not begun never will, and no result is sent."""
    for ref in refs:
        attempt = load(db, ref.task, ref.attempt, now)
        if attempt is not None and (not attempt.begun or attempt.is_awaiting):
            asked = CancelAsked("soft", "the cloud has ended this attempt")
            save(db, advance(attempt, asked, now)[0], attempt.revision, now)
        db.execute(
            "UPDATE tasks SET forgotten = 1, receipt_at = CASE WHEN ended_at IS NOT NULL"
            " THEN ? END WHERE task = ? AND attempt = ?",
            (now.wall, ref.task, ref.attempt),
        )


def marks(db: Connection, open_only: bool = False) -> list[TaskMark]:
    """The journal in short: what is open, and of what has ended the latest."""
    columns = "SELECT task, attempt, revision, status FROM tasks"
    rows = db.execute(f"{columns} WHERE ended_at IS NULL").fetchall()
    if not open_only:
        rows += db.execute(
            f"{columns} WHERE ended_at IS NOT NULL AND forgotten = 0"
            " ORDER BY receipt_at IS NOT NULL, ended_at DESC LIMIT ?",
            (MARKED_ENDED,),
        ).fetchall()
    found = []
    for task, attempt, revision, status in rows:
        with suppress(ValueError):  # a damaged row must not be in the way of a hello
            mark = {"task": task, "attempt": attempt, "revision": revision, "status": status}
            found.append(TaskMark.model_validate(mark))
    return found


def count_refused(db: Connection) -> dict[str, int]:
    """How many attempts the cloud refused, by its code."""
    rows = db.execute(
        "SELECT refused_code, count(*) FROM tasks WHERE refused_code IS NOT NULL GROUP BY 1"
    )
    return {str(code): int(number) for code, number in rows}


def is_known(db: Connection, task: str, attempt: int, now: Instant) -> bool:
    """Whether an offer is old news; if so, what is known is sent again."""
    (highest,) = db.execute("SELECT max(attempt) FROM tasks WHERE task = ?", (task,)).fetchone()
    if highest is not None:
        if attempt > highest:
            return False
        report_again(db, [TaskRef(task=task, attempt=highest)])
        return True
    row = db.execute(
        "SELECT attempt, revision, status, begun, ended_at FROM tombstones WHERE task = ?", (task,)
    ).fetchone()
    if row is None or attempt > row[0]:
        return False
    snapshot = TaskSnapshot(
        task=task,
        attempt=row[0],
        revision=row[1],
        status=TaskStatus(row[2]),
        begun=bool(row[3]),
        ended_at=row[4],
        truncated=True,
    )
    insert_ended(db, snapshot, now)
    return True


def _succeeded_before(db: Connection, offer: OfferedTask) -> Attempt | None:
    row = db.execute(
        "SELECT attempt, offer, record, run, body FROM tasks"
        " WHERE task = ? AND attempt < ? AND status = ? ORDER BY attempt DESC LIMIT 1",
        (offer.task, offer.attempt, TaskStatus.SUCCEEDED),
    ).fetchone()
    if row is None or row[1] is None:
        return None
    try:
        body = _kept_body(db, row[3], row[4])
        if body is None:
            return None
        return from_record(row[2], OfferedTask.model_validate_json(row[1]), body)
    except ValueError:  # what cannot be read closes nothing
        return None


def _keep_body(db: Connection, body: JobBody) -> None:
    public = body.model_copy(update={"secrets": {}})
    text = public.model_dump_json(by_alias=True, exclude_defaults=True)
    place = "seal(?)" if body.secrets else "?"
    db.execute(
        f"INSERT OR IGNORE INTO bodies (run, hash, body, secrets) VALUES (?, ?, ?, {place})",
        (body.run, body.hash, text, json.dumps(body.secrets) if body.secrets else ""),
    )


def _kept_body(db: Connection, run: str, digest: str) -> JobBody | None:
    row = db.execute(
        "SELECT body, secrets FROM bodies WHERE run = ? AND hash = ?", (run, digest)
    ).fetchone()
    if row is None:
        return None
    body = _parsed_body(row[0])
    if not row[1]:
        return body
    (opened,) = db.execute("SELECT unseal(?)", (row[1],)).fetchone()
    # Without its key the steps that need a secret fail, and say which name is missing.
    return body.model_copy(update={"secrets": json.loads(opened) if opened else {}})


@lru_cache(maxsize=16)
def _parsed_body(text: str) -> JobBody:
    return JobBody.model_validate_json(text)


def _insert(db: Connection, attempt: Attempt, now: Instant) -> None:
    offer = attempt.offer
    db.execute(
        "INSERT INTO tasks (task, attempt, lane, run, body, offer, record, snapshot, status, begun,"
        " priority, revision, accepted_at, changed, ended_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            offer.task,
            offer.attempt,
            lane_of(offer),
            offer.run,
            offer.body,
            offer.model_dump_json(exclude_defaults=True),
            to_record(attempt),
            snapshot_json(snapshot_of(attempt)),
            attempt.status,
            attempt.begun,
            offer.priority,
            attempt.revision,
            now.wall,
            now.wall,
            attempt.ended_at,
        ),
    )


def insert_ended(db: Connection, snapshot: TaskSnapshot, now: Instant) -> None:
    """Keep an attempt that was never carried here: its last word is its first."""
    db.execute(
        "INSERT INTO tasks (task, attempt, lane, run, snapshot, status, begun, revision,"
        " accepted_at, changed, ended_at) VALUES (?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            snapshot.task,
            snapshot.attempt,
            run_of(snapshot.task),
            snapshot_json(snapshot),
            snapshot.status,
            snapshot.begun,
            snapshot.revision,
            now.wall,
            now.wall,
            snapshot.ended_at,
        ),
    )


def _keep_cancel(db: Connection, item: CancelItem, now: Instant) -> None:
    """A cancel before its offer: kept as that attempt, ended."""
    if is_known(db, item.task, item.attempt, now):
        return
    status = TaskStatus.SCHEDULED if item.mode == "recall" else TaskStatus.CANCELLED
    snapshot = TaskSnapshot(
        task=item.task, attempt=item.attempt, revision=1, status=status, ended_at=now.wall
    )
    insert_ended(db, snapshot, now)


def _end_unreadable(db: Connection, task: str, attempt: int, why: str, now: Instant) -> None:
    """A record that this version cannot read ends its attempt; the others go on."""
    row = db.execute(
        "SELECT revision, ended_at, begun FROM tasks WHERE task = ? AND attempt = ?",
        (task, attempt),
    ).fetchone()
    if row[1] is None:
        _put_unreadable(db, task, attempt, why, now)


def replace_unreadable(db: Connection, limit: int, now: Instant) -> int:
    """What is to be sent and cannot be read any more says so instead; returns how many."""
    found = 0
    for item in unacknowledged(db, limit):
        try:
            TaskSnapshot.model_validate_json(item.snapshot)
        except ValidationError as error:
            found += 1
            _put_unreadable(db, item.task, item.attempt, str(error), now)
    return found


def _put_unreadable(db: Connection, task: str, attempt: int, why: str, now: Instant) -> None:
    row = db.execute(
        "SELECT revision, status, begun FROM tasks WHERE task = ? AND attempt = ?", (task, attempt)
    ).fetchone()
    text = plain_text(f"the journal's record is unreadable: {why}", 500)
    status = row[1] if row[1] in TASK_ENDS else TaskStatus.FAILED
    snapshot = TaskSnapshot(
        task=task,
        attempt=attempt,
        revision=row[0] + 1,
        status=TaskStatus(status),
        begun=bool(row[2]),
        ended_at=now.wall,
        failure=Failure(code="interrupted", text=text) if status == TaskStatus.FAILED else None,
        truncated=True,
    )
    db.execute(
        "UPDATE tasks SET snapshot = ?, status = ?, revision = ?, changed = ?, ended_at = ?"
        " WHERE task = ? AND attempt = ?",
        (
            snapshot_json(snapshot),
            snapshot.status,
            snapshot.revision,
            now.wall,
            now.wall,
            task,
            attempt,
        ),
    )
