"""After a restore: waiting for gateways, taking over what they hold, and being released."""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from cloud.coordinator import audit
from cloud.coordinator.access import Caller
from cloud.domain.counts import Deltas
from cloud.storage import counts, instance, recovery, tasks
from cloud.storage.database import Session
from cloud.storage.tasks import StoredTask
from cloud.storage.views.parts import time
from contract.http.fleet import Recovery
from contract.lifecycle import TASK_OPEN, TaskStatus
from contract.messages import TaskMark
from contract.topics import Address

log = structlog.get_logger()
SHOWN: Final = 50
# An attempt that was taken over is asked for, and its gateway has so long to tell.
TELL_MS: Final = 60_000
_DUE: Final = (TaskStatus.SCHEDULED, TaskStatus.RESCHEDULED)


def look(session: Session) -> bool:
    """Whether to wait still. Releases itself once every awaited gateway has said hello."""
    if not recovery.is_recovering(session):
        return False
    if recovery.awaited(session, 1):
        return True
    recovery.release(session)
    log.info("recovered: every gateway that was online at the backup has said hello")
    return False


def shown(session: Session, org: str) -> Recovery:
    """How the recovery stands, as people of an org may see it."""
    row = instance.get_instance(session)
    assert row is not None, "made at the first start"
    return Recovery(
        recovering=row.recovering,
        incarnation=row.incarnation,
        restored_at=time(row.restored_at),
        awaited=[gateway for of, gateway in recovery.awaited(session, SHOWN) if of == org],
    )


def release(session: Session, caller: Caller, now: int) -> Recovery:
    """Go on without those that have not said hello. Does nothing when it is not recovering."""
    if recovery.is_recovering(session):
        missing = shown(session, caller.org).awaited
        recovery.release(session)
        session.expire_all()
        audit.note(session, caller, now, "recovery.release", "cloud", awaited=list(missing))
    return shown(session, caller.org)


def adopt(
    session: Session, address: Address, journal: str, orphaned: Sequence[TaskMark], now: int
) -> list[TaskMark]:
    """Take over attempts that a gateway began after the backup; returns their marks.

    Their tasks are known, and wait or are open with an older attempt of the same journal. What
    became of them the gateway is asked for; nothing of it runs again.
    """
    newest: dict[tuple[str, int], TaskMark] = {}
    for mark in sorted(orphaned, key=lambda mark: mark.attempt):
        run, _, ordinal = mark.task.rpartition("-")
        if run and ordinal.isdecimal() and len(ordinal) < 10:
            newest[run, int(ordinal)] = mark
    found = tasks.load(session, newest)
    deltas, rows, adopted = Deltas(), [], []
    for key, task in sorted(found.items()):
        mark = newest[key]
        if task.org != address.org or not _is_older(task, mark, address.gateway, journal):
            continue
        deltas.moved(task.run, task.facts.status, task.progress, TaskStatus.OFFERED, 0)
        if task.stranded:
            deltas.stranded(task.run, -1)
        rows.append(_row(task, mark, address, journal, now))
        adopted.append(mark)
    recovery.adopt(session, rows)
    counts.move(session, deltas, counts.GATEWAY_SHARD)
    return adopted


def _is_older(task: StoredTask, mark: TaskMark, gateway: str, journal: str) -> bool:
    facts = task.facts
    mine = (facts.gateway, facts.journal) == (gateway, journal)
    waits = facts.status in _DUE or (facts.status in TASK_OPEN and mine)
    return waits and mark.attempt > facts.attempt


def _row(
    task: StoredTask, mark: TaskMark, address: Address, journal: str, now: int
) -> dict[str, Any]:
    return {
        "run": task.run,
        "ordinal": task.ordinal,
        "attempt": mark.attempt,
        "before": task.facts.attempt,
        "org": task.org,
        "gateway": address.gateway,
        "journal": journal,
        "device": task.device,
        "task": task.id,
        "deadline": now + TELL_MS,
        "now": now,
    }


def to_ask_for(session: Session, address: Address, orphaned: Sequence[TaskMark]) -> list[TaskMark]:
    """Orphaned attempts of which only the mark is known: what came of them is asked for, once."""
    if not orphaned:
        return []
    kept = recovery.kept_whole(
        session, address.org, address.gateway, (mark.task for mark in orphaned)
    )
    return [mark for mark in orphaned if kept.get((mark.task, mark.attempt), -1) < mark.revision]
