"""Every message between cloud and gateway, one model each, and how it becomes bytes and back.

A message is one line of JSON in UTF-8. After a newline a second line may follow: the signature,
over `topic + newline + first line`; `session` and `counter` stand in the first line, so they are
covered. A receiver that knows no key for the sender ignores the second line.

Fields are only ever added, with defaults, and unknown ones are ignored: the other side may be two
years older. Times are milliseconds since 1970 by the clock of the sender, durations milliseconds.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from contract.ids import Id, Sha256
from contract.lifecycle import StepStatus, TaskStatus
from contract.topics import Kind

MAX_MESSAGE_BYTES: Final = 128 * 1024
MAX_SNAPSHOT_BYTES: Final = 64 * 1024
MAX_BATCH: Final = 50
MARKS_A_PAGE: Final = 400
MAX_DEVICES_A_PAGE: Final = 200
MAX_PROFILES: Final = 100
MAX_PROFILE_BYTES: Final = 256 * 1024

Millis = Annotated[int, Field(ge=0, le=2**53)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Word = Annotated[str, Field(max_length=128)]
Text = Annotated[str, Field(max_length=4096)]
# Also the name of a file, and of what devices call `profile`.
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class MessageInvalid(ValueError):
    """Bytes that are no message of the kind their topic names."""


class Part(BaseModel):
    # Most programs use few of these models, so each is built when it is first used.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Message(Part):
    """What every message may carry. `counter` grows with each message a sender sends in a session.

    Presence and hello have no session yet; a welcome opens one. Whatever names another session
    than the receiver's own is dropped.
    """

    session: Word | None = None
    counter: Count = 0


# -- up: what a gateway says


class Presence(Message):
    """A hint, and the Will. Nothing is decided by it alone."""

    online: bool
    instance: Word


class TaskMark(Part):
    """One attempt in a journal, in short."""

    task: Id
    attempt: Count
    revision: Count
    status: TaskStatus


class InventoryDevice(Part):
    """A device this gateway owns, as its configuration and its driver know it.

    Devices of one gateway with the same `bus` share a line, and take turns on it.
    """

    id: Id
    type: Word = ""
    name: Word = ""
    driver: Word = ""
    address: Text = ""
    bus: Word = ""
    tags: dict[str, JsonValue] = Field(default_factory=dict)
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    link: Literal["unknown", "up", "down"] = "unknown"


class HeldProfile(Part):
    """A deployed profile in use, by its digest; or why the one of digest `refused` is not.

    With a problem and nothing in `refused` it is in use though it should be withdrawn.
    """

    name: ProfileName
    sha256: Sha256 | None = None
    size: Count = 0
    refused: Sha256 | None = None
    problem: Annotated[str, Field(max_length=1000)] = ""


class HeldProfiles(Part):
    """What became of the wanted profiles of that revision: all that a gateway holds."""

    revision: Count
    profiles: list[HeldProfile] = Field(default_factory=list, max_length=2 * MAX_PROFILES)


class Hello(Message):
    """The first words of a connection, in numbered pages that share a nonce.

    `journal` is the journal's random id, `instance` the process's. `digest` is that of all open
    attempts (see `digest_of`). Nothing counts as missing before every page is there.
    `profiles` are those that were deployed there, in its first page; None says that the gateway
    knows of no such thing.
    `proof` shows that it knows its token (see `admission`). `mark` is a random word that the
    journal keeps before it is said, and `last_mark` the one before it that was welcomed: a copy of
    the journal does not know the newest.
    """

    nonce: Word
    page: Annotated[int, Field(ge=1, le=10_000)]
    pages: Annotated[int, Field(ge=1, le=10_000)]
    journal: Word
    instance: Word
    digest: Word = ""
    version: Word = ""
    verbs: list[Word] = Field(default_factory=list, max_length=1000)
    time: Millis = 0
    devices: list[InventoryDevice] = Field(default_factory=list)
    tasks: list[TaskMark] = Field(default_factory=list)
    profiles: list[HeldProfile] | None = Field(default=None, max_length=2 * MAX_PROFILES)
    proof: Word = ""
    mark: Word = ""
    last_mark: Word = ""


class Failure(Part):
    """Why an attempt or a step failed. `code` is one of `failures.FAILURES`, or a newer one."""

    code: Word
    text: Text = ""
    step: Word | None = None


class StepSnapshot(Part):
    """One step, complete. Progress is 0 to 100.

    `input` is what it was given, rendered and with secrets masked; null while that is what the
    job says word for word.
    """

    id: Word
    uses: Word
    status: StepStatus = StepStatus.PENDING
    started_at: Millis | None = None
    skipped_at: Millis | None = None
    completed_at: Millis | None = None
    progress: Annotated[float, Field(ge=0, le=100)] = 0
    tries: Count = 0
    failure: Failure | None = None
    result: JsonValue = None
    truncated: bool = False
    note: Text = ""
    input: JsonValue = None
    input_truncated: bool = False


class TaskSnapshot(Part):
    """One attempt of a task, complete: what a report carries, and a journal row holds.

    `revision` only grows within an attempt. `begun` says that a step has started, so the attempt
    counts as a try. `elapsed` is the running time so far.
    `waiting_for` is the code of `waiting.WAITS` while it is accepted and not begun.
    """

    task: Id
    attempt: Count
    revision: Count
    status: TaskStatus
    begun: bool = False
    started_at: Millis | None = None
    ended_at: Millis | None = None
    elapsed: Millis = 0
    progress: Annotated[float, Field(ge=0, le=100)] = 0
    current_step: Word | None = None
    waiting_for: Word | None = None
    steps: list[StepSnapshot] = Field(default_factory=list, max_length=500)
    failure: Failure | None = None
    result: JsonValue = None
    accumulator: JsonValue = None
    from_attempt: Count | None = None
    truncated: bool = False


class LogLine(Part):
    """A line of a task's log. `number` grows by one within its stream of one journal."""

    number: Count
    at: Millis
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    text: Text
    task: Id | None = None
    attempt: Count | None = None
    device: Id | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)


class DeviceState(Part):
    """What is known of a device at a time: values by name, and whether its link is up.

    `order` grows over both streams of a journal: what was seen later has the higher one, whatever
    the gateway's clock said.
    """

    number: Count
    order: Count = 0
    at: Millis
    device: Id
    link: Literal["unknown", "up", "down"] = "unknown"
    values: dict[str, JsonValue] = Field(default_factory=dict)


Stream = Literal["live", "backlog"]


class Undecodable(NamedTuple):
    """An item of a report that is no snapshot, with whatever of its name could be read."""

    task: str
    attempt: int
    revision: int
    raw: str
    reason: str


class Report(Message):
    """A batch: snapshots, log lines, device states. An empty one is the heartbeat.

    `digest` stands in a report that leaves nothing unsent, so that silent differences are found.
    `message` names this message for its receipt. `undecodable` is filled while parsing.
    `profiles` answers every set of wanted profiles, once it has been dealt with.
    `time` is the sender's clock at that moment, in a report with states.
    """

    message: Count = 0
    time: Millis = 0
    tasks: list[TaskSnapshot] = Field(default_factory=list)
    stream: Stream = "live"
    logs: list[LogLine] = Field(default_factory=list)
    states: list[DeviceState] = Field(default_factory=list)
    dropped: dict[str, Count] = Field(default_factory=dict)
    digest: Word | None = None
    health: dict[str, JsonValue] = Field(default_factory=dict)
    profiles: HeldProfiles | None = None
    undecodable: tuple[Undecodable, ...] = Field(default=(), exclude=True)


class Call(Message):
    """A step's request to the cloud, repeated until it is answered. Only successes are kept."""

    key: Word
    task: Id
    attempt: Count
    step: Word
    verb: Word
    body: dict[str, JsonValue] = Field(default_factory=dict)


# -- down: what the cloud says


class TaskRef(Part):
    task: Id
    attempt: Count


class Limits(Part):
    """What the cloud allows a gateway; all of it may change with the next welcome."""

    heartbeat: Millis = 10_000
    max_unreceipted: Annotated[int, Field(ge=1, le=100)] = 2
    max_message_bytes: Annotated[int, Field(ge=4096, le=1_000_000)] = MAX_MESSAGE_BYTES
    digest_every: Millis = 600_000
    keep_ended: Millis = 7 * 86_400_000
    keep_tombstones: Millis = 90 * 86_400_000


class WantedProfile(Part):
    """A profile to use, fetched as an artifact. Sizes in bytes."""

    name: ProfileName
    sha256: Sha256
    size: Count


class WantedProfiles(Part):
    """All profiles that are deployed to a gateway; what it holds beside them is withdrawn.

    `revision` grows with every change: within a session a lower one is an old message.
    """

    revision: Count
    profiles: list[WantedProfile] = Field(default_factory=list, max_length=MAX_PROFILES)


class Welcome(Message):
    """The answer to a hello's nonce, in pages; the first opens the session.

    `forget`: the cloud has ended these; stop them if they have not begun, and keep no result to
    send. `report`: send these again, whole. `cancel`: as in a Cancel.
    Without a nonce it is a request: say hello again, within `hello_within`, at a random moment.
    `conflict`: another process says hello under this name; take no new work.
    `profiles`: in the first page, and in a message of the session without a nonce, which is
    repeated until a report has answered it. None changes nothing.
    `refused`: why the hello of that nonce opens no session, or why that session is over; one of
    `admission.REFUSALS`. Begin nothing, stop what runs, and ask again seldom.
    """

    nonce: Word | None = None
    journal: Word | None = None
    page: Annotated[int, Field(ge=1)] = 1
    pages: Annotated[int, Field(ge=1)] = 1
    time: Millis = 0
    forget: list[TaskRef] = Field(default_factory=list)
    report: list[TaskRef] = Field(default_factory=list)
    cancel: "list[CancelItem]" = Field(default_factory=list)
    limits: Limits = Limits()
    conflict: bool = False
    hello_within: Millis | None = None
    profiles: WantedProfiles | None = None
    refused: Word | None = None


class OfferedRetry(Part):
    """How a step is tried again within its attempt. `attempts` counts all tries."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    delay: Millis = 0
    backoff: Annotated[float, Field(ge=1, le=100)] = 1.0


class OfferedStep(Part):
    """A step as the gateway performs it: macros expanded, durations in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: Word
    uses: Word
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    when: Text | None = None
    expect: Text | None = None
    timeout: Millis | None = None
    retry: OfferedRetry = OfferedRetry()
    always: bool = False
    on_failure: bool = False
    key: Text | None = None


class OfferedAcknowledge(Part):
    """Explicit mode: the task is closed by an acknowledgment, after its steps.

    A message on `topic` (a template) of the gateway's local broker for which `match` (an
    expression over `payload` and `topic`) holds is one.
    """

    topic: Text | None = None
    match: Text | None = None


class ArtifactRef(Part):
    sha256: Sha256
    size: Count


class JobBody(Part):
    """What all tasks of a run share; named by its hash, and sent once in each message of offers.

    `secrets` are for this gateway's memory and its sealed journal: they are no part of what the
    hash names, and stand in no report, result or log.
    """

    run: Id
    hash: Word
    job: Id
    name: Text = ""
    type: Word = ""
    steps: list[OfferedStep] = Field(max_length=500)
    context: dict[str, JsonValue] = Field(default_factory=dict)
    artifacts: dict[str, ArtifactRef] = Field(default_factory=dict)
    keep_response: bool = True
    secrets: dict[str, str] = Field(default_factory=dict)
    acknowledge: OfferedAcknowledge | None = None


class OfferedTask(Part):
    """One attempt, offered. `start_by` is the time left to begin a step; then hand it back.

    With `acknowledgment_token` a third party may close this attempt, in explicit mode. A task of
    several targets has `targets`, and no `target`. `run_facts` are `started_at` (ms) and `counts`
    of the run at this moment, where its steps read them.
    """

    task: Id
    attempt: Annotated[int, Field(ge=1)]
    run: Id
    body: Word
    ordinal: Count
    tries: Count = 0
    device: Id | None = None
    target: dict[str, JsonValue] = Field(default_factory=dict)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    accumulator: JsonValue = None
    timeout: Millis = 60_000
    start_by: Millis = 900_000
    priority: Annotated[int, Field(ge=0, le=9)] = 1
    acknowledgment_token: Word | None = None
    targets: list[dict[str, JsonValue]] = Field(default_factory=list)
    run_facts: dict[str, JsonValue] = Field(default_factory=dict)


class Offer(Message):
    """A batch of tasks and the bodies they name; sent again until a report says otherwise.

    `undecodable` is filled while parsing: tasks that cannot be read, and those of such a body.
    """

    bodies: list[JobBody] = Field(default_factory=list)
    tasks: list[OfferedTask] = Field(default_factory=list)
    undecodable: tuple[Undecodable, ...] = Field(default=(), exclude=True)


class CancelItem(Part):
    """Stop one attempt; one not yet known is kept as cancelled.

    recall: only if it has not begun, handing it back. soft: between steps. force: inside a step
    where the action can.
    """

    task: Id
    attempt: Count
    mode: Literal["recall", "soft", "force"] = "soft"
    reason: Text = ""


class Cancel(Message):
    items: list[CancelItem] = Field(default_factory=list)


class ReceiptItem(Part):
    """`stored`, or `refused` with a code of `failures.REFUSALS`."""

    task: Word
    attempt: int
    revision: int
    outcome: Literal["stored", "refused"] = "stored"
    code: Word | None = None
    text: Text = ""


class StreamReceipt(Part):
    """Everything of a stream up to and with this number is stored.

    The cloud names the highest number of the message it answers. A gateway sends a stream oldest
    first and has one message of it in flight, so nothing that was lost can lie below.
    """

    stream: Stream
    kind: Literal["logs", "states"]
    number: Count


class Receipt(Message):
    """What a report's items came to, after the commit."""

    message: Count = 0
    items: list[ReceiptItem] = Field(default_factory=list)
    streams: list[StreamReceipt] = Field(default_factory=list)


class Reply(Message):
    """The answer to a call: a result, or a failure."""

    key: Word
    result: JsonValue = None
    failure: Failure | None = None


AnyMessage = Presence | Hello | Report | Call | Welcome | Offer | Cancel | Receipt | Reply
MODELS: Final[dict[Kind, type[Message]]] = {
    Kind.PRESENCE: Presence,
    Kind.HELLO: Hello,
    Kind.REPORT: Report,
    Kind.CALL: Call,
    Kind.WELCOME: Welcome,
    Kind.OFFER: Offer,
    Kind.CANCEL: Cancel,
    Kind.RECEIPT: Receipt,
    Kind.REPLY: Reply,
}
M = TypeVar("M", bound=Part)


def encode(message: Message) -> bytes:
    """The message as one line of JSON; fields that hold their default are left out."""
    return message.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def split(payload: bytes) -> tuple[bytes, bytes | None]:
    """The message's line, and the signature's where there is one."""
    body, newline, signature = payload.partition(b"\n")
    return body, signature if newline else None


def parse(kind: Kind, payload: bytes) -> AnyMessage:
    """The message a payload holds.

    A report or an offer whose items are partly undecodable comes back with the good ones, the
    others in `undecodable`. Raises MessageInvalid when the message itself cannot be read.
    """
    body, _ = split(payload)
    try:
        return MODELS[kind].model_validate_json(body)  # type: ignore[return-value]
    except ValidationError as error:
        if kind is Kind.REPORT:
            return _parse_item_by_item(_object(kind, body))
        if kind is Kind.OFFER:
            return _parse_offer(_object(kind, body))
        raise MessageInvalid(_first_problem(kind, error)) from None


def _object(kind: Kind, body: bytes) -> dict[str, Any]:
    try:
        raw = _of_whole_characters(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise MessageInvalid(f"{kind}: not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise MessageInvalid(f"{kind}: not a JSON object")
    return raw


def _of_whole_characters(value: Any) -> Any:
    """JSON can name halves of characters, which no database and no further message can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_of_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_of_whole_characters(k): _of_whole_characters(v) for k, v in value.items()}
    return value


def _parse_offer(raw: dict[str, Any]) -> Offer:
    tasks, bodies = raw.pop("tasks", []), raw.pop("bodies", [])
    unread: dict[object, str] = {}
    whole = []
    for item in bodies if isinstance(bodies, list) else []:
        try:
            whole.append(JobBody.model_validate(item))
        except ValidationError as error:
            name = item.get("hash") if isinstance(item, dict) else None
            unread[name if isinstance(name, str) else None] = _first_problem(Kind.OFFER, error)
    bad: list[Undecodable] = []
    good = []
    for item in tasks if isinstance(tasks, list) else []:
        try:
            task = OfferedTask.model_validate(item)
        except ValidationError as error:
            bad.append(_undecodable(item, _first_problem(Kind.OFFER, error)))
            continue
        if task.body in unread:
            bad.append(_undecodable(item, f"its job: {unread[task.body]}"))
        else:
            good.append(task)
    try:
        values = {**raw, "bodies": whole, "tasks": good, "undecodable": tuple(bad)}
        return Offer.model_validate(values)
    except ValidationError as error:
        raise MessageInvalid(_first_problem(Kind.OFFER, error)) from None


def _parse_item_by_item(raw: dict[str, Any]) -> Report:
    items = raw.pop("tasks", [])
    bad: list[Undecodable] = []
    good: list[TaskSnapshot] = []
    for item in items if isinstance(items, list) else []:
        try:
            good.append(TaskSnapshot.model_validate(item))
        except ValidationError as error:
            bad.append(_undecodable(item, _first_problem(Kind.REPORT, error)))
    for name, model in (("logs", LogLine), ("states", DeviceState)):
        raw[name] = _decodable(raw.get(name, []), model)
    try:
        return Report.model_validate({**raw, "tasks": good, "undecodable": tuple(bad)})
    except ValidationError:
        pass
    # What a gateway says of itself must not be in the way of what it says of tasks.
    head = {name: raw[name] for name in _REPORT_HEAD if name in raw}
    try:
        return Report.model_validate({**head, "tasks": good, "undecodable": tuple(bad)})
    except ValidationError as error:
        raise MessageInvalid(_first_problem(Kind.REPORT, error)) from None


_REPORT_HEAD: Final = ("session", "counter", "message", "stream", "logs", "states")


def _decodable(items: object, model: type[M]) -> list[M]:
    kept = []
    for item in items if isinstance(items, list) else []:
        try:
            kept.append(model.model_validate(item))
        except ValidationError:
            continue
    return kept


def _undecodable(item: object, reason: str) -> Undecodable:
    fields = item if isinstance(item, dict) else {}

    def number(name: str) -> int:
        value = fields.get(name)
        return value if isinstance(value, int) and 0 <= value < 2**53 else 0

    task = fields.get("task")
    return Undecodable(
        task=task[:128] if isinstance(task, str) else "",
        attempt=number("attempt"),
        revision=number("revision"),
        raw=json.dumps(item)[:MAX_SNAPSHOT_BYTES],
        reason=reason,
    )


def _first_problem(kind: Kind, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{kind}: {place or 'message'}: {first['msg']}"


def digest_of(marks: Sequence[TaskMark]) -> str:
    """The digest of a set of open attempts, the same on both sides whatever their order.

    sha256 over the sorted lines `task attempt revision status`, the first 32 hex digits.
    """
    lines = sorted(f"{m.task} {m.attempt} {m.revision} {m.status}\n" for m in marks)
    return sha256("".join(lines).encode()).hexdigest()[:32]
