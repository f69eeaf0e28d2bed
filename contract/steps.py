"""Every `namespace.verb` a step may use: its parameters, and what a restart in its middle means.

The cloud checks a job against this table when it is saved; the gateway performs it. Parameters
may hold `{{ }}`, so a model checks names and, where a value is no template, its type.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from contract.durations import Duration
from contract.plugins import EntryPoint, PlugInBroken, by_name, load_plug_in


class AfterRestart(StrEnum):
    """What it means that the gateway stopped in the middle of a step."""

    REPEAT = "repeat"  # harmless: do it again
    RESUME = "resume"  # ask the device how far it is, and go on from there
    ASK = "ask"  # it may have happened: read back; if that cannot tell, the attempt is interrupted


MAX_LOOP: Final = 1000
MAX_AT_ONCE: Final = 100
VERB_NAME: Final = re.compile(r"[a-z_]+\.[a-z_]+")
# ITU-T E.164: a plus, no leading zero, at most 15 digits.
E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
MAX_CERTIFICATE_DAYS: Final = 825
DEFAULT_CERTIFICATE_DAYS: Final = 90
# What a loop may perform: nothing that moves firmware, ends the task, or loops itself.
LOOPED: Final = frozenset(
    {"device.command", "device.read", "device.write", "flow.check", "flow.delay", "flow.log",
     "flow.set", "http.request",
     "mqtt.await", "mqtt.publish", "notify.email", "notify.sms", "sql.query", "fleet.tag",
     "fleet.set", "fleet.record_state", "fleet.delete", "fleet.write_row", "fleet.extend_run",
     "fleet.postpone_run", "fleet.acknowledge", "fleet.run_job", "fleet.cancel_run"}
)  # fmt: skip


class Parameters(BaseModel):
    # Most programs use few of these models, so each is built when it is first used.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


Template = Annotated[str, Field(pattern=r"\{\{")]
Timeout = Annotated[Duration, Field(description="a duration: 90s, 15m, PT1H or milliseconds")]


class CommandParameters(Parameters):
    """device.command: send a command of the device's profile, and take its reply as the result."""

    name: str = Field(min_length=1, max_length=128)
    parameters: dict[str, JsonValue] | Template = Field(default_factory=dict)


Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]


class ReadPointsParameters(Parameters):
    """device.read: read points that the device's profile names; the result is `{values: {...}}`."""

    points: Names | str


class WritePointsParameters(Parameters):
    """device.write: write points that the device's profile names, all of them or none is tried.

    The result is `{values: {...}}`: what the device then says of those that are read back.
    """

    values: Annotated[dict[str, JsonValue], Field(min_length=1, max_length=1000)] | Template


class ResetParameters(Parameters):
    """device.reset: restart the device. The line may vanish; `device.wait` comes next."""

    force: bool = False


class WaitParameters(Parameters):
    """device.wait: until the device answers again (`online`), or no longer does (`offline`)."""

    until: Literal["online", "offline"] = "online"
    timeout: Timeout | Template | None = None


class DelegateParameters(Parameters):
    """device.delegate: hand the device a job document that it runs itself (driver aws_jobs).

    What it says on the way is the step's progress, its last status details are the result.
    `timeout` is how long it may take once it has begun; the step's own holds for all.
    """

    document: Annotated[dict[str, JsonValue], Field(min_length=1)] | Template
    timeout: Timeout | Template | None = None


ArtifactName = Annotated[str, Field(min_length=1, max_length=256)]
SlotArtifacts = Annotated[dict[Literal["0", "1"], ArtifactName], Field(min_length=1)]
ImageNumber = Annotated[int, Field(ge=0, le=15)]


class UploadParameters(Parameters):
    """firmware.upload: bring an artifact onto the device, going on where the device says it is.

    `version` says what a file is that does not say it itself; a device that runs it needs none.
    Where images run in place (direct XIP), `artifact` is an object with one for each slot, as in
    `{"0": ..., "1": ...}`. `image` counts from 0, the application, where a device has several.
    """

    artifact: ArtifactName | SlotArtifacts
    slot: int | Template | None = None
    version: str | None = None
    image: ImageNumber | Template = 0


class NoParameters(Parameters):
    """A step without parameters."""


class VerifyParameters(Parameters):
    """firmware.verify: read the running image back; its version must be this, if one is given.

    All images that were uploaded must run; `image` says which one's version is meant.
    """

    version: str | None = None
    image: ImageNumber | Template | None = None


class RecoverParameters(Parameters):
    """firmware.recover: through the bootloader's serial recovery into the slot that runs.

    A device whose application answers is restarted into recovery. There is no way back.
    """

    artifact: ArtifactName
    version: str | None = None


class ImageOfUpdate(Parameters):
    """One of several images that are updated together."""

    artifact: ArtifactName | SlotArtifacts
    image: ImageNumber = 0
    version: str | None = None


class UpdateParameters(Parameters):
    """firmware.update: upload, test, reset, wait, verify and confirm, as one word.

    Either one `artifact`, or `images`: all of them are tried in one restart.
    """

    artifact: ArtifactName | SlotArtifacts | None = None
    version: str | None = None
    images: Annotated[list[ImageOfUpdate], Field(max_length=16)] = Field(default_factory=list)
    wait: Timeout | Template = Field(default="2m")

    @model_validator(mode="after")
    def _check(self) -> "UpdateParameters":
        if (self.artifact is None) == (not self.images):
            raise ValueError("give `artifact` or `images`")
        numbers = [each.image for each in self.images]
        if len(set(numbers)) < len(numbers):
            raise ValueError("each of `images` has another `image` number")
        if self.images and self.version is not None:
            raise ValueError("with `images`, each of them has its `version`")
        return self


class MemberOfUpdate(Parameters):
    """One device of a joint update. Lower ranks come first; one rank restarts side by side.

    `fallback` is the artifact before: sent again where a device keeps nothing to go back to.
    """

    device: str = Field(min_length=1, max_length=256)
    artifact: ArtifactName | SlotArtifacts
    version: str | None = None
    rank: Annotated[int, Field(ge=0, le=1000)] = 0
    fallback: ArtifactName | None = None


class TogetherParameters(Parameters):
    """firmware.stage_together, switch_together, confirm_together and rollback_together.

    They are the parts of firmware.update_together. `members` are devices of the task's own
    gateway, and `this_gateway` itself; `at_once` of one rank are worked on side by side.
    """

    members: Annotated[list[MemberOfUpdate], Field(min_length=1, max_length=100)]
    at_once: Annotated[int, Field(ge=1, le=100)] | Template = 4
    wait: Timeout | Template = Field(default="2m")


class UpdateTogetherParameters(TogetherParameters):
    """firmware.update_together: devices of one gateway updated all together, or not at all.

    All images are brought in before the first device restarts, and kept once all of them have
    been read back; if one fails, the others go back too, unless `on_failure` is `leave`.
    """

    on_failure: Literal["rollback", "leave"] = "rollback"


Slot = Annotated[int, Field(ge=0, le=15)] | Template | None
Days = Annotated[int, Field(ge=1, le=MAX_CERTIFICATE_DAYS)] | Template
Pem = Annotated[str, Field(max_length=16_384)]


class CsrParameters(Parameters):
    """certificate.request: the device makes a key and asks for a certificate (`csr`, `key_id`).

    `subject` is the name its request is to hold, by default its own: the cloud signs no other.
    """

    subject: str | None = Field(default=None, max_length=128)
    slot: Slot = None


class SignParameters(Parameters):
    """certificate.sign: have the cloud's CA sign the device's request, for so many days."""

    csr: Pem | None = None
    days: Days = DEFAULT_CERTIFICATE_DAYS


class InstallParameters(Parameters):
    """certificate.install: put a certificate beside the one in use, by default the signed one."""

    certificate: Pem | None = None
    chain: Pem | None = None
    slot: Slot = None


class CertificateParameters(Parameters):
    """certificate.verify and commit: of the certificate installed before, or of `fingerprint`."""

    fingerprint: str | None = Field(default=None, max_length=256)
    slot: Slot = None


class RotateParameters(Parameters):
    """certificate.rotate: request, sign, install, verify and commit, as one word."""

    subject: str | None = Field(default=None, max_length=128)
    days: Days = DEFAULT_CERTIFICATE_DAYS
    slot: Slot = None


class DelayParameters(Parameters):
    """flow.delay: do nothing for a while."""

    duration: Timeout | Template = Field(alias="for")


class CheckParameters(Parameters):
    """flow.check: fail unless an expression is true."""

    that: str = Field(min_length=1, max_length=4096)
    message: str | None = None


class SetParameters(Parameters):
    """flow.set: put values into the step's result, for later steps."""

    values: dict[str, JsonValue]


class LogParameters(Parameters):
    """flow.log: a line in the task's log."""

    text: str = Field(max_length=4096)
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class AcknowledgeParameters(Parameters):
    """flow.acknowledge: close the task, as success or failure, once its steps are done."""

    success: bool | Template = True
    result: JsonValue = None
    accumulator: JsonValue = None
    text: str = Field(default="", max_length=4096)


class InnerStep(Parameters):
    """The step that a loop performs for each item; its values are rendered with `item`, `index`.

    `carried` holds what the element before handed on, in serial mode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    uses: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$")]
    with_: dict[str, JsonValue] = Field(default_factory=dict, alias="with")
    when: str | None = Field(default=None, max_length=4096)
    expect: str | None = Field(default=None, max_length=4096)
    key: str | None = Field(default=None, max_length=256)

    @model_validator(mode="after")
    def _check(self) -> "InnerStep":
        if self.uses not in LOOPED:
            raise ValueError(f"`{self.uses}` cannot stand in a loop; what can: {sorted(LOOPED)}")
        for keys, message in problems_of(self.uses, dict(self.with_)):
            raise ValueError(f"with.{'.'.join(str(key) for key in keys)}: {message}")
        return self


class ForEachParameters(Parameters):
    """flow.for_each: one step for each item; the result is the array of results, in that order.

    An element that failed has `{"error": {"code", "text"}}` in its place, one that was never
    reached null. `carry` is what the first element finds as `carried`, `next` computes what the
    next one finds.
    """

    items: Annotated[list[JsonValue], Field(max_length=MAX_LOOP)] | Template
    step: InnerStep
    mode: Literal["serial", "parallel"] = "serial"
    concurrency: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] | Template = 5
    on_error: Literal["stop", "keep"] = "stop"
    carry: JsonValue = None
    next: str | None = Field(default=None, max_length=4096)

    @model_validator(mode="after")
    def _check(self) -> "ForEachParameters":
        if self.mode == "parallel" and (self.next is not None or self.carry is not None):
            raise ValueError("only a serial loop hands a value on")
        return self


class RequestParameters(Parameters):
    """http.request: ask a web service. The result holds `status`, `headers` and `body`.

    A body that is JSON comes parsed. Unless `accept` names the status, one of 400 and above fails.
    """

    url: str = Field(min_length=1, max_length=8192)
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    query: dict[str, JsonValue] | Template = Field(default_factory=dict)
    json_: JsonValue = Field(default=None, alias="json")
    text: str | None = None
    accept: list[Annotated[int, Field(ge=100, le=599)]] = Field(default_factory=list)
    max_bytes: Annotated[int, Field(ge=1, le=1_000_000)] = 65_536
    redirects: Annotated[int, Field(ge=0, le=5)] = 0
    timeout: Timeout | Template = Field(default="30s")


class PublishParameters(Parameters):
    """mqtt.publish: a message on the gateway's local broker; what is no text becomes JSON."""

    topic: str = Field(min_length=1, max_length=1024)
    payload: JsonValue = ""
    qos: Literal[0, 1] = 1
    retain: bool = False
    stamp: bool = Field(
        default=False, description="add `roundsman: {run, task, attempt}` to an object"
    )


class AwaitParameters(Parameters):
    """mqtt.await: wait for a message on the local broker that matches; its payload is the result.

    `publish` is sent once we listen. `match` is an expression over `payload` and `topic`.
    """

    topic: str = Field(min_length=1, max_length=1024)
    match: str | None = Field(default=None, max_length=4096)
    publish: PublishParameters | None = None
    retained: bool = False
    timeout: Timeout | Template | None = None


class EmailParameters(Parameters):
    """notify.email: send a mail through the gateway's `smtp` server."""

    to: Annotated[list[str], Field(min_length=1, max_length=100)] | str
    subject: str = Field(max_length=998)
    text: str = Field(default="", max_length=65_536)


class SmsParameters(Parameters):
    """notify.sms: a text message to each number, through the gateway's `sms` service.

    Numbers are written as in +4930123456 (E.164). The result says who it was `sent` to.
    """

    to: Annotated[list[str], Field(min_length=1, max_length=100)] | str
    text: str = Field(min_length=1, max_length=1600)

    @model_validator(mode="after")
    def _check(self) -> "SmsParameters":
        for number in [self.to] if isinstance(self.to, str) else self.to:
            if "{{" not in number and E164.fullmatch(number) is None:
                raise ValueError(f"`{number[:40]}` is no telephone number such as +4930123456")
        return self


class QueryParameters(Parameters):
    """sql.query: one statement to a database configured on the gateway.

    Values are bound as `$1`, `$2` and never stand in the statement, which holds no {{ }}. The
    result is `columns`, `rows` (objects), `row_count` and `truncated`; rows end with `max_rows`,
    and where all of them together would take more than 30,000 bytes.
    """

    database: str = Field(min_length=1, max_length=256)
    statement: str = Field(min_length=1, max_length=20_000)
    parameters: Annotated[list[JsonValue], Field(max_length=200)] | Template = Field(
        default_factory=list
    )
    max_rows: Annotated[int, Field(ge=1, le=10_000)] | Template = 1_000
    timeout: Timeout | Template = Field(default="30s")

    @model_validator(mode="after")
    def _check(self) -> "QueryParameters":
        if "{{" in self.statement:
            raise ValueError("a statement holds no {{ }}: write $1 and put the value in parameters")
        return self


class OnDevice(Parameters):
    device: str | None = Field(default=None, description="the task's own if not given")


class TagParameters(OnDevice):
    """fleet.tag: set tags of a device; null takes one away."""

    tags: dict[str, JsonValue] | Template


class SetAttributesParameters(OnDevice):
    """fleet.set: set attributes of a device; null takes one away."""

    attributes: dict[str, JsonValue] | Template


class RecordStateParameters(OnDevice):
    """fleet.record_state: note values of a device's state."""

    values: dict[str, JsonValue] | Template


class WriteRowParameters(Parameters):
    """fleet.write_row: add a row to a data table, or set values of the one that `row` names."""

    table: str = Field(min_length=1, max_length=256)
    row: int | Template | None = None
    values: dict[str, JsonValue] | Template


class DeleteParameters(OnDevice):
    """fleet.delete: forget a device that no gateway owns any more, or a row of a data table."""

    table: str | None = None
    row: int | Template | None = None

    @model_validator(mode="after")
    def _check(self) -> "DeleteParameters":
        if (self.table is None) != (self.row is None):
            raise ValueError("`table` and `row` come together")
        return self


class AcknowledgeTaskParameters(Parameters):
    """fleet.acknowledge: close a task of another run that awaits its acknowledgment."""

    task: str = Field(min_length=1, max_length=256)
    success: bool | Template = True
    result: JsonValue = None
    accumulator: JsonValue = None
    text: str = Field(default="", max_length=4096)


class RunJobParameters(Parameters):
    """fleet.run_job: start a run of another job; the result is its id as `run`."""

    job: str = Field(min_length=1, max_length=256)
    context: dict[str, JsonValue] | Template | None = None
    query: JsonValue = None


class ExtendRunParameters(Parameters):
    """fleet.extend_run: add targets to a run that has not ended, by default the task's own.

    Each item is an object with `target`, and `parameters` and `attempts` where it brings some.
    """

    run: str | None = None
    items: Annotated[list[JsonValue], Field(min_length=1, max_length=1000)] | Template


class PostponeRunParameters(Parameters):
    """fleet.postpone_run: have a run that waits for its time start later.

    `by` is counted from the time it has; `to` is a time with a zone. One that has started refuses.
    """

    run: str = Field(min_length=1, max_length=256)
    by: Timeout | Template | None = None
    to: str | None = Field(default=None, min_length=1, max_length=256)
    reason: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _check(self) -> "PostponeRunParameters":
        if (self.by is None) == (self.to is None):
            raise ValueError("give `by` or `to`")
        return self


class CancelRunParameters(Parameters):
    """fleet.cancel_run: cancel a run, by default the task's own."""

    run: str | None = None
    force: bool = False
    reason: str = Field(default="", max_length=500)


@dataclass(frozen=True)
class Verb:
    """One verb of the step library. `raw` parameters are rendered by the action, not before it."""

    name: str
    parameters: type[Parameters]
    after_restart: AfterRestart
    summary: str
    macro: bool = False
    raw: frozenset[str] = frozenset()


_R = AfterRestart
_VERBS: Final = (
    Verb("device.command", CommandParameters, _R.ASK, "send a command, and take its reply"),
    Verb("device.read", ReadPointsParameters, _R.REPEAT, "read named points"),
    Verb("device.write", WritePointsParameters, _R.ASK, "write named points"),
    Verb("device.reset", ResetParameters, _R.ASK, "restart the device"),
    Verb("device.wait", WaitParameters, _R.REPEAT, "wait until the device is there, or gone"),
    Verb("device.delegate", DelegateParameters, _R.RESUME, "hand over a job that the device runs"),
    Verb("firmware.upload", UploadParameters, _R.RESUME, "bring an image onto the device"),
    Verb("firmware.test", NoParameters, _R.REPEAT, "have the next boot try the new image"),
    Verb("firmware.verify", VerifyParameters, _R.REPEAT, "read back what runs"),
    Verb("firmware.confirm", NoParameters, _R.REPEAT, "keep the running image for good"),
    Verb("firmware.rollback", NoParameters, _R.REPEAT, "return to the image before"),
    Verb("firmware.recover", RecoverParameters, _R.RESUME, "bring an image in by the bootloader"),
    Verb("firmware.update", UpdateParameters, _R.RESUME, "all of the above, in order", macro=True),
    Verb("firmware.stage_together", TogetherParameters, _R.RESUME, "bring in several images"),
    Verb("firmware.switch_together", TogetherParameters, _R.RESUME, "restart into all of them"),
    Verb("firmware.confirm_together", TogetherParameters, _R.RESUME, "keep all of them"),
    Verb("firmware.rollback_together", TogetherParameters, _R.RESUME, "take all of them back"),
    Verb("firmware.update_together", UpdateTogetherParameters, _R.RESUME,
         "several devices of a gateway: all of them, or none", macro=True),
    Verb("certificate.request", CsrParameters, _R.RESUME, "have the device make a key and a CSR"),
    Verb("certificate.sign", SignParameters, _R.REPEAT, "have the cloud's CA sign the CSR"),
    Verb("certificate.install", InstallParameters, _R.RESUME, "put it beside the one in use"),
    Verb("certificate.verify", CertificateParameters, _R.REPEAT, "connect with it, and read back"),
    Verb("certificate.commit", CertificateParameters, _R.REPEAT, "keep it, retire the old one"),
    Verb("certificate.rotate", RotateParameters, _R.RESUME, "all of the above, in order",
         macro=True),
    Verb("flow.delay", DelayParameters, _R.REPEAT, "wait for a while"),
    Verb("flow.check", CheckParameters, _R.REPEAT, "fail unless something is true"),
    Verb("flow.set", SetParameters, _R.REPEAT, "compute values for later steps"),
    Verb("flow.log", LogParameters, _R.REPEAT, "write a line into the task's log"),
    Verb("flow.acknowledge", AcknowledgeParameters, _R.REPEAT, "say how the task ends"),
    Verb("flow.for_each", ForEachParameters, _R.ASK, "perform a step for each item",
         raw=frozenset({"step", "next"})),
    Verb("http.request", RequestParameters, _R.ASK, "ask a web service"),
    Verb("mqtt.publish", PublishParameters, _R.REPEAT, "publish a message, at least once"),
    Verb("mqtt.await", AwaitParameters, _R.REPEAT, "wait for a message that matches",
         raw=frozenset({"match"})),
    Verb("notify.email", EmailParameters, _R.ASK, "send a mail"),
    Verb("notify.sms", SmsParameters, _R.ASK, "send a text message"),
    Verb("sql.query", QueryParameters, _R.ASK, "ask a database",
         raw=frozenset({"statement"})),
    Verb("fleet.tag", TagParameters, _R.REPEAT, "set tags of a device"),
    Verb("fleet.set", SetAttributesParameters, _R.REPEAT, "set attributes of a device"),
    Verb("fleet.record_state", RecordStateParameters, _R.REPEAT, "note a device's state"),
    Verb("fleet.write_row", WriteRowParameters, _R.REPEAT, "write a row of a data table"),
    Verb("fleet.delete", DeleteParameters, _R.REPEAT, "forget a device, or a row"),
    Verb("fleet.extend_run", ExtendRunParameters, _R.REPEAT, "add targets to a run"),
    Verb("fleet.acknowledge", AcknowledgeTaskParameters, _R.REPEAT, "close a task of another run"),
    Verb("fleet.run_job", RunJobParameters, _R.REPEAT, "start a run of another job"),
    Verb("fleet.postpone_run", PostponeRunParameters, _R.REPEAT, "have a run start later"),
    Verb("fleet.cancel_run", CancelRunParameters, _R.REPEAT, "cancel a run"),
)  # fmt: skip

# Ours, and those of installed packages once `load_verbs` has been called.
VERBS: Final = {verb.name: verb for verb in _VERBS}
PERFORMED: Final = frozenset(verb.name for verb in _VERBS if not verb.macro)
OUR_NAMESPACES: Final = frozenset(verb.name.partition(".")[0] for verb in _VERBS)


def load_verbs(points: Iterable[EntryPoint]) -> list[str]:
    """Add the verbs of installed packages to the library; returns what is wrong with others.

    A program calls it once, at its start. Namespaces of ours stay ours.
    """
    problems = []
    for point in by_name(points).values():
        try:
            verb = load_plug_in(point, Verb, "step")
            _check_verb(verb, point)
        except PlugInBroken as error:
            problems.append(str(error))
        else:
            VERBS[verb.name] = verb
    return problems


def _check_verb(verb: Verb, point: EntryPoint) -> None:
    named = f"step `{point.name}` ({point.value})"
    if verb.name != point.name:
        raise PlugInBroken(f"{named} calls itself `{verb.name}`")
    if VERB_NAME.fullmatch(verb.name) is None:
        raise PlugInBroken(f"{named}: a name is `namespace.verb`, of small letters and `_`")
    if verb.name.partition(".")[0] in OUR_NAMESPACES:
        raise PlugInBroken(f"{named}: the namespaces {', '.join(sorted(OUR_NAMESPACES))} are ours")
    if verb.macro:
        raise PlugInBroken(f"{named}: only our own verbs are macros")


def problems_of(uses: str, parameters: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with a step's `with`: pairs of key path and message; empty when it is right."""
    if uses not in VERBS:
        return [(("uses",), f"`{uses}` is no step")]
    try:
        VERBS[uses].parameters.model_validate(parameters)
    except ValidationError as error:
        return [
            (_keys_of(problem["loc"]), problem["msg"])
            for problem in error.errors(include_url=False, include_context=False)
        ]
    return []


def _keys_of(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    # pydantic appends the branch of a union to the place of the value; a person has not written it
    return location[:1]


def verbs_in(uses: str, parameters: Mapping[str, Any]) -> frozenset[str]:
    """The verb of a step, and of the step that it loops over."""
    inner = parameters.get("step") if uses == "flow.for_each" else None
    looped = inner.get("uses") if isinstance(inner, Mapping) else None
    return frozenset({uses, looped} if isinstance(looped, str) else {uses})
