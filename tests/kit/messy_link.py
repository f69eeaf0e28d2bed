"""A faulty link that knows MQTT packets: publishes come late, twice and out of order.

It also keeps every receipt that passes, so that a story knows what the cloud has vouched for.
"""

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.kit.faulty_link import FaultyLink, _Connection

_CONNECT: Final = 1
_PUBLISH: Final = 3
_MQTT5: Final = 5


@dataclass(frozen=True)
class Mess:
    """What happens to a publish: chances from 0 to 1, and for how long at most."""

    late: float = 0.0
    late_by_s: float = 0.3
    doubled: float = 0.0
    doubled_after_s: float = 1.0
    seed: int = 0


class MessyLink(FaultyLink):
    """A link that can also `mess`. What is late is overtaken by what comes after it.

    A copy comes with QoS 0, as if somebody had said it again: no packet id is used twice.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(target_port, target_host, port)
        self.late = self.doubled = 0
        self.receipts: list[dict[str, Any]] = []
        self._mess = Mess()
        self._chance = random.Random(0)
        self._speaking_5: set[_Connection] = set()

    def mess(self, mess: Mess) -> None:
        """From now on; `Mess()` ends it."""

        def begin() -> None:
            self._mess, self._chance = mess, random.Random(mess.seed)

        self._call(begin)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
        to_target: bool,
    ) -> None:
        pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = self._loop.create_task(self._send(pending, writer, connection, to_target))
        connection.pumps.append(sender)
        try:
            while packet := await _read_packet(reader):
                for after_s, data in self._fate(packet, connection, to_target):
                    when = self._loop.time() + after_s + self._delay_s
                    if after_s:
                        self._loop.call_later(after_s, pending.put_nowait, (when, data))
                    else:
                        pending.put_nowait((when, data))
            pending.put_nowait((0.0, b""))
            await sender
        except (OSError, asyncio.IncompleteReadError):
            self._reset(connection)
        finally:
            self._speaking_5.discard(connection)
            sender.cancel()

    def _fate(
        self, packet: bytes, connection: _Connection, to_target: bool
    ) -> list[tuple[float, bytes]]:
        kind = packet[0] >> 4
        if kind == _CONNECT and _level(packet) == _MQTT5:
            self._speaking_5.add(connection)
        if kind != _PUBLISH:
            return [(0.0, packet)]
        if not to_target:
            self._keep_receipt(packet, connection in self._speaking_5)
        mess, after_s = self._mess, 0.0
        if self._chance.random() < mess.late:
            self.late += 1
            after_s = self._chance.uniform(0.01, mess.late_by_s)
        comes = [(after_s, packet)]
        if self._chance.random() < mess.doubled:
            self.doubled += 1
            comes.append((self._chance.uniform(0.01, mess.doubled_after_s), _copy(packet)))
        return comes

    def _keep_receipt(self, packet: bytes, is_5: bool) -> None:
        topic, payload = _opened(packet, is_5)
        if topic.endswith("/down/receipt"):
            with suppress(ValueError):
                items = json.loads(payload.split(b"\n")[0]).get("items", [])
                stored = [item for item in items if item.get("outcome", "stored") == "stored"]
                self.receipts += stored


async def _read_packet(reader: asyncio.StreamReader) -> bytes:
    """One control packet whole; empty at the end of the stream."""
    head = bytearray(await reader.read(1))
    if not head:
        return b""
    size, shift = 0, 0
    while True:
        head += await reader.readexactly(1)
        size |= (head[-1] & 0x7F) << shift
        shift += 7
        if head[-1] < 0x80:
            return bytes(head) + await reader.readexactly(size)


def _body_at(packet: bytes) -> int:
    """Where the variable header begins, after the type and the length."""
    return next(place for place in range(1, 5) if packet[place] < 0x80) + 1


def _level(packet: bytes) -> int:
    at = _body_at(packet)
    return packet[at + 2 + int.from_bytes(packet[at : at + 2], "big")]


def _opened(packet: bytes, is_5: bool) -> tuple[str, bytes]:
    at = _body_at(packet)
    end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
    topic = packet[at + 2 : end].decode(errors="replace")
    end += 2 if packet[0] & 0x06 else 0
    if is_5:
        size, shift = 0, 0
        while True:
            size |= (packet[end] & 0x7F) << shift
            end, shift = end + 1, shift + 7
            if packet[end - 1] < 0x80:
                break
        end += size
    return topic, packet[end:]


def _copy(packet: bytes) -> bytes:
    """The same publish with QoS 0."""
    if not packet[0] & 0x06:
        return packet
    at = _body_at(packet)
    after_topic = at + 2 + int.from_bytes(packet[at : at + 2], "big")
    body = packet[at:after_topic] + packet[after_topic + 2 :]
    head, size = bytearray([packet[0] & 0xF1]), len(body)
    while True:
        size, digit = size >> 7, size & 0x7F
        head.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(head) + body
