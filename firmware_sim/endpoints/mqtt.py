"""MQTT devices on paho: one client each, all driven by the asyncio loop, no threads of their own.

Paho on purpose: the gateway uses aiomqtt's manner of working, so both must agree on the wire.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never
from urllib.parse import unquote, urlsplit

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from firmware_sim.endpoints.connections import Connections
from firmware_sim.messages import (
    Action,
    Disconnect,
    Fetch,
    Later,
    MessagePersonality,
    Publish,
    Reboot,
)
from firmware_sim.recording import NO_TAP, Tap

KEEPALIVE_S: Final = 30
GRANTED_WITHIN_S: Final = 10.0
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
FETCH_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects: client id and user alike."""

    name: str
    password: str | None = None


class MqttEndpoint:
    """Gives one MQTT device its connection. `run` serves until it is cancelled.

    `broker` is mqtt://[user:password@]host[:port]; `http` and `connections` are shared by all
    devices. `qos` is that of its subscriptions and of all that it says. Without a `login` it
    connects under its id, and with the user that `broker` names.
    """

    def __init__(
        self,
        personality: MessagePersonality,
        broker: str,
        http: httpx.AsyncClient,
        connections: Connections,
        tap: Tap = NO_TAP,
        qos: int = 1,
        login: Login | None = None,
    ) -> None:
        self.personality = personality
        self._tap = tap
        self._broker = urlsplit(broker)
        self._http = http
        self._connections = connections
        self._qos = qos
        self._login = login
        self._timers: set[asyncio.TimerHandle] = set()
        self._client: paho.Client | None = None
        self._granted: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[float] | None = None
        self._fetches: deque[Fetch] = deque()
        self._is_fetching = False
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Boot, then keep a connection as a device does: with a growing wait between tries."""
        self._boot()
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._stay_connected()
        finally:
            self._forget_timers()

    async def _stay_connected(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            client: paho.Client | None = None
            try:
                async with self._connections.place:
                    client = self._make_client(asyncio.get_running_loop())
                    try:
                        self._ended = await self._connect(client)
                    except OSError:
                        # The place is kept: those who wait for it would find no broker either.
                        self._hang_up(client)
                        await asyncio.sleep(wait_s)
                        raise
                away_s = await self._ended
            except OSError:
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                continue
            finally:
                if client is not None:
                    self._hang_up(client)
            wait_s = FIRST_WAIT_S
            await asyncio.sleep(away_s)

    async def _connect(self, client: paho.Client) -> "asyncio.Future[float]":
        """Connect until the broker has granted the subscriptions; what ends the connection.

        Raises OSError when there is no broker, or none that answers.
        """
        loop = asyncio.get_running_loop()
        self._granted, self._ended = loop.create_future(), loop.create_future()
        await asyncio.to_thread(_reconnect, client)
        connection = _socket_of(client)
        if connection is None:
            raise OSError("connection closed at once")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add_reader(connection, client.loop_read)
        self._client = client
        self._write_on_demand(client, loop)
        self._connections.add(client)
        try:
            async with asyncio.timeout(GRANTED_WITHIN_S):
                await self._granted
        except TimeoutError:
            raise OSError("the broker took the connection, and never answered") from None
        return self._ended

    def _hang_up(self, client: paho.Client) -> None:
        """Drop the connection without DISCONNECT, so that the broker sends the Will."""
        self._client = None
        self._connections.remove(client)
        client.on_disconnect = None
        _gone_of(client).set()
        sock = _socket_of(client)
        if sock is None:
            return
        _forget(asyncio.get_running_loop(), sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        client.loop_read()
        sock.close()  # paho has not, where there was something left to read

    def _make_client(self, loop: asyncio.AbstractEventLoop) -> paho.Client:
        login = self._login
        client_id = self.personality.device.identity.id if login is None else login.name
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv311,
            userdata=threading.Event(),
        )
        if login is not None:
            client.username_pw_set(login.name, login.password)
        elif self._broker.username:
            password = unquote(self._broker.password) if self._broker.password else None
            client.username_pw_set(unquote(self._broker.username), password)
        will = self.personality.presence(False)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = lambda *_: self._end(FIRST_WAIT_S)
        client.on_socket_close = lambda _client, _data, sock: _forget(loop, sock)
        client.connect_timeout = 5.0
        host, port = self._broker.hostname or "127.0.0.1", self._broker.port or 1883
        client.connect_async(host, port, KEEPALIVE_S)
        return client

    def _write_on_demand(self, client: paho.Client, loop: asyncio.AbstractEventLoop) -> None:
        def register(_client: paho.Client, _data: Any, sock: Any) -> None:
            loop.add_writer(sock, client.loop_write)

        def unregister(_client: paho.Client, _data: Any, sock: Any) -> None:
            if sock.fileno() >= 0:
                loop.remove_writer(sock)

        client.on_socket_register_write = register
        client.on_socket_unregister_write = unregister
        if client.want_write():
            client.loop_write()

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._end(LONGEST_WAIT_S)
            return
        client.subscribe([(topic, self._qos) for topic in self.personality.topics()])

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, codes: Any, _properties: Any
    ) -> None:
        """A device that would hear no command is not there: it goes, and tries again."""
        if any(code.is_failure for code in codes):
            self._end(LONGEST_WAIT_S)
            return
        self._act(self.personality.connected())
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        now_s, payload = asyncio.get_running_loop().time(), bytes(message.payload)
        self._tap.message("to_device", message.topic, payload, bool(message.retain))
        self._act(self.personality.received(message.topic, payload, now_s))

    def _end(self, wait_s: float) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(wait_s)
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)

    def _boot(self, stays_connected: bool = False) -> None:
        self._forget_timers()
        self.personality.boot(asyncio.get_running_loop().time())
        if stays_connected and self._client is not None:
            self._act(self.personality.connected())
        else:
            self._end(self.personality.device.boot_time_s)

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish():
                    self._later(action.after_s, self._publish, action)
                case Reboot():
                    self._later(action.after_s, self._boot, action.stays_connected)
                case Disconnect():
                    self._later(action.after_s, self._end, action.for_s)
                case Later():
                    self._later(action.after_s, self._go_on, action)
                case Fetch():
                    self._fetches.append(action)
                    if not self._is_fetching and self._group is not None:
                        self._is_fetching = True
                        self._group.create_task(self._download(), name="device.download")
                case _:
                    assert_never(action)

    def _later(self, after_s: float, act: Callable[..., None], *arguments: object) -> None:
        if after_s <= 0:
            act(*arguments)
            return

        def fire() -> None:
            self._timers.discard(timer)
            act(*arguments)

        timer = asyncio.get_running_loop().call_later(after_s, fire)
        self._timers.add(timer)

    def _go_on(self, action: Later) -> None:
        self._act(action.then(asyncio.get_running_loop().time()))

    def _publish(self, message: Publish) -> None:
        """A device that is offline has nobody to tell: what it says then is lost."""
        if self._client is not None:
            self._tap.message("from_device", message.topic, message.payload, message.retain)
            self._client.publish(message.topic, message.payload, self._qos, message.retain)

    async def _download(self) -> None:
        try:
            while self._fetches:
                outcome = await self._fetch(self._fetches.popleft())
                if isinstance(outcome, bytes):
                    self._act(self.personality.downloaded(outcome))
                else:
                    self._act(self.personality.download_failed(outcome))
        finally:
            self._is_fetching = False

    async def _fetch(self, fetch: Fetch) -> bytes | str:
        """Download with resume by Range; return the bytes, or why it cannot be done."""
        data = bytearray()
        problem = "no answer"
        for attempt in range(FETCH_TRIES):
            if attempt:
                await asyncio.sleep(FIRST_WAIT_S * 2**attempt)
            try:
                return await self._fetch_rest(fetch, data)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            except (httpx.InvalidURL, httpx.HTTPStatusError, ValueError) as error:
                return str(error)
        return problem

    async def _fetch_rest(self, fetch: Fetch, data: bytearray) -> bytes:
        headers = {"range": f"bytes={len(data)}-"} if data else {}
        async with self._http.stream("GET", fetch.url, headers=headers) as response:
            response.raise_for_status()
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                data.clear()
            length = response.headers.get("content-length", "")
            total = len(data) + int(length) if length.isdigit() else None
            async for piece in response.aiter_bytes(8192):
                data += piece
                if len(data) > fetch.max_bytes:
                    raise ValueError(f"more than {fetch.max_bytes} bytes, the slot is full")
                self._act(self.personality.downloading(len(data), total))
        return bytes(data)


def _reconnect(client: paho.Client) -> None:
    """Connect, in a thread: it may end when the device has hung up already."""
    client.reconnect()
    sock = _socket_of(client)
    if _gone_of(client).is_set() and sock is not None:
        sock.close()


def _gone_of(client: paho.Client) -> threading.Event:
    """Set once the device has hung up."""
    gone = client.user_data_get()
    assert isinstance(gone, threading.Event)
    return gone


def _forget(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    if sock.fileno() >= 0:
        loop.remove_reader(sock)
        loop.remove_writer(sock)


def _socket_of(client: paho.Client) -> socket.socket | None:
    sock = client.socket()
    return sock if isinstance(sock, socket.socket) else None
