"""An attempt as the journal keeps it, and as a report carries it: bounded, whatever was said."""

from dataclasses import fields
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import to_json

from contract.lifecycle import StepStatus
from contract.messages import (
    MAX_SNAPSHOT_BYTES,
    JobBody,
    OfferedTask,
    StepSnapshot,
    TaskSnapshot,
)
from gateway.domain.attempt_state import Attempt, StepState
from gateway.domain.plain_json import cut, size_of

# Some room for the separators of the batch it will stand in.
SNAPSHOT_LIMIT: Final = MAX_SNAPSHOT_BYTES - 256
_SMALLEST_RESULT: Final = 256
_ATTEMPT: Final = TypeAdapter(Attempt)
_STEPS: Final = TypeAdapter(tuple[StepState, ...])
_NOT_KEPT: Final = frozenset(
    {"offer", "body", "steps", "performing", "measured_to", "progress_told", "device", "gateway"}
)
_KEPT: Final = tuple(f.name for f in fields(Attempt) if f.name not in _NOT_KEPT)
_VALUES: Final = TypeAdapter(dict[str, Any])
_STEP_DEFAULTS: Final = {f.name: f.default for f in fields(StepState)}


def to_record(attempt: Attempt) -> str:
    """The attempt as JSON, without the offer and the body it came with."""
    values: dict[str, Any] = {name: getattr(attempt, name) for name in _KEPT}
    values["steps"] = [_step_record(state) for state in attempt.steps]
    return to_json(values).decode()


def from_record(record: str, offer: OfferedTask, body: JobBody) -> Attempt:
    """The attempt again. A step list that the body does not fit is a broken journal: ValueError."""
    values = _VALUES.validate_json(record)
    steps = _STEPS.validate_python(values.pop("steps"))
    if len(steps) != len(body.steps):
        raise ValueError(f"task {offer.task}: {len(steps)} steps kept, {len(body.steps)} offered")
    known = {name: value for name, value in values.items() if name in _KEPT}
    return _ATTEMPT.validate_python({**known, "offer": offer, "body": body, "steps": steps})


def snapshot_of(attempt: Attempt) -> TaskSnapshot:
    """The attempt as a report carries it, at most MAX_SNAPSHOT_BYTES as JSON."""
    keep = attempt.body.keep_response
    steps = [
        StepSnapshot(
            id=step.id,
            uses=step.uses,
            status=state.status,
            started_at=state.started_at,
            skipped_at=state.skipped_at,
            completed_at=state.completed_at,
            progress=state.progress,
            tries=state.tries,
            failure=state.failure,
            result=state.result if keep else None,
            truncated=state.truncated and keep,
            note=state.note,
            input=state.input,
            input_truncated=state.input_truncated,
        )
        for step, state in zip(attempt.body.steps, attempt.steps, strict=True)
    ]
    current = None if attempt.current is None else attempt.body.steps[attempt.current].id
    snapshot = TaskSnapshot(
        task=attempt.offer.task,
        attempt=attempt.offer.attempt,
        revision=attempt.revision,
        status=attempt.status,
        begun=attempt.begun,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        elapsed=attempt.elapsed,
        progress=attempt.progress,
        current_step=current,
        waiting_for=attempt.waiting_for,
        steps=steps,
        failure=attempt.failure,
        result=attempt.result if keep else None,
        accumulator=attempt.accumulator,
        from_attempt=attempt.from_attempt,
    )
    return _bounded(snapshot)


def snapshot_json(snapshot: TaskSnapshot) -> str:
    """One snapshot as it stands in a report: JSON, what holds its default left out."""
    return snapshot.model_dump_json(by_alias=True, exclude_defaults=True)


def _step_record(state: StepState) -> dict[str, Any]:
    return {
        name: value
        for name, default in _STEP_DEFAULTS.items()
        if (value := getattr(state, name)) != default
    }


def _bounded(snapshot: TaskSnapshot) -> TaskSnapshot:
    """Cut the largest results first, then notes and texts, then whole steps that have ended."""
    if _roughly(snapshot) <= SNAPSHOT_LIMIT // 2:
        return snapshot
    limit = 16 * 1024
    while _size(snapshot) > SNAPSHOT_LIMIT and limit >= _SMALLEST_RESULT:
        snapshot = _with_results_cut(snapshot, limit)
        limit //= 2
    if _size(snapshot) > SNAPSHOT_LIMIT:
        bare = [
            step.model_copy(
                update={"result": None, "input": None, "note": "", "failure": _short(step)}
            )
            for step in snapshot.steps
        ]
        snapshot = snapshot.model_copy(update={"steps": bare, "result": None, "truncated": True})
    while _size(snapshot) > SNAPSHOT_LIMIT:
        fewer = _without_some(snapshot.steps)
        snapshot = snapshot.model_copy(update={"steps": fewer, "truncated": True})
    return snapshot


def _with_results_cut(snapshot: TaskSnapshot, limit: int) -> TaskSnapshot:
    steps = []
    for step in snapshot.steps:
        result, was_cut = cut(step.result, limit)
        changes: dict[str, Any] = {"result": result, "truncated": True} if was_cut else {}
        given, was_cut = cut(step.input, limit // 4)
        changes |= {"input": given, "input_truncated": True} if was_cut else {}
        steps.append(step.model_copy(update=changes) if changes else step)
    result, _ = cut(snapshot.result, limit)
    handed_on, _ = cut(snapshot.accumulator, limit)
    return snapshot.model_copy(
        update={"steps": steps, "result": result, "accumulator": handed_on, "truncated": True}
    )


def _without_some(steps: list[StepSnapshot]) -> list[StepSnapshot]:
    """Leave out a tenth: of the steps that went well or never ran, the first."""
    dull = (StepStatus.SUCCEEDED, StepStatus.SKIPPED, StepStatus.PENDING)
    spare = [index for index, step in enumerate(steps) if step.status in dull]
    gone = set(spare[: max(len(steps) // 10, 1)]) or {0}
    return [step for index, step in enumerate(steps) if index not in gone]


def _short(step: StepSnapshot) -> Any:
    return step.failure and step.failure.model_copy(update={"text": step.failure.text[:200]})


def _size(snapshot: TaskSnapshot) -> int:
    return len(snapshot_json(snapshot).encode())


def _roughly(snapshot: TaskSnapshot) -> int:
    """An upper bound that costs little while results are small."""
    total = 1024 + size_of(snapshot.result) + size_of(snapshot.accumulator)
    for step in snapshot.steps:
        texts = len(step.note) + (len(step.failure.text) if step.failure else 0)
        total += 512 + 6 * texts + size_of(step.result) + size_of(step.input)
    return total
