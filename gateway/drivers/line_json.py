"""Line-JSON devices: several of them on one serial line, asked in turns.

A request is sent again under its id until it is answered, and the device does it once: it keeps
the reply to its last id, and refuses what was meant for an earlier boot of its own.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contract.device.line_json import REBOOTED, Event, LineInvalid, Reply, Request, encode
from gateway.domain.plain_json import plain
from gateway.drivers.base import (
    Answered,
    Bus,
    Command,
    DeviceFacts,
    DeviceRequest,
    DriverKind,
    OnDeviceLog,
    OnProgress,
    OnValues,
    Probe,
    ReadPoints,
    Refused,
    Reset,
    Surroundings,
    WritePoints,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, StepInvalid
from gateway.transports.line_json_link import LineJsonLine
from gateway.transports.serial_port import SerialPort

ANSWER_WITHIN_S: Final = 15.0
PROBE_WITHIN_S: Final = 3.0
DOWN_AFTER_RESET_S: Final = 0.6
FIRST_POLL_S: Final = 0.1
LONGEST_POLL_S: Final = 2.0


class LineJsonOptions(BaseModel):
    """How one line-JSON device is reached. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: str = Field(description="path of the serial port, best by-id; devices may share it")
    address: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$", description="the device's own address on the line"
    )
    baud: int = Field(default=115200, ge=50, le=12_000_000)
    parity: Literal["N", "E", "O"] = "N"
    rtscts: bool = Field(default=False, description="hardware flow control")
    dtr: bool | None = Field(default=None, description="set the line on open; null leaves it")
    rts: bool | None = Field(default=None, description="set the line on open; null leaves it")
    reply_wait_s: float = Field(default=1.0, gt=0, le=60, description="wait for each reply")
    tries: int = Field(default=8, ge=1, le=1000, description="how often a request is sent")
    repeatable: list[str] = Field(
        default=["version", "ping", "echo", "read"],
        description="commands that do no harm when they are done twice, after a restart of ours",
    )


class LineJsonDriver:
    """One address on a shared line."""

    def __init__(
        self, device: str, options: LineJsonOptions, line: LineJsonLine, on_log: OnDeviceLog
    ) -> None:
        self.line = line
        self._device = device
        self._options = options
        self._on_log = on_log
        self._boot: str | None = None

    @property
    def is_away(self) -> bool:
        return False  # it can only fall silent

    async def open(self) -> DeviceFacts:
        self.line.join(self._options.address, self._heard)
        answer = await self._version(_now_s() + ANSWER_WITHIN_S)
        if isinstance(answer, Refused) or not isinstance(answer.result, dict):
            return DeviceFacts()
        return DeviceFacts(answer.result)

    async def close(self) -> None:
        await self.line.leave(self._options.address)

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        until_s = _now_s() + timeout_s
        self.line.join(self._options.address, self._heard)
        match request:
            case Command():
                return await self._command(request, until_s, on_progress)
            case ReadPoints(names):
                listed: list[JsonValue] = [*names]
                return await self._points(self._read("read", until_s, {"points": listed}))
            case WritePoints(values, resumed):
                write = Command("write", {"values": dict(values)}, resumed)
                return await self._points(self._command(write, until_s, on_progress))
            case Probe():
                return await self._read("ping", min(until_s, _now_s() + PROBE_WITHIN_S))
            case Reset():
                return await self._reset(request, until_s)
        raise StepInvalid("line-JSON devices take no firmware or jobs", "verb_unsupported")

    async def _points(self, asked: Awaitable[Answered | Refused]) -> Answered | Refused:
        answer = await asked
        values = answer.result if isinstance(answer, Answered) else {"values": {}}
        if not isinstance(values, dict) or not isinstance(values.get("values"), dict):
            raise ReplyGarbled("the reply holds no `values`")
        return answer

    async def _command(
        self, command: Command, until_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        parameters = dict(command.parameters)
        if command.name in self._options.repeatable:
            return await self._read(command.name, until_s, parameters)
        known = self.line.unanswered.pop(self._options.address, None)
        if command.resumed:
            # The device keeps the reply to its last id: asked again, it says what it said.
            if known is None or (known.cmd, known.params) != (command.name, parameters):
                text = f"`{command.name}` was sent before, and must not be sent twice"
                raise ReplyGarbled(text)
            return await _Asking(self, known, until_s, on_progress, sent=1).run()
        if self._boot is None:
            await self._version(min(until_s, _now_s() + ANSWER_WITHIN_S))
        request = self._request(command.name, parameters)
        return await _Asking(self, request, until_s, on_progress).run()

    async def _read(
        self, name: str, until_s: float, parameters: dict[str, JsonValue] | None = None
    ) -> Answered | Refused:
        """Ask what changes nothing: in whatever boot the device is."""
        request = Request(self.line.new_id(), self._options.address, name, parameters or {})
        return await _Asking(self, _sendable(request), until_s).run()

    async def _version(self, until_s: float) -> Answered | Refused:
        """Read the version, and with it the word of the device's boot, where it has one."""
        answer = await self._read("version", until_s)
        if isinstance(answer, Answered) and isinstance(answer.result, dict):
            boot = answer.result.get("boot")
            self._boot = boot if isinstance(boot, str) else None
        return answer

    async def _reset(self, reset: Reset, until_s: float) -> Answered | Refused:
        soon_s = min(until_s, _now_s() + ANSWER_WITHIN_S)
        if self._boot is None:
            await self._version(soon_s)
        parameters: dict[str, JsonValue] = {"force": True} if reset.force else {}
        asking = _Asking(self, self._request("reset", parameters), until_s)
        outcome: Answered | Refused
        try:
            outcome = await asking.run()
        except ReplyGarbled:
            if not asking.has_restarted:
                raise
            outcome = Answered()
        except DeviceUnreachable as error:
            raise ReplyGarbled(f"the reset was not answered: {error}") from error
        if isinstance(outcome, Answered):
            self._boot = None
            self.line.unanswered.pop(self._options.address, None)
            await asyncio.sleep(DOWN_AFTER_RESET_S)
        return outcome

    def _request(self, name: str, parameters: dict[str, JsonValue]) -> Request:
        return _sendable(
            Request(self.line.new_id(), self._options.address, name, parameters, self._boot)
        )

    def _heard(self, event: Event) -> None:
        """What the device says unasked goes to its log."""
        values = "" if not event.values else f" {plain(dict(event.values))}"
        kind = "" if event.event == "log" else f"{event.event} "
        self._on_log(f"{kind}{event.text}{values}".strip())

    async def send(self, request: Request, left_s: float) -> Reply | None:
        wait_s = min(self._options.reply_wait_s, left_s)
        return await self.line.exchange(request, wait_s, left_s)

    async def learn_boot(self, until_s: float) -> str | None:
        """Which boot the device is in now."""
        await self._version(until_s)
        return self._boot

    @property
    def tries(self) -> int:
        return self._options.tries


class _Asking:
    """One request until its outcome is known. `sent` counts how often it has gone out."""

    def __init__(
        self,
        driver: LineJsonDriver,
        request: Request,
        until_s: float,
        on_progress: OnProgress = lambda percent, note: None,
        sent: int = 0,
    ) -> None:
        self.has_restarted = False
        self._driver = driver
        self._request = request
        self._until_s = until_s
        self._on_progress = on_progress
        self._sent = sent

    async def run(self) -> Answered | Refused:
        """Raises DeviceUnreachable, ReplyGarbled (it may have been done, and nobody can tell)."""
        unanswered, poll_s = 0, FIRST_POLL_S
        self._remember()
        while unanswered < self._driver.tries and (left_s := self._until_s - _now_s()) > 0:
            reply = await self._driver.send(self._request, left_s)
            self._sent += 1
            match reply:
                case None:
                    unanswered += 1
                case Reply(state="busy"):
                    # The line is free for its neighbours until it is asked how far it is.
                    unanswered = 0
                    self._tell(reply)
                    await asyncio.sleep(min(poll_s, max(self._until_s - _now_s(), 0)))
                    poll_s = min(poll_s * 1.5, LONGEST_POLL_S)
                case Reply(state="refused", code=code) if code == REBOOTED and self._knows_boot:
                    await self._begin_anew()
                case Reply():
                    self._forget()
                    return _outcome(reply)
        raise DeviceUnreachable(f"no reply to {self._sent} requests of `{self._request.cmd}`")

    @property
    def _knows_boot(self) -> bool:
        return self._request.boot is not None

    def _remember(self) -> None:
        """Only a device that tells its boots is sure not to do an old request a second time."""
        if self._knows_boot:
            self._driver.line.unanswered[self._request.to] = self._request

    def _forget(self) -> None:
        unanswered = self._driver.line.unanswered
        if unanswered.get(self._request.to) is self._request:
            del unanswered[self._request.to]

    def _tell(self, reply: Reply) -> None:
        if reply.progress is not None:
            self._on_progress(reply.progress, "the device is at it")

    async def _begin_anew(self) -> None:
        """The device restarted since we last heard of its boot: what was sent before is in doubt.

        A request that went out once was refused, and may be sent to the new boot.
        """
        if self._sent > 1:
            self.has_restarted = True
            self._forget()
            raise ReplyGarbled(f"the device restarted while `{self._request.cmd}` was sent")
        request, line = self._request, self._driver.line
        boot = await self._driver.learn_boot(self._until_s)
        self._request = Request(line.new_id(), request.to, request.cmd, request.params, boot)
        self._sent = 0
        self._remember()


def _outcome(reply: Reply) -> Answered | Refused:
    if reply.state == "done":
        return Answered(plain(reply.result))
    code = "verb_unsupported" if reply.code == "unknown_command" else "device_refused"
    said = " ".join(part for part in (reply.text, f"({reply.code})" if reply.code else "") if part)
    return Refused(code, said or "the device refused without a word")


def _sendable(request: Request) -> Request:
    try:
        encode(request)
    except LineInvalid as error:
        raise StepInvalid(f"device.command: {error}") from error
    return request


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _bus(options: LineJsonOptions) -> Bus:
    manners: dict[str, JsonValue] = {
        "baud": options.baud,
        "parity": options.parity,
        "rtscts": options.rtscts,
        "dtr": options.dtr,
        "rts": options.rts,
    }
    return Bus(f"serial:{options.port}", f"address {options.address}", manners)


def _line(options: LineJsonOptions, surroundings: Surroundings) -> LineJsonLine:
    name = _bus(options).name

    def make_line() -> LineJsonLine:
        port = SerialPort(
            options.port,
            options.baud,
            dtr=options.dtr,
            rts=options.rts,
            parity=options.parity,
            rtscts=options.rtscts,
        )
        prefix = surroundings.new_id()
        return LineJsonLine(name, port, surroundings.turns, prefix, options.baud / 10)

    return surroundings.share(name, make_line)


def _make(
    device: str, options: LineJsonOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> LineJsonDriver:
    return LineJsonDriver(device, options, _line(options, surroundings), on_log)


class _Listening:
    """The values in what one address says unasked; its log lines are no state."""

    def __init__(self, address: str, line: LineJsonLine, on_values: OnValues) -> None:
        self._address = address
        self._line = line
        self._on_values = on_values

    async def keep(self) -> None:
        await self._line.listen(self._address, self._heard)

    async def close(self) -> None:
        await self._line.listen_no_more(self._address)

    def _heard(self, event: Event) -> None:
        values = plain(dict(event.values))
        if event.event != "log" and isinstance(values, dict) and values:
            self._on_values(values)


def _listen(
    device: str, options: LineJsonOptions, surroundings: Surroundings, on_values: OnValues
) -> _Listening:
    return _Listening(options.address, _line(options, surroundings), on_values)


def _address(options: LineJsonOptions) -> str:
    return f"{options.port}#{options.address}"


KIND: Final = DriverKind(
    LineJsonOptions,
    _make,
    "JSON lines with a checksum, several devices on one serial line",
    address=_address,
    bus=_bus,
    takes_turns=True,
    listen=_listen,
)
