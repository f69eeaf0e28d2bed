"""The gateway's one connection to its local broker, shared by all MQTT devices.

Nothing here survives the process or needs to: sessions are clean, subscriptions are renewed after
every reconnect, and whoever waits for a reply asks again.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiomqtt
from aiomqtt import ProtocolVersion

from gateway.crash_points import reach
from gateway.domain.backoff import backoff_ms, jittered_ms
from gateway.errors import DeviceUnreachable
from gateway.logs import Log
from gateway.transports.base import Message, OnMessage
from gateway.transports.mqtt_client import (
    FILTERS_A_PACKET,
    DirectClient,
    Subscribing,
)

FIRST_DELAY_MS: Final = 200
LONGEST_DELAY_MS: Final = 15_000
QUEUED_OUT: Final = 1000
CONNECT_WITHIN_S: Final = 10.0
# aiomqtt looks at all pending calls for each new one.
CALLS_AT_ONCE: Final = 50
# QoS 0: between a broker and its neighbour on loopback TCP loses nothing, and NATS grants a
# session only a few dozen filters of QoS 1.
SUBSCRIBE_QOS: Final = 0

log = Log()


@dataclass(slots=True)
class MqttCounters:
    connects: int = 0
    received: int = 0
    published: int = 0
    unrouted: int = 0
    failed: int = 0


class MqttTransport:
    """Publishes and subscribes for all devices while `run` runs.

    `chance` gives numbers from 0 to 1 for the jitter of reconnects. MQTT 5 is tried first, then
    3.1.1; what worked is kept.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        *,
        chance: Callable[[], float],
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.counters = MqttCounters()
        self._host = host
        self._port = port
        self._client_id = client_id
        self._chance = chance
        self._username = username
        self._password = password
        self._tls = tls
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()
        self._subscriptions = Subscriptions()
        self._subscribing = Subscribing(self._send_subscribe)
        self._version = ProtocolVersion.V5
        self._version_is_proven = False

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        failures = 0
        while True:
            before = self.counters.connects
            try:
                await self._serve()
            except (aiomqtt.MqttError, OSError) as error:
                failures = 1 if self.counters.connects > before else failures + 1
                is_first_guess = not self._version_is_proven and self._version is ProtocolVersion.V5
                tell = log.debug if is_first_guess else log.info
                tell("local broker lost", host=self._host, port=self._port, why=str(error))
            if not self._version_is_proven and self._version is ProtocolVersion.V5:
                self._version = ProtocolVersion.V311
                continue
            if not self._version_is_proven:
                self._version = ProtocolVersion.V5
            delay_ms = backoff_ms(failures, FIRST_DELAY_MS, LONGEST_DELAY_MS)
            await asyncio.sleep(jittered_ms(delay_ms, self._chance()) / 1000)

    async def _serve(self) -> None:
        # A reused client fails at its second connect: each connection gets its own.
        client = self._make_client()
        async with client:
            self._version_is_proven = True
            self.counters.connects += 1
            self._client = client
            try:
                await self._renew()
                self._connected.set()
                async for _ in client.messages:
                    pass  # never one: they are routed as they come; this ends with the connection
            finally:
                self._connected.clear()
                self._client = None

    def _make_client(self) -> aiomqtt.Client:
        clean: dict[str, Any] = {"clean_session": True}
        if self._version is ProtocolVersion.V5:
            clean = {"clean_start": True}
        client = DirectClient(
            self._host,
            self._port,
            on_message=self._route,
            identifier=self._client_id,
            username=self._username,
            password=self._password,
            tls_context=self._tls,
            protocol=self._version,
            **clean,
            timeout=CONNECT_WITHIN_S,
            keepalive=20,
            max_queued_outgoing_messages=QUEUED_OUT,
            max_concurrent_outgoing_calls=CALLS_AT_ONCE,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        client.pending_calls_threshold = CALLS_AT_ONCE  # so many are no reason for a warning
        return client

    async def _renew(self) -> None:
        filters = self._subscriptions.filters()
        for start in range(0, len(filters), FILTERS_A_PACKET):
            try:
                await self._subscribe(filters[start : start + FILTERS_A_PACKET])
            except DeviceUnreachable as refusal:
                log.warning("subscription refused", why=str(refusal))

    async def _subscribe(self, filters: Sequence[str]) -> None:
        if not filters:
            return
        codes = await self._subscribing.ask(filters)
        for each, code in zip(filters, codes, strict=True):
            if code >= 0x80:
                raise DeviceUnreachable(f"the broker refuses the subscription to {each}: {code}")

    async def _send_subscribe(self, filters: Sequence[str]) -> Sequence[int]:
        if self._client is None:
            raise aiomqtt.MqttError("the local broker has just gone")
        codes = await self._client.subscribe([(each, SUBSCRIBE_QOS) for each in filters])
        return [_number(code) for code in codes]

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        timeout_s: float,
        qos: int = 1,
        is_retained: bool = False,
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
                client = self._client
                if client is None:
                    raise DeviceUnreachable("the local broker has just gone")
                reach("local_broker.before_publish", topic)
                await client.publish(topic, payload, qos=qos, retain=is_retained)
                reach("local_broker.after_publish", topic)
        except TimeoutError:
            raise DeviceUnreachable("the local broker does not answer") from None
        except (aiomqtt.MqttError, ValueError) as error:
            raise DeviceUnreachable(f"the local broker took nothing: {error}") from error
        self.counters.published += 1

    async def subscribe(
        self, filters: Sequence[str], on_message: OnMessage, *, timeout_s: float
    ) -> "MqttSubscription":
        subscription = MqttSubscription(tuple(filters), on_message, self._subscriptions)
        self._subscriptions.add(subscription)
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
            # Its turn may be long in coming where thousands are opened; that is no silence of the
            # broker, whose answer the client waits for only CONNECT_WITHIN_S.
            await self._subscribe(subscription.filters)
        except (TimeoutError, aiomqtt.MqttError, ValueError) as error:
            subscription.close()
            text = str(error) or "no answer"
            raise DeviceUnreachable(f"cannot subscribe at the local broker: {text}") from error
        except BaseException:
            subscription.close()
            raise
        return subscription

    def _route(self, topic: str, payload: bytes, is_retained: bool) -> None:
        self.counters.received += 1
        wanted = self._subscriptions.matching(topic)
        ours = Message(topic, payload, is_retained)
        for subscription in wanted:
            try:
                subscription.on_message(ours)
            except Exception:  # it would end the connection of all devices
                self.counters.failed += 1
                log.exception("message could not be taken", topic=topic)
        self.counters.unrouted += not wanted


class MqttSubscription:
    """Topic filters of one device. What is no longer wanted is simply not passed on."""

    def __init__(
        self, filters: tuple[str, ...], on_message: OnMessage, registry: "Subscriptions"
    ) -> None:
        self.filters = filters
        self.on_message = on_message
        self._registry = registry

    def close(self) -> None:
        self._registry.remove(self)


class Subscriptions:
    """Who wants which message: found without asking each of a thousand devices."""

    def __init__(self) -> None:
        self._by_filter: dict[str, dict[MqttSubscription, None]] = {}
        self._wild: dict[str, None] = {}

    def add(self, subscription: MqttSubscription) -> None:
        for each in subscription.filters:
            self._by_filter.setdefault(each, {})[subscription] = None
            if "+" in each or "#" in each:
                self._wild[each] = None

    def remove(self, subscription: MqttSubscription) -> None:
        """End it; ended before is fine."""
        for each in subscription.filters:
            holders = self._by_filter.get(each, {})
            holders.pop(subscription, None)
            if not holders:
                self._by_filter.pop(each, None)
                self._wild.pop(each, None)

    def filters(self) -> list[str]:
        return sorted(self._by_filter)

    def matching(self, topic: str) -> list[MqttSubscription]:
        """Those with a filter for the topic, each once."""
        exact = self._by_filter.get(topic, {})
        if not self._wild:
            return list(exact)
        found, parsed = dict(exact), aiomqtt.Topic(topic)
        for each in self._wild:
            if parsed.matches(each):
                found |= self._by_filter[each]
        return list(found)


def _number(code: Any) -> int:
    return code if isinstance(code, int) else int(code.value)
