"""SMP over a serial console: messages to marked base64 lines, and any bytes back to messages.

The line may carry boot banners, logs and shell output beside the frames; those come out as text.
Source: Zephyr, "SMP over console" (marker, length, CRC16-XMODEM, base64, 127 bytes a line).
"""

import binascii
import re
from dataclasses import dataclass
from typing import Final

FIRST: Final = b"\x06\x09"
FURTHER: Final = b"\x04\x14"
LINE_LENGTH: Final = 127

_MARKER: Final = re.compile(rb"\x06\x09|\x04\x14")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_ANSI: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SmpFrame:
    """One SMP message (header and CBOR) whose CRC was right."""

    message: bytes


@dataclass(frozen=True, slots=True)
class TextLine:
    """Console text that is no SMP frame, without colours, control characters and line end."""

    text: str


@dataclass(slots=True)
class FrameCounters:
    """What a `FrameReader` has seen; nothing of this is ever raised.

    `bad_crc` and `garbled` (not base64) are damaged packets; `incomplete` ones were overtaken by
    a new first line; `stray` further lines had no first; `oversize` packets named more than
    `max_message` bytes; `overlong` lines had no end within `max_line` bytes. `garbage_bytes` came
    in damaged packets, or as text that cannot be printed.
    """

    frames: int = 0
    bad_crc: int = 0
    garbled: int = 0
    incomplete: int = 0
    stray: int = 0
    oversize: int = 0
    overlong: int = 0
    garbage_bytes: int = 0


def encode_frame(message: bytes, line_length: int = LINE_LENGTH) -> list[bytes]:
    """Return the lines that carry `message`, each with marker and newline, none over line_length.

    Raises ValueError for a message over 65,533 bytes or lines too short for four characters.
    """
    if len(message) > 0xFFFF - 2:
        raise ValueError(f"message of {len(message)} bytes does not fit a serial frame")
    room = (line_length - len(FIRST) - 1) // 4 * 4
    if room < 4:
        raise ValueError(f"a line of {line_length} bytes holds no data")
    crc = binascii.crc_hqx(message, 0)
    packet = (len(message) + 2).to_bytes(2, "big") + message + crc.to_bytes(2, "big")
    text = binascii.b2a_base64(packet, newline=False)
    starts = range(0, len(text), room)
    return [(FURTHER if at else FIRST) + text[at : at + room] + b"\n" for at in starts]


class FrameReader:
    """Turns what comes from a serial line, in any pieces, into frames and text lines.

    Memory is bounded by `max_line` plus `max_message` (both in bytes). A frame may start anywhere
    in a line, after a prompt or after half a frame that was never finished.
    """

    def __init__(self, max_line: int = 1024, max_message: int = 16384) -> None:
        self.counters = FrameCounters()
        self._max_line = max_line
        self._max_message = max_message
        self._line = bytearray()
        self._packet: bytearray | None = None  # base64 so far of the frame being received

    def feed(self, data: bytes) -> list[SmpFrame | TextLine]:
        """Take the next bytes and return what they completed, in order of arrival."""
        found: list[SmpFrame | TextLine] = []
        first, *rest = data.split(b"\n")
        self._extend(first, found)
        for piece in rest:
            line = bytes(self._line)
            self._line.clear()
            self._read_line(line, found)
            self._extend(piece, found)
        return found

    def flush(self) -> list[SmpFrame | TextLine]:
        """Return what waits for a line end (a shell prompt, say), and forget a begun frame."""
        found: list[SmpFrame | TextLine] = []
        line = bytes(self._line)
        self._line.clear()
        self._read_line(line, found)
        self._drop_packet()
        return found

    def _extend(self, piece: bytes, found: list[SmpFrame | TextLine]) -> None:
        for at in range(0, len(piece), self._max_line):
            self._line += piece[at : at + self._max_line]
            if len(self._line) > self._max_line:
                self._shorten(found)

    def _shorten(self, found: list[SmpFrame | TextLine]) -> None:
        """A line without end: let go of what stands before its last marker."""
        self.counters.overlong += 1
        keep = max(self._line.rfind(FIRST), self._line.rfind(FURTHER))
        if keep < 0 or len(self._line) - keep > self._max_line:
            half_a_marker = self._line[-1:] in (FIRST[:1], FURTHER[:1])
            keep = len(self._line) - half_a_marker
        self._read_line(bytes(self._line[:keep]), found)
        del self._line[:keep]

    def _read_line(self, line: bytes, found: list[SmpFrame | TextLine]) -> None:
        marks = [*_MARKER.finditer(line)]
        self._add_text(line[: marks[0].start()] if marks else line, found)
        ends = [*(mark.start() for mark in marks[1:]), len(line)]
        for mark, end in zip(marks, ends, strict=False):
            self._read_chunk(mark.group(), line[mark.end() : end], found)

    def _read_chunk(self, marker: bytes, chunk: bytes, found: list[SmpFrame | TextLine]) -> None:
        if marker == FIRST:
            self._drop_packet()
            self._packet = bytearray()
        if self._packet is None:
            self.counters.stray += 1
            self.counters.garbage_bytes += len(chunk)
            return
        match = _BASE64.match(chunk)
        encoded = match.group() if match else b""
        self._packet += encoded
        surplus = self._finish_packet(found)
        self._add_text(surplus + chunk[len(encoded) :], found)

    def _finish_packet(self, found: list[SmpFrame | TextLine]) -> bytes:
        """Emit the frame when all of it is here; return the characters that are not part of it."""
        packet = self._packet
        if packet is None or len(packet) < 4:
            return b""
        try:
            length = int.from_bytes(binascii.a2b_base64(packet[:4])[:2], "big")
            if length > self._max_message + 2:
                self.counters.oversize += 1
                self.counters.garbage_bytes += len(packet)
                self._packet = None
                return b""
            needed = -(-(2 + length) // 3) * 4
            if len(packet) < needed:
                return b""
            self._packet = None
            body = binascii.a2b_base64(packet[:needed], strict_mode=True)[2:]
        except binascii.Error:
            self.counters.garbled += 1
            self.counters.garbage_bytes += len(packet)
            self._packet = None
            return b""
        message, crc = body[:-2], body[-2:]
        if length < 2 or len(body) != length:
            self.counters.garbled += 1
            self.counters.garbage_bytes += needed
        elif binascii.crc_hqx(message, 0) != int.from_bytes(crc, "big"):
            self.counters.bad_crc += 1
            self.counters.garbage_bytes += needed
        else:
            self.counters.frames += 1
            found.append(SmpFrame(message))
        return bytes(packet[needed:])

    def _drop_packet(self) -> None:
        if self._packet is not None:
            self.counters.incomplete += 1
            self.counters.garbage_bytes += len(self._packet)
            self._packet = None

    def _add_text(self, raw: bytes, found: list[SmpFrame | TextLine]) -> None:
        plain = _ANSI.sub(b"", raw)
        shown = _CONTROL.sub(b"", plain)
        text = shown.decode("utf-8", "replace")
        unprintable = len(plain) - len(shown) - plain.count(b"\r")
        self.counters.garbage_bytes += unprintable + text.count("\ufffd")
        text = text.strip()
        if text:
            found.append(TextLine(text))
