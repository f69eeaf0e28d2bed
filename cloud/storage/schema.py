"""Every table, for SQLite and PostgreSQL alike.

Times are integers, milliseconds since 1970 UTC: conversion of datetimes would cost more than the
rest of a bulk update. A status stands in no index but in the condition of partial ones (measured:
an index that contains it costs ten times the update). JSON columns hold text that pydantic wrote.
"""

from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

from cloud.storage import schema_admissions as schema_admissions  # declares its tables
from cloud.storage import schema_audit as schema_audit  # declares its tables
from cloud.storage import schema_calls as schema_calls  # declares its tables
from cloud.storage import schema_certificates as schema_certificates  # declares its tables
from cloud.storage import schema_history as schema_history  # declares its tables
from cloud.storage import schema_profiles as schema_profiles  # declares its tables
from cloud.storage import schema_state as schema_state  # declares its tables
from cloud.storage import schema_targets as schema_targets  # declares its tables
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
# A background operation belongs to no job, so any number of them may run.
RUN_LIVE: Final = "ended_at IS NULL AND started_at IS NOT NULL AND kind = 'job'"
RUN_OPEN: Final = "ended_at IS NULL"
RUN_TO_COME: Final = "ended_at IS NULL AND started_at IS NULL"


class InstanceRow(SQLModel, table=True):
    """This cloud: a restore makes a new incarnation, which starts `recovering`.

    `restored_at` stays: what gateways hold beyond this database may be met long after.
    `link_key` signs links that work without a token.
    """

    __tablename__: ClassVar[Any] = "instance"
    id: int = Field(primary_key=True)
    incarnation: str
    recovering: bool = False
    restored_at: int | None = _big(default=None)
    link_key: str = ""
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
    gateway owns. `stop` is the wish that it drains: "", stopping, or stopped once nothing is in
    flight there, or `retired`; `stop_run` is the operation that asked. `takes_profiles`: its
    version knows how to hold deployed profiles.
    """

    __tablename__: ClassVar[Any] = "gateways"
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str = ""
    token_hash: str = Field(unique=True)
    type: str = ""
    tags: str = _text("{}")
    attributes: str = _text("{}")
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
    stop: str = Field(default="", sa_column_kwargs={"server_default": ""})
    stop_run: str | None = None
    takes_profiles: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})


class DeviceRow(SQLModel, table=True):
    """A device and its one owning gateway. `held_by` is the task that has it: the only lock.

    `edits` are the tags and attributes people gave it; they stand over what its gateway says.
    `state_marks` say of each key of `state` where it is from, see `domain.device_state`.
    """

    __tablename__: ClassVar[Any] = "devices"
    __table_args__ = (Index("devices_by_gateway", "org", "gateway"),)
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    gateway: str | None = None
    type: str = ""
    name: str = ""
    driver: str = ""
    address: str = _text()
    bus: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    link: str = "unknown"
    tags: str = _text("{}")
    attributes: str = _text("{}")
    edits: str = Field(default="{}", sa_type=Text, sa_column_kwargs={"server_default": "{}"})
    state: str = _text("{}")
    state_at: int | None = _big(default=None)
    state_marks: str = Field(default="{}", sa_type=Text, sa_column_kwargs={"server_default": "{}"})
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
    system: bool = False
    document: str = _text("{}")
    revision: int = 1
    created_at: int = _big()
    updated_at: int = _big()
    created_by: str = ""
    last_run: str | None = None
    last_run_at: int | None = _big(default=None)
    paused_at: int | None = _big(default=None)
    paused_by: str = ""


class RunRow(SQLModel, table=True):
    """One execution of a job, with everything it froze.

    `created_to` is the cursor of the sweep that creates its tasks: the last device id looked at;
    `cancelled_to` that of the sweep after a cancel: the last ordinal; `recalled_to` that after a
    pause, `retried_to` that of `retry_asked`. `cancel` is the mode of a cancel asked for; dispatch
    and sweeps read it. `paused_by` holds the words of `domain.control`. `replaces` is the run it
    takes over from. In serial mode `turn` is the ordinal whose turn it is, since `turn_since`, and
    `accumulated` the last one whose end stands in the accumulator. `secrets` are the names its
    steps use. `continuous`: devices that come to match join it, it looked for them at `looked_at`.
    `origin` says what started it, if no person did: on_timeout, on_complete, step or schedule, and
    `depth` how many triggers led to it. `fed` holds it open: timeouts of another run still come.
    A background operation is a run of kind `operation` without tasks: `operation` says what it
    does and how far it is, `results` what came of it.
    `batch` is how many targets a task is about, 0 for all of them; if that is not 1, `targets`
    counts them.
    """

    __tablename__: ClassVar[Any] = "runs"
    __table_args__ = (
        Index("runs_by_job", "org", "job", "created_at"),
        Index("runs_by_time", "org", "created_at"),
        Index("runs_to_find", "org", "created_at", "id", "status", "type", "system", "has_errors",
              "started_at", "ended_at", "job"),
        Index("runs_by_origin", "origin_run", "created_at",
              sqlite_where=text("origin_run IS NOT NULL"),
              postgresql_where=text("origin_run IS NOT NULL")),
        Index("runs_live", "org", "job", unique=True,
              sqlite_where=text(RUN_LIVE), postgresql_where=text(RUN_LIVE)),
        Index("runs_open", "created_at",
              sqlite_where=text(RUN_OPEN), postgresql_where=text(RUN_OPEN)),
        Index("runs_to_come", "starts_at",
              sqlite_where=text(RUN_TO_COME), postgresql_where=text(RUN_TO_COME)),
    )  # fmt: skip
    id: str = Field(primary_key=True)
    org: str
    job: str
    name: str
    type: str = ""
    status: str
    kind: str = "job"
    resource: str = "device"
    target_table: str = ""
    operation: str = _text("{}")
    results: str = _text("{}")
    secrets: str = _text("[]")
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
    itemized: bool = False
    retry_online: bool = False
    continuous: bool = False
    looked_at: int = _big(default=0)
    created_to: str = ""
    cancel: str | None = None
    cancel_at: int | None = _big(default=None)
    cancelled_to: int = -1
    cancel_then: str = "cancelled"
    reason: str = _text()
    starts_at: int | None = _big(default=None)
    expires_after: int = _big(default=30 * 86_400_000)
    replaces: str | None = None
    replaced_by: str | None = None
    paused_by: str = ""
    recalled_to: int = -1
    retry_asked: str | None = _text(None)
    retried_to: int = -1
    retried: int = 0
    offered_at: int | None = _big(default=None)
    serial: bool = False
    turn: int = -1
    turn_since: int | None = _big(default=None)
    accumulator: str = _text("null")
    accumulated: int = -1
    delay: int = _big(default=0)
    offline: str = "wait"
    offline_after: int = _big(default=300_000)
    per_bus: int | None = None
    per_site: int | None = None
    created_at: int = _big()
    started_at: int | None = _big(default=None)
    ended_at: int | None = _big(default=None)
    expires_at: int = _big()
    run_by: str = ""
    run_by_name: str = ""
    has_errors: bool = False
    system: bool = False
    origin: str | None = None
    origin_run: str | None = None
    origin_task: str | None = None
    origin_step: str | None = None
    depth: int = 0
    fed: bool = False
    has_parameters: bool = False
    batch: int = 1
    targets: int = 0


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
    stranded: int = 0


class TaskRow(SQLModel, table=True):
    """A run's work on one target. The attempt in `attempt` is the open one while status is open.

    `target` is the id of the target, of the kind the run is about; only a device or a gateway has
    a gateway of its own, all others go to the org's central one. A task of a batch run has none,
    its `targets` many stand in `task_targets`.

    `parked` names the gateway or device that keeps a due task from being looked at again until it
    frees (`gateway:{id}`, `device:{id}`, `slots:{gateway}`). `due_at` orders and
    delays the due ones. `places` are the slots beside its gateway's that its attempt holds (JSON).
    `stranded`: its gateway has been silent for so long that it has given back its slot. `steps`
    names its step list, where the job has several.
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
        Index("tasks_awaiting", "deadline",
              sqlite_where=text("status = 'awaiting'"),
              postgresql_where=text("status = 'awaiting'")),
        Index("tasks_by_device", "org", "device"),
        Index("tasks_ended_badly", "run", "ordinal",
              sqlite_where=text(BAD), postgresql_where=text(BAD)),
    )  # fmt: skip
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    org: str
    device: str | None = None
    target: str | None = None
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
    places: str | None = _text(None)
    steps: str | None = None
    targets: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    stranded: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
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


class SlotRestRow(SQLModel, table=True):
    """A slot of a run that an ended attempt gave back; it rests until the delay has passed."""

    __tablename__: ClassVar[Any] = "slot_rests"
    __table_args__ = (Index("slot_rests_by_time", "run", "until"),)
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    until: int = _big()


class RunBodyRow(SQLModel, table=True):
    """One of several step lists of a run, as its tasks share it."""

    __tablename__: ClassVar[Any] = "run_bodies"
    run: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    hash: str
    body: str = _text("{}")


class HoldRow(SQLModel, table=True):
    """Nothing new starts on a gateway, a device or a site, or in the whole org (id `*`)."""

    __tablename__: ClassVar[Any] = "holds"
    org: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    reason: str = _text()
    until: int | None = _big(default=None)
    by: str = ""
    at: int = _big()
