"""The talk with one MQTT device: requests and the replies that match, presence, news, and facts.

Messages come by callback and are judged at once, so nothing queues up; late and foreign ones are
counted and dropped.
"""

import asyncio
import contextlib
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from contract.template_dialect import TemplateError, render
from gateway.domain import profile_messages as messages
from gateway.domain.profile_messages import Accepted, Declined, News
from gateway.domain.profiles import Exchange, Heard, Profile, Progress, Reply, matches
from gateway.errors import DeviceUnreachable, ReplyGarbled
from gateway.transports.base import Message, MessageLink, Subscription

SUBSCRIBE_WITHIN_S: Final = 10.0
PRESENCE_WITHIN_S: Final = 0.3
REPLY_WITHIN_S: Final = 5.0
ANSWER_WITHIN_S: Final = 15.0
# What a device says by itself is kept if it is no longer than this, bytes.
HEARD_SIZE: Final = 64 * 1024
QUESTIONS: Final = 64
NUDGES: Final = 3

Scope = dict[str, JsonValue]


class NotSaid(DeviceUnreachable):
    """The device has not told what it tells only by itself: it may be there all the same."""


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
    """The update in progress; `news` is the newest, `changed` set by each and by presence.

    `questions` are what came on the topic of the profile's chunks: topic and payload.
    """

    progress: Sequence[tuple[str, Progress]]
    chunks: str | None
    scope: Scope
    news: News | None = None
    questions: deque[tuple[str, JsonValue]] = field(default_factory=lambda: deque(maxlen=QUESTIONS))
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Fact:
    """What the device says of itself on a topic: the newest message that tells it."""

    match: str
    value: JsonValue = None
    times: int = 0  # 0: it has not said, or was offline since


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
        self.new_id = new_id
        self._subscription: Subscription | None = None
        self._presence_changed = asyncio.Event()
        self._waiting: _Waiting | None = None
        self._watching: Watching | None = None
        self._topics: dict[str, str] = {}
        self._late: dict[str, float] = {}
        self._late_came = asyncio.Event()
        self._facts: dict[str, dict[str, _Fact]] = {}
        self._told = asyncio.Event()
        for topic, wanted in profile.heard().items():
            facts = self._facts.setdefault(self._rendered(topic), {})
            facts |= {each.match: _Fact(each.match) for each in wanted}

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
        self._forget_facts()

    async def read(
        self, heard: Heard, name: str, until_s: float, more: Scope | None = None
    ) -> Accepted | Declined:
        """A value: asked for, or what the device says by itself.

        Raises NotSaid when it says nothing, else as an exchange does.
        """
        if heard.topic is None:
            assert heard.ask is not None
            return await self.exchange(heard.ask, name, until_s, more)
        fact = self._facts[self._rendered(heard.topic)][heard.match]
        if heard.ask is None and fact.times:
            return Accepted(fact.value)
        before = fact.times
        shared = self._profile.complete(heard.ask or self._profile.exchange)
        wait_s = shared.timeout.total_seconds() if shared.timeout else REPLY_WITHIN_S
        heard_by_s = min(until_s, _now_s() + wait_s)
        tries = NUDGES if heard.ask is not None and shared.repeatable else 1
        for _ in range(tries):
            if heard.ask is not None:
                await self.exchange(heard.ask, name, heard_by_s, more)
            look_again_s = min(heard_by_s, _now_s() + wait_s / tries)
            await self.wait_for_fact(lambda: fact.times > before, look_again_s)
            if fact.times > before:
                break
        if not fact.times:
            raise NotSaid(f"the device has not said its `{name}`")
        return Accepted(fact.value)

    async def wait_for_fact(self, condition: Callable[[], bool], until_s: float) -> None:
        """Wait for what the device says by itself to fulfil a condition, or for time to pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while not condition():
                    self._told.clear()
                    await self._told.wait()

    async def publish(self, topic: str, payload: bytes, until_s: float) -> None:
        """Say something that is no request. Raises DeviceUnreachable."""
        left_s = max(until_s - _now_s(), 0.05)
        await self._link.publish(topic, payload, timeout_s=left_s)

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
                if complete.reply is not None and complete.reply.match is None:
                    self._late[self._rendered(complete.reply.topic)] = _now_s() + wait_s
                if complete.repeatable and not unanswered.is_garbled:
                    raise DeviceUnreachable(str(unanswered)) from unanswered
                raise ReplyGarbled(str(unanswered)) from unanswered

    async def _exchange_once(
        self, exchange: Exchange, name: str, until_s: float, more: Scope | None
    ) -> Accepted | Declined:
        await self.wait_for_presence(lambda: self.online is not False, until_s)
        if self.online is False:
            raise DeviceUnreachable("the device is offline by its own word")
        request = self.new_id()
        scope: Scope = {**self.scope, "request": request, "command": name, "parameters": {}}
        scope |= {"request_number": zlib.crc32(request.encode()) >> 1, **(more or {})}
        topic, payload = messages.request_of(exchange, scope)
        if exchange.reply is not None and exchange.reply.match is None:
            await self._let_late_reply_pass(self._rendered(exchange.reply.topic), until_s)
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

    async def _let_late_reply_pass(self, topic: str, until_s: float) -> None:
        """Nothing tells a late reply from that to the next request, except that it comes first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(until_s, self._late.get(topic, 0.0))):
                while topic in self._late:
                    self._late_came.clear()
                    await self._late_came.wait()
        self._late.pop(topic, None)

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
    def watching(
        self, progress: Sequence[Progress], chunks: str | None, scope: Scope
    ) -> Iterator[Watching]:
        """Collect the news of an update, and its questions, while the block lasts."""
        self._watching = Watching(
            [(self._rendered(each.topic), each) for each in progress],
            None if chunks is None else self._rendered(chunks),
            {**self.scope, **scope},
        )
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
        topic, payload = message.topic, messages.payload_of(message.payload)
        presence, profile = self._profile.presence, self._profile
        if presence is not None and topic == self._rendered(presence.topic):
            self._take_presence(messages.holds(presence.online, {**self.scope, "payload": payload}))
            return
        if topic in self._facts and len(message.payload) <= HEARD_SIZE:
            self._take_facts(topic, payload)
        if message.is_retained:
            return  # an answer to someone else's question
        if profile.log is not None and topic == self._rendered(profile.log):
            self._on_log(message.payload.decode("utf-8", "replace")[:512])
        if self.online is False and (presence is None or presence.by_talking):
            self._take_presence(None)  # it talks, so its presence is out of date
        self._take_news(topic, payload)
        self._take_reply(topic, payload)

    def _take_presence(self, online: bool | None) -> None:
        self.online = online
        self._presence_changed.set()
        if online is False:
            self._forget_facts()
        if self._watching is not None:
            self._watching.changed.set()

    def _forget_facts(self) -> None:
        """What it said before it went may not hold when it is back."""
        for facts in self._facts.values():
            for fact in facts.values():
                fact.times = 0

    def _take_facts(self, topic: str, payload: JsonValue) -> None:
        scope: Scope = {**self.scope, "payload": payload, "topic": topic}
        for fact in self._facts[topic].values():
            if messages.holds(fact.match, scope):
                fact.value, fact.times = payload, fact.times + 1
                self._told.set()

    def _take_news(self, topic: str, payload: JsonValue) -> None:
        watching = self._watching
        if watching is None:
            return
        if watching.chunks is not None and matches(watching.chunks, topic):
            watching.questions.append((topic, payload))
            watching.changed.set()
        scope = {**watching.scope, "topic": topic}
        for wanted, progress in watching.progress:
            if not matches(wanted, topic):
                continue
            news = messages.news_in(progress, scope, payload)
            if news is not None and (watching.news is None or watching.news.end is None):
                watching.news = news
                watching.changed.set()

    def _take_reply(self, topic: str, payload: JsonValue) -> None:
        waiting = self._waiting
        if waiting is None or waiting.answer.done() or not matches(waiting.topic, topic):
            self.counters.strangers += 1
            if self._late:
                self._take_late(topic)
            return
        try:
            scope = {**waiting.scope, "topic": topic}
            answer = messages.answer_in(waiting.reply, scope, payload)
        except TemplateError as error:
            self.counters.garbled += 1
            waiting.garbled = f"the reply cannot be read: {error}"
            return
        if answer is None:
            self.counters.strangers += 1
            if isinstance(payload, str) and waiting.topic == topic:
                waiting.garbled = f"what came is no reply: {payload[:100]!r}"
            return
        waiting.answer.set_result(answer)

    def _take_late(self, topic: str) -> None:
        for wanted in [each for each in self._late if matches(each, topic)]:
            del self._late[wanted]
            self._late_came.set()

    def _rendered(self, topic: str) -> str:
        if topic not in self._topics:
            self._topics[topic] = str(render(topic, self.scope))
        return self._topics[topic]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
