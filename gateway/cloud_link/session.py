"""A connection to the cloud's broker over aiomqtt: MQTT 5 where spoken, 3.1.1 otherwise."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import aiomqtt
from aiomqtt import ProtocolVersion

from contract.messages import Presence, encode
from contract.topics import Address, Kind, TopicInvalid, parse
from gateway.crash_points import reach
from gateway.errors import CloudRefused, CloudUnreachable
from gateway.logs import Log
from gateway.transports import mqtt_client

KEEPALIVE_S: Final = 15
CONNECT_WITHIN_S: Final = 10.0
LEAVE_WITHIN_S: Final = 0.5
IN_FLIGHT: Final = 50
QUEUED_IN: Final = 2000  # what overflows is sent again by the cloud: it sends state
FAILED: Final = 0x80  # reason codes from here on are refusals
# Not supported by this broker: MQTT 5 says 0x84, a 3.1.1 broker answers 1.
_OTHER_VERSION: Final = frozenset({1, 0x84})
_NOT_LET_IN: Final = frozenset({2, 4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C})

log = Log()
MqttVersion = Literal["auto", "5", "3.1.1"]


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and how we show who we are; user name and client id are the address."""

    host: str
    port: int
    password: str | None = None
    tls: ssl.SSLContext | None = None
    version: MqttVersion = "auto"


class _Client(mqtt_client.Client):
    """aiomqtt drops the reason code of a PUBACK; a broker's rules speak through it alone."""

    on_refused: Callable[[str], None]

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any
    ) -> None:
        if code_number(reason_code) >= FAILED:
            self.on_refused(str(reason_code))
        super()._on_publish(client, userdata, mid, reason_code, properties)


class MqttConnection:
    """An open connection; made by `MqttConnector.connect`."""

    def __init__(self, client: aiomqtt.Client, address: Address) -> None:
        self._client = client
        self._address = address

    async def publish(self, kind: Kind, payload: bytes) -> None:
        reach("cloud_link.before_publish", kind)
        try:
            await self._client.publish(self._address.topic(kind), payload, qos=1)
        except aiomqtt.MqttError as error:
            raise CloudUnreachable(f"cannot publish: {error}") from error
        reach("cloud_link.after_publish", kind)

    async def messages(self) -> AsyncIterator[tuple[Kind, bytes]]:
        try:
            async for message in self._client.messages:
                try:
                    _, kind = parse(str(message.topic))
                except TopicInvalid as error:
                    log.warning("message on a foreign topic dropped", why=str(error))
                    continue
                payload = message.payload
                if isinstance(payload, bytes | bytearray):
                    yield kind, bytes(payload)
        except aiomqtt.MqttError as error:
            raise CloudUnreachable(f"connection lost: {error}") from error


class MqttConnector:
    """Connects with the identity of `address`; remembers which version the broker speaks."""

    def __init__(
        self,
        broker: BrokerAddress,
        address: Address,
        instance: str,
        on_refused: Callable[[str], None],
    ) -> None:
        self._broker = broker
        self._address = address
        self._instance = instance
        self._on_refused = on_refused
        self._proven: ProtocolVersion | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[MqttConnection]:
        client = await self._open()
        failed: BaseException | None = None
        connection = MqttConnection(client, self._address)
        try:
            await self._subscribe(client)
            await connection.publish(Kind.PRESENCE, self._presence(online=True))
            yield connection
        except asyncio.CancelledError as error:
            failed = error
            # In good order we say it ourselves: the Will is for accidents.
            with contextlib.suppress(CloudUnreachable, TimeoutError):
                async with asyncio.timeout(LEAVE_WITHIN_S):
                    await connection.publish(Kind.PRESENCE, self._presence(online=False))
            raise
        except BaseException as error:
            failed = error
            raise
        finally:
            await _leave(client, failed)

    async def _open(self) -> aiomqtt.Client:
        problem: CloudUnreachable | None = None
        for version in self._versions():
            client = self._make_client(version)
            try:
                await client.__aenter__()
            except aiomqtt.MqttError as error:
                code = code_number(getattr(error, "rc", None))
                if code in _NOT_LET_IN:
                    raise CloudRefused(f"the broker does not let us in: {error}") from error
                problem = CloudUnreachable(f"{self._broker.host}:{self._broker.port}: {error}")
                if code in _OTHER_VERSION:
                    continue
                raise problem from error
            except ssl.SSLError as error:
                raise CloudRefused(f"TLS: {error}") from error
            except OSError as error:
                raise CloudUnreachable(f"{self._broker.host}: {error}") from error
            self._proven = version
            return client
        self._proven = None
        raise problem or CloudUnreachable("no version of MQTT was tried")

    def _versions(self) -> Sequence[ProtocolVersion]:
        if self._broker.version == "5":
            return [ProtocolVersion.V5]
        if self._broker.version == "3.1.1":
            return [ProtocolVersion.V311]
        return [self._proven] if self._proven else [ProtocolVersion.V5, ProtocolVersion.V311]

    def _make_client(self, version: ProtocolVersion) -> _Client:
        clean: dict[str, Any] = {"clean_session": True}
        if version is ProtocolVersion.V5:
            clean = {"clean_start": True}
        will = aiomqtt.Will(
            self._address.topic(Kind.PRESENCE), self._presence(online=False), qos=1, retain=False
        )
        client = _Client(
            self._broker.host,
            self._broker.port,
            identifier=self._address.name,
            username=self._address.name,
            password=self._broker.password,
            protocol=version,
            will=will,
            keepalive=KEEPALIVE_S,
            timeout=CONNECT_WITHIN_S,
            tls_context=self._broker.tls,
            max_inflight_messages=IN_FLIGHT,
            max_queued_incoming_messages=QUEUED_IN,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            **clean,
        )
        client.pending_calls_threshold = IN_FLIGHT
        client.on_refused = self._on_refused
        return client

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        try:
            codes = await client.subscribe(self._address.down_filter(), qos=1)
        except aiomqtt.MqttError as error:
            raise CloudUnreachable(f"cannot subscribe: {error}") from error
        for code in codes:
            if code_number(code) >= FAILED:
                raise CloudRefused(
                    f"the broker refuses our subscription to {self._address.down_filter()}: {code}"
                )

    def _presence(self, online: bool) -> bytes:
        return encode(Presence(online=online, instance=self._instance))


async def _leave(client: aiomqtt.Client, failed: BaseException | None) -> None:
    try:
        await client.__aexit__(type(failed) if failed else None, failed, None)
    except aiomqtt.MqttError as error:
        log.debug("left a broken connection", why=str(error))


def code_number(code: Any) -> int:
    """The number of a reason code, however the library gives it."""
    value = getattr(code, "value", code)
    return value if isinstance(value, int) else 0
