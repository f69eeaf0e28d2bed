"""Gateways that are silent for long: their tasks give back their slots, or end, as the job says."""

from typing import Final

from cloud.domain import tasks as rules
from cloud.domain.counts import Deltas
from cloud.domain.dispatch import SILENCE_MS
from cloud.domain.tasks import stranding
from cloud.storage import counts, runs, strandings, tasks
from cloud.storage.database import Session
from cloud.storage.tasks import Key, Move
from contract.lifecycle import TaskStatus
from contract.messages import Failure

OFFLINE: Final = Failure(code="gateway_offline", text="its gateway was silent for too long")


def strand(session: Session, now: int, silence: int = SILENCE_MS, limit: int = 1_000) -> set[str]:
    """Take the slots of tasks whose gateway is silent for longer than their run waits.

    What was merely offered is taken back; what may have begun keeps its attempt. Where the job
    says `skip` or `fail`, what has not begun ends, and so does what is past its deadline.
    Returns the runs concerned. Nobody may call this within a silence period of its own start.
    """
    touched = _strand_open(session, now, silence, limit)
    return touched | _end_parked(session, now, silence, limit)


def _strand_open(session: Session, now: int, silence: int, limit: int) -> set[str]:
    found = strandings.silent(session, now, silence, limit)
    if not found:
        return set()
    facts = runs.load_facts(session, {task.run for task, _, _ in found})
    deltas = Deltas()
    moves: list[Move] = []
    held: set[Key] = set()
    flagged: list[tuple[str, int]] = []
    for task, offline, deadline in found:
        end = stranding(task.facts, offline, deadline, now)
        if end is None:
            if not task.stranded:
                flagged.append(task.key)
                deltas.stranded(task.run, 1)
            continue
        failure = None if end is TaskStatus.SCHEDULED else OFFLINE
        run = facts[task.run]
        if end is TaskStatus.FAILED:
            # The job says what becomes of it: the retry policy is not asked.
            taken = rules.give_up(task.facts, run, end, OFFLINE, now)
        else:
            taken = rules.close(task.facts, run, end, failure, now)
        moves.append(Move(task, taken))
        if task.sent and end is not TaskStatus.SCHEDULED:
            held.add(task.key)
    strandings.flag(session, flagged)
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD, deltas, keep_devices=held)
    return {task.run for task, _, _ in found}


def _end_parked(session: Session, now: int, silence: int, limit: int) -> set[str]:
    touched: set[str] = set()
    deltas = Deltas()
    for run, ordinal, was, offline in strandings.parked(session, now, silence, limit):
        end = TaskStatus.FAILED if offline == "fail" else TaskStatus.CANCELLED
        strandings.end_parked(session, run, ordinal, end, OFFLINE, now)
        deltas.moved(run, was, 0, end, 0)
        touched.add(run)
    counts.move(session, deltas, counts.SWEEP_SHARD)
    return touched


def come_back(session: Session, now: int, silence: int = SILENCE_MS) -> set[str]:
    """Tasks of gateways that are online again hold their slots again; returns their runs."""
    found = strandings.back(session, now, silence)
    deltas = Deltas()
    for run, _ in found:
        deltas.stranded(run, -1)
    strandings.unflag(session, found)
    counts.move(session, deltas, counts.SWEEP_SHARD)
    return {run for run, _ in found}
