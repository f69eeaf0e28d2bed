"""The device side of AWS IoT Jobs over MQTT: topics and payloads, read and written.

What a device sends is checked whole before anything is done with it; what is wrong becomes a
`Rejection` with one of AWS's own codes. Facts from the AWS IoT developer guide, "Jobs MQTT API".
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from pydantic import JsonValue

ALL_REQUESTS: Final = "$aws/things/+/jobs/#"
THING_NAME: Final = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
MAX_PAYLOAD: Final = 128 * 1024
MAX_DOCUMENT: Final = 32_768
MAX_DETAILS: Final = 10
MAX_DETAIL: Final = 1_024
MAX_STEP_MINUTES: Final = 10_080
CLEAR_TIMER: Final = -1
NEXT: Final = "$next"
# What a device may set, and what only the service sets.
DEVICE_STATUSES: Final = ("IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED")
SERVICE_STATUSES: Final = ("QUEUED", "TIMED_OUT", "REMOVED", "CANCELED")

_JOB_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DETAIL_KEY: Final = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_OURS: Final = ("accepted", "rejected")
_MAX_TOPIC: Final = 512


@dataclass(eq=False)
class Rejection(Exception):
    """A request that is refused; `state` is the executionState that two of the codes carry."""

    code: str
    text: str
    token: str | None = None
    state: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True)
class GetPending:
    token: str | None = None


@dataclass(frozen=True)
class StartNext:
    details: Mapping[str, str] | None = None
    step_minutes: int | None = None
    token: str | None = None


@dataclass(frozen=True)
class Describe:
    """`job` is NEXT for whatever is first in the queue."""

    job: str
    number: int | None = None
    with_document: bool = True
    token: str | None = None


@dataclass(frozen=True)
class Update:
    job: str
    status: str
    details: Mapping[str, str] | None = None
    expected_version: int | None = None
    number: int | None = None
    with_state: bool = False
    with_document: bool = False
    step_minutes: int | None = None
    token: str | None = None


Request = GetPending | StartNext | Describe | Update


@dataclass(frozen=True)
class Outgoing:
    """One message of the service."""

    topic: str
    body: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One request with the topic it came on: the answer goes below it."""

    thing: str
    topic: str
    request: Request | Rejection


def thing_in(topic: str) -> str | None:
    """The thing a topic of the jobs service is about; None for any other topic."""
    words = topic.split("/", 4)
    is_ours = len(words) == 5 and (words[0], words[1], words[3]) == ("$aws", "things", "jobs")
    return words[2] if is_ours else None


def read(topic: str, payload: bytes) -> Asked | None:
    """What a device asks; None for what the service itself says on such topics."""
    thing = thing_in(topic)
    if thing is None or len(topic) > _MAX_TOPIC:
        return None
    words = topic.split("/")[4:]
    if words[-1] in _OURS or words[0].startswith("notify"):
        return None
    try:
        return Asked(thing, topic, _request(words, payload))
    except Rejection as rejection:
        return Asked(thing, topic, rejection)


def accepted(now_s: int, token: str | None, **fields: JsonValue) -> dict[str, JsonValue]:
    """The payload of an answer; fields that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    return {**({} if token is None else {"clientToken": token}), "timestamp": now_s, **known}


def rejected(now_s: int, rejection: Rejection) -> dict[str, JsonValue]:
    body = accepted(now_s, rejection.token, code=rejection.code, message=rejection.text)
    if rejection.state is not None:
        body["executionState"] = dict(rejection.state)
    return body


def encode(body: Mapping[str, JsonValue]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _request(words: list[str], payload: bytes) -> Request:
    match words:
        case ["get"]:
            return GetPending(token=_body(payload).token)
        case ["start-next"]:
            body = _body(payload)
            minutes = body.minutes(allow_clear=False)
            return StartNext(body.details(), minutes, body.token)
        case [job, "get"]:
            body = _body(payload)
            if job != NEXT:
                body.check_job(job)
            document = body.flag("includeJobDocument", True)
            return Describe(job, body.number("executionNumber"), document, body.token)
        case [job, "update"]:
            return _update(job, _body(payload))
    text = f"no operation of the jobs service has the topic .../jobs/{'/'.join(words)[:128]}"
    raise Rejection("InvalidTopic", text, _token_of(payload))


def _update(job: str, body: "_Body") -> Update:
    body.check_job(job)
    status = body.fields.get("status")
    if status is None:
        body.refuse("Value null at 'status' failed to satisfy constraint: Member must not be null")
    if status not in DEVICE_STATUSES and status != "QUEUED":
        known = ", ".join(DEVICE_STATUSES)
        is_service = isinstance(status, str) and status in SERVICE_STATUSES
        whose = "only the service sets this status" if is_service else "no such status"
        body.refuse(f"'status': {whose}; a device sets {known}")
    return Update(
        job=job,
        status=str(status),
        details=body.details(),
        expected_version=body.number("expectedVersion"),
        number=body.number("executionNumber"),
        with_state=body.flag("includeJobExecutionState", False),
        with_document=body.flag("includeJobDocument", False),
        step_minutes=body.minutes(allow_clear=True),
        token=body.token,
    )


@dataclass(frozen=True)
class _Body:
    fields: Mapping[str, Any]
    token: str | None = None

    def refuse(self, text: str) -> NoReturn:
        raise Rejection("InvalidRequest", text, self.token)

    def check_job(self, job: str) -> None:
        if _JOB_ID.fullmatch(job) is None:
            self.refuse("'jobId' must be 1 to 64 of the characters a-z A-Z 0-9 _ -")

    def flag(self, name: str, default: bool) -> bool:
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(f"'{name}' must be a boolean")
        return value

    def number(self, name: str) -> int | None:
        """A whole number; AWS's own samples write some of them as text."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            self.refuse(f"'{name}' must be a whole number")
        return value

    def minutes(self, allow_clear: bool) -> int | None:
        name = "stepTimeoutInMinutes"
        value = self.fields.get(name)
        if value is None:
            return None
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        is_clear = allow_clear and value == CLEAR_TIMER
        if not is_whole or not (1 <= value <= MAX_STEP_MINUTES or is_clear):
            also = f", or {CLEAR_TIMER} for none" if allow_clear else ""
            self.refuse(f"'{name}' must be 1 to {MAX_STEP_MINUTES}{also}")
        return int(value)

    def details(self) -> dict[str, str] | None:
        value = self.fields.get("statusDetails")
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse("'statusDetails' must be an object of texts")
        if len(value) > MAX_DETAILS:
            self.refuse(f"'statusDetails' holds more than {MAX_DETAILS} pairs")
        for key, text in value.items():
            if _DETAIL_KEY.fullmatch(key) is None:
                self.refuse("'statusDetails': a key is 1 to 128 of a-z A-Z 0-9 : _ -")
            if not isinstance(text, str) or not 1 <= len(text) <= MAX_DETAIL:
                self.refuse(f"'statusDetails': '{key}' must be a text of 1 to {MAX_DETAIL}")
            if any(unicodedata.category(letter).startswith("C") for letter in text):
                self.refuse(f"'statusDetails': '{key}' holds control characters")
        return dict(value)


def _body(payload: bytes) -> _Body:
    if len(payload) > MAX_PAYLOAD:
        raise Rejection("InvalidRequest", f"more than {MAX_PAYLOAD} bytes")
    if not payload.strip():
        return _Body({})  # bare clients send nothing where all fields are optional
    try:
        # Bytes would be taken as UTF-16 or UTF-32 where they look so.
        fields = json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Rejection("InvalidJson", "the payload is not UTF-8 JSON") from None
    if not isinstance(fields, dict):
        raise Rejection("InvalidJson", "the payload is not a JSON object")
    token = fields.get("clientToken")
    if token is not None and not isinstance(token, str):
        raise Rejection("InvalidRequest", "'clientToken' must be a text")
    return _Body(fields, token)


def _token_of(payload: bytes) -> str | None:
    try:
        return _body(payload).token
    except Rejection:
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
