"""The state of one attempt: what the journal keeps of it, and how one begins and is closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import JsonValue

from contract.lifecycle import TASK_ENDS, StepStatus, TaskStatus
from contract.messages import Failure, JobBody, OfferedStep, OfferedTask
from gateway.domain.facts import Acknowledgment, CancelMode, Instant

# The third end is blamed on the step: before it, each must have been under way alone.
SUSPECT_BEGINS: Final = 2

T = TypeVar("T", "StepState", "Attempt")


def with_changes(value: T, **changes: Any) -> T:
    """A copy with other values. `dataclasses.replace` took half the time of a task (measured)."""
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__)
    copy.__dict__.update(changes)
    return copy


@dataclass(frozen=True)
class StepState:
    """One step. `begins` counts process starts without an outcome; `losses` those of the line."""

    status: StepStatus = StepStatus.PENDING
    started_at: int | None = None
    skipped_at: int | None = None
    completed_at: int | None = None
    progress: float = 0
    tries: int = 0
    begins: int = 0
    try_elapsed: int = 0
    losses: int = 0
    sent: bool = False
    retrying: bool = False
    failure: Failure | None = None
    result: JsonValue = None
    truncated: bool = False
    note: str = ""
    input: JsonValue = None
    input_truncated: bool = False


@dataclass(frozen=True)
class Attempt:
    """An attempt whole. What follows `memory` is forgotten when the process ends.

    `start_by_mono` is when it is handed back if it has not begun, by the monotonic clock of `boot`;
    `start_by_at` is the same by the wall clock, for the next one.
    `outcome` is how it will end, once known, while cleaning up; `performing` says that a step's
    outcome is awaited, and is false while it waits to be tried again.
    """

    offer: OfferedTask
    body: JobBody
    status: TaskStatus
    steps: tuple[StepState, ...]
    start_by_at: int
    boot: int
    start_by_mono: int | None = None
    revision: int = 1
    unsynced: int = 0
    begun: bool = False
    started_at: int | None = None
    ended_at: int | None = None
    elapsed: int = 0
    progress: float = 0
    current: int | None = None
    waiting_for: str | None = None
    outcome: TaskStatus | None = None
    failure: Failure | None = None
    cancel: CancelMode | None = None
    result: JsonValue = None
    accumulator: JsonValue = None
    acknowledgment: Acknowledgment | None = None
    from_attempt: int | None = None
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    performing: bool = False
    measured_to: int | None = None
    progress_told: int | None = None
    device: Mapping[str, JsonValue] = field(default_factory=dict)
    gateway: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def is_ended(self) -> bool:
        """Ended, or handed back."""
        return self.status in TASK_ENDS or self.status is TaskStatus.SCHEDULED

    @property
    def is_awaiting(self) -> bool:
        """Its steps are done; whoever acknowledges it has the word, and no worker."""
        return self.status is TaskStatus.AWAITING

    def late_in(self, now: Instant) -> int:
        """How many ms are left until it is handed back, if it has not begun."""
        if self.start_by_mono is not None:
            return self.start_by_mono - now.mono
        return self.start_by_at - now.wall

    @property
    def is_suspect(self) -> bool:
        """Twice or more the process has ended in its step, and perhaps because of it."""
        step = None if self.current is None else self.steps[self.current]
        return step is not None and not step.retrying and step.begins >= SUSPECT_BEGINS

    @property
    def first_step(self) -> OfferedStep | None:
        return next((step for step in self.body.steps if not step.on_failure), None)


def accept(offer: OfferedTask, body: JobBody, boot: int, now: Instant) -> Attempt:
    """A new attempt, as it enters the journal."""
    return Attempt(
        offer=offer,
        body=body,
        status=TaskStatus.ACCEPTED,
        steps=(StepState(),) * len(body.steps),
        start_by_at=now.wall + offer.start_by,
        start_by_mono=now.mono + offer.start_by,
        boot=boot,
    )


def close_by(attempt: Attempt, earlier: Attempt, now: Instant) -> Attempt:
    """End an attempt that was not needed: an earlier one succeeded after all."""
    return with_changes(
        attempt,
        status=TaskStatus.SUCCEEDED,
        steps=earlier.steps,
        begun=earlier.begun,
        started_at=earlier.started_at,
        ended_at=now.wall,
        elapsed=earlier.elapsed,
        progress=100,
        current=None,
        waiting_for=None,
        result=earlier.result,
        accumulator=earlier.accumulator,
        from_attempt=earlier.offer.attempt,
        revision=attempt.revision + 1,
        unsynced=0,
    )


def scope_of(attempt: Attempt) -> dict[str, JsonValue]:
    """The names that expressions of a step may use."""
    offer, body = attempt.offer, attempt.body
    steps: dict[str, JsonValue] = {
        step.id: {
            "status": str(state.status),
            "result": state.result,
            "progress": state.progress,
            "tries": state.tries,
            "failure": None
            if state.failure is None
            else {"code": state.failure.code, "text": state.failure.text},
        }
        for step, state in zip(body.steps, attempt.steps, strict=True)
    }
    # A task of several targets has no target: what asks for it is told the names there are.
    about: dict[str, JsonValue] = {"target": offer.target}
    if offer.targets:
        about = {"targets": list[JsonValue](offer.targets)}
    return {
        **about,
        "ctx": body.context,
        "secrets": dict(body.secrets),
        "device": dict(attempt.device),
        "gateway": dict(attempt.gateway),
        "run": {
            **offer.run_facts,
            "id": body.run,
            "job": body.job,
            "name": body.name,
            "type": body.type,
        },
        "task": {
            "id": offer.task,
            "attempt": offer.attempt,
            "index": offer.ordinal,
            "ordinal": offer.ordinal,
            "is_retry": offer.tries > 0,
            "tries": offer.tries,
            "acknowledgment_token": offer.acknowledgment_token,
        },
        "steps": steps,
        "accumulator": offer.accumulator,
        "item": {**about, "parameters": offer.parameters},
        "parameters": offer.parameters,
    }


def progress_of(attempt: Attempt) -> float:
    if attempt.status is TaskStatus.SUCCEEDED or not attempt.steps:
        return 100 if attempt.status is TaskStatus.SUCCEEDED else 0
    counted = [
        state
        for step, state in zip(attempt.body.steps, attempt.steps, strict=True)
        if not step.on_failure
    ]
    done = sum(
        100 if state.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED) else state.progress
        for state in counted
    )
    if attempt.is_ended or attempt.outcome is not None:
        return attempt.progress  # what was skipped on the way out is no progress
    return round(done / max(len(counted), 1), 1)
