"""A transcript of what simulated devices hear and say: one JSON line for each message or read.

`{"at": seconds since the start, "device", "direction": "to_device" | "from_device"}`, then for a
broker `topic`, `payload` (or `payload_hex` where it is no text) and `retain`, for a line `bytes` in
hex. A file that is full ends with `{"at", "truncated": true}`.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

MAX_BYTES: Final = 64 << 20

Direction = Literal["to_device", "from_device"]


class Recording:
    """Appends to a new file until it holds `max_bytes`. `clock` gives seconds.

    Each line is one write: what was written before a kill -9 is whole. Raises OSError when the
    file cannot be made.
    """

    def __init__(self, path: Path, clock: Callable[[], float], max_bytes: int = MAX_BYTES) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)
        self._clock = clock
        self._left = max_bytes
        self._started_s: float | None = None

    def of(self, device: str) -> "Tap":
        """Where the endpoint of one device, or of one line, says what passes."""
        return Tap(self, device)

    def write(self, line: dict[str, Any]) -> None:
        if self._left <= 0:
            return
        now_s = self._clock()
        if self._started_s is None:
            self._started_s = now_s
        at = {"at": round(now_s - self._started_s, 4)}
        data = json.dumps({**at, **line}).encode() + b"\n"
        if len(data) > self._left:
            data, self._left = json.dumps({**at, "truncated": True}).encode() + b"\n", 0
        self._left -= len(data)
        os.write(self._file, data)


class Tap:
    """The recording of one device; without a recording it does nothing."""

    def __init__(self, recording: Recording | None, device: str) -> None:
        self._recording = recording
        self._device = device

    def message(
        self, direction: Direction, topic: str, payload: bytes, retain: bool = False
    ) -> None:
        if self._recording is None:
            return
        line = {"device": self._device, "direction": direction, "topic": topic}
        self._recording.write({**line, **_shown(payload), **({"retain": True} if retain else {})})

    def data(self, direction: Direction, data: bytes) -> None:
        if self._recording is not None:
            line = {"device": self._device, "direction": direction, "bytes": data.hex()}
            self._recording.write(line)


NO_TAP: Final = Tap(None, "")


def _shown(payload: bytes) -> dict[str, str]:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_hex": payload.hex()}
