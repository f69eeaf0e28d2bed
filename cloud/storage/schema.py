"""Every table, for SQLite and PostgreSQL alike.

Times are integers, milliseconds since 1970 UTC: conversion of datetimes would cost more than the
rest of a bulk update. A status stands in no index but in the condition of partial ones (measured:
an index that contains it costs ten times the update). JSON columns hold text that pydantic wrote.
"""

from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

from contract.lifecycle import TASK_OPEN, TaskStatus


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


def _text(default: str | None = "") -> Any:
    return Field(default=default, sa_type=Text)


def _in(statuses: Any) -> str:
    return ", ".join(f"'{status}'" for status in sorted(statuses))


DUE: Final = f"status IN ({_in({TaskStatus.SCHEDULED, TaskStatus.RESCHEDULED})})"
OPEN: Final = f"status IN ({_in(TASK_OPEN)})"
BAD: Final = f"status IN ({_in({TaskStatus.FAILED, TaskStatus.TIMED_OUT})})"
RUN_LIVE: Final = "ended_at IS NULL"


class InstanceRow(SQLModel, table=True):
    """This cloud: a restore makes a new incarnation, which starts `recovering`."""

    __tablename__: ClassVar[Any] = "instance"
    id: int = Field(primary_key=True)
    incarnation: str
    recovering: bool = False
    created_at: int = _big()


class OrgRow(SQLModel, table=True):
    __tablename__: ClassVar[Any] = "orgs"
    id: str = Field(primary_key=True)
    name: str = ""
    created_at: int = _big()


class TokenRow(SQLModel, table=True):
    """A bearer token of a person or program. Only its sha256 is kept.

    One that expires is a login to the console.
    """

    __tablename__: ClassVar[Any] = "tokens"
    id: str = Field(primary_key=True)
    org: str
    name: str
    hash: str = Field(unique=True)
    role: str = "administrator"
    created_at: int = _big()
    last_used_at: int | None = _big(default=None)
    expires_at: int | None = _big(default=None)
    revoked_at: int | None = _big(default=None)


class GatewayRow(SQLModel, table=True):
    """A gateway, the journal it speaks for and the session it is in.

    `journal` is the one open attempts are bound to. `previous_instance` is the process before:
    when it speaks again, at `conflict_at`, two live under one name. `digest_misses` counts digests
    in a row that were not ours, `foreign_devices` the devices of its last inventory that another
    gateway owns.
    """

    __tablename__: ClassVar[Any] = "gateways"
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str = ""
    token_hash: str = Field(unique=True)
    created_at: int = _big()
    journal: str | None = None
    instance: str | None = None
    session: str | None = None
    session_at: int | None = _big(default=None)
    previous_instance: str | None = None
    conflict_at: int | None = _big(default=None)
    digest_misses: int = 0
    foreign_devices: int = 0
    last_heard_at: int | None = _big(default=None)
    version: str = ""
    verbs: str = _text("[]")
    health: str = _text("{}")
    dropped: str = _text("{}")


class DeviceRow(SQLModel, table=True):
    """A device and its one owning gateway. `held_by` is the task that has it: the only lock."""

    __tablename__: ClassVar[Any] = "devices"
    __table_args__ = (Index("devices_by_gateway", "org", "gateway"),)
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    gateway: str | None = None
    type: str = ""
    name: str = ""
    driver: str = ""
    address: str = _text()
    link: str = "unknown"
    tags: str = _text("{}")
    attributes: str = _text("{}")
    state: str = _text("{}")
    state_at: int | None = _big(default=None)
    held_by: str | None = None
    last_heard_at: int | None = _big(default=None)
    created_at: int = _big()


class ArtifactRow(SQLModel, table=True):
    """A name for an immutable file; the bytes lie in the artifact store under their sha256."""

    __tablename__: ClassVar[Any] = "artifacts"
    org: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    sha256: str = Field(index=True)
    size: int = _big()
    media_type: str = "application/octet-stream"
    image_version: str | None = None
    image_hash: str | None = None
    created_at: int = _big()
    created_by: str = ""


class JobRow(SQLModel, table=True):
    __tablename__: ClassVar[Any] = "jobs"
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str
    description: str = _text()
    type: str = ""
    resource: str = "device"
    document: str = _text("{}")
    revision: int = 1
    created_at: int = _big()
    updated_at: int = _big()
    created_by: str = ""
    last_run: str | None = None
    last_run_at: int | None = _big(default=None)


class RunRow(SQLModel, table=True):
    """One execution of a job, with everything it froze.

    `created_to` is the cursor of the sweep that creates its tasks: the last device id looked at;
    `cancelled_to` that of the sweep after a cancel: the last ordinal. `cancel` is the mode of a
    cancel asked for; dispatch and sweeps read it.
    """

    __tablename__: ClassVar[Any] = "runs"
    __table_args__ = (
        Index("runs_by_job", "org", "job", "created_at"),
        Index("runs_by_time", "org", "created_at"),
        Index("runs_live", "org", "job", unique=True,
              sqlite_where=text(RUN_LIVE), postgresql_where=text(RUN_LIVE)),
    )  # fmt: skip
    id: str = Field(primary_key=True)
    org: str
    job: str
    name: str
    type: str = ""
    status: str
    priority: int = 1
    document: str = _text("{}")
    query: str = _text("null")
    context: str = _text("{}")
    body: str = _text("{}")
    body_hash: str = ""
    verbs: str = _text("[]")
    concurrency: int = 5
    per_gateway: int | None = None
    timeout: int = _big()
    start_by: int = _big()
    retry: str = _text("{}")
    attempts: int = 3
    total: int = 0
    creating: bool = True
    created_to: str = ""
    cancel: str | None = None
    cancel_at: int | None = _big(default=None)
    cancelled_to: int = -1
    reason: str = _text()
    created_at: int = _big()
    started_at: int | None = _big(default=None)
    ended_at: int | None = _big(default=None)
    expires_at: int = _big()
    run_by: str = ""
    run_by_name: str = ""
    has_errors: bool = False


class RunCountRow(SQLModel, table=True):
    """Counts of a run's tasks by status, moved in the transaction of the task; summed when read.

    Each kind of writer has a shard of its own, so that they never wait for each other; a single
    shard may hold negative numbers. `progress` is the sum of the tasks' progress in hundredths of
    a percent, an ended task counting whole.
    """

    __tablename__: ClassVar[Any] = "run_counts"
    run: str = Field(primary_key=True)
    shard: int = Field(primary_key=True)
    scheduled: int = 0
    offered: int = 0
    accepted: int = 0
    running: int = 0
    awaiting: int = 0
    rescheduled: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    progress: int = _big(default=0)


class TaskRow(SQLModel, table=True):
    """A run's work on one target. The attempt in `attempt` is the open one while status is open.

    `parked` names the gateway or device that keeps a due task from being looked at again until it
    frees (`gateway:{id}`, `device:{id}`, `slots:{gateway}`). `due_at` orders and
    delays the due ones.
    """

    __tablename__: ClassVar[Any] = "tasks"
    __table_args__ = (
        Index("tasks_due", "run", "due_at", "ordinal",
              sqlite_where=text(f"{DUE} AND parked IS NULL"),
              postgresql_where=text(f"{DUE} AND parked IS NULL")),
        Index("tasks_parked", "org", "parked",
              sqlite_where=text(f"{DUE} AND parked IS NOT NULL"),
              postgresql_where=text(f"{DUE} AND parked IS NOT NULL")),
        Index("tasks_open", "org", "gateway",
              sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
        Index("tasks_by_device", "org", "device"),
        Index("tasks_ended_badly", "run", "ordinal",
              sqlite_where=text(BAD), postgresql_where=text(BAD)),
    )  # fmt: skip
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    org: str
    device: str | None = None
    gateway: str | None = None
    status: str = TaskStatus.SCHEDULED
    priority: int = 1
    attempt: int = 0
    tries: int = 0
    attempts: int = 3
    revision: int = 0
    journal: str | None = None
    due_at: int = _big(default=0)
    parked: str | None = None
    offered_at: int | None = _big(default=None)
    sent_at: int | None = _big(default=None)
    deadline: int | None = _big(default=None)
    begun: bool = False
    started_at: int | None = _big(default=None)
    ended_at: int | None = _big(default=None)
    progress: int = 0
    current_step: str | None = None
    waiting_for: str | None = None
    cancel: str | None = None
    cancel_sent_at: int | None = _big(default=None)
    failure_code: str | None = None
    failure_text: str | None = _text(None)


class AttemptRow(SQLModel, table=True):
    """One try of a task and the newest snapshot of it.

    An ended one never changes but for `late`, what its gateway reported afterwards.
    """

    __tablename__: ClassVar[Any] = "attempts"
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    org: str
    gateway: str
    journal: str
    status: str
    revision: int = 0
    begun: bool = False
    offered_at: int = _big()
    started_at: int | None = _big(default=None)
    ended_at: int | None = _big(default=None)
    failure_code: str | None = None
    failure_text: str | None = _text(None)
    snapshot: str | None = _text(None)
    late: str | None = _text(None)
    late_revision: int | None = _big(default=None)


class RefusedRow(SQLModel, table=True):
    """An item of a report that was not stored, and its bytes: undecodable, foreign, orphaned."""

    __tablename__: ClassVar[Any] = "refused"
    org: str = Field(primary_key=True)
    gateway: str = Field(primary_key=True)
    task: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True, sa_type=BigInteger)
    code: str
    revision: int = _big(default=0)
    detail: str = _text()
    raw: str = _text()
    at: int = _big()


class LogRow(SQLModel, table=True):
    """A line of a run's log, known by its source: a gateway's journal, stream and number.

    A line of our own has a source of its own.
    """

    __tablename__: ClassVar[Any] = "run_log"
    __table_args__ = (
        Index("run_log_by_run", "run", "at"),
        Index("run_log_by_task", "run", "ordinal", "at"),
    )
    journal: str = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    org: str
    run: str
    ordinal: int | None = None
    device: str | None = None
    at: int = _big()
    level: str = "INFO"
    text: str = _text()
    data: str = _text("{}")


class LeaseRow(SQLModel, table=True):
    """Which replica does a piece of work, and until when, by the database's clock.

    `term` only grows.
    """

    __tablename__: ClassVar[Any] = "leases"
    name: str = Field(primary_key=True)
    holder: str
    term: int = _big(default=0)
    until: int = _big()
