"""Ending attempts whose gateway will not speak of them again."""

from collections.abc import Sequence

from cloud.domain import tasks as task_rules
from cloud.storage import counts, reports, runs, tasks
from cloud.storage.database import Session
from cloud.storage.tasks import Move, StoredTask
from contract.lifecycle import TaskStatus
from contract.messages import Failure


def lose(session: Session, lost: Sequence[StoredTask], failure: Failure, now: int) -> None:
    """End these as failed; what was never sent is merely due again. The retry policy goes on."""
    facts = runs.load_facts(session, {task.run for task in lost})
    moves = []
    for task in lost:
        unsent = task.facts.status is TaskStatus.OFFERED and not task.sent
        status = TaskStatus.SCHEDULED if unsent else TaskStatus.FAILED
        why = None if unsent else failure
        moves.append(Move(task, task_rules.close(task.facts, facts[task.run], status, why, now)))
    tasks.save_moves(session, moves, now, counts.GATEWAY_SHARD)
    for task in lost:
        data = {"attempt": task.facts.attempt, "gateway": task.facts.gateway}
        reports.log(
            session, task.org, task.run, now, f"attempt lost: {failure.text}",
            level="WARNING", ordinal=task.ordinal, data=data,
        )  # fmt: skip
