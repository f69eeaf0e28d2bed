"""Modbus over real ptys and TCP: several units, one line, and everything that goes wrong on it."""

import asyncio
import contextlib
import random
from typing import Any

import pytest

from firmware_sim.faults import Faults, Silence, Unplug
from firmware_sim.line import LineFaults
from gateway.drivers.base import (
    Answered,
    Command,
    Probe,
    ReadFirmware,
    ReadPoints,
    Refused,
    Reset,
    WritePoints,
)
from gateway.errors import DeviceUnreachable, PortUnavailable, ReplyGarbled, StepInvalid
from gateway.transports.serial_port import SerialPort
from tests.kit.modbus_rigs import demo_profile, modbus_rig
from tests.kit.ports import free_port
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.row("E3", "E4")
LINES: dict[str, dict[str, Any]] = {
    "rtu": {},
    "rtu at 19200": {"baud": 19200},
    "tcp": {"is_tcp": True},
}
GOOD = tuple(name for name in demo_profile().points if name not in ("broken_sensor", "missing"))


@pytest.fixture(params=list(LINES.values()), ids=list(LINES))
def line(request):
    return request.param


async def test_points_are_read_and_written_in_their_own_units(tmp_path, line):
    async with modbus_rig(tmp_path, 1, **line) as rig:
        assert (await rig.drivers[1].open()).values == {"serial_number": "DRV-0042"}
        values = (await rig.ask(1, ReadPoints(GOOD))).result["values"]
        assert list(values) == list(GOOD)
        assert values["temperature"] == 21.5
        assert values["hours"] == 100_000
        assert values["state"] == {"ready": True, "running": False, "warning": True}
        written: dict[str, Any] = {
            "speed": 21.3, "ramp": 1.5, "position": -7, "torque_limit": 1.5, "energy": 2**40 + 3,
            "options": {"brake": True}, "label": "ab c", "enable": True, "lamp": True,
        }  # fmt: skip
        answer = await rig.ask(1, WritePoints(written))
        whole = {**written, "options": {"reverse": False, "brake": True, "remote": False}}
        assert answer == Answered({"values": whole})
        held = rig.units[1].registers
        assert (held.holding[0], held.holding[1], held.coils[0]) == (213, 150, 1)
        again = (await rig.ask(1, ReadPoints(GOOD))).result["values"]
        assert again == {**values, **whole}


async def test_neighbouring_points_cost_one_request(tmp_path):
    async with modbus_rig(tmp_path, 1) as rig:
        counters = rig.units[1].device.counters
        await rig.ask(1, ReadPoints(("speed", "ramp", "position", "torque_limit", "energy")))
        assert counters.requests == 1
        await rig.ask(1, ReadPoints(("fan", "lamp", "enable", "speed", "ramp")))
        assert counters.requests == 3


async def test_the_commands_read_and_write_are_the_same(tmp_path):
    async with modbus_rig(tmp_path, 1) as rig:
        told = await rig.ask(1, Command("write", {"values": {"speed": 30}}))
        assert told == Answered({"values": {"speed": 30}})
        assert await rig.ask(1, Command("read", {"points": ["speed"]})) == told
        assert await rig.ask(1, Command("read", {"points": "speed"})) == told
        assert await rig.ask(1, Probe()) == Answered()


async def test_an_exception_of_the_device_has_its_name(tmp_path, line):
    async with modbus_rig(tmp_path, 1, **line) as rig:
        refused = await rig.ask(1, ReadPoints(("missing",)))
        assert refused == Refused(
            "device_refused", "illegal data address (exception 2): holding 5000 (`missing`)"
        )
        refused = await rig.ask(1, ReadPoints(("speed", "broken_sensor")))
        assert isinstance(refused, Refused)
        assert refused.text.startswith("server device failure (exception 4)")
        assert isinstance(await rig.ask(1, ReadPoints(("speed",))), Answered)


async def test_a_busy_device_is_asked_again(tmp_path):
    async with modbus_rig(tmp_path, 1) as rig:
        held = rig.units[1].registers
        held.exceptions[0] = 6
        asyncio.get_running_loop().call_later(0.3, held.exceptions.pop, 0)
        assert await rig.ask(1, ReadPoints(("speed",))) == Answered({"values": {"speed": 150}})
        held.exceptions[0] = 6
        refused = await rig.ask(1, ReadPoints(("speed",)), 0.5)
        assert "server device busy" in refused.text


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ReadPoints(("sped",)), "did you mean `speed`"),
        (WritePoints({"temperature": 1}), "cannot be written"),
        (WritePoints({"speed": 500}), "above 400 Hz"),
        (WritePoints({"ramp": 1, "label": "too long a label"}), "8 fit"),
        (Command("read", {}), "names of points"),
        (Command("write", {"values": 3}), "an object"),
    ],
)
async def test_our_own_mistakes_never_reach_the_device(tmp_path, request_, said):
    async with modbus_rig(tmp_path, 1) as rig:
        with pytest.raises(StepInvalid) as caught:
            await rig.ask(1, request_)
        assert said in str(caught.value)
        assert rig.units[1].device.counters.requests == 0


async def test_what_modbus_has_not_is_unsupported(tmp_path):
    async with modbus_rig(tmp_path, 1) as rig:
        for request in (ReadFirmware(), Reset(), Command("make_coffee")):
            with pytest.raises(StepInvalid) as caught:
                await rig.ask(1, request)
            assert caught.value.code == "verb_unsupported"


async def test_units_of_one_line_each_answer_for_themselves(tmp_path, line):
    async with modbus_rig(tmp_path, 1, 2, 7, **line) as rig:

        async def many(unit):
            for number in range(5):
                value = unit * 10 + number
                done = await rig.ask(unit, WritePoints({"speed": value}))
                assert done == Answered({"values": {"speed": value}})
                assert await rig.ask(unit, ReadPoints(("speed",))) == done

        await asyncio.gather(*[many(unit) for unit in rig.units])
        assert [rig.units[n].registers.holding[0] for n in (1, 2, 7)] == [140, 240, 740]
        # One that lets go leaves the line to its neighbours.
        await rig.drivers[1].close()
        assert isinstance(await rig.ask(2, Probe()), Answered)
        assert isinstance(await rig.ask(1, Probe()), Answered)


NOISE = {
    "flips 1e-2": LineFaults(seed="3", flipped=1e-2),
    "drops": LineFaults(seed="4", dropped=5e-3),
    "doubles": LineFaults(seed="5", doubled=5e-3),
    "bursts": LineFaults(seed="6", bursts=0.15),
    "splits": LineFaults(seed="7", split=True),
    "all": LineFaults(seed="9", flipped=2e-3, dropped=1e-3, doubled=1e-3, bursts=0.1, split=True),
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE.keys())
async def test_noise_costs_time_and_nothing_else(tmp_path, noise):
    async with modbus_rig(tmp_path, 1, 2, line_faults=noise, reply_wait_s=0.08, tries=20) as rig:

        async def many(unit):
            for number in range(4):
                value = unit * 10 + number
                done = await rig.ask(unit, WritePoints({"speed": value, "position": -value}))
                assert done == Answered({"values": {"speed": value, "position": -value}})
                read = await rig.ask(unit, ReadPoints(("temperature", "hours", "fan")))
                assert read == Answered(
                    {"values": {"temperature": 21.5, "hours": 100_000, "fan": True}}
                )

        await asyncio.gather(many(1), many(2))


async def test_a_line_that_hears_itself(tmp_path):
    echoing = LineFaults(echo=True)
    async with modbus_rig(tmp_path, 1, 2, line_faults=echoing, local_echo=True) as rig:
        for number in range(5):
            done = await rig.ask(1, WritePoints({"speed": number, "ramp": number}))
            assert done == Answered({"values": {"speed": number, "ramp": number}})
            read = await rig.ask(2, ReadPoints(("hours",)))
            assert read == Answered({"values": {"hours": 100_000}})


async def test_late_and_doubled_replies_answer_nothing_else(tmp_path):
    """A reply of Modbus has no number: what is late is waited for before the next is asked."""
    slow = Faults(seed="3", late_replies=0.3, late_by_s=0.25, doubled_replies=0.3)
    async with modbus_rig(tmp_path, 1, faults={1: slow}, reply_wait_s=0.2) as rig:
        for number in range(3):
            await rig.ask(1, WritePoints({"speed": number}))
            read = await rig.ask(1, ReadPoints(("speed",)))
            assert read == Answered({"values": {"speed": number}})
            assert (await rig.ask(1, ReadPoints(("ramp",)))).result == {"values": {"ramp": 1}}


async def test_a_write_without_a_reply_is_told_by_reading_back(tmp_path):
    lossy = Faults(seed="11", lost_lines=0.4)
    async with modbus_rig(tmp_path, 1, faults={1: lossy}, reply_wait_s=0.1) as rig:
        for number in range(1, 5):
            done = await rig.ask(1, WritePoints({"speed": number}))
            assert done == Answered({"values": {"speed": number}})
            assert rig.units[1].registers.holding[0] == number * 10


async def test_a_write_that_is_not_read_back_is_sent_once_and_left_in_doubt(tmp_path):
    deaf = Faults(silences=(Silence(after_requests=1, requests=1),))
    async with modbus_rig(tmp_path, 1, faults={1: deaf}) as rig:
        with pytest.raises(ReplyGarbled, match="may have been written"):
            await rig.ask(1, WritePoints({"ramp": 2}))
        assert rig.units[1].device.counters.requests == 1


async def test_after_a_restart_a_write_is_read_back_first(tmp_path):
    async with modbus_rig(tmp_path, 1) as rig:
        rig.units[1].registers.holding[0] = 420
        told = await rig.ask(1, WritePoints({"speed": 42}, resumed=True))
        assert told == Answered({"values": {"speed": 42}})
        assert rig.units[1].device.counters.done == 0
        await rig.ask(1, WritePoints({"speed": 43}, resumed=True))
        assert rig.units[1].registers.holding[0] == 430
        with pytest.raises(ReplyGarbled, match="`ramp` may have been written"):
            await rig.ask(1, WritePoints({"ramp": 2}, resumed=True))


async def test_a_silent_unit_is_unreachable_in_time_and_harms_no_neighbour(tmp_path, line):
    gone = Faults(silences=(Silence(after_requests=1, requests=6),))
    async with modbus_rig(
        tmp_path, 1, 2, faults={2: gone}, tries=3, reply_wait_s=0.1, **line
    ) as rig:
        with pytest.raises(DeviceUnreachable, match="unit 2 does not answer"):
            await rig.ask(2, Probe())
        assert isinstance(await rig.ask(1, Probe()), Answered)
        with pytest.raises(DeviceUnreachable):
            await rig.drivers[2].open()
        assert isinstance(await rig.ask(2, Probe()), Answered)


async def test_a_tcp_gateway_says_that_a_unit_is_not_there(tmp_path):
    async with modbus_rig(tmp_path, 1, is_tcp=True) as rig:
        rig.made(9)
        with pytest.raises(DeviceUnreachable, match="target device failed to respond"):
            await rig.ask(9, Probe())


async def test_a_port_that_is_pulled_and_put_back_goes_on(tmp_path):
    cut = LineFaults(unplugs=(Unplug(0.5, after_s=0.4),))
    async with modbus_rig(tmp_path, 1, line_faults=cut) as rig:
        path = rig.place["port"]

        async def is_lost():
            try:
                await rig.ask(1, Probe(), 1)
            except PortUnavailable as error:
                assert path in str(error)
                return True
            except DeviceUnreachable:
                return False
            return False

        await wait_until_async(is_lost, message="the port to be gone")
        await rig.drivers[1].close()

        async def is_back():
            try:
                return isinstance(await rig.ask(1, Probe(), 1), Answered)
            except DeviceUnreachable:
                return False

        await wait_until_async(is_back, message="the port to be back")


async def test_a_tcp_server_that_drops_connections_goes_on(tmp_path):
    async with modbus_rig(tmp_path, 1, is_tcp=True) as rig:
        for _ in range(3):
            assert isinstance(await rig.ask(1, Probe()), Answered)
            rig.endpoint.cut()
            await asyncio.sleep(0)


async def test_a_port_in_use_and_a_port_that_is_not_there_are_named(tmp_path):
    async with modbus_rig(tmp_path, 1) as rig:
        port = SerialPort(rig.place["port"])
        await port.open()
        with pytest.raises(PortUnavailable, match="rs485"):
            await rig.ask(1, Probe(), 1)
        await port.close()
        rig.place = {"port": str(tmp_path / "none"), "parity": "N"}
        rig.made(1)
        with pytest.raises(PortUnavailable, match="no such port"):
            await rig.ask(1, Probe(), 1)
        rig.place = {"host": "127.0.0.1", "tcp_port": free_port()}
        rig.made(1)
        with pytest.raises(DeviceUnreachable, match="cannot connect"):
            await rig.ask(1, Probe(), 5)


@pytest.mark.parametrize("seed", range(2))
async def test_a_server_that_talks_nonsense_costs_time_only(tmp_path, seed):
    """Random bytes, and frames that are nearly right, in place of replies."""
    chance = random.Random(seed)

    async def babble(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readexactly(12):
                nearly = bytearray(head[:4] + b"\0\5" + head[6:8] + b"\2\0\0")
                nearly[chance.randrange(len(nearly))] = chance.randrange(256)
                data = chance.randbytes(chance.randrange(1, 300))
                writer.write(bytes(nearly) if chance.random() < 0.5 else data)
        writer.close()

    async with modbus_rig(tmp_path, 1, is_tcp=True) as rig:
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        rig.place = {"host": "127.0.0.1", "tcp_port": server.sockets[0].getsockname()[1]}
        rig.made(1, tries=2, reply_wait_s=0.05)
        upset: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: upset.append(what))
        for _ in range(40):
            try:
                answer = await rig.ask(1, ReadPoints(("speed",)), 1)
            except DeviceUnreachable:
                continue
            # Frames of a broken server that are whole are its word.
            assert isinstance(answer, Answered | Refused)
        server.close()
        assert upset == []
