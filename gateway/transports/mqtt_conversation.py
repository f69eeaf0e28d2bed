"""The talk with one MQTT device: requests and the replies that match, presence, news of updates.

Messages come by callback and are judged at once, so nothing queues up; late and foreign ones are
counted and dropped.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from contract.template_dialect import TemplateError, render
from gateway.domain import profiles
from gateway.domain.profiles import Accepted, Declined, Exchange, News, Profile, Progress, Reply
from gateway.errors import DeviceUnreachable, ReplyGarbled
from gateway.transports.base import Message, MessageLink, Subscription

SUBSCRIBE_WITHIN_S: Final = 10.0
PRESENCE_WITHIN_S: Final = 0.3
REPLY_WITHIN_S: Final = 5.0
ANSWER_WITHIN_S: Final = 15.0

Scope = dict[str, JsonValue]


class _Unanswered(Exception):
    """No reply in time, or only such as cannot be read."""

    def __init__(self, text: str, is_garbled: bool) -> None:
        super().__init__(text)
        self.is_garbled = is_garbled


@dataclass
class _Waiting:
    """The one request in flight."""

    reply: Reply
    topic: str
    scope: Scope
    answer: "asyncio.Future[Accepted | Declined]"
    garbled: str = ""


@dataclass
class Watching:
    """The update in progress; `news` is the newest, `changed` set by each."""

    progress: Progress
    topic: str
    scope: Scope
    news: News | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class MqttDeviceCounters:
    requests: int = 0
    replies: int = 0
    strangers: int = 0
    garbled: int = 0


class Conversation:
    """One device on a broker. `new_id` gives a fresh word for each request."""

    def __init__(
        self,
        device: str,
        profile: Profile,
        variables: Mapping[str, JsonValue],
        link: MessageLink,
        on_log: Callable[[str], None],
        new_id: Callable[[], str],
    ) -> None:
        self.counters = MqttDeviceCounters()
        self.online: bool | None = None  # None: it has not said
        self.scope: Scope = {"device": device, "vars": {**profile.vars, **variables}}
        self._profile = profile
        self._link = link
        self._on_log = on_log
        self._new_id = new_id
        self._subscription: Subscription | None = None
        self._presence_changed = asyncio.Event()
        self._waiting: _Waiting | None = None
        self._watching: Watching | None = None
        self._topics: dict[str, str] = {}

    async def open(self) -> None:
        """Subscribe, once; the transport renews it after a lost connection."""
        if self._subscription is not None:
            return
        filters = self._profile.filters(self.scope)
        self._subscription = await self._link.subscribe(
            filters, self._received, timeout_s=SUBSCRIBE_WITHIN_S
        )
        if self._profile.presence is not None:
            # The retained presence comes right behind the subscription, if there is one.
            await self.wait_for_presence(
                lambda: self.online is not None, _now_s() + PRESENCE_WITHIN_S
            )

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self.online = None

    async def exchange(
        self, exchange: Exchange, name: str, until_s: float, more: Scope | None = None
    ) -> Accepted | Declined:
        """One request and its reply; asked again when unanswered, if that does no harm.

        Raises DeviceUnreachable when nothing happened, ReplyGarbled when it may have.
        """
        complete = self._profile.complete(exchange)
        wait_s = complete.timeout.total_seconds() if complete.timeout else REPLY_WITHIN_S
        give_up_at_s = min(until_s, _now_s() + max(ANSWER_WITHIN_S, 3 * wait_s))
        while True:
            try:
                return await self._exchange_once(
                    complete, name, min(give_up_at_s, _now_s() + wait_s), more
                )
            except _Unanswered as unanswered:
                if complete.repeatable and _now_s() + 0.05 < give_up_at_s:
                    continue
                if complete.repeatable and not unanswered.is_garbled:
                    raise DeviceUnreachable(str(unanswered)) from unanswered
                raise ReplyGarbled(str(unanswered)) from unanswered

    async def _exchange_once(
        self, exchange: Exchange, name: str, until_s: float, more: Scope | None
    ) -> Accepted | Declined:
        await self.wait_for_presence(lambda: self.online is not False, until_s)
        if self.online is False:
            raise DeviceUnreachable("the device is offline by its own word")
        scope: Scope = {**self.scope, "request": self._new_id(), "command": name}
        scope |= {"parameters": {}, **(more or {})}
        topic, payload = profiles.request_of(exchange, scope)
        left_s = max(until_s - _now_s(), 0.05)
        self.counters.requests += 1
        if exchange.reply is None:
            await self._link.publish(topic, payload, timeout_s=left_s, qos=exchange.qos)
            return Accepted(None)
        with self._expecting(exchange.reply, scope) as waiting:
            await self._link.publish(topic, payload, timeout_s=left_s, qos=exchange.qos)
            try:
                async with asyncio.timeout_at(until_s):
                    answer = await waiting.answer
            except TimeoutError:
                text = waiting.garbled or f"no reply to `{name}`"
                raise _Unanswered(text, bool(waiting.garbled)) from None
        self.counters.replies += 1
        return answer

    @contextlib.contextmanager
    def _expecting(self, reply: Reply, scope: Scope) -> Iterator[_Waiting]:
        topic = self._rendered(reply.topic)
        answer: asyncio.Future[Accepted | Declined] = asyncio.get_running_loop().create_future()
        self._waiting = _Waiting(reply, topic, scope, answer)
        try:
            yield self._waiting
        finally:
            self._waiting = None

    @contextlib.contextmanager
    def watching(self, progress: Progress, scope: Scope) -> Iterator[Watching]:
        """Collect the news of an update while the block lasts."""
        topic = self._rendered(progress.topic)
        self._watching = Watching(progress, topic, {**self.scope, **scope})
        try:
            yield self._watching
        finally:
            self._watching = None

    async def wait_for_presence(self, condition: Callable[[], bool], until_s: float) -> None:
        """Wait for presence to fulfil a condition, or for the time to pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while not condition():
                    self._presence_changed.clear()
                    await self._presence_changed.wait()

    def _received(self, message: Message) -> None:
        payload = profiles.payload_of(message.payload)
        presence, profile = self._profile.presence, self._profile
        if presence is not None and message.topic == self._rendered(presence.topic):
            seen: Scope = {**self.scope, "payload": payload}
            self.online = profiles.holds(presence.online, seen)
            self._presence_changed.set()
            return
        if message.is_retained:
            return  # an answer to someone else's question
        if profile.log is not None and message.topic == self._rendered(profile.log):
            self._on_log(message.payload.decode("utf-8", "replace")[:512])
        if self.online is False:
            self.online = None  # it talks, so its presence is out of date
            self._presence_changed.set()
        self._take_news(message.topic, payload)
        self._take_reply(message.topic, payload)

    def _take_news(self, topic: str, payload: JsonValue) -> None:
        watching = self._watching
        if watching is None or watching.topic != topic:
            return
        news = profiles.news_in(watching.progress, watching.scope, payload)
        if news is not None and (watching.news is None or watching.news.end is None):
            watching.news = news
            watching.changed.set()

    def _take_reply(self, topic: str, payload: JsonValue) -> None:
        waiting = self._waiting
        if waiting is None or waiting.topic != topic or waiting.answer.done():
            self.counters.strangers += 1
            return
        try:
            answer = profiles.answer_in(waiting.reply, {**waiting.scope, "topic": topic}, payload)
        except TemplateError as error:
            self.counters.garbled += 1
            waiting.garbled = f"the reply cannot be read: {error}"
            return
        if answer is None:
            self.counters.strangers += 1
            if isinstance(payload, str):
                waiting.garbled = f"what came is no reply: {payload[:100]!r}"
            return
        waiting.answer.set_result(answer)

    def _rendered(self, topic: str) -> str:
        if topic not in self._topics:
            self._topics[topic] = str(render(topic, self.scope))
        return self._topics[topic]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
