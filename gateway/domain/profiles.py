"""What a profile says of one MQTT device family: topics, commands, and which reply answers which.

A profile is YAML. Texts in it may hold `{{ }}`; keys that take an expression (`match`, `ok`, ...)
hold it bare. What messages mean by it is in `profile_messages`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    model_validator,
)

from contract.durations import Duration
from contract.template_dialect import check, check_expression, check_value, render

Scope = Mapping[str, JsonValue]


def _template(text: str) -> str:
    check(text)
    return text


def _expression(text: str) -> str:
    check_expression(text)
    return text


def _value(value: JsonValue) -> JsonValue:
    check_value(value)
    return value


Template = Annotated[str, AfterValidator(_template), Field(max_length=4096)]
Expression = Annotated[str, AfterValidator(_expression), Field(max_length=4096)]
Value = Annotated[JsonValue, AfterValidator(_value)]

PointName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

ANY_COMMAND: Final = "*"


def matches(wanted: str, topic: str) -> bool:
    """Whether a topic is one of a filter's: MQTT 3.1.1, 4.7.1."""
    if wanted == topic:
        return True
    if "+" not in wanted and "#" not in wanted:
        return False
    wants, has = wanted.split("/"), topic.split("/")
    for place, want in enumerate(wants):
        if want == "#":
            return True
        if place >= len(has) or want not in ("+", has[place]):
            return False
    return len(wants) == len(has)


def _covers(wide: str, narrow: str) -> bool:
    """Whether a filter matches all that another one does."""
    return matches(wide, narrow) and (wide.endswith("#") or not narrow.endswith("#"))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Section(BaseModel):
    # Most programs use few of these models, so each is built when it is first used.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Reply(Section):
    """Which message is the answer, and what it says. Expressions see `payload` and `topic`."""

    topic: Template = Field(
        description="topic filter the device answers on; `+` stands for one level, `#` for the rest"
    )
    match: Expression | None = Field(
        default=None,
        description="true for the answer to this request; without it any message on the topic is, "
        "and after one that went unanswered the next waits for the late reply",
    )
    ok: Expression = Field(default="true", description="true where the device did it")
    result: Expression = Field(default="payload", description="the command's result")
    code: Expression | None = Field(default=None, description="the device's word for a refusal")
    text: Expression | None = Field(default=None, description="the device's own explanation")


class Exchange(Section):
    """A message to the device and, where the device answers, its reply.

    Texts see `device`, `vars`, `request` (a fresh id), `request_number` (the same as a number),
    `command`, `parameters`, in firmware verbs `firmware`, in a point's write `value`. What is left
    out is taken from the profile's `exchange`.
    """

    topic: Template | None = Field(default=None, description="topic of the request")
    payload: Value = Field(default=None, description="text is sent as it is, all else as JSON")
    extend: Expression | None = Field(
        default=None, description="an object whose keys are added to the payload"
    )
    reply: Reply | None = Field(default=None, description="none: published is done")
    qos: Literal[0, 1] = 1
    timeout: Duration | None = Field(default=None, description="wait this long for one reply")
    repeatable: bool = Field(
        default=False, description="harmless to send twice: asked again when unanswered"
    )


class SetPoints(Section):
    """A command that writes points: done when they read what they were set to."""

    set: dict[PointName, Value] = Field(min_length=1, description="texts see `parameters`")


class Presence(Section):
    """How the device's being there is known: a retained message, also the Will."""

    topic: Template
    online: Expression = Field(default="payload == true", description="true while it is there")
    by_talking: bool = Field(
        default=True, description="other messages of its topics say that it is there, too"
    )


class Heard(Section):
    """A value: the result of `ask`, or what the device itself says on `topic`.

    With both, asking makes it speak: `ask` has no reply of its own then. What was heard counts
    until the device is offline.
    """

    ask: Exchange | None = None
    topic: Template | None = Field(default=None, description="one topic, without wildcards")
    match: Expression = Field(default="true", description="true for messages that tell it")

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.ask is None and self.topic is None:
            raise ValueError("give `ask`, `topic`, or both")
        return self


class Point(Heard):
    """One value of a device by name. `value` sees `result`: the reply, or the message heard.

    A write has succeeded when the point then reads what was written.
    """

    value: Expression = "result"
    write: Exchange | None = Field(default=None, description="sees `value`, what is written")
    unit: str = Field(default="", max_length=32, description="for people")
    description: str = Field(default="", max_length=500)


class Read(Heard):
    """How versions are read. Expressions see `result`: the reply, or the message heard."""

    version: Expression = "result.version"
    may_be_unknown: bool = Field(
        default=False, description="it says its version only at times, and takes images before"
    )
    hash: Expression | None = Field(default=None, description="hash of the running image, hex")
    confirmed: Expression = Field(default="true", description="true where it is kept for good")
    pending: Expression | None = Field(
        default=None, description="true where another image waits for the next boot"
    )
    pending_version: Expression | None = None
    pending_hash: Expression | None = None


class Progress(Section):
    """How an update that the device does by itself is watched. Expressions see `payload`."""

    topic: Template
    match: Expression = "true"
    percent: Expression | None = None
    note: Expression | None = None
    done: Expression = Field(description="true when the image is on the device")
    failed: Expression | None = None
    code: Expression | None = None
    text: Expression | None = None


class Chunks(Section):
    """The device asks for the file piece by piece. Expressions see `topic` and `payload`."""

    topic: Template = Field(description="topic filter of its questions")
    number: Expression = Field(description="which piece it asks for, from 0")
    size: Expression = Field(description="bytes of a piece")
    reply: Template = Field(description="topic of the piece; sees `topic` too")


class Upload(Section):
    """Firmware by URL, which the device fetches itself, or in `chunks`, which it asks for."""

    prepare: Exchange | None = Field(default=None, description="done first, such as telling a URL")
    ask: Exchange
    progress: Annotated[tuple[Progress, ...], BeforeValidator(_listed)] = Field(
        default=(), description="one, or a list"
    )
    chunks: Chunks | None = None
    offline_is_progress: bool = Field(
        default=False, description="it disconnects while it updates, and has forgotten nothing"
    )
    settles: Duration | None = Field(
        default=None,
        description="it installs and restarts by itself: its version is read back until it is the "
        "new one, at the latest so long after it said that it was done",
    )
    busy: Expression | None = Field(
        default=None, description="sees `code` and `text` of a refusal: an update is under way"
    )
    refused: dict[str, str] = Field(
        default_factory=dict, description="the device's codes, and ours for them"
    )
    no_progress: Duration = Field(
        default="2m", validate_default=True, description="without news the update has failed"
    )


class Firmware(Section):
    """Firmware verbs. What is left out has nothing to do on this device."""

    image: Literal["mcuboot", "any"] = Field(
        default="mcuboot", description="mcuboot: checked before it is sent"
    )
    read: Read
    upload: Upload | None = Field(default=None, description="none: not from an artifact")
    test: Exchange | None = None
    confirm: Exchange | None = None
    rollback: Exchange | None = None
    rollback_resets: bool = Field(default=False, description="rollback restarts by itself")


class CertificateRead(Section):
    """How certificates are read: fingerprints, sha256 of the DER in hex. They see `result`."""

    ask: Exchange
    active: Expression = Field(default="result.active", description="the one that is kept")
    in_use: Expression = Field(default="result.in_use", description="what it connects with")
    pending: Expression | None = Field(default=None, description="installed beside it")
    why: Expression | None = Field(default=None, description="why the new one is not in use")


class CertificateKey(Section):
    """How the device makes a key and its CSR. Expressions see `result`."""

    ask: Exchange
    csr: Expression = Field(default="result.csr", description="PEM")
    key_id: Expression | None = None


class Certificates(Section):
    """Certificate verbs; their texts see `certificate`.

    It holds `slot`, for `request` also `request` and `subject`, for `install` `certificate`,
    `chain` and `fingerprint`, for `test` and `commit` `fingerprint`. What is left out has nothing
    to do on this device.
    """

    read: CertificateRead
    request: CertificateKey
    install: Exchange
    test: Exchange | None = None
    commit: Exchange | None = None

    def exchanges(self) -> list[Exchange]:
        maybe = (self.read.ask, self.request.ask, self.install, self.test, self.commit)
        return [each for each in maybe if each is not None]


class ResetVerb(Section):
    """How the device is restarted. `down_within`: it is gone by then at the latest."""

    ask: Exchange
    down_within: Duration = Field(default="5s", validate_default=True)


class Told(Section):
    """What the device publishes of its state. Expressions see `payload` and `topic`.

    A value that is not in a message is left out.
    """

    topic: Template = Field(description="topic filter; `+` stands for one level, `#` for the rest")
    match: Expression = Field(default="true", description="true for messages that tell it")
    values: Expression | dict[Annotated[str, Field(min_length=1, max_length=128)], Expression] = (
        Field(default="payload", description="values by name, or one expression: an object")
    )


class Profile(Section):
    """One family of MQTT devices."""

    driver: Literal["mqtt"] = "mqtt"
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_]+$")
    description: str = ""
    vars: dict[str, JsonValue] = Field(
        default_factory=dict, description="defaults; a device's settings may replace them"
    )
    exchange: Exchange = Field(default=Exchange(), description="what all exchanges share")
    presence: Presence | None = None
    probe: Exchange | None = Field(default=None, description="asks nothing but an answer")
    commands: dict[str, Exchange | SetPoints] = Field(
        default_factory=dict, description="by name; `*` stands for every other name"
    )
    reset: ResetVerb | None = None
    points: dict[PointName, Point] = Field(
        default_factory=dict, description="values that are read, and perhaps written, by name"
    )
    firmware: Firmware | None = None
    certificate: Certificates | None = None
    state: tuple[Told, ...] = Field(
        default=(), description="what it publishes of its state, collected where settings say so"
    )
    log: Template | None = Field(default=None, description="topic whose messages are log lines")
    # By id, each beside the exchange that is meant.
    _completed: dict[int, tuple[Exchange, Exchange]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _sets_what_it_has(self) -> Self:
        for name, command in self.commands.items():
            for point in command.set if isinstance(command, SetPoints) else ():
                if point not in self.points or self.points[point].write is None:
                    raise ValueError(f"command `{name}` sets `{point}`, which cannot be written")
        return self

    def command(self, name: str) -> Exchange | SetPoints | None:
        found = self.commands.get(name, self.commands.get(ANY_COMMAND))
        return self.complete(found) if isinstance(found, Exchange) else found

    def complete(self, exchange: Exchange) -> Exchange:
        """The exchange with everything it leaves out taken from the profile's `exchange`."""
        kept = self._completed.get(id(exchange))
        if kept is None or kept[0] is not exchange:
            given = {name: getattr(exchange, name) for name in exchange.model_fields_set}
            kept = exchange, self.exchange.model_copy(update=given)
            self._completed[id(exchange)] = kept
        return kept[1]

    def exchanges(self) -> list[Exchange]:
        """Every exchange of the profile, complete."""
        found = [each for each in self.commands.values() if isinstance(each, Exchange)]
        if self.probe is not None:
            found.append(self.probe)
        if self.reset is not None:
            found.append(self.reset.ask)
        if self.firmware is not None:
            firmware = self.firmware
            maybe = [firmware.read.ask, firmware.test, firmware.confirm, firmware.rollback]
            if firmware.upload is not None:
                maybe += [firmware.upload.prepare, firmware.upload.ask]
            found += [each for each in maybe if each is not None]
        for point in self.points.values():
            found += [each for each in (point.ask, point.write) if each is not None]
        if self.certificate is not None:
            found += self.certificate.exchanges()
        return [self.complete(each) for each in found]

    def filters(self, scope: Scope) -> list[str]:
        """The topic filters one device's messages come on. Raises TemplateError."""
        topics = {each.reply.topic for each in self.exchanges() if each.reply is not None}
        if self.presence is not None:
            topics.add(self.presence.topic)
        topics |= set(self.heard())
        if self.firmware is not None and self.firmware.upload is not None:
            upload = self.firmware.upload
            topics |= {each.topic for each in upload.progress}
            topics |= set() if upload.chunks is None else {upload.chunks.topic}
        if self.log is not None:
            topics.add(self.log)
        found = {str(render(topic, scope)) for topic in topics}
        # Overlapping filters bring a message once or several times, as the broker likes.
        return sorted(f for f in found if not any(_covers(w, f) for w in found - {f}))

    def heard(self) -> dict[str, list[Heard]]:
        """What is taken from what the device says by itself, by topic."""
        found: dict[str, list[Heard]] = {}
        values: list[Heard] = list(self.points.values())
        if self.firmware is not None:
            values.append(self.firmware.read)
        for each in values:
            if each.topic is not None:
                found.setdefault(each.topic, []).append(each)
        return found
