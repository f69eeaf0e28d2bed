"""Modbus devices, RTU or TCP: named points of a profile, read and written over a shared line.

A read may always be repeated. A write is repeated only if its points are read back, because then
the device itself says whether it has happened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from gateway.domain import modbus_points as points
from gateway.domain.modbus_points import Block, PointInvalid, Write
from gateway.domain.modbus_profile import ModbusProfile
from gateway.drivers.base import (
    Answered,
    Bus,
    Command,
    DeviceFacts,
    DeviceRequest,
    DriverKind,
    OnDeviceLog,
    OnProgress,
    Probe,
    ReadPoints,
    Refused,
    Surroundings,
    WritePoints,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, SettingsInvalid, StepInvalid
from gateway.transports.modbus_line import Exceptional, ModbusLine, NoReply, SerialPlace, TcpPlace

ANSWER_WITHIN_S: Final = 15.0
BUSY_PAUSE_S: Final = 0.2
# Modbus Application Protocol 1.1b3, section 7.
EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
BUSY: Final = frozenset({5, 6})
NOT_THERE: Final = frozenset({10, 11})

T = TypeVar("T")


class ModbusOptions(BaseModel):
    """How one Modbus device is reached: by `port` (RTU) or by `host` (TCP)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = Field(description="name of a profile of driver modbus")
    unit: int = Field(default=1, ge=0, le=255, description="its address on the line")
    port: str | None = Field(default=None, description="path of the serial port, best by-id")
    baud: int = Field(default=19200, ge=50, le=12_000_000)
    parity: Literal["N", "E", "O"] = Field(default="E", description="even is Modbus's own default")
    stopbits: Literal[1, 2] = 1
    local_echo: bool = Field(default=False, description="the line hears what we say (RS-485)")
    host: str | None = Field(default=None, description="of a device or gateway that speaks TCP")
    tcp_port: int = Field(default=502, ge=1, le=65535)
    reply_wait_s: float = Field(default=1.0, gt=0, le=60, description="wait for one reply")
    tries: int = Field(default=3, ge=1, le=20, description="how often a request is sent at most")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.port is None) == (self.host is None):
            raise ValueError("give `port` (a serial line) or `host` (TCP)")
        if self.port is not None and not 1 <= self.unit <= 247:
            raise ValueError("`unit` is 1 to 247 on a serial line")
        return self


class ModbusDriver:
    """One unit on a line."""

    def __init__(self, profile: ModbusProfile, options: ModbusOptions, line: ModbusLine) -> None:
        self.line = line
        self._profile = profile
        self._options = options

    @property
    def is_away(self) -> bool:
        return False  # it can only fall silent

    async def open(self) -> DeviceFacts:
        until_s = _now_s() + ANSWER_WITHIN_S
        self.line.join(self._options.unit)
        await self._probe(until_s)
        values: dict[str, JsonValue] = {}
        for block in points.blocks(self._profile, self._profile.facts):
            words = await self._read(block, until_s)
            if not isinstance(words, Refused):
                values |= points.values_in(self._profile, block, words)
        return DeviceFacts(values)

    async def close(self) -> None:
        self.line.leave(self._options.unit)

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        until_s = _now_s() + timeout_s
        self.line.join(self._options.unit)
        match request:
            case ReadPoints():
                return await self._read_points(request.names, until_s, on_progress)
            case WritePoints():
                return await self._write_points(request, until_s)
            case Probe():
                return await self._probe(until_s)
            case Command(name="read"):
                names = _names(request.parameters.get("points"))
                return await self._read_points(names, until_s, on_progress)
            case Command(name="write"):
                values = request.parameters.get("values")
                if not isinstance(values, dict) or not values:
                    raise StepInvalid("`write` takes `values`: an object of points and values")
                return await self._write_points(WritePoints(values, request.resumed), until_s)
            case Command():
                text = f"Modbus devices know read and write, not `{request.name}`"
                raise StepInvalid(text, "verb_unsupported")
        raise StepInvalid("Modbus devices only have points", "verb_unsupported")

    async def _probe(self, until_s: float) -> Answered | Refused:
        """A device that refuses is there."""
        assert self._profile.probe_name is not None
        (block,) = points.blocks(self._profile, [self._profile.probe_name])
        words = await self._read(block, until_s)
        return words if isinstance(words, Refused) else Answered()

    # -- reads

    async def _read_points(
        self, names: Sequence[str], until_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        self._check_names(names, "read")
        found: dict[str, JsonValue] = {}
        blocks = points.blocks(self._profile, names)
        for number, block in enumerate(blocks, start=1):
            words = await self._read(block, until_s)
            if isinstance(words, Refused):
                return words
            found |= points.values_in(self._profile, block, words)
            if len(blocks) > 1:
                on_progress(100 * number / len(blocks), f"{len(found)} of {len(names)} points")
        return Answered({"values": {name: found[name] for name in names}})

    async def _read(self, block: Block, until_s: float) -> Sequence[int] | Refused:
        unit, wait_s = self._options.unit, self._options.reply_wait_s
        return await self._tried(
            lambda left_s: self.line.read(unit, block, min(wait_s, left_s), left_s),
            until_s,
            f"{block} ({_listed(block.names)})",
        )

    # -- writes

    async def _write_points(self, request: WritePoints, until_s: float) -> Answered | Refused:
        values = request.values
        self._check_names(list(values), "write")
        try:
            points.writes(self._profile, values)  # before anything is asked of the device
        except PointInvalid as error:
            raise StepInvalid(str(error)) from error
        before = await self._bits_before(values, until_s)
        if isinstance(before, Refused):
            return before
        wanted = points.writes(self._profile, values, before)
        if request.resumed:
            told = await self._already(wanted, until_s)
            if told is not None:
                return told
        for write in wanted:
            refused = await self._write(write, until_s)
            if refused is not None:
                return refused
        return await self._read_back(values, wanted, until_s)

    async def _bits_before(
        self, values: Mapping[str, JsonValue], until_s: float
    ) -> dict[str, Sequence[int]] | Refused:
        """The registers of which only some bits are written, as they are."""
        found: dict[str, Sequence[int]] = {}
        for name in values:
            point = self._profile.points[name]
            if point.type == "bits" and not point.is_bit and point.is_readable:
                words = await self._read(Block(point.kind, point.address, 1, (name,)), until_s)
                if isinstance(words, Refused):
                    return words
                found[name] = words
        return found

    async def _already(self, wanted: Sequence[Write], until_s: float) -> Answered | None:
        """After a restart: what was written before counts, if the device can tell."""
        for write in wanted:
            if not self._is_read_back(write):
                text = f"{_listed(write.names)} may have been written before, and is not read back"
                raise ReplyGarbled(text)
            if not await self._holds(write, until_s):
                return None
        return Answered({"values": await self._values_of(wanted, until_s)})

    async def _write(self, write: Write, until_s: float) -> Refused | None:
        unit, wait_s = self._options.unit, self._options.reply_wait_s
        is_single = len(write.values) == 1 and self._profile.single_writes
        label = f"{write} ({_listed(write.names)})"

        async def once(left_s: float) -> None:
            wait = min(wait_s, left_s)
            try:
                await self.line.write(unit, write, wait, left_s, is_single=is_single)
            except NoReply as error:
                if not self._is_read_back(write):
                    text = f"{label} may have been written: {error}"
                    raise ReplyGarbled(text) from error
                if not await self._holds(write, until_s):
                    raise

        outcome = await self._tried(once, until_s, label)
        return outcome if isinstance(outcome, Refused) else None

    async def _read_back(
        self, values: Mapping[str, JsonValue], wanted: Sequence[Write], until_s: float
    ) -> Answered | Refused:
        told = [write for write in wanted if self._is_read_back(write)]
        for write in told:
            if not await self._holds(write, until_s):
                read = await self._values_of([write], until_s)
                text = f"after the write, the device reads {read}"
                return Refused("device_refused", text)
        return Answered({"values": {**values, **await self._values_of(told, until_s)}})

    async def _holds(self, write: Write, until_s: float) -> bool:
        """Whether the device reads what this writes."""
        block = Block(write.kind, write.address, len(write.values), write.names)
        words = await self._read(block, until_s)
        return not isinstance(words, Refused) and tuple(words) == write.values

    async def _values_of(self, wanted: Sequence[Write], until_s: float) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {}
        for block in points.blocks(self._profile, [name for w in wanted for name in w.names]):
            words = await self._read(block, until_s)
            if not isinstance(words, Refused):
                found |= points.values_in(self._profile, block, words)
        return found

    def _is_read_back(self, write: Write) -> bool:
        return all(self._profile.points[name].read_back for name in write.names)

    # -- both

    async def _tried(
        self, once: Callable[[float], Awaitable[T]], until_s: float, label: str
    ) -> T | Refused:
        """Ask again while nobody answers or the device is busy, as often and as long as we may."""
        silent = 0
        while True:
            left_s = until_s - _now_s()
            if left_s <= 0:
                raise DeviceUnreachable(f"no time left for {label}")
            try:
                return await once(left_s)
            except NoReply as error:
                silent += 1
                if silent >= self._options.tries:
                    text = f"unit {self._options.unit} does not answer, asked {silent} times"
                    raise DeviceUnreachable(f"{text} for {label}: {error}") from error
            except Exceptional as error:
                text = f"{_name_of(error.code)}: {label}"
                if error.code in NOT_THERE:
                    raise DeviceUnreachable(text) from error
                if error.code not in BUSY or until_s - _now_s() < BUSY_PAUSE_S:
                    return Refused("device_refused", text)
                await asyncio.sleep(BUSY_PAUSE_S)

    def _check_names(self, names: Sequence[str], how: Literal["read", "write"]) -> None:
        if not names:
            raise StepInvalid(f"name the points to {how}")
        for name in names:
            point = self._profile.points.get(name)
            if point is None:
                near = get_close_matches(name, self._profile.points, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else ""
                text = f"profile {self._profile.name} has no point `{name}`{hint}"
                raise StepInvalid(text)
            if not (point.is_readable if how == "read" else point.is_writable):
                verb = "read" if how == "read" else "written"
                raise StepInvalid(f"point `{name}` cannot be {verb}: its access is {point.access}")


def _names(given: JsonValue) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names:
        raise StepInvalid("`read` takes `points`: names of points")
    return [str(name) for name in names]


def _name_of(code: int) -> str:
    return f"{EXCEPTIONS.get(code, 'unknown exception')} (exception {code})"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _make(
    device: str, options: ModbusOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> ModbusDriver:
    profile = surroundings.profiles.get(options.profile)
    if not isinstance(profile, ModbusProfile):
        raise SettingsInvalid(f"device {device}: no Modbus profile `{options.profile}`")
    bus = _bus(options)
    line = surroundings.share(
        f"modbus {bus.name}", lambda: ModbusLine(bus.name, _place(options), surroundings.turns)
    )
    return ModbusDriver(profile, options, line)


def _place(options: ModbusOptions) -> SerialPlace | TcpPlace:
    if options.port is not None:
        return SerialPlace(
            options.port, options.baud, options.parity, options.stopbits, options.local_echo
        )
    assert options.host is not None
    return TcpPlace(options.host, options.tcp_port)


def _bus(options: ModbusOptions) -> Bus:
    seat = f"unit {options.unit}"
    if options.port is None:
        return Bus(f"tcp:{options.host}:{options.tcp_port}", seat)
    manners: dict[str, JsonValue] = {
        "baud": options.baud,
        "parity": options.parity,
        "stopbits": options.stopbits,
        "local_echo": options.local_echo,
    }
    return Bus(f"serial:{options.port}", seat, manners)


def _address(options: ModbusOptions) -> str:
    return f"{_bus(options).name.partition(':')[2]} unit {options.unit}"


KIND: Final = DriverKind(
    options=ModbusOptions,
    make=_make,
    summary="named points of Modbus RTU and TCP devices",
    address=_address,
    bus=_bus,
    profile=ModbusProfile,
    takes_turns=True,
)
