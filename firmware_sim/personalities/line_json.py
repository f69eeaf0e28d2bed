"""Line-JSON devices on one line: bytes in, timed actions out. Each hears only its own address.

A device does a command once: it keeps the reply to its last id, and refuses what was meant for an
earlier boot of its own. The frame: docs/reference/line-json.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contract.device.line_json import (
    REBOOTED,
    Event,
    Frame,
    LineReader,
    Reply,
    Request,
    encode,
)
from firmware_sim.device import Device
from firmware_sim.faults import CHATTER_EVERY_S, Chatter, Unplug
from firmware_sim.line import Action, LineFaults, Send

DOWN_AFTER_RESET_S: Final = 0.25
BYTE_APART_S: Final = 0.0005
BYTES_PER_S: Final = 11_520.0  # of a line of 115200 baud, if nothing else is known


@dataclass(frozen=True, slots=True)
class LineJsonSettings:
    """`turnaround_s` before each reply."""

    turnaround_s: float = 0.002


class _Refused(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Remembered:
    """A reply that is given once more when its id comes again; not before `works_s` have passed."""

    reply: Reply
    since_s: float
    works_s: float


@dataclass(slots=True)
class Unit:
    """One device on the line, with what its RAM holds."""

    device: Device
    points: dict[str, Any]
    up_at_s: float = 0.0
    resets_at_s: float | None = None
    # The last request that names its boot, and the last that names none: a version that is read
    # between two tries of a command must not make the device forget the command.
    last: dict[bool, "Remembered"] = field(default_factory=dict)
    works_s: float = 0.0
    replies: int = 0
    total: int = 0
    after: list[Event] = field(default_factory=list)
    babble: Chatter | None = None

    @property
    def address(self) -> str:
        return self.device.identity.id

    @property
    def boot_word(self) -> str:
        return f"b{self.device.counters.boots}"

    def boot(self, now_s: float) -> None:
        self.device.boot()
        self.up_at_s = now_s + self.device.boot_time_s
        self.resets_at_s = None
        self.last.clear()


class LineJsonPersonality:
    """Speaks for all devices of one line. Call `boot` first, then `receive`."""

    def __init__(
        self, devices: Sequence[Device], faults: LineFaults, settings: LineJsonSettings
    ) -> None:
        self.faults = faults
        self.settings = settings
        self.units = {device.identity.id: _unit(device) for device in devices}
        self._reader = LineReader()
        self._started_s: float | None = None
        self._bytes_in = 0
        self._bytes_out = 0
        self._writes = 0

    @property
    def unplugs(self) -> Sequence[Unplug]:
        return self.faults.unplugs

    def unplugged(self) -> None:
        for unit in self.units.values():
            unit.device.counters.unplugs += 1

    def boot(self, now_s: float) -> list[Action]:
        """Power on: every device of the line starts, and the line's chatter is planned."""
        self._started_s = now_s
        for unit in self.units.values():
            unit.boot(now_s)
        return [*self.faults.chatter()]

    def receive(self, data: bytes, now_s: float) -> list[Action]:
        """Take bytes from the line; return what the devices do about them, in order."""
        actions: list[Action] = [Send(data)] if self.faults.echo else []
        heard = self.faults.spoil("in", data, self._bytes_in)
        self._bytes_in += len(data)
        bad_before = self._reader.counters.bad_crc
        for frame in self._reader.feed(heard):
            unit = self.units.get(frame.to) if isinstance(frame, Request) else None
            if unit is not None and isinstance(frame, Request):
                actions += self._serve(unit, frame, now_s)
        for unit in self.units.values():
            unit.device.counters.bad_crc += self._reader.counters.bad_crc - bad_before
        return actions

    def _serve(self, unit: Unit, request: Request, now_s: float) -> list[Action]:
        if unit.resets_at_s is not None and now_s >= unit.resets_at_s:
            unit.boot(unit.resets_at_s)
        if now_s < unit.up_at_s:
            return []
        counters = unit.device.counters
        counters.frames += 1
        counters.requests += 1
        assert self._started_s is not None
        if unit.device.faults.is_silent(counters.requests, now_s - self._started_s):
            return []
        return self._say(unit, self._answer(unit, request, now_s))

    def _answer(self, unit: Unit, request: Request, now_s: float) -> Reply:
        if request.boot is not None and request.boot != unit.boot_word:
            text = f"meant for {request.boot}, this is {unit.boot_word}"
            return Reply(request.id, unit.address, "refused", code=REBOOTED, text=text)
        is_once = request.boot is not None
        last = unit.last.get(is_once)
        if last is not None and last.reply.id == request.id:
            unit.device.counters.repeats += 1
        else:
            unit.works_s = 0.0
            reply = self._perform(unit, request, now_s)
            last = unit.last[is_once] = Remembered(reply, now_s, unit.works_s)
        done_s = now_s - last.since_s
        if done_s < last.works_s:
            percent = round(100 * done_s / last.works_s, 1)
            return Reply(request.id, unit.address, "busy", progress=percent)
        return last.reply

    def _perform(self, unit: Unit, request: Request, now_s: float) -> Reply:
        try:
            result = self._result(unit, request.cmd, request.params, now_s)
        except _Refused as refused:
            return Reply(request.id, unit.address, "refused", code=refused.code, text=str(refused))
        return Reply(request.id, unit.address, result=result)

    def _result(self, unit: Unit, name: str, params: Mapping[str, Any], now_s: float) -> Any:
        device = unit.device
        match name:
            case "ping":
                return {}
            case "version":
                return {"version": device.version, "boot": unit.boot_word}
            case "echo":
                return {"echo": str(params.get("text", ""))}
            case "read":
                points = params.get("points")
                names = points if isinstance(points, list) else [params.get("point")]
                return {"values": {str(name): _point(unit, name) for name in names}}
            case "write":
                return self._write(unit, params)
            case "add":
                by = params.get("by", 1)
                unit.total += by if isinstance(by, int) else 1
                self._done(unit, name)
                return {"total": unit.total}
            case "work":
                seconds = params.get("seconds", 1)
                unit.works_s = seconds if isinstance(seconds, int | float) else 1.0
                self._done(unit, name)
                return {"worked_s": seconds}
            case "say":
                unit.after.append(Event(unit.address, "log", str(params.get("text", ""))))
                return {}
            case "babble":
                seconds = params.get("seconds", 1)
                for_s = float(seconds) if isinstance(seconds, int | float) else 1.0
                # At once: whatever is said meanwhile waits behind it.
                rate = min(for_s, 60.0) * BYTES_PER_S / CHATTER_EVERY_S
                unit.babble = Chatter(0.02, CHATTER_EVERY_S, rate)
                return {}
            case "reset":
                unit.resets_at_s = now_s + DOWN_AFTER_RESET_S
                self._done(unit, name)
                return {}
        raise _Refused("unknown_command", f"no command {name}")

    def _write(self, unit: Unit, params: Mapping[str, Any]) -> dict[str, Any]:
        values = params.get("values")
        if not isinstance(values, dict):
            raise _Refused("bad_parameters", "write takes `values`")
        for name in values:
            _point(unit, name)
        unit.points.update(values)
        self._done(unit, "write")
        return {"values": values}

    def _done(self, unit: Unit, name: str) -> None:
        """What changes something is counted, and written down where somebody asks for it."""
        unit.device.counters.done += 1
        unit.device.experienced("done", {"command": name})

    def _say(self, unit: Unit, reply: Reply) -> list[Action]:
        """The reply, and what the device says unasked after it, as the line makes of it."""
        unit.replies += 1
        faults, count = unit.device.faults, unit.replies
        after_s = self.settings.turnaround_s
        if faults.happens("late", faults.late_replies, count):
            after_s += faults.late_by_s
        frames: list[Frame] = [reply]
        if faults.happens("doubled", faults.doubled_replies, count):
            frames.append(reply)
        if faults.happens("noise", faults.log_noise, count):
            frames.append(Event(unit.address, "log", f"[{count:08d}] still here"))
        frames += unit.after
        unit.after.clear()
        written = [each for frame in frames for each in self._write_line(unit, frame, after_s)]
        babble, unit.babble = unit.babble, None
        return [*written, *([] if babble is None else self.faults.sends_of(babble))]

    def _write_line(self, unit: Unit, frame: Frame, after_s: float) -> list[Action]:
        data = encode(frame)  # never too long: it says no more than the request did
        self._writes += 1
        spoilt = unit.device.faults.spoil_line("out", data, self._writes)
        data = self.faults.burst(self._writes) + (spoilt if spoilt is not None else b"")
        sent = self.faults.spoil("out", data, self._bytes_out)
        self._bytes_out += len(data)
        if not self.faults.split:
            return [Send(sent, after_s)]
        return [Send(sent[at : at + 1], after_s + at * BYTE_APART_S) for at in range(len(sent))]


def _unit(device: Device) -> Unit:
    return Unit(device, {"temperature": 21.5, "setpoint": 20.0, "voltage": 3.3})


def _point(unit: Unit, name: object) -> Any:
    if name not in unit.points:
        raise _Refused("unknown_point", f"no point {name}")
    return unit.points[str(name)]
