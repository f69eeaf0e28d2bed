"""Line-JSON: one JSON object a line with a CRC-32, for several addressed devices on one line.

Commands and replies are matched by id and address; a device may also speak unasked (events). The
frame is described in docs/reference/line-json.md.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn

from pydantic import JsonValue

MAX_LINE: Final = 4096
# The last member of every object; the checksum is over all bytes before it.
_TAIL: Final = re.compile(rb',"crc":"([0-9a-f]{8})"\}\Z')
_TAIL_SIZE: Final = 18
_WORD: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

# A request names the boot it is meant for; a device that has restarted since refuses by this code.
REBOOTED: Final = "rebooted"

Problem = Literal["no_frame", "bad_crc", "malformed", "overlong"]


class LineInvalid(Exception):
    """A line that is no frame. `problem` says why; the frame is as good as lost."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(text)
        self.problem: Problem = problem


@dataclass(frozen=True, slots=True)
class Request:
    """A command for the device at `to`. The same id again asks for the same reply once more.

    `boot`: the word of the boot it is meant for; None where the device tells none.
    """

    id: str
    to: str
    cmd: str
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    boot: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the device at `sender` says to the request `id`.

    `done` comes with a result, `refused` with a code and text, and `busy` while it is still at
    it, with `progress` in percent where it knows.
    """

    id: str
    sender: str
    state: Literal["done", "refused", "busy"] = "done"
    result: JsonValue = None
    code: str = ""
    text: str = ""
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What a device says unasked: `log` lines with text, `state` with values, or its own kind."""

    sender: str
    event: str
    text: str = ""
    values: Mapping[str, JsonValue] = field(default_factory=dict)


Frame = Request | Reply | Event


@dataclass(slots=True)
class LineCounters:
    """What a `LineReader` has seen. `garbage_bytes` are those of lines that were no frames."""

    frames: int = 0
    no_frame: int = 0
    bad_crc: int = 0
    malformed: int = 0
    overlong: int = 0
    garbage_bytes: int = 0


def encode(frame: Frame, max_line: int = MAX_LINE) -> bytes:
    """The frame's line, after an empty one that ends whatever noise stands before it.

    Raises LineInvalid when it is longer than `max_line` bytes or holds what JSON has no name for.
    """
    try:
        text = json.dumps(_members(frame), separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise LineInvalid("malformed", f"not JSON: {error}") from error
    body = text[:-1].encode("ascii")
    if len(body) + _TAIL_SIZE > max_line:
        size = len(body) + _TAIL_SIZE
        raise LineInvalid("overlong", f"a line of {size} bytes is longer than {max_line}")
    return b'\n%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def decode(line: bytes) -> Frame:
    """The frame of one line, without its line end. Raises LineInvalid."""
    tail = _TAIL.search(line)
    if tail is None or line[:1] != b"{":
        raise LineInvalid("no_frame", "not an object that ends with its checksum")
    body = line[: tail.start()]
    if zlib.crc32(body) != int(tail.group(1), 16):
        raise LineInvalid("bad_crc", "the checksum is another")
    try:
        members = json.loads(body + b"}", parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise LineInvalid("malformed", f"not JSON: {error}") from error
    return _frame(members)


class LineReader:
    """Turns what comes from a line, in any pieces, into frames; never raises, forgets garbage.

    Memory is bounded by `max_line` bytes and what is fed at once.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self.counters = LineCounters()
        self._max_line = max_line
        self._line = bytearray()
        self._is_skipping = False

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return the frames they completed, in order."""
        found: list[Frame] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._extend(piece)
            self._end_line(found)
        self._extend(rest)
        return found

    def _extend(self, piece: bytes) -> None:
        if self._is_skipping:
            self.counters.garbage_bytes += len(piece)
            return
        self._line += piece
        # One more: a carriage return may stand before the line end.
        if len(self._line) > self._max_line + 1:
            self.counters.overlong += 1
            self.counters.garbage_bytes += len(self._line)
            self._line.clear()
            self._is_skipping = True

    def _end_line(self, found: list[Frame]) -> None:
        line = bytes(self._line).rstrip(b"\r")
        self._line.clear()
        self._is_skipping = False
        if not line:
            return
        try:
            found.append(decode(line))
        except LineInvalid as error:
            name = error.problem
            setattr(self.counters, name, getattr(self.counters, name) + 1)
            self.counters.garbage_bytes += len(line)
        else:
            self.counters.frames += 1


def _members(frame: Frame) -> dict[str, Any]:
    match frame:
        case Request():
            members = {"id": frame.id, "to": frame.to, "cmd": frame.cmd}
            boot = {} if frame.boot is None else {"boot": frame.boot}
            return members | boot | {"params": dict(frame.params)}
        case Reply():
            members = {"id": frame.id, "from": frame.sender}
            if frame.state == "done":
                return members | {"ok": True, "result": frame.result}
            if frame.state == "refused":
                return members | {"ok": False, "code": frame.code, "error": frame.text}
            progress = {} if frame.progress is None else {"progress": frame.progress}
            return members | {"busy": True} | progress
        case Event():
            members = {"from": frame.sender, "event": frame.event}
            text = {"text": frame.text} if frame.text else {}
            return members | text | ({"values": dict(frame.values)} if frame.values else {})


def _frame(members: Any) -> Frame:
    match members:
        case {"id": str(number), "to": str(to), "cmd": str(cmd)}:
            params, boot = members.get("params", {}), members.get("boot")
            if not isinstance(params, dict) or not isinstance(boot, str | None):
                raise LineInvalid("malformed", "params is an object, boot a word")
            return Request(_word(number), _word(to), _word(cmd), params, boot)
        case {"id": str(number), "from": str(sender), "busy": True}:
            progress = members.get("progress")
            is_number = isinstance(progress, int | float) and not isinstance(progress, bool)
            percent = min(max(progress, 0), 100) if is_number else None
            return Reply(_word(number), _word(sender), "busy", progress=percent)
        case {"id": str(number), "from": str(sender), "ok": True}:
            return Reply(_word(number), _word(sender), "done", result=members.get("result"))
        case {"id": str(number), "from": str(sender), "ok": False}:
            code, text = str(members.get("code", "")), str(members.get("error", ""))
            return Reply(_word(number), _word(sender), "refused", code=code, text=text)
        case {"from": str(sender), "event": str(event)}:
            values = members.get("values", {})
            if not isinstance(values, dict):
                raise LineInvalid("malformed", "values is an object")
            return Event(_word(sender), _word(event), str(members.get("text", "")), values)
    raise LineInvalid("malformed", "neither a request, a reply nor an event")


def _word(text: str) -> str:
    if _WORD.match(text) is None:
        raise LineInvalid("malformed", f"{text[:40]!r} is no word of up to 64 letters and digits")
    return text


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"{text[:40]} is too large")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
