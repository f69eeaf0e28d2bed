"""Line-JSON over real ptys: several devices, one line, and everything that goes wrong on it."""

import asyncio
import os

import pytest

from firmware_sim.faults import Chatter, Faults, Silence, Unplug
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
from gateway.errors import (
    DeviceUnreachable,
    LineQuarantined,
    PortUnavailable,
    ReplyGarbled,
    StepInvalid,
)
from gateway.transports.serial_port import SerialPort
from tests.kit.line_rigs import line_rig
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.row("E3", "E4", "E8")
THREE = ("a", "b", "c")


def asked(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def test_three_devices_on_one_line_each_answer_for_themselves(tmp_path):
    async with line_rig(tmp_path, *THREE) as rig:
        facts = await rig.drivers["a"].open()
        assert facts.values == {"version": "1.0.0", "boot": "b1"}

        async def many(name):
            for number in range(20):
                text = f"{name} {number}"
                answer = await rig.ask(name, Command("echo", {"text": text}))
                assert answer == Answered({"echo": text})

        await asyncio.gather(*[many(name) for name in THREE])
        assert rig.line.counters.timeouts == rig.line.counters.strangers == 0


async def test_points_are_read_and_written_and_refusals_are_answers(tmp_path):
    async with line_rig(tmp_path, "a") as rig:
        read = await rig.ask("a", ReadPoints(("temperature", "voltage")))
        assert read == Answered({"values": {"temperature": 21.5, "voltage": 3.3}})
        written = await rig.ask("a", WritePoints({"setpoint": 19}))
        assert written == Answered({"values": {"setpoint": 19}})
        assert await rig.ask("a", ReadPoints(("setpoint",))) == written
        refused = await rig.ask("a", ReadPoints(("pressure",)))
        assert isinstance(refused, Refused)
        assert "pressure" in refused.text
        unknown = await rig.ask("a", Command("make_coffee"))
        assert isinstance(unknown, Refused)
        assert unknown.code == "verb_unsupported"
        for wrong in (ReadFirmware(), Command("echo", {"text": "x" * 5000})):
            with pytest.raises(StepInvalid):
                await rig.ask("a", wrong)


async def test_what_a_device_says_unasked_becomes_its_own_log(tmp_path):
    async with line_rig(tmp_path, "a", "b", faults={"b": Faults(log_noise=1.0)}) as rig:
        await rig.ask("a", Command("say", {"text": "hello"}))
        await rig.ask("b", Probe())
        await wait_until_async(lambda: rig.logs["a"] and rig.logs["b"], message="the logs")
        assert rig.logs["a"] == ["hello"]
        assert "still here" in rig.logs["b"][0]


NOISE = {
    "flips 1e-4": LineFaults(seed="1", flipped=1e-4),
    "flips 1e-3": LineFaults(seed="2", flipped=1e-3),
    "flips 1e-2": LineFaults(seed="3", flipped=1e-2),
    "drops": LineFaults(seed="4", dropped=3e-3),
    "doubles": LineFaults(seed="5", doubled=3e-3),
    "bursts": LineFaults(seed="6", bursts=0.3),
    "splits": LineFaults(seed="7", split=True),
    "echo": LineFaults(seed="8", echo=True),
    "all": LineFaults(
        seed="9", flipped=2e-3, dropped=1e-3, doubled=1e-3, bursts=0.2, split=True, echo=True
    ),
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE.keys())
async def test_noise_costs_time_and_nothing_else(tmp_path, noise):
    """Every command is answered by its own device with its own words, and done exactly once."""
    async with line_rig(tmp_path, *THREE, line_faults=noise, reply_wait_s=0.06, tries=200) as rig:

        async def many(name):
            for number in range(1, 5):
                text = f"{name} {number}"
                echoed = await rig.ask(name, Command("echo", {"text": text}))
                assert echoed == Answered({"echo": text})
                assert await rig.ask(name, Command("add")) == Answered({"total": number})

        await asyncio.gather(*[many(name) for name in THREE])
        assert [rig.devices[name].counters.done for name in THREE] == [4, 4, 4]
        if noise.echo:
            assert rig.line.counters.echoes > 20


async def test_on_a_hopeless_line_every_command_ends_in_its_time(tmp_path):
    async with line_rig(tmp_path, *THREE, line_faults=LineFaults(flipped=0.3)) as rig:
        loop, limit_s = asyncio.get_running_loop(), 0.4
        began_s = loop.time()
        for name in THREE:
            with pytest.raises(DeviceUnreachable):
                await rig.ask(name, Probe(), limit_s)
        # Each within its limit and one exchange of a neighbour; generous, the machine is busy.
        assert loop.time() - began_s < 30


async def test_a_late_reply_answers_nothing_else(tmp_path):
    slow = Faults(seed="3", late_replies=0.4, late_by_s=0.3, doubled_replies=0.3)
    async with line_rig(tmp_path, "a", "b", faults={"a": slow, "b": slow}) as rig:

        async def many(name):
            for number in range(1, 9):
                assert await rig.ask(name, Command("add")) == Answered({"total": number})

        await asyncio.gather(many("a"), many("b"))
        assert rig.line.counters.late > 0
        assert [rig.devices[name].counters.done for name in "ab"] == [8, 8]


async def test_a_command_is_done_once_even_when_the_link_was_given_up_between(tmp_path):
    """The same request asked for again by another driver of the same process keeps its id."""
    slow = Faults(late_replies=1.0, late_by_s=20.0)
    async with line_rig(tmp_path, "a", tries=4) as rig:
        assert await rig.ask("a", Command("add")) == Answered({"total": 1})
        rig.devices["a"].faults = slow
        with pytest.raises(DeviceUnreachable):
            await rig.ask("a", Command("add"))
        assert rig.devices["a"].counters.done == 2  # done, and its reply never came
        rig.devices["a"].faults = Faults()
        rig.drivers["a"] = again = rig.made("a", tries=20)
        await again.open()  # reads the version in between, which must not disturb the device
        answer = await again.perform(Command("add", {}, resumed=True), 20, lambda p, n: None)
        assert answer == Answered({"total": 2})
        assert rig.devices["a"].counters.done == 2


async def test_a_command_of_an_earlier_process_is_not_sent_twice(tmp_path):
    async with line_rig(tmp_path, "a") as rig:
        with pytest.raises(ReplyGarbled, match="twice"):
            await rig.ask("a", Command("add", {}, resumed=True))
        assert rig.devices["a"].counters.done == 0
        repeatable = Command("echo", {"text": "x"}, resumed=True)
        assert await rig.ask("a", repeatable) == Answered({"echo": "x"})


async def boots(unit):
    """Its power goes and comes back."""
    loop = asyncio.get_running_loop()
    unit.boot(loop.time())
    await wait_until_async(lambda: loop.time() > unit.up_at_s, message="the boot")


async def test_a_device_that_restarted_is_not_asked_twice_for_what_it_may_have_done(tmp_path):
    async with line_rig(tmp_path, "a") as rig:
        unit = rig.personality.units["a"]
        assert await rig.ask("a", Command("add")) == Answered({"total": 1})
        await boots(unit)
        # Refused by the new boot, so not done, so sent again: to the new boot.
        assert await rig.ask("a", Command("add")) == Answered({"total": 2})
        unit.device.faults = Faults(late_replies=1.0, late_by_s=5.0)
        adding = asked(rig.ask("a", Command("add")))
        await wait_until_async(lambda: unit.total == 3, message="the third")
        await boots(unit)
        unit.device.faults = Faults()
        with pytest.raises(ReplyGarbled, match="restarted"):
            await adding
        assert unit.total == 3


async def test_a_reset_is_done_once_and_its_lost_reply_is_no_riddle(tmp_path):
    lossy = Faults(seed="2", late_replies=0.5, late_by_s=0.4)
    async with line_rig(tmp_path, "a", faults={"a": lossy}) as rig:
        for boot in (2, 3, 4):
            assert isinstance(await rig.ask("a", Reset()), Answered)
            assert isinstance(await rig.ask("a", Probe()), Answered)
            assert rig.devices["a"].counters.boots == boot


async def test_long_work_on_one_device_leaves_the_line_to_its_neighbours(tmp_path):
    async with line_rig(tmp_path, *THREE, baud=57600) as rig:
        working = asked(rig.ask("a", Command("work", {"seconds": 1.5})))
        await wait_until_async(lambda: rig.devices["a"].counters.done, message="the work")
        for number in range(1, 11):
            for name in "bc":
                assert await rig.ask(name, Command("add")) == Answered({"total": number})
        assert not working.done()
        assert await working == Answered({"worked_s": 1.5})
        assert rig.devices["a"].counters.done == 1


async def test_the_port_is_let_go_of_by_the_last_and_taken_again_by_whoever_comes(tmp_path):
    async with line_rig(tmp_path, *THREE) as rig:
        for _ in range(20):
            assert isinstance(await rig.ask("a", Probe()), Answered)
            leaving = asked(rig.drivers["a"].close())
            coming = asked(rig.ask("b", Probe()))
            assert isinstance(await coming, Answered)
            await leaving
            assert rig.line.is_open
            await rig.drivers["b"].close()
            assert not rig.line.is_open
        assert rig.line.counters.timeouts == 0


async def test_a_silent_device_costs_its_neighbours_one_wait_a_turn(tmp_path):
    silent = {"a": Faults(silences=(Silence(after_requests=1),))}
    async with line_rig(tmp_path, *THREE, faults=silent) as rig:
        waiting = asked(rig.ask("a", Command("echo"), 30))
        for number in range(1, 6):
            assert await rig.ask("b", Command("add")) == Answered({"total": number})
        before = rig.line.counters.timeouts
        assert await rig.ask("c", Command("add")) == Answered({"total": 1})
        assert rig.line.counters.timeouts - before <= 2  # the boot is asked for first
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_replugged_line_has_another_name_behind_the_same_link(tmp_path):
    faults = LineFaults(unplugs=(Unplug(0.5, after_s=0.4),))
    async with line_rig(tmp_path, *THREE, line_faults=faults) as rig:
        first = os.path.realpath(rig.path)
        held = os.open(first, os.O_RDWR | os.O_NOCTTY)  # so that the old name stays taken
        try:
            assert await rig.ask("a", Command("add")) == Answered({"total": 1})
            await wait_until_async(lambda: not rig.path.exists(), message="unplugged")
            with pytest.raises(PortUnavailable):
                await rig.ask("a", Probe())

            async def is_back():
                try:
                    return await rig.ask("b", Command("add"), 5)
                except DeviceUnreachable:
                    return None

            back = await wait_until_async(is_back, message="the line to be back")
            assert back == Answered({"total": 1})
            assert os.path.realpath(rig.path) != first
            assert await rig.ask("a", Command("add")) == Answered({"total": 2})
        finally:
            os.close(held)


async def test_a_port_that_another_has_is_named(tmp_path):
    async with line_rig(tmp_path, "a") as rig:
        other = SerialPort(str(rig.path))
        await other.open()
        with pytest.raises(PortUnavailable, match=r"cannot open .*/line: another program has it"):
            await rig.ask("a", Probe())
        await other.close()
        assert isinstance(await rig.ask("a", Probe()), Answered)


async def test_a_chattering_line_is_left_alone_then_comes_back_by_itself(tmp_path):
    faults = LineFaults(chatters=(Chatter(0.3, 1.2, bytes_per_s=200_000),))
    async with line_rig(tmp_path, "a", line_faults=faults) as rig:
        assert isinstance(await rig.ask("a", Probe()), Answered)
        await wait_until_async(lambda: rig.buses.shut(rig.line.bus), message="quarantine")
        assert "chatters" in str(rig.buses.report()[rig.line.bus])
        assert not rig.line.is_open  # nobody listens to it
        with pytest.raises(LineQuarantined, match="left alone"):
            await rig.ask("a", Probe())

        async def is_back():
            try:
                return isinstance(await rig.ask("a", Probe()), Answered)
            except DeviceUnreachable:
                return False

        await wait_until_async(is_back, message="the line to be back")
        assert rig.buses.report() == {}


async def test_a_port_that_cannot_be_opened_is_tried_ever_more_rarely(tmp_path):
    async with line_rig(tmp_path, "a") as rig:
        rig.path.unlink()
        for _ in range(3):
            with pytest.raises(PortUnavailable):
                await rig.ask("a", Probe())
        with pytest.raises(LineQuarantined, match="cannot open"):
            await rig.ask("a", Probe())
