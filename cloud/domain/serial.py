"""Serial mode: whose turn it is, and what one task hands on to the next."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from cloud.domain.dispatch import Choice, DueTask, Rules, Taken, choose
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus

# What one task hands on to the next travels with every offer.
MAX_ACCUMULATOR_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Turn:
    """The task whose turn it is, since `since`; times are milliseconds."""

    status: TaskStatus
    is_parked: bool
    is_stranded: bool
    due_at: int
    since: int


def is_over(turn: Turn | None, now: int, offline_after: int) -> bool:
    """Whether the next target may start.

    A retry comes before the next target; a task that cannot start, or whose gateway is silent,
    holds up the others for `offline_after` at most.
    """
    if turn is None or turn.status in TASK_ENDS or turn.is_stranded:
        return True
    if turn.status in TASK_OPEN or not turn.is_parked:
        return False
    return now - max(turn.since, turn.due_at) >= offline_after


def handed_on(old: str, value: JsonValue) -> str | None:
    """The accumulator after a task that gave `value`; None when that is too large."""
    if value is None:
        return old
    text = json.dumps(value, ensure_ascii=False)
    return None if len(text.encode()) > MAX_ACCUMULATOR_BYTES else text


def choose_turn(
    due: Iterable[DueTask],
    rules: Rules,
    offline_after: int,
    taken: Taken,
    now: int,
    silence: int,
) -> Choice:
    """Choose the one task whose turn comes, among due ones in their order.

    Those whose gateway has been silent for long are passed over; the last one that is parked is
    the one that the others wait for, unless one is offered.
    """
    park: list[tuple[DueTask, str]] = []
    for task in due:
        choice = choose([task], rules, 1, taken, now, silence)
        if choice.offer:
            return Choice(choice.offer, park)
        park.extend(choice.park)
        gateway = task.gateway
        heard = gateway.last_heard_at if gateway is not None else None
        if gateway is None or now - (heard or 0) < offline_after:
            break
    return Choice([], park)
