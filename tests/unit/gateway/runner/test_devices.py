"""One device of the gateway: what it reports of itself, and when its line is let go of."""

import pytest

from gateway.domain.facts import Instant
from gateway.drivers.base import (
    Answered,
    DeviceFacts,
    FirmwareImage,
    FirmwareState,
    Probe,
    ReadFirmware,
)
from gateway.errors import DeviceUnreachable, LineQuarantined, PortUnavailable
from gateway.runner.buses import Buses
from gateway.runner.devices import Device, DeviceHandle


class Pump:
    """A driver without a device: `version` is what it runs."""

    def __init__(self):
        self.version, self.is_away, self.opened, self.closed = "1.0.0", False, 0, 0

    async def open(self):
        self.opened += 1
        return DeviceFacts({"version": self.version, "hash": "", "confirmed": True, "baud": 9600})

    async def perform(self, request, timeout_s, on_progress):
        if isinstance(request, ReadFirmware):
            image = FirmwareImage(0, self.version, active=True, confirmed=True)
            return Answered(firmware=FirmwareState((image,)))
        return Answered()

    async def close(self):
        self.closed += 1


@pytest.fixture
def pump():
    return Pump()


def handle_of(pump, **options):
    return DeviceHandle(Device("pump-1", lambda _: pump, **options), Buses(), lambda: Instant(1, 1))


async def ask(handle, request):
    return await handle.ask(request, 5, lambda percent, note: None, lambda: None)


@pytest.mark.row("E6")
async def test_a_version_that_was_read_back_is_reported_at_once_and_once(pump):
    handle = handle_of(pump)
    await ask(handle, ReadFirmware())
    assert [state.values["version"] for state in handle.take_states()] == ["1.0.0"]
    pump.version = "2.0.0"
    await ask(handle, ReadFirmware())
    await ask(handle, ReadFirmware())
    (state,) = handle.take_states()
    assert (state.values["version"], state.values["baud"]) == ("2.0.0", 9600)
    assert handle.scope()["attributes"]["version"] == "2.0.0"


async def test_a_line_is_let_go_of_when_there_is_no_work_and_a_shared_connection_is_not(pump):
    line, shared = handle_of(pump), handle_of(pump, keeps_open=True)
    await ask(line, Probe())
    await line.rest()
    assert (pump.closed, line.is_open) == (1, False)
    await ask(shared, Probe())
    await shared.rest()
    assert (pump.closed, shared.is_open) == (1, True)


async def test_a_device_that_said_it_is_away_is_looked_for_again(pump):
    handle = handle_of(pump, keeps_open=True)
    await handle.open()
    pump.is_away = True
    assert not handle.is_open
    await handle.open()
    assert (pump.opened, pump.closed) == (2, 1)


async def test_a_port_that_cannot_be_opened_is_left_alone_a_silent_device_is_not(pump):
    buses = Buses()
    problems = iter([DeviceUnreachable("silent")] * 5 + [PortUnavailable("no such port")] * 3)

    async def open_it():
        raise next(problems)

    pump.open = open_it
    device = Device("pump-1", lambda _: pump, bus="serial:/dev/ttyUSB0")
    handle = DeviceHandle(device, buses, lambda: Instant(1, 1))
    for _ in range(8):
        with pytest.raises(DeviceUnreachable):
            await handle.open()
    with pytest.raises(LineQuarantined, match="no such port"):
        await handle.open()
    assert handle.link.status == "down"
    assert buses.report() == {"serial:/dev/ttyUSB0": "no such port"}


async def test_a_driver_that_takes_its_own_turns_is_not_kept_from_them(pump):
    buses = Buses()
    device = Device("pump-1", lambda _: pump, bus="line", takes_turns=True)
    handle = DeviceHandle(device, buses, lambda: Instant(1, 1))
    async with buses.hold("line", 1, "a neighbour"):
        await handle.open()
        await handle.ask(Probe(), 1, lambda percent, note: None, lambda: None)
    assert pump.opened == 1
