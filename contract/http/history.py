"""What stays of runs: where they came from, what was added, results per target, links, deletion."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from contract.http import Body
from contract.ids import Id
from contract.lifecycle import TaskStatus

Level = Literal["INFO", "WARNING", "ERROR"]


class Origin(Body):
    """What started a run, if no person did: a trigger or a step of another run, or a schedule."""

    kind: str = Field(description="on_timeout, on_complete, step or schedule")
    run: str | None = None
    task: str | None = None
    step: str | None = None


class RunItem(Body):
    """One more target of a run, and what its task brings; steps see it as `parameters`."""

    target: Annotated[str, Field(min_length=1, max_length=256)]
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    attempts: Annotated[int, Field(ge=1, le=1000)] | None = None


class ExtendRun(Body):
    """Items to append to a run that has not ended. The same key appends once, however often."""

    items: list[RunItem] = Field(min_length=1, max_length=1000)
    key: Annotated[str, Field(max_length=200)] = ""


class AddLogLine(Body):
    """A line for a run's log, also for one that has ended. An ERROR marks the run."""

    text: Annotated[str, Field(min_length=1, max_length=4096)]
    level: Level = "INFO"
    task: Id | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)


class TaskResult(Body):
    """What became of one target. `ok` is null until its task has ended.

    Of several targets in one task each has its own: the element in its place where the task's
    result, or that of a loop over `targets`, is an array as long as the batch, else all of it.
    `ok` stays null where that array was too large to be kept whole.
    """

    task: str
    ordinal: int
    target: str
    status: TaskStatus
    ok: bool | None = None
    response: JsonValue = None
    message: str = ""
    code: str | None = None
    ended_at: datetime | None = None


class ReportLink(Body):
    """Where the report can be fetched without a token, until it expires."""

    csv: str
    ndjson: str
    expires_at: datetime


class Firing(Body):
    """A trigger of a run that fired, waits to fire, or could not. `handler` is the run it made."""

    kind: Literal["on_timeout", "on_complete"]
    job: str
    status: str = Field(description="pending, fired, skipped, refused or failed")
    task: str | None = None
    number: int = Field(default=0, description="which end of the run; more than 1 after a retry")
    handler: str | None = None
    reason: str = ""
    at: datetime
    fired_at: datetime | None = None


class Reference(Body):
    """A place in a job's document that names another job."""

    job: str
    kind: str = Field(description="on_timeout, on_complete, replaces, or the verb of a step")
    place: str


class JobReferences(Body):
    """Who has to do with a job. `triggers` are started by it; `triggered_by` start it by theirs.

    `used_by` merely run, extend or acknowledge it in a step, or replace it.
    """

    triggers: list[Reference] = Field(default_factory=list)
    triggered_by: list[Reference] = Field(default_factory=list)
    used_by: list[Reference] = Field(default_factory=list)


class DeletedJob(Body):
    """What a deletion did. `run` is completing what is in flight; `warnings` name who will fail."""

    job: str
    run: str | None = None
    also_deleted: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
