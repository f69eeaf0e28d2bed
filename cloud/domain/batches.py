"""Batch iteration: how many tasks, and what the result of one means for each of its targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from contract.failures import FAILURES
from contract.job_batches import MAX_BATCH_TARGETS, batch_size
from contract.lifecycle import TASK_ENDS, TaskStatus
from contract.messages import Failure

# As a run keeps it: 1 for a task for each target, 0 for all targets in one.
ALL: Final = 0
TOO_MANY: Final = (
    f"one task holds at most {MAX_BATCH_TARGETS:,} targets, and more than that match: "
    "give `iteration.batch` a number, or narrow the query"
)
CUT: Final = (
    "the task's result was larger than what is kept, so it cannot be given out by target: "
    "take a smaller `iteration.batch`, or return less"
)


def stored_batch(batch: int | str) -> int:
    return batch if isinstance(batch, int) else ALL


def size_of(stored: int) -> int:
    """The targets that a task of a run holds at most."""
    return stored or batch_size("all")


def is_too_many(stored: int, targets: int) -> bool:
    """Whether all targets are to stand in one task, and cannot."""
    return stored == ALL and targets > MAX_BATCH_TARGETS


def whole_tasks(stored: int, targets: int, *, more: bool) -> int:
    """How many tasks these targets make; while `more` may come only full ones count."""
    if stored == ALL:
        return int(targets > 0 and not more)
    size = size_of(stored)
    return targets // size if more else -(-targets // size)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target of a task. `ok` is None while nobody can know."""

    status: TaskStatus
    ok: bool | None
    response: JsonValue = None
    failure: Failure | None = None
    note: str = ""


GONE: Final = Failure(code="target_deleted", text="")


def outcomes(
    size: int,
    status: TaskStatus,
    failure: Failure | None,
    snapshot: Mapping[str, Any],
    loops: Sequence[str] = (),
) -> list[Outcome]:
    """The outcome of each of a task's `size` targets, in order.

    An array as long as the batch is a result for each target: the task's own, else that of the
    last of `loops`, the ids of steps that loop over the targets. Any other result is everybody's.
    """
    ended = status in TASK_ENDS
    own = _by_target(size, snapshot, loops)
    if own is None:
        if _was_cut(snapshot, loops):
            ok = False if ended and status is not TaskStatus.SUCCEEDED else None
            return [Outcome(status, ok, None, failure, CUT)] * size
        ok = status is TaskStatus.SUCCEEDED if ended else None
        return [Outcome(status, ok, snapshot.get("result"), failure)] * size
    return [_of_element(element, status, failure) for element in own]


def _of_element(element: JsonValue, status: TaskStatus, failure: Failure | None) -> Outcome:
    if status not in TASK_ENDS:
        return Outcome(status, None, element, failure)
    error = _error_of(element)
    if error is not None:
        failed = TaskStatus.FAILED if status is TaskStatus.SUCCEEDED else status
        return Outcome(failed, False, element, error)
    return Outcome(status, status is TaskStatus.SUCCEEDED, element, failure)


def _error_of(element: JsonValue) -> Failure | None:
    """The error that stands in a target's place: `{"error": ...}` and nothing else."""
    if not isinstance(element, dict) or set(element) != {"error"} or not element["error"]:
        return None
    error = element["error"]
    if not isinstance(error, dict):
        return Failure(code="target_failed", text=str(error)[:1_000])
    code = error.get("code")
    text = error.get("text") or error.get("message") or ""
    known = code if isinstance(code, str) and code in FAILURES else "target_failed"
    said = str(text) if known == code or not code else f"{code}: {text}"
    return Failure(code=known, text=said[:1_000])


def _by_target(
    size: int, snapshot: Mapping[str, Any], loops: Sequence[str]
) -> Sequence[JsonValue] | None:
    found = [snapshot.get("result"), *_of_loops(snapshot, loops, "result")]
    return next((r for r in found if isinstance(r, list) and len(r) == size), None)


def _was_cut(snapshot: Mapping[str, Any], loops: Sequence[str]) -> bool:
    """Whether a result for each target was there, and is no longer whole.

    What is cut becomes text; an array does not look like any other text.
    """
    result = snapshot.get("result")
    if isinstance(result, str) and result.startswith("[") and len(result) > 255:
        steps = snapshot.get("steps") or []
        return bool(snapshot.get("truncated")) or any(step.get("truncated") for step in steps)
    return any(_of_loops(snapshot, loops, "truncated"))


def _of_loops(snapshot: Mapping[str, Any], loops: Sequence[str], field: str) -> list[Any]:
    """A field of the steps that loop over the targets, the last step first."""
    steps = {step.get("id"): step for step in snapshot.get("steps") or []}
    return [steps[name].get(field) for name in reversed(loops) if name in steps]
