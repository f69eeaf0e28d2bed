"""Serial runs: one task at a time, in order, each handing the accumulator on to the next."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from cloud.domain import serial as rules
from cloud.domain.dispatch import Choice, DueTask, Rules, Taken
from cloud.storage import batches, dispatching, reports
from cloud.storage.database import Session
from contract.ids import task_id
from contract.lifecycle import TASK_ENDS, TaskStatus
from contract.messages import TaskSnapshot
from contract.template_dialect import TemplateError, render

# How many targets with silent gateways are passed over in one tick.
LOOKED_AT: Final = 50
# Ends that say nothing: what was handed on stays as it is.
_SILENT_ENDS: Final = frozenset({TaskStatus.TIMED_OUT, TaskStatus.CANCELLED})


def candidates(session: Session, run: Any, now: int, silence: int) -> Sequence[Any]:
    """The tasks of a serial run that may be next, in order; none while another has its turn."""
    row = dispatching.due_task(session, run.id, run.turn) if run.turn >= 0 else None
    turn = None if row is None else dispatching.turn_of(row, run.turn_since)
    if rules.is_over(turn, now, run.offline_after):
        fold(session, run, now)
        return dispatching.due_tasks(session, run.id, now, LOOKED_AT)
    if row is None or turn is None or turn.is_parked or row.due_at > now:
        return []
    if turn.status not in (TaskStatus.SCHEDULED, TaskStatus.RESCHEDULED):
        return []
    # The others stand behind it: they are looked at when its gateway has long been silent.
    others = dispatching.due_tasks(session, run.id, now, LOOKED_AT)
    return [row, *(other for other in others if other.ordinal != row.ordinal)]


def choose_turn(
    due: Iterable[DueTask], of_run: Rules, run: Any, taken: Taken, now: int, silence: int
) -> Choice:
    return rules.choose_turn(due, of_run, run.offline_after, taken, now, silence)


def fold(session: Session, run: Any, now: int) -> None:
    """Take over what the task whose turn it was has left, once it has ended.

    `run` is a run's row or one of `dispatching.live_runs`, locked.
    """
    if not run.serial or run.turn < 0 or run.accumulated == run.turn:
        return
    ended = dispatching.snapshot(session, run.id, run.turn)
    if ended is None or TaskStatus(ended.status) not in TASK_ENDS:
        return
    old = run.accumulator
    new: str | None = old
    problem = f"the accumulator would have more than {rules.MAX_ACCUMULATOR_BYTES} bytes"
    try:
        new = rules.handed_on(old, _value(session, run, ended))
    except TemplateError as error:
        new, problem = None, f"the accumulator could not be computed: {error}"
    if new is None:
        reports.log(session, ended.org, run.id, now, problem, level="ERROR", ordinal=run.turn)
        reports.mark_errors(session, [run.id])
        new = old
    dispatching.save_accumulator(session, run.id, run.turn, new)


def is_turn_over(session: Session, run: Any) -> bool:
    """Whether the task whose turn it was has ended; also if none has had its turn."""
    row = dispatching.due_task(session, run.id, run.turn) if run.turn >= 0 else None
    return row is None or TaskStatus(row.status) in TASK_ENDS


def _value(session: Session, run: Any, ended: Any) -> JsonValue:
    """What the ended task hands on; None leaves the accumulator as it is."""
    status = TaskStatus(ended.status)
    if status in _SILENT_ENDS:
        return None
    try:
        snapshot = TaskSnapshot.model_validate_json(ended.snapshot) if ended.snapshot else None
    except ValidationError:
        snapshot = None
    if snapshot is not None and snapshot.accumulator is not None:
        return snapshot.accumulator
    template = json.loads(ended.document).get("accumulator")
    if template is None:
        return None
    scope: dict[str, JsonValue] = {
        "accumulator": json.loads(run.accumulator),
        "result": None if snapshot is None else snapshot.result,
        "task": {
            "id": task_id(run.id, run.turn),
            "ordinal": run.turn,
            "status": status.value,
            "attempt": ended.attempt,
            "failure": ended.failure_code,
        },
        **_about(session, run, ended),
        "ctx": json.loads(ended.context),
    }
    return render(template, scope)


def _about(session: Session, run: Any, ended: Any) -> dict[str, JsonValue]:
    """The target of the ended task as its steps have known it; several are `targets`."""
    if ended.batch == 1:
        return {"target": {"id": ended.device or ended.target}}
    ids = batches.targets_of(session, run.id, [run.turn]).get(run.turn, [])
    return {"targets": [{"id": name} for name in ids]}
