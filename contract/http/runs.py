"""Runs: starting, reading and cancelling them, and their log."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from contract.durations import Duration
from contract.http import Body
from contract.http.history import Origin
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
    replace: bool = Field(
        default=False, description="cancel the run in flight, and start when that has ended"
    )
    at: datetime | None = Field(default=None, description="not before this time")
    after: Duration | None = Field(default=None, description="not before so long from now")
    expires_after: Duration | None = Field(
        default=None, description="end it this long after its start; 30 days if not given"
    )

    @model_validator(mode="after")
    def _one_start(self) -> "StartRun":
        if self.at is not None and (self.after is not None or self.at.tzinfo is None):
            raise ValueError("give `at` with a zone, or `after`, not both")
        return self


class CancelRun(Body):
    """`force` stops tasks inside a step where they can; otherwise tasks in flight complete."""

    reason: str = Field(default="", max_length=1024)
    force: bool = False


class PostponeRun(Body):
    """Start later: `by` so long after the time it has, or `to` a time with a zone."""

    by: Duration | None = None
    to: datetime | None = None
    reason: str = Field(default="", max_length=1024)

    @model_validator(mode="after")
    def _one_time(self) -> "PostponeRun":
        if (self.by is None) == (self.to is None):
            raise ValueError("give `by` or `to`")
        if self.by is not None and self.by <= timedelta():
            raise ValueError("`by` is longer than nothing")
        if self.to is not None and self.to.tzinfo is None:
            raise ValueError("give `to` with a zone")
        return self


class PauseRun(Body):
    reason: str = Field(default="", max_length=1024)


class ChangeRun(Body):
    """What can be changed of a run that has not ended."""

    priority: Literal["low", "normal", "high"]


class RetryRun(Body):
    """Which failed and timed-out tasks to try again: by failure code, listed, or all of them."""

    failures: list[str] = Field(default_factory=list, max_length=100)
    tasks: list[str] = Field(default_factory=list, max_length=1000, description="ids of tasks")
    reason: str = Field(default="", max_length=1024)


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
    targets: int = Field(default=0, description="as many as tasks, but for batch iteration")
    has_errors: bool = False
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    waiting_ms: int = 0
    duration_ms: int = 0
    run_by: RunBy
    origin: Origin | None = Field(default=None, description="what started it, if no person did")
    depth: int = Field(default=0, description="how many triggers and steps in a row led to it")
    system: bool = False
    reason: str = ""
    starts_at: datetime | None = None
    replaces: str | None = Field(default=None, description="the run this one takes over from")
    replaced_by: str | None = None
    paused_by: list[str] = Field(
        default_factory=list, description="person, job, window; each lifts only its own"
    )
    accumulator: JsonValue = None
    waiting_for: Waiting | None = None
    context: dict[str, JsonValue] = Field(default_factory=dict)
    query: JsonValue = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    kind: Literal["job", "operation"] = Field(
        default="job", description="an operation is an import, export or deletion without tasks"
    )
    data: dict[str, JsonValue] = Field(
        default_factory=dict, description="what an operation was asked for"
    )
    results: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="of an operation: imported, errors, first_errors, exported, download, deleted",
    )


class RunLogLine(Body):
    """`source` is who wrote it: cloud, gateway, or client for a person or a program."""

    at: datetime
    level: str
    text: str
    source: str = ""
    task: str | None = None
    device: str | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)
