"""What a profile says of one MQTT device family: topics, commands, and which reply answers which.

A profile is YAML. Texts in it may hold `{{ }}`; keys that take an expression (`match`, `ok`, ...)
hold it bare. Everything here is pure: messages come in, meanings go out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PrivateAttr

from contract.durations import Duration
from contract.template_dialect import (
    TemplateError,
    check,
    check_expression,
    check_value,
    evaluate,
    is_true,
    render,
)

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

ANY_COMMAND: Final = "*"


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reply(Section):
    """Which message is the answer, and what it says. Expressions see `payload` and `topic`."""

    topic: Template = Field(description="topic filter the device answers on")
    match: Expression | None = Field(
        default=None,
        description="true for the answer to this request; without it any message on the topic is, "
        "and the device is asked one thing at a time",
    )
    ok: Expression = Field(default="true", description="true where the device did it")
    result: Expression = Field(default="payload", description="the command's result")
    code: Expression | None = Field(default=None, description="the device's word for a refusal")
    text: Expression | None = Field(default=None, description="the device's own explanation")


class Exchange(Section):
    """A message to the device and, where the device answers, its reply.

    Texts see `device`, `vars`, `request` (a fresh id), `command`, `parameters`, and in firmware
    verbs `firmware`. What is left out is taken from the profile's `exchange`.
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


class Presence(Section):
    """How the device's being there is known: a retained message, also the Will."""

    topic: Template
    online: Expression = Field(default="payload == true", description="true while it is there")


class Read(Section):
    """How versions are read. Expressions see `result`, the result of `ask`."""

    ask: Exchange
    version: Expression = "result.version"
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


class Upload(Section):
    """Firmware by URL: the device fetches it itself."""

    ask: Exchange
    progress: Progress | None = None
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
    upload: Upload
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
    commands: dict[str, Exchange] = Field(
        default_factory=dict, description="by name; `*` stands for every other name"
    )
    reset: ResetVerb | None = None
    firmware: Firmware | None = None
    certificate: Certificates | None = None
    log: Template | None = Field(default=None, description="topic whose messages are log lines")
    # By id, each beside the exchange that is meant.
    _completed: dict[int, tuple[Exchange, Exchange]] = PrivateAttr(default_factory=dict)

    def command(self, name: str) -> Exchange | None:
        found = self.commands.get(name, self.commands.get(ANY_COMMAND))
        return None if found is None else self.complete(found)

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
        found = list(self.commands.values())
        if self.probe is not None:
            found.append(self.probe)
        if self.reset is not None:
            found.append(self.reset.ask)
        if self.firmware is not None:
            firmware = self.firmware
            found += [firmware.read.ask, firmware.upload.ask]
            found += [e for e in (firmware.test, firmware.confirm, firmware.rollback) if e]
        if self.certificate is not None:
            found += self.certificate.exchanges()
        return [self.complete(each) for each in found]

    def filters(self, scope: Scope) -> list[str]:
        """The topic filters one device's messages come on. Raises TemplateError."""
        topics = {each.reply.topic for each in self.exchanges() if each.reply is not None}
        if self.presence is not None:
            topics.add(self.presence.topic)
        if self.firmware is not None and self.firmware.upload.progress is not None:
            topics.add(self.firmware.upload.progress.topic)
        if self.log is not None:
            topics.add(self.log)
        return sorted({str(render(topic, scope)) for topic in topics})


@dataclass(frozen=True)
class Accepted:
    """The device did what was asked."""

    result: JsonValue


@dataclass(frozen=True)
class Declined:
    """The device said no, in its own words."""

    code: str
    text: str


@dataclass(frozen=True)
class News:
    """One progress message. `end` is None while the update goes on."""

    percent: float | None
    note: str
    end: Accepted | Declined | None


def payload_of(raw: bytes) -> JsonValue:
    """JSON where it is JSON, else the text."""
    text = raw.decode("utf-8", "replace")
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def request_of(exchange: Exchange, scope: Scope) -> tuple[str, bytes]:
    """Topic and payload to publish. Raises TemplateError."""
    topic = str(render(exchange.topic or "", scope))
    payload = render(exchange.payload, scope)
    if exchange.extend is not None and isinstance(payload, dict):
        more = evaluate(exchange.extend, scope)
        if isinstance(more, dict):
            payload = {**more, **payload}
    if payload is None:
        return topic, b""
    if isinstance(payload, str):
        return topic, payload.encode()
    return topic, json.dumps(payload, separators=(",", ":")).encode()


def answer_in(reply: Reply, scope: Scope, payload: JsonValue) -> Accepted | Declined | None:
    """What a message on the reply's topic says; None: it is not the answer to this request.

    Raises TemplateError when it should be the answer and cannot be read.
    """
    seen = {**scope, "payload": payload}
    if reply.match is not None and not holds(reply.match, seen):
        return None
    if is_true(reply.ok, seen):
        return Accepted(evaluate(reply.result, seen))
    return Declined(_said(reply.code, seen), _said(reply.text, seen) or _shown(payload))


def news_in(progress: Progress, scope: Scope, payload: JsonValue) -> News | None:
    """What a progress message says; None: it is not about this update."""
    seen = {**scope, "payload": payload}
    if not holds(progress.match, seen):
        return None
    percent = _found(progress.percent, seen)
    end: Accepted | Declined | None = None
    if holds(progress.done, seen):
        end = Accepted(payload)
    elif progress.failed is not None and holds(progress.failed, seen):
        text = _said(progress.text, seen) or _shown(payload)
        end = Declined(_said(progress.code, seen), text)
    number = float(percent) if isinstance(percent, int | float) else None
    return News(number, _said(progress.note, seen), end)


def holds(expression: str, scope: Scope) -> bool:
    """Whether it is true; what cannot be computed from this message is not."""
    try:
        return is_true(expression, scope)
    except TemplateError:
        return False


def text_in(expression: str | None, scope: Scope) -> str:
    """The text an expression finds, empty where it finds nothing."""
    return _said(expression, scope)


def _said(expression: str | None, scope: Scope) -> str:
    found = _found(expression, scope)
    return "" if found is None else found if isinstance(found, str) else _shown(found)


def _found(expression: str | None, scope: Scope) -> JsonValue:
    if expression is None:
        return None
    try:
        return evaluate(expression, scope)
    except TemplateError:
        return None


def _shown(payload: JsonValue) -> str:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return text[:300]
