"""What messages say by a profile: requests are made of it, and answers and news read with it.

Pure: messages come in, meanings go out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from contract.template_dialect import TemplateError, TemplateFailed, evaluate, is_true, render
from gateway.domain.profiles import Exchange, Progress, Reply, Told

Scope = Mapping[str, JsonValue]

# MQTT 3.1.1, 1.5.3: a text has a length of two bytes.
MAX_TOPIC: Final = 65_535


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
    _check_topic(topic)
    if payload is None:
        return topic, b""
    if isinstance(payload, str):
        return topic, payload.encode()
    return topic, json.dumps(payload, separators=(",", ":")).encode()


def _check_topic(topic: str) -> None:
    # A parameter may have brought it in; the broker would hang up on such a topic.
    if not topic or any(sign in topic for sign in "+#\0") or len(topic.encode()) > MAX_TOPIC:
        raise TemplateFailed(topic, "this is no topic to publish on")


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


def values_told(told: Told, scope: Scope) -> dict[str, JsonValue]:
    """The values by name in a message of a device's state; what is not in it is left out."""
    if not holds(told.match, scope):
        return {}
    if isinstance(told.values, str):
        found = _found(told.values, scope)
        return found if isinstance(found, dict) else {}
    values: dict[str, JsonValue] = {}
    for name, expression in told.values.items():
        try:
            values[name] = evaluate(expression, scope)
        except TemplateError:
            continue
    return values


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
