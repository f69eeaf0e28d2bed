"""The connection to the broker: opened again for ever, subscribed to the shards we own.

An MQTT acknowledgment means nothing here: the library acknowledges before our code has run. What
counts are receipts above and rows below, so nothing is queued across a reconnect.
"""

import asyncio
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Never, TypeVar

import aiomqtt
import structlog
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.subscribeoptions import SubscribeOptions

from cloud import metrics
from cloud.errors import BrokerRefused
from contract import topics
from contract.ids import SHARDS

log = structlog.get_logger()

KEEPALIVE_S: Final = 20
# Measured on aiomqtt 2.5: a message costs more the more are in flight; 20 to 100 is best.
MAX_IN_FLIGHT: Final = 64
MAX_BACKOFF_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 2.5
ANSWER_TIMEOUT_S: Final = 10.0

Deliver = Callable[[str, bytes], None]
T = TypeVar("T")

# MQTT 5 reason codes of a CONNACK that no later try will better: bad client id, bad user name or
# password, not authorized, banned, bad authentication method. 3.1.1 codes arrive translated.
_HOPELESS: Final = frozenset({133, 134, 135, 138, 140})
_WRONG_VERSION: Final = 132


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and who we are to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


class BrokerSession:
    """One session, clean on every connect. `deliver` gets each message, on the loop's thread."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        deliver: Deliver,
        shards: Iterable[int] = range(SHARDS),
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._client_id = client_id
        self._deliver = deliver
        self._filters = [topics.up_filter(shard) for shard in shards]
        self._on_open = on_open
        self._client: _Client | None = None
        self._protocol = aiomqtt.ProtocolVersion.V5
        self._opened = False

    @property
    def is_open(self) -> bool:
        """Connected, and every filter granted."""
        return self._client is not None

    @property
    def speaks_mqtt5(self) -> bool:
        return self._protocol is aiomqtt.ProtocolVersion.V5

    async def run(self) -> Never:
        """Keep the session open. Raises BrokerRefused when the broker's rules are in the way."""
        failures = 0
        while True:
            try:
                await self._hold()
            except MqttConnectError as error:
                if not self._speaks_older(error):
                    failures = self._refused(error, failures)
            except (aiomqtt.MqttError, OSError) as error:
                failures = 1 if self._opened else failures + 1
                log.warning("broker lost", broker=str(self._address), reason=str(error))
            finally:
                self._closed()
            if failures:
                await asyncio.sleep(_backoff_s(failures))

    async def publish(self, topic: str, payload: bytes) -> bool:
        """Send with QoS 1; False when the broker did not take it: the rows will say it again."""
        client = self._client
        if client is None:
            return False
        try:
            await client.publish(topic, payload, qos=1)
        except (aiomqtt.MqttError, OSError) as error:
            log.debug("message not sent", topic=topic, reason=str(error))
            return False
        return True

    async def _hold(self) -> None:
        is_mqtt5 = self.speaks_mqtt5
        self._opened = False
        client = _Client(
            self._deliver,
            self._address.host,
            self._address.port,
            username=self._address.username,
            password=self._address.password,
            identifier=self._client_id,
            protocol=self._protocol,
            **({"clean_start": True} if is_mqtt5 else {"clean_session": True}),
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_TIMEOUT_S,
            tls_context=self._address.tls,
            max_inflight_messages=MAX_IN_FLIGHT,
            max_concurrent_outgoing_calls=MAX_IN_FLIGHT,
            # paho leaves Nagle's algorithm on: 88 ms instead of 1.5 for a command and its reply.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        async with client:
            await self._subscribe(client)
            self._client = client
            self._opened = True
            metrics.MQTT_CONNECTED.set(1)
            metrics.MQTT_CONNECTS.inc()
            log.info("broker connected", broker=str(self._address), mqtt=5 if is_mqtt5 else 3)
            self._on_open()
            async for _ in client.messages:  # none come this way: ends when the connection does
                pass

    async def _subscribe(self, client: "_Client") -> None:
        if self.speaks_mqtt5:
            options = SubscribeOptions(qos=1)
            wanted: Any = [(name, options) for name in self._filters]
        else:
            wanted = [(name, 1) for name in self._filters]
        granted = await client.subscribe(wanted)
        codes = [_number(code) for code in granted]
        refused = [name for name, code in zip(self._filters, codes, strict=True) if code >= 0x80]
        if refused:
            raise BrokerRefused(
                f"{self._address} refused {len(refused)} of {len(self._filters)} subscriptions, "
                f"{refused[0]} first: let user `{self._address.username or self._client_id}` read "
                f"{topics.ROOT}/+/+/+/up/#, and write below down/ (on NATS, max_ack_pending "
                f"decides how many a session may have)"
            )

    def _speaks_older(self, error: MqttConnectError) -> bool:
        """Whether the broker knows only the older protocol; then that is used from now on."""
        if self.speaks_mqtt5 and _code(error) == _WRONG_VERSION:
            self._protocol = aiomqtt.ProtocolVersion.V311
            return True
        return False

    def _refused(self, error: MqttConnectError, failures: int) -> int:
        if _code(error) in _HOPELESS:
            raise BrokerRefused(
                f"{self._address} does not let us in: {error}; check broker.username, "
                "broker.password and broker.tls"
            ) from error
        log.warning("broker refused us", broker=str(self._address), reason=str(error))
        return failures + 1

    def _closed(self) -> None:
        self._client = None
        metrics.MQTT_CONNECTED.set(0)


class _Client(aiomqtt.Client):
    """aiomqtt with two callbacks of ours, and no cancel that is lost.

    Its own queue costs a task per message and, when bounded, drops what it has acknowledged; it
    also ignores the reason code with which MQTT 5 says that a rule refused a message.
    """

    def __init__(self, deliver: Deliver, host: str, port: int, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._deliver = deliver
        self.pending_calls_threshold = 10 * MAX_IN_FLIGHT
        self._client.connect_timeout = CONNECT_TIMEOUT_S

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109
        # Python 3.11's `wait_for` swallows a cancel that meets an answer.
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("no answer in time") from None

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self._deliver(message.topic, message.payload)

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any
    ) -> None:
        if reason_code.is_failure:
            metrics.MQTT_REFUSED.inc()
            log.error("broker refused a message of ours", reason=str(reason_code))
        super()._on_publish(client, userdata, mid, reason_code, properties)


def _code(error: MqttConnectError) -> int:
    return _number(error.rc)


def _number(code: object) -> int:
    value = getattr(code, "value", code)
    return value if isinstance(value, int) else 0


def _backoff_s(failures: int) -> float:
    return random.uniform(0.1, min(MAX_BACKOFF_S, 0.2 * 2.0 ** min(failures, 10)))
