"""Runs: starting, reading and cancelling them, and their log."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from contract.http import Body
from contract.ids import Id
from contract.lifecycle import RunStatus


class Counts(Body):
    """How many tasks of a run stand where; they add up to `total`."""

    pending: int = 0
    in_flight: int = 0
    retrying: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    total: int = 0


class Waiting(Body):
    """The one reason why something does not move, and what would end it."""

    code: str
    sentence: str
    ends: str


class RunBy(Body):
    id: str
    name: str


class StartRun(Body):
    """What a run brings instead of the job's own. A context replaces the job's whole."""

    context: dict[str, JsonValue] | None = None
    query: JsonValue = None
    priority: Literal["low", "normal", "high"] | None = None
    id: Id | None = Field(default=None, description="a UUIDv7; makes a repeated start harmless")


class CancelRun(Body):
    """`force` stops tasks inside a step where they can; otherwise tasks in flight complete."""

    reason: str = Field(default="", max_length=1024)
    force: bool = False


class Run(Body):
    id: str
    job: str
    name: str
    type: str
    status: RunStatus
    unknown: bool = Field(
        default=False, description="nothing was heard for a day that could tell its state"
    )
    priority: Literal["low", "normal", "high"] = "normal"
    progress: Annotated[float, Field(ge=0, le=100)] = 0
    counts: Counts = Counts()
    has_errors: bool = False
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    waiting_ms: int = 0
    duration_ms: int = 0
    run_by: RunBy
    reason: str = ""
    waiting_for: Waiting | None = None
    context: dict[str, JsonValue] = Field(default_factory=dict)
    query: JsonValue = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class RunLogLine(Body):
    at: datetime
    level: str
    text: str
    task: str | None = None
    device: str | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)
