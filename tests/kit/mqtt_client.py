"""A small MQTT client for tests, on paho: it keeps every answer, so a test can wait for it."""

import socket
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.kit.brokers import Identity
from tests.kit.waiting import wait_until


class MqttClient:
    """Connected while its block is open. `messages` are (topic, payload), in order of arrival.

    A persistent session (`clean=False`) speaks MQTT 5 with an expiry of an hour, or 3.1.1.
    """

    def __init__(
        self,
        client_id: str,
        port: int,
        host: str = "127.0.0.1",
        mqtt5: bool = False,
        clean: bool = True,
        identity: Identity | None = None,
        tls: ssl.SSLContext | None = None,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.connected: list[ReasonCode] = []
        self.disconnected: list[ReasonCode] = []
        self.session_present = False
        self._answers: dict[int, list[int]] = {}
        self._host, self._port, self._mqtt5, self._clean = host, port, mqtt5, clean
        version = MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            clean_session=None if mqtt5 else clean,
        )
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        if identity is not None:
            tls = ssl.create_default_context(cafile=identity.authority)
            tls.load_cert_chain(identity.certificate, identity.key)
        if tls is not None:
            self._client.tls_set_context(tls)
        if will is not None:
            self._client.will_set(*will, qos=1)

    def connect(self) -> Self:
        """Connect and wait for the broker's word; raises OSError when the line or TLS refuses."""
        arguments: dict[str, Any] = {}
        if self._mqtt5:
            arguments["clean_start"] = self._clean
            arguments["properties"] = properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if self._clean else 3600
        self._client.connect(self._host, self._port, keepalive=60, **arguments)
        self._client.loop_start()
        wait_until(lambda: self.connected or self.disconnected, message="the broker's answer")
        return self

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """The reason code of each filter, in order; 0x80 and above are refusals."""
        _, number = self._client.subscribe([(each, qos) for each in filters])
        assert number is not None
        return self._answer(number)

    def publish(self, topic: str, payload: bytes = b"", qos: int = 1, retain: bool = False) -> int:
        """Publish and return the reason code of the acknowledgment (3.1.1 has only 0)."""
        return self._answer(self._client.publish(topic, payload, qos=qos, retain=retain).mid)[0]

    def wait_for(self, count: int, deadline_s: float = 20.0) -> list[tuple[str, bytes]]:
        """The messages, once there are `count` of them."""
        wait_until(
            lambda: len(self.messages) >= count,
            deadline_s,
            lambda: f"{count} messages, not {len(self.messages)}",
        )
        return list(self.messages)

    def close(self) -> None:
        self._client.disconnect()
        self._stop_loop()

    def _stop_loop(self) -> None:
        # paho's thread forgets itself as it ends, between paho's own look at it and its join.
        with suppress(AttributeError):
            self._client.loop_stop()

    def vanish(self) -> None:
        """Drop the connection without a farewell: the broker publishes the will."""
        raw = self._client.socket()
        if isinstance(raw, socket.socket):  # an ssl.SSLSocket is one too
            raw.shutdown(socket.SHUT_RDWR)
        self._stop_loop()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, number: int) -> list[int]:
        return wait_until(lambda: self._answers.get(number), message=f"an answer to {number}") or []

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, rest: Any) -> None:
        self.session_present = bool(flags.session_present)
        self.connected.append(reason)

    def _on_disconnect(self, *arguments: Any) -> None:
        self.disconnected.append(arguments[3])

    def _on_publish(self, client: Any, data: Any, number: int, reason: Any, rest: Any) -> None:
        self._answers[number] = [reason.value]

    def _on_subscribe(self, client: Any, data: Any, number: int, codes: Any, rest: Any) -> None:
        self._answers[number] = [code.value for code in codes]

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))
