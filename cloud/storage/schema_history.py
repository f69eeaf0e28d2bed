"""Tables of triggers and of what stays of runs: firings, extensions, references, deletions."""

from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

PENDING: Final = "status = 'pending'"


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


def _text(default: str | None = "") -> Any:
    return Field(default=default, sa_type=Text)


class RunTriggerRow(SQLModel, table=True):
    """A trigger of a run, frozen with it. `position` is its place in the job's list.

    `conditions` are the statuses of the run's end at which an on_complete fires, as JSON.
    """

    __tablename__: ClassVar[Any] = "run_triggers"
    run: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    org: str
    job: str
    context: str = _text("{}")
    conditions: str = _text("[]")


class TriggerFiringRow(SQLModel, table=True):
    """One firing, written in the transaction of what it is about; the key makes it fire once.

    `ordinal` is the task that timed out, -1 for a completion; `number` counts the ends of the run.
    `handler` is the run that was started or extended.
    """

    __tablename__: ClassVar[Any] = "trigger_firings"
    __table_args__ = (
        Index("trigger_firings_pending", "org", "job", "at",
              sqlite_where=text(PENDING), postgresql_where=text(PENDING)),
    )  # fmt: skip
    run: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    number: int = Field(primary_key=True)
    org: str
    job: str
    status: str = "pending"
    reason: str = _text()
    handler: str | None = None
    at: int = _big()
    fired_at: int | None = _big(default=None)


class RunFeedRow(SQLModel, table=True):
    """A run that is held open because the timeouts of another one still come to it."""

    __tablename__: ClassVar[Any] = "run_feeds"
    handler: str = Field(primary_key=True)
    run: str = Field(primary_key=True)


class TaskParametersRow(SQLModel, table=True):
    """What a task of an extended run brings for itself, as JSON."""

    __tablename__: ClassVar[Any] = "task_parameters"
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    parameters: str = _text("{}")


class TaskTargetRow(SQLModel, table=True):
    """One of the targets of a batch task. `gone`: it was deleted when the task was last offered."""

    __tablename__: ClassVar[Any] = "task_targets"
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    position: int = Field(primary_key=True)
    target: str
    gone: bool = False


class RunExtensionRow(SQLModel, table=True):
    """Items that were appended to a run under a key: the same key again appends nothing."""

    __tablename__: ClassVar[Any] = "run_extensions"
    run: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    first: int
    number: int
    at: int = _big()


class JobReferenceRow(SQLModel, table=True):
    """A place in a job's document that names another job: a trigger, a step, `replaces`."""

    __tablename__: ClassVar[Any] = "job_references"
    __table_args__ = (Index("job_references_to", "org", "target"),)
    org: str = Field(primary_key=True)
    job: str = Field(primary_key=True)
    place: str = Field(primary_key=True)
    kind: str
    target: str


class DeletedJobRow(SQLModel, table=True):
    """A job that was deleted: its runs up to that moment are no longer shown."""

    __tablename__: ClassVar[Any] = "deleted_jobs"
    org: str = Field(primary_key=True)
    job: str = Field(primary_key=True)
    upto: int = _big()
    at: int = _big()
    by: str = ""
