"""Modbus devices on one line, or behind one TCP server: requests in, timed replies out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from firmware_sim.device import Device
from firmware_sim.faults import Unplug
from firmware_sim.line import Action, LineFaults, Send
from firmware_sim.modbus_server import (
    BROADCAST,
    TARGET_DID_NOT_RESPOND,
    Registers,
    RtuReader,
    rtu_frame,
)

BYTE_APART_S = 0.0002
# 3.5 characters at 9600 baud are 4 ms; a pty's bytes come with the jitter of a busy machine.
SILENCE_S = 0.05


@dataclass(frozen=True, slots=True)
class ModbusSettings:
    """`turnaround_s` before each reply."""

    turnaround_s: float = 0.002


@dataclass(slots=True)
class Unit:
    """One device and what its registers hold."""

    device: Device
    registers: Registers = field(default_factory=Registers)
    up_at_s: float = 0.0
    replies: int = 0


class ModbusPersonality:
    """Speaks for all units of one line. Call `boot` first, then `receive`, or `answer` for TCP."""

    def __init__(
        self, units: Mapping[int, Unit], faults: LineFaults, settings: ModbusSettings
    ) -> None:
        self.units = units
        self.faults = faults
        self.settings = settings
        self._reader = RtuReader(SILENCE_S)
        self._started_s = 0.0
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
        """Power on: every device starts, and the line's chatter is planned."""
        self._started_s = now_s
        for unit in self.units.values():
            unit.device.boot()
            unit.up_at_s = now_s + unit.device.boot_time_s
        return [*self.faults.chatter()]

    def receive(self, data: bytes, now_s: float) -> list[Action]:
        """Take bytes from a serial line; return what the devices do about them, in order."""
        actions: list[Action] = [Send(data)] if self.faults.echo else []
        heard = self.faults.spoil("in", data, self._bytes_in)
        self._bytes_in += len(data)
        bad_before = self._reader.bad_crc
        for address, pdu in self._reader.feed(heard, now_s):
            for reply, after_s in self.answer(address, pdu, now_s):
                actions += self._write(rtu_frame(address, reply), after_s)
        for unit in self.units.values():
            unit.device.counters.bad_crc += self._reader.bad_crc - bad_before
        return actions

    def answer(self, address: int, pdu: bytes, now_s: float) -> list[tuple[bytes, float]]:
        """The replies to a request, each with its delay in seconds. Broadcasts have none."""
        if address == BROADCAST:
            for unit in self.units.values():
                self._serve(unit, pdu, now_s)
            return []
        called = self.units.get(address)
        return [] if called is None else self._serve(called, pdu, now_s)

    def answer_tcp(self, address: int, pdu: bytes, now_s: float) -> list[tuple[bytes, float]]:
        """As a gateway to a line does it: a unit that is not there is answered for."""
        if address not in self.units and address != BROADCAST:
            function = pdu[0] if pdu else 0
            return [(bytes([function | 0x80, TARGET_DID_NOT_RESPOND]), 0.0)]
        return self.answer(address, pdu, now_s)

    def _serve(self, unit: Unit, pdu: bytes, now_s: float) -> list[tuple[bytes, float]]:
        device, faults = unit.device, unit.device.faults
        device.counters.frames += 1
        if now_s < unit.up_at_s:
            return []
        device.counters.requests += 1
        if faults.is_silent(device.counters.requests, now_s - self._started_s):
            return []
        reply, written = unit.registers.answer(pdu)
        if written is not None:
            device.counters.done += 1
            about = {"table": written.table, "address": written.address}
            device.experienced("write", {**about, "values": list(written.values)})
        unit.replies += 1
        after_s = self.settings.turnaround_s
        if faults.happens("lost reply", faults.lost_lines, unit.replies):
            return []
        if faults.happens("late", faults.late_replies, unit.replies):
            after_s += faults.late_by_s
        copies = 2 if faults.happens("doubled", faults.doubled_replies, unit.replies) else 1
        return [(reply, after_s)] * copies

    def _write(self, frame: bytes, after_s: float) -> list[Action]:
        self._writes += 1
        data = self.faults.burst(self._writes) + frame
        sent = self.faults.spoil("out", data, self._bytes_out)
        self._bytes_out += len(data)
        if not self.faults.split:
            return [Send(sent, after_s)]
        return [Send(sent[at : at + 1], after_s + at * BYTE_APART_S) for at in range(len(sent))]
