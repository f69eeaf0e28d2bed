"""Tasks that this gateway cannot take as they are: they end at once, as failed, and say why."""

from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from contract.lifecycle import TaskStatus
from contract.messages import Failure, TaskSnapshot
from gateway.domain.facts import Instant
from gateway.domain.plain_json import plain_text
from gateway.journal import tasks


@dataclass(frozen=True)
class Refusal:
    """An attempt that was offered, and why it is not taken; `code` is a failure code."""

    task: str
    attempt: int
    code: str
    text: str


def refuse_offers(db: Connection, items: Sequence[Refusal], now: Instant) -> int:
    """Keep each as that attempt, failed; what is known already is reported again. How many new.

    Without this the cloud would offer it for ever.
    """
    new = 0
    for item in items:
        if not item.task or item.attempt < 1 or tasks.is_known(db, item.task, item.attempt, now):
            continue
        failure = Failure(code=item.code, text=plain_text(item.text, 1000))
        snapshot = TaskSnapshot(
            task=item.task,
            attempt=item.attempt,
            revision=1,
            status=TaskStatus.FAILED,
            ended_at=now.wall,
            failure=failure,
        )
        tasks.insert_ended(db, snapshot, now)
        new += 1
    return new
