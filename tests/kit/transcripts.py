"""Transcripts of what devices hear and say, as the simulator records them, played as a device.

What was said to the device in the transcript is waited for; what it said is said again. A request
need not be the same byte for byte: keys that are fresh in each (ids, addresses) may differ, and
where the device repeats such a value, it repeats the new one.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.domain.profiles import matches
from gateway.transports.base import Message, MessageLink

FRESH: Final = frozenset({"id", "transaction", "url", "OtaUrl", "fw_checksum", "fw_size"})
HEARD_WITHIN_S: Final = 20.0
LONGEST_WAIT_S: Final = 0.3


@dataclass(frozen=True)
class Line:
    """One message. `at` is seconds since the transcript's start."""

    at: float
    is_to_device: bool
    topic: str
    payload: bytes
    is_retained: bool = False


def read_transcript(path: Path, device: str | None = None) -> list[Line]:
    """The messages of a transcript, of one device only if it holds those of several."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "topic" not in line or (device is not None and line["device"] != device):
            continue
        payload = line["payload"].encode() if "payload" in line else None
        found.append(
            Line(
                line["at"],
                line["direction"] == "to_device",
                line["topic"],
                bytes.fromhex(line["payload_hex"]) if payload is None else payload,
                line.get("retain", False),
            )
        )
    return found


class TranscriptDevice:
    """Plays the device's part over a broker; `is_over` once it has said its last line.

    A question that was answered before is answered again in the same way, as often as it comes.
    """

    def __init__(self, lines: Sequence[Line], link: MessageLink, topics: Sequence[str]) -> None:
        self.lines = lines
        self._link = link
        self._topics = topics
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self._new: dict[str, str] = {}
        self.is_over = False

    async def run(self) -> None:
        """Until cancelled. Raises AssertionError for a request the transcript does not have."""
        own = self._link.subscribe(self._topics, self._heard.put_nowait, timeout_s=HEARD_WITHIN_S)
        subscription = await own
        try:
            before_s = 0.0
            for number, line in enumerate(self.lines):
                if line.is_to_device:
                    await self._hear(line, self.lines[:number])
                else:
                    await asyncio.sleep(min(max(line.at - before_s, 0.0), LONGEST_WAIT_S))
                    await self._say(line)
                before_s = line.at
            self.is_over = True
            while True:
                await self._again(await self._heard.get(), self.lines)
        finally:
            subscription.close()

    async def _hear(self, line: Line, earlier: Sequence[Line]) -> None:
        while True:
            async with asyncio.timeout(HEARD_WITHIN_S):
                message = await self._heard.get()
            try:
                return self._take(line, message)
            except AssertionError as error:
                if not await self._again(message, earlier):
                    raise error

    async def _again(self, message: Message, earlier: Sequence[Line]) -> bool:
        """Answer a question of before as before. False: there was none."""
        for number in reversed(range(len(earlier) - 1)):
            if earlier[number].is_to_device and not earlier[number + 1].is_to_device:
                try:
                    self._take(earlier[number], message)
                except AssertionError:
                    continue
                await self._say(earlier[number + 1])
                return True
        return False

    def _take(self, line: Line, message: Message) -> None:
        self._learn(line.topic, message.topic)
        assert matches(self._renewed(line.topic), message.topic), f"{message} is not {line}"
        self._compare(_value(line.payload), _value(message.payload), "", line)

    async def _say(self, line: Line) -> None:
        payload = line.payload
        for old, new in self._new.items():
            payload = payload.replace(old.encode(), new.encode())
        await self._link.publish(
            self._renewed(line.topic), payload, timeout_s=5, is_retained=line.is_retained
        )

    def _compare(self, wanted: Any, found: Any, key: str, line: Line) -> None:
        if isinstance(wanted, dict) and isinstance(found, dict):
            assert wanted.keys() == found.keys(), f"{found} is not {wanted} of {line}"
            for each in wanted:
                self._compare(wanted[each], found[each], each, line)
        elif wanted != found:
            is_address = isinstance(wanted, str) and wanted.startswith("http")
            assert key in FRESH or is_address, f"{key} {found!r} is not {wanted!r} of {line}"
            self._new[_shown(wanted)] = _shown(found)

    def _learn(self, wanted: str, found: str) -> None:
        """A number in a topic is the request's."""
        if len(wanted.split("/")) != len(found.split("/")):
            return
        for old, new in zip(wanted.split("/"), found.split("/"), strict=True):
            if old != new and old.isdigit() and new.isdigit():
                self._new[old] = new

    def _renewed(self, topic: str) -> str:
        return "/".join(self._new.get(each, each) for each in topic.split("/"))


def _value(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
