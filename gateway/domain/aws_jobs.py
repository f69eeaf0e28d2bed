"""The queue of job executions of one thing: what a device asks in, what it is told out.

A thing's executions are its whole state. Each function takes it with a moment, and gives a `Turn`:
the thing after it, what changed and is to be kept first, and what is then to be said, in order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from gateway.domain import aws_job_messages as messages
from gateway.domain.aws_job_messages import (
    NEXT,
    Asked,
    Describe,
    GetPending,
    Outgoing,
    Rejection,
    StartNext,
    Update,
)
from gateway.domain.facts import Instant


class Status(StrEnum):
    """AWS's own words for where a job execution is."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"


_S = Status
DEVICE_ENDS: Final = frozenset({_S.SUCCEEDED, _S.FAILED, _S.REJECTED})
ENDS: Final = DEVICE_ENDS | {_S.TIMED_OUT, _S.REMOVED, _S.CANCELED}
# Who may move an execution where. An ended one never moves.
DEVICE_MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    _S.QUEUED: DEVICE_ENDS | {_S.IN_PROGRESS},
    _S.IN_PROGRESS: DEVICE_ENDS | {_S.IN_PROGRESS},
}
SERVICE_MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    _S.QUEUED: frozenset({_S.CANCELED, _S.REMOVED}),
    _S.IN_PROGRESS: frozenset({_S.CANCELED, _S.REMOVED, _S.TIMED_OUT}),
}
MINUTE_MS: Final = 60_000
LISTED: Final = 10  # of each list that a device is told
ENDED_KEPT: Final = 20
Key = tuple[str, int]


@dataclass(frozen=True)
class Execution:
    """One execution. Times are wall-clock milliseconds, `..._by` the monotonic clock's.

    `order` is its place in the queue; `task` and `attempt` say whose it is. `work_ms` is how long
    the device may take from its first IN_PROGRESS on.
    """

    job: str
    number: int
    order: int
    task: str
    attempt: int
    document: Mapping[str, JsonValue]
    queued_at: int
    updated_at: int
    status: Status = Status.QUEUED
    details: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    started_at: int | None = None
    work_ms: int | None = None
    work_by: int | None = None
    step_by: int | None = None

    @property
    def key(self) -> Key:
        return self.job, self.number

    @property
    def is_ended(self) -> bool:
        return self.status in ENDS

    @property
    def due_at(self) -> int | None:
        """When its time is over, by the monotonic clock."""
        if self.status is not Status.IN_PROGRESS:
            return None
        return min((t for t in (self.work_by, self.step_by) if t is not None), default=None)


@dataclass(frozen=True)
class Thing:
    """A device as AWS knows it, with its executions in the order of the queue."""

    name: str
    executions: tuple[Execution, ...] = ()

    @property
    def pending(self) -> list[Execution]:
        """What has not ended: first what is in progress, the longest of it first."""
        waiting = [e for e in self.executions if not e.is_ended]
        return sorted(waiting, key=lambda e: (e.started_at is None, e.started_at or 0, e.order))

    @property
    def head(self) -> Execution | None:
        return next(iter(self.pending), None)

    @property
    def due_at(self) -> int | None:
        return min((e.due_at for e in self.executions if e.due_at is not None), default=None)

    def find(self, job: str, number: int | None = None) -> Execution | None:
        """The execution of that number, by default the newest."""
        found = [e for e in self.executions if e.job == job and number in (None, e.number)]
        return max(found, key=lambda e: e.number, default=None)


@dataclass(frozen=True)
class Turn:
    """`changed` and `gone` are kept before anything of `said` is said."""

    thing: Thing
    changed: tuple[Execution, ...] = ()
    gone: tuple[Key, ...] = ()
    said: tuple[Outgoing, ...] = ()


def answer(thing: Thing, asked: Asked, now: Instant) -> Turn:
    """Do what a device asks, or reject it."""
    request = asked.request
    try:
        match request:
            case Rejection():
                raise request
            case GetPending():
                return _answered(thing, asked, now, None, **_lists(thing))
            case StartNext():
                return _start_next(thing, asked, request, now)
            case Describe():
                shown = _described(thing, request, now)
                return _answered(thing, asked, now, execution=shown)
            case Update():
                return _update(thing, asked, request, now)
    except Rejection as rejection:
        known = replace(rejection, token=_token(asked))
        body = messages.rejected(_seconds(now.wall), known)
        return Turn(thing, said=(Outgoing(f"{asked.topic}/rejected", body),))


def queue(
    thing: Thing,
    job: str,
    document: Mapping[str, JsonValue],
    owner: tuple[str, int],
    now: Instant,
    work_ms: int | None = None,
) -> Turn:
    """A job execution for the thing; where the job had one before, its next number.

    What is left of the job's executions before is canceled, and the oldest ended ones go.
    """
    stale = [e for e in thing.executions if e.job == job and not e.is_ended]
    canceled = [_moved(e, Status.CANCELED, now) for e in stale]
    cleared = _with(thing, canceled)
    before = cleared.find(job)
    fresh = Execution(
        job=job,
        number=1 if before is None else before.number + 1,
        order=max((e.order for e in thing.executions), default=0) + 1,
        task=owner[0],
        attempt=owner[1],
        document=document,
        queued_at=now.wall,
        updated_at=now.wall,
        work_ms=work_ms,
    )
    ended = [e for e in cleared.executions if e.is_ended and e.job != job]
    gone = {e.key for e in ended[: max(len(ended) - ENDED_KEPT, 0)]}
    kept = tuple(e for e in cleared.executions if e.key not in gone)
    after = Thing(thing.name, (*kept, fresh))
    said = _notices(thing, after, now)
    return Turn(after, (*canceled, fresh), tuple(sorted(gone)), said)


def end(thing: Thing, key: Key, status: Status, now: Instant, force: bool = True) -> Turn:
    """The service ends an execution; without `force` only one that the device has not begun.

    Nothing changes where there is no such move.
    """
    found = thing.find(*key)
    if found is None or status not in SERVICE_MOVES.get(found.status, ()):
        return Turn(thing)
    if found.status is Status.IN_PROGRESS and not force:
        return Turn(thing)
    return _changed(thing, _moved(found, status, now), now)


def expire(thing: Thing, now: Instant) -> Turn:
    """End what is in progress and out of time."""
    late = [e for e in thing.executions if e.due_at is not None and e.due_at <= now.mono]
    moved = [_moved(e, Status.TIMED_OUT, now) for e in late]
    after = _with(thing, moved)
    return Turn(after, tuple(moved), (), _notices(thing, after, now))


def announcement(thing: Thing, now: Instant) -> tuple[Outgoing, ...]:
    """Say once more what is first in the queue, while the device has not begun it."""
    head = thing.head
    if head is None or head.status is not Status.QUEUED:
        return ()
    return (_next_notice(thing, now),)


# -- what a device asks


def _start_next(thing: Thing, asked: Asked, request: StartNext, now: Instant) -> Turn:
    head = thing.head
    if head is None:
        return _answered(thing, asked, now)
    if head.status is Status.IN_PROGRESS:
        return _answered(thing, asked, now, execution=_shown(thing, head, now))
    begun = _moved(head, Status.IN_PROGRESS, now, request.details)
    begun = _timed(begun, request.step_minutes, now)
    turn = _changed(thing, begun, now)
    shown = _shown(turn.thing, begun, now)
    return _answered(turn.thing, asked, now, turn, execution=shown)


def _described(thing: Thing, request: Describe, now: Instant) -> dict[str, JsonValue] | None:
    if request.job == NEXT:
        head = thing.head
        return None if head is None else _shown(thing, head, now, request.with_document)
    found = _found(thing, request.job, request.number)
    if found.is_ended:
        text = f"the execution of job {found.job} has ended: {found.status}"
        raise Rejection("TerminalStateReached", text)
    return _shown(thing, found, now, request.with_document)


def _update(thing: Thing, asked: Asked, request: Update, now: Instant) -> Turn:
    found = _found(thing, request.job, request.number)
    status = Status(request.status)
    if status not in DEVICE_MOVES.get(found.status, ()):
        text = f"cannot go from {found.status} to {status}"
        raise Rejection("InvalidStateTransition", text, state=_state(found))
    if request.expected_version not in (None, found.version):
        text = f"Expected version {request.expected_version} but found version {found.version}"
        raise Rejection("VersionMismatch", text, state=_state(found))
    moved = _timed(_moved(found, status, now, request.details), request.step_minutes, now)
    turn = _changed(thing, moved, now)
    return _answered(
        turn.thing,
        asked,
        now,
        turn,
        executionState=_state(moved) if request.with_state else None,
        jobDocument=dict(found.document) if request.with_document else None,
    )


def _found(thing: Thing, job: str, number: int | None) -> Execution:
    found = thing.find(job, number)
    if found is None:
        raise Rejection("ResourceNotFound", f"job {job} has no such execution for this thing")
    return found


# -- moves


def _moved(
    before: Execution, status: Status, now: Instant, details: Mapping[str, str] | None = None
) -> Execution:
    """A new version; `details` replace those there are, None leaves them."""
    has_begun = status is Status.IN_PROGRESS and before.started_at is None
    after = replace(
        before,
        status=status,
        details=before.details if details is None else details,
        version=before.version + 1,
        updated_at=now.wall,
        document={} if status in ENDS else before.document,
    )
    if has_begun:
        work_by = None if before.work_ms is None else now.mono + before.work_ms
        return replace(after, started_at=now.wall, work_by=work_by)
    return after


def _timed(execution: Execution, minutes: int | None, now: Instant) -> Execution:
    if minutes is None or execution.is_ended:
        return execution
    if minutes == messages.CLEAR_TIMER:
        return replace(execution, step_by=None)
    return replace(execution, step_by=now.mono + minutes * MINUTE_MS)


def _changed(thing: Thing, execution: Execution, now: Instant) -> Turn:
    after = _with(thing, [execution])
    return Turn(after, (execution,), (), _notices(thing, after, now))


def _with(thing: Thing, changed: Iterable[Execution]) -> Thing:
    by_key = {e.key: e for e in changed}
    return replace(thing, executions=tuple(by_key.get(e.key, e) for e in thing.executions))


# -- what is said


def _answered(
    thing: Thing, asked: Asked, now: Instant, turn: Turn | None = None, **fields: JsonValue
) -> Turn:
    body = messages.accepted(_seconds(now.wall), _token(asked), **fields)
    said = Outgoing(f"{asked.topic}/accepted", body)
    if turn is None:
        return Turn(thing, said=(said,))
    return replace(turn, said=(said, *turn.said))


def _notices(before: Thing, after: Thing, now: Instant) -> tuple[Outgoing, ...]:
    """The list has changed when something came or went, the head when another one is first."""
    said = []
    if {e.key for e in before.pending} != {e.key for e in after.pending}:
        groups = {"IN_PROGRESS": "inProgressJobs", "QUEUED": "queuedJobs"}
        lists = _lists(after)
        jobs: JsonValue = {name: lists[key] for name, key in groups.items() if lists[key]}
        body: dict[str, JsonValue] = {"timestamp": _seconds(now.wall), "jobs": jobs}
        said.append(Outgoing(f"$aws/things/{after.name}/jobs/notify", body))
    heads = [None if thing.head is None else thing.head.key for thing in (before, after)]
    if heads[0] != heads[1]:
        said.append(_next_notice(after, now))
    return tuple(said)


def _next_notice(thing: Thing, now: Instant) -> Outgoing:
    head = thing.head
    shown = None if head is None else _shown(thing, head, now)
    body = messages.accepted(_seconds(now.wall), None, execution=shown)
    return Outgoing(f"$aws/things/{thing.name}/jobs/notify-next", body)


def _lists(thing: Thing) -> dict[str, list[JsonValue]]:
    def of(status: Status) -> list[JsonValue]:
        found: list[JsonValue] = [_summary(e) for e in thing.pending if e.status is status]
        return found[:LISTED]

    return {"inProgressJobs": of(Status.IN_PROGRESS), "queuedJobs": of(Status.QUEUED)}


def _summary(execution: Execution) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {
        "jobId": execution.job,
        "queuedAt": _seconds(execution.queued_at),
        "lastUpdatedAt": _seconds(execution.updated_at),
        "executionNumber": execution.number,
        "versionNumber": execution.version,
    }
    if execution.started_at is not None:
        shown["startedAt"] = _seconds(execution.started_at)
    return shown


def _shown(
    thing: Thing, execution: Execution, now: Instant, with_document: bool = True
) -> dict[str, JsonValue]:
    shown = {**_summary(execution), "thingName": thing.name, **_status(execution)}
    if execution.due_at is not None:
        left_ms = max(execution.due_at - now.mono, 0)
        shown["approximateSecondsBeforeTimedOut"] = _seconds(left_ms)
    if with_document:
        shown["jobDocument"] = dict(execution.document)
    return shown


def _state(execution: Execution) -> dict[str, JsonValue]:
    return {**_status(execution), "versionNumber": execution.version}


def _status(execution: Execution) -> dict[str, JsonValue]:
    details: dict[str, JsonValue] = dict(execution.details)
    shown: dict[str, JsonValue] = {"status": str(execution.status)}
    return {**shown, "statusDetails": details} if details else shown


def _token(asked: Asked) -> str | None:
    return asked.request.token


def _seconds(milliseconds: int) -> int:
    return milliseconds // 1000
