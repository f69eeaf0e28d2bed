"""Accepting reports: a batch in one transaction, in a handful of bulk statements.

Each snapshot is decided by `domain.tasks`; what cannot be stored is kept as refused, item by item,
and holds up nothing else. The receipts this returns go out after the commit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.coordinator import acknowledgments
from cloud.domain import tasks as rules
from cloud.domain.tasks import ClosedAttempt, Late, Old, Refused, RunFacts, Taken
from cloud.storage import acknowledgments as stored_acknowledgments
from cloud.storage import counts, profiles, purging, reports, runs, samples, tasks
from cloud.storage.database import Session
from cloud.storage.json_text import clean, to_json
from cloud.storage.tasks import Key, Move, StoredTask
from contract.ids import run_of
from contract.lifecycle import TASK_OPEN, TaskStatus
from contract.messages import (
    ReceiptItem,
    Report,
    StreamReceipt,
    TaskSnapshot,
    Undecodable,
    digest_of,
)
from contract.topics import Address

MISSES_BEFORE_HELLO = 2


@dataclass(frozen=True)
class Received:
    """A report, and the gateway whose session it came in."""

    address: Address
    report: Report


@dataclass
class Outcome:
    """What became of one report: its receipt, the runs it touched, and whether to ask for a hello.

    `ended` says that an attempt closed, so that something else may start.
    """

    address: Address
    message: int
    items: list[ReceiptItem] = field(default_factory=list)
    streams: list[StreamReceipt] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    ended: bool = False
    ask_hello: bool = False


@dataclass
class _Item:
    """A snapshot on its way through the batch."""

    outcome: Outcome
    snapshot: TaskSnapshot
    key: Key


def accept_reports(session: Session, batch: Sequence[Received], now: int) -> list[Outcome]:
    """Store a batch of reports; one outcome for each, in the order of the batch."""
    outcomes = [Outcome(item.address, item.report.message) for item in batch]
    journals = reports.journals_of(
        session, {(item.address.org, item.address.gateway) for item in batch}
    )
    refused: list[dict[str, Any]] = []
    _save_health(session, batch)
    _add_logs(session, batch, outcomes, journals)
    items = list(_items(batch, outcomes, refused, now))
    _accept_snapshots(session, items, journals, refused, now)
    _save_states(session, batch, outcomes, journals, now)
    for received, outcome in zip(batch, outcomes, strict=True):
        _refuse_undecodable(received, outcome, refused, now)
        _compare_digest(session, received, outcome)
    _take_answers(session, batch)
    newest = {(r["org"], r["gateway"], r["task"], r["attempt"]): r for r in refused}
    reports.refuse(session, [row for _, row in sorted(newest.items())])
    return outcomes


def _items(
    batch: Sequence[Received], outcomes: Sequence[Outcome], refused: list[dict[str, Any]], now: int
) -> Iterator[_Item]:
    for received, outcome in zip(batch, outcomes, strict=True):
        for snapshot in received.report.tasks:
            run, _, ordinal = snapshot.task.rpartition("-")
            if run and ordinal.isdecimal() and len(ordinal) < 10:
                yield _Item(outcome, snapshot, (run, int(ordinal)))
            else:
                no = Refused("unknown_task", "not a task id of ours")
                _refuse(outcome, snapshot, no, refused, now)


def _accept_snapshots(
    session: Session,
    items: Sequence[_Item],
    journals: Mapping[Any, str | None],
    refused: list[dict[str, Any]],
    now: int,
) -> None:
    if not items:
        return
    stored = tasks.load(session, (item.key for item in items))
    facts = runs.load_facts(session, {run for run, _ in stored})
    closed = tasks.load_closed(session, _not_open(items, stored))
    moves: dict[Key, Move] = {}
    late: dict[tuple[str, int, int], dict[str, Any]] = {}
    confirmed: list[StoredTask] = []
    gone: dict[str, purging.Gone] | None = None
    # The newest revision of an attempt first: it makes the others of the batch old.
    for item in sorted(
        items, key=lambda i: (i.snapshot.attempt, i.snapshot.revision), reverse=True
    ):
        snapshot, address = item.snapshot, item.outcome.address
        task = stored.get(item.key)
        if task is None or task.org != address.org:
            if gone is None:
                gone = purging.gone(session, {run for run, _ in _missing(items, stored)})
            if item.key[0] in gone and gone[item.key[0]].org == address.org:
                # Its job was deleted: whatever is told of it, the gateway may forget it.
                item.outcome.items.append(_receipt(snapshot))
            else:
                _refuse(item.outcome, snapshot, _UNKNOWN, refused, now)
            continue
        decision = _decide(task, facts[task.run], item, closed, moves, late, journals, now)
        match decision:
            case Refused():
                _refuse(item.outcome, snapshot, decision, refused, now)
                continue
            case Taken():
                moves[item.key] = Move(task, decision, _json(snapshot))
                item.outcome.ended |= decision.closes
                item.outcome.runs.add(task.run)
            case Late(ends):
                run, ordinal = item.key
                late[run, ordinal, snapshot.attempt] = {
                    "run": run, "ordinal": ordinal, "attempt": snapshot.attempt,
                    "revision": snapshot.revision, "late": _json(snapshot),
                }  # fmt: skip
                item.outcome.runs.add(task.run)
                if ends and task.facts.status not in TASK_OPEN:
                    confirmed.append(task)
                    item.outcome.ended = True
            case Old():
                pass
        item.outcome.items.append(_receipt(snapshot))
    tasks.save_late(session, [late[key] for key in sorted(late)])
    tasks.save_moves(session, [moves[key] for key in sorted(moves)], now, counts.INGEST_SHARD)
    tasks.free(session, confirmed)
    _tell_late(session, late, stored, items, now)
    awaiting = [key for key, move in moves.items() if move.taken.status is TaskStatus.AWAITING]
    if awaiting and acknowledgments.close_acknowledged(session, awaiting, now):
        for item in items:
            item.outcome.ended = True


def _tell_late(
    session: Session,
    late: Mapping[tuple[str, int, int], Any],
    stored: Mapping[Key, StoredTask],
    items: Sequence[_Item],
    now: int,
) -> None:
    """Gateways that told how an ended attempt ended with them have learned of its end here."""
    if not late:
        return
    stored_acknowledgments.forget_told(session, late.keys())
    told = {(*item.key, item.snapshot.attempt): item.snapshot.status for item in items}
    for run, ordinal, attempt in sorted(late):
        status = told[run, ordinal, attempt]
        if status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED):
            reports.log(
                session, stored[run, ordinal].org, run, now,
                f"an ended attempt was reported as {status}: nothing changes",
                level="WARNING", ordinal=ordinal, data={"attempt": attempt},
            )  # fmt: skip


_UNKNOWN = Refused("unknown_task", "the cloud has never heard of this task")


def _decide(
    task: StoredTask,
    run: RunFacts,
    item: _Item,
    closed: Mapping[tuple[str, int, int], ClosedAttempt],
    moves: Mapping[Key, Move],
    late: Mapping[tuple[str, int, int], Any],
    journals: Mapping[Any, str | None],
    now: int,
) -> rules.Decision:
    snapshot, address = item.snapshot, item.outcome.address
    sender = (address.gateway, journals.get((address.org, address.gateway)))
    name = (*item.key, snapshot.attempt)
    taken = moves.get(item.key)
    if taken is not None and snapshot.attempt == task.facts.attempt:
        same_sender = (task.facts.gateway, task.facts.journal) == sender
        return rules.OLD if same_sender else _FOREIGN
    if name in late:
        return rules.OLD
    return rules.receive(task.facts, run, snapshot, sender, closed.get(name), now)


_FOREIGN = Refused("foreign_task", "the attempt is bound to another gateway or journal")


def _not_open(
    items: Iterable[_Item], stored: Mapping[Key, StoredTask]
) -> Iterator[tuple[str, int, int]]:
    for item in items:
        task = stored.get(item.key)
        if task is not None and (
            item.snapshot.attempt < task.facts.attempt or task.facts.status not in TASK_OPEN
        ):
            yield (*item.key, item.snapshot.attempt)


def _missing(items: Iterable[_Item], stored: Mapping[Key, StoredTask]) -> Iterator[Key]:
    return (item.key for item in items if item.key not in stored)


def _json(snapshot: TaskSnapshot) -> str:
    return snapshot.model_dump_json(exclude_defaults=True)


def _receipt(snapshot: TaskSnapshot, no: Refused | None = None) -> ReceiptItem:
    if no is None:
        # Not validated: this is the hot path, and each value has been.
        return ReceiptItem.model_construct(
            _fields_set=_STORED_FIELDS, task=snapshot.task, attempt=snapshot.attempt,
            revision=snapshot.revision, outcome="stored", code=None, text="",
        )  # fmt: skip
    return ReceiptItem(
        task=snapshot.task,
        attempt=snapshot.attempt,
        revision=snapshot.revision,
        outcome="refused",
        code=no.code,
        text=no.text,
    )


_STORED_FIELDS = {"task", "attempt", "revision"}


def _refuse(
    outcome: Outcome, snapshot: TaskSnapshot, no: Refused, refused: list[dict[str, Any]], now: int
) -> None:
    outcome.items.append(_receipt(snapshot, no))
    refused.append(
        {
            "org": outcome.address.org,
            "gateway": outcome.address.gateway,
            "task": snapshot.task,
            "attempt": snapshot.attempt,
            "code": no.code,
            "revision": snapshot.revision,
            "detail": no.text,
            "raw": _json(snapshot),
            "at": now,
        }
    )


def _refuse_undecodable(
    received: Received, outcome: Outcome, refused: list[dict[str, Any]], now: int
) -> None:
    for item in received.report.undecodable:
        outcome.items.append(
            ReceiptItem(
                task=item.task,
                attempt=item.attempt,
                revision=item.revision,
                outcome="refused",
                code="undecodable",
                text=item.reason[:500],
            )
        )
        refused.append(_undecodable_row(outcome.address, item, now))


def _undecodable_row(address: Address, item: Undecodable, now: int) -> dict[str, Any]:
    return {
        "org": address.org,
        "gateway": address.gateway,
        "task": clean(item.task),
        "attempt": item.attempt,
        "code": "undecodable",
        "revision": item.revision,
        "detail": clean(item.reason),
        "raw": clean(item.raw),
        "at": now,
    }


def _save_health(session: Session, batch: Iterable[Received]) -> None:
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for item in batch:
        report = item.report
        if report.health or report.dropped:
            told = newest.setdefault((item.address.org, item.address.gateway), {})
            # A report need not hold both: what it does not tell stays as it was told before.
            told |= {"health": to_json(report.health)} if report.health else {}
            told |= {"dropped": to_json(report.dropped)} if report.dropped else {}
    reports.save_health(
        session,
        [
            {"org": org, "gateway": gateway, "health": None, "dropped": None, **told}
            for (org, gateway), told in sorted(newest.items())
        ],
    )


def _add_logs(
    session: Session,
    batch: Sequence[Received],
    outcomes: Sequence[Outcome],
    journals: Mapping[Any, str | None],
) -> None:
    lines = [(r, o, line) for r, o in zip(batch, outcomes, strict=True) for line in r.report.logs]
    if not lines:
        return
    orgs = reports.orgs_of_runs(session, {run_of(line.task) for _, _, line in lines if line.task})
    rows: list[dict[str, Any]] = []
    failed: set[str] = set()
    for received, outcome, line in lines:
        _stream(outcome, received.report.stream, "logs", line.number)
        run, _, ordinal = (line.task or "").rpartition("-")
        # A line without a run of ours has no log to stand in; the gateway keeps its own.
        if orgs.get(run) != received.address.org or not ordinal.isdecimal():
            continue
        if line.level == "ERROR":
            failed.add(run)
        outcome.runs.add(run)
        journal = journals.get((received.address.org, received.address.gateway))
        rows.append(
            {"journal": journal or received.address.name, "stream": received.report.stream,
             "number": line.number, "org": received.address.org, "run": run,
             "ordinal": int(ordinal[:9]), "device": line.device, "at": line.at,
             "level": line.level, "text": clean(line.text), "data": to_json(line.data)}
        )  # fmt: skip
    reports.mark_errors(session, failed)
    reports.add_log_lines(session, rows)


def _save_states(
    session: Session,
    batch: Sequence[Received],
    outcomes: Sequence[Outcome],
    journals: Mapping[Any, str | None],
    now: int,
) -> None:
    """Samples are taken once by their numbers; a device that is up again lets its tasks start."""
    having = [(r, o) for r, o in zip(batch, outcomes, strict=True) if r.report.states]
    if not having:
        return
    brought = [
        samples.Brought(
            org=r.address.org,
            gateway=r.address.gateway,
            journal=journals.get((r.address.org, r.address.gateway)) or r.address.name,
            stream=r.report.stream,
            sent_at=r.report.time,
            states=r.report.states,
        )
        for r, _ in having
    ]
    for (received, outcome), up in zip(having, samples.take(session, brought, now), strict=True):
        report, org = received.report, received.address.org
        if up:
            outcome.ended |= bool(tasks.unpark(session, ((org, f"device:{d}") for d in up)))
        _stream(outcome, report.stream, "states", max(state.number for state in report.states))


def _stream(outcome: Outcome, stream: Any, kind: Any, number: int) -> None:
    for index, found in enumerate(outcome.streams):
        if found.stream == stream and found.kind == kind:
            if number > found.number:
                outcome.streams[index] = found.model_copy(update={"number": number})
            return
    outcome.streams.append(StreamReceipt(stream=stream, kind=kind, number=number))


def _take_answers(session: Session, batch: Sequence[Received]) -> None:
    """What gateways say of their profiles; in the order of locks, each gateway's own kept."""
    said = [item for item in batch if item.report.profiles is not None]
    for item in sorted(said, key=lambda one: (one.address.org, one.address.gateway)):
        assert item.report.profiles is not None
        profiles.answer(session, item.address.org, item.address.gateway, item.report.profiles)


def _compare_digest(session: Session, received: Received, outcome: Outcome) -> None:
    digest, address = received.report.digest, received.address
    if digest is None:
        return
    ours = digest_of(reports.open_marks(session, address.org, address.gateway))
    misses = reports.count_digest(session, address.org, address.gateway, same=ours == digest)
    outcome.ask_hello = misses >= MISSES_BEFORE_HELLO
