"""Acknowledgments by MQTT: a topic of the local broker is heard from an attempt's start to its end.

What matches is the attempt's acknowledgment, whether a worker carries it or it awaits that word.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from contract.template_dialect import TemplateError, evaluate, render
from gateway.domain.attempt_state import Attempt, scope_of
from gateway.domain.facts import Acknowledgment
from gateway.domain.profile_messages import payload_of
from gateway.errors import DeviceUnreachable
from gateway.logs import Log
from gateway.transports.base import Message, MessageLink, Subscription

SUBSCRIBE_S: Final = 10.0
TOLD: Final = 20
Name = tuple[str, int]
OnReply = Callable[[str, int, Acknowledgment], Awaitable[None]]

log = Log()


@dataclass
class _Watched:
    attempt: Attempt
    scope: dict[str, JsonValue]
    subscription: Subscription | None = None
    told: int = 0


class Replies:
    """`on_reply` is told of each message that matches, `on_stranger` of some that do not."""

    def __init__(self, messages: MessageLink | None) -> None:
        self._messages = messages
        self._watched: dict[Name, _Watched] = {}
        self._heard: asyncio.Queue[tuple[Name, Acknowledgment]] = asyncio.Queue(10_000)

    async def watch(self, attempt: Attempt) -> tuple[str, str] | None:
        """Hear the attempt's topic, if it has one; returns code and text of what is in the way."""
        asked, name = attempt.body.acknowledge, (attempt.offer.task, attempt.offer.attempt)
        if asked is None or asked.topic is None or name in self._watched:
            return None
        if self._messages is None:
            return "broker_unavailable", "this gateway has no local broker to be acknowledged on"
        scope = scope_of(attempt)
        try:
            topic = str(render(asked.topic, scope))
        except TemplateError as error:
            return "template_failed", str(error)
        watched = self._watched[name] = _Watched(attempt, scope)
        try:
            watched.subscription = await self._messages.subscribe(
                [topic], lambda message: self._take(name, message), timeout_s=SUBSCRIBE_S
            )
        except DeviceUnreachable as error:
            self._watched.pop(name, None)
            return "broker_unavailable", str(error)
        return None

    def forget(self, task: str, attempt: int) -> None:
        watched = self._watched.pop((task, attempt), None)
        if watched is not None and watched.subscription is not None:
            watched.subscription.close()

    async def run(self, on_reply: OnReply) -> None:
        """Hand on what matches, until cancelled."""
        while True:
            (task, attempt), word = await self._heard.get()
            await on_reply(task, attempt, word)

    def _take(self, name: Name, message: Message) -> None:
        watched = self._watched.get(name)
        if watched is None or message.is_retained:
            return  # a retained message was said before anybody was asked
        word, why = judge(watched.attempt, watched.scope, message.topic, message.payload)
        if word is not None:
            if not self._heard.full():
                self._heard.put_nowait((name, word))
        elif watched.told < TOLD:
            watched.told += 1
            log.warning(
                "reply is no acknowledgment", task=name[0], attempt=name[1], topic=message.topic,
                why=why,
            )  # fmt: skip


def judge(
    attempt: Attempt, scope: dict[str, JsonValue], topic: str, payload: bytes
) -> tuple[Acknowledgment | None, str]:
    """The acknowledgment that a message is, or why it is none.

    `match` may give a yes or no, or an object with `success`, `result`, `accumulator`, `text`.
    """
    asked = attempt.body.acknowledge
    value = payload_of(payload)
    if asked is None:
        return None, "nobody asked"
    found: JsonValue = True
    if asked.match is not None:
        try:
            found = evaluate(asked.match, {**scope, "payload": value, "topic": topic})
        except TemplateError as error:
            return None, str(error)
    if isinstance(found, dict) and isinstance(found.get("success"), bool):
        return Acknowledgment(
            success=bool(found["success"]),
            result=found.get("result", value),
            accumulator=found.get("accumulator"),
            text=str(found.get("text", "")),
            by=f"MQTT {topic}",
        ), ""
    if found is True:
        return Acknowledgment(True, value, by=f"MQTT {topic}"), ""
    return None, "it does not match"
