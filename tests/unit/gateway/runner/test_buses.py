"""Turns on a bus: one at a time, in order, and never for ever."""

import asyncio

import pytest

from gateway.errors import DeviceUnreachable, LineQuarantined
from gateway.runner.buses import Buses
from tests.kit.virtual_time import run_in_virtual_time


def test_devices_of_one_bus_take_turns_in_order():
    buses, order, inside = Buses(), [], []

    async def use(name):
        async with buses.hold("line", 60):
            inside.append(name)
            assert len(inside) == 1
            await asyncio.sleep(1)
            order.append(name)
            inside.remove(name)

    async def story():
        await asyncio.gather(*[use(n) for n in range(5)])

    run_in_virtual_time(story())
    assert order == [0, 1, 2, 3, 4]


def test_a_bus_that_stays_busy_is_told_and_left_in_order():
    buses = Buses()

    async def story():
        async with buses.hold("line", 1):
            assert buses.is_busy("line")
            with pytest.raises(DeviceUnreachable, match="busy"):
                async with buses.hold("line", 3):
                    pass
            async with buses.hold("another", 1):
                pass
        async with buses.hold("line", 1):
            pass
        assert not buses.is_busy("line")

    run_in_virtual_time(story())


def test_the_device_served_longest_ago_is_next_whoever_asked_first():
    """A device that asks again at once, chunk after chunk, lets its neighbours in between."""
    buses, order = Buses(), []

    async def use(device, times):
        for _ in range(times):
            async with buses.hold("line", 60, device):
                order.append(device)
                await asyncio.sleep(1)

    async def story():
        await asyncio.gather(use("upload", 6), use("upload", 6), use("a", 2), use("b", 2))

    run_in_virtual_time(story())
    assert order[:7] == ["upload", "a", "b", "upload", "a", "b", "upload"]


def test_a_wait_that_is_given_up_gives_its_turn_to_the_next():
    buses, done = Buses(), []

    async def use(device):
        async with buses.hold("line", 60, device):
            await asyncio.sleep(1)
            done.append(device)

    async def story():
        tasks = [asyncio.get_running_loop().create_task(use(name)) for name in "abc"]
        await asyncio.sleep(0.5)
        tasks[1].cancel()  # waits
        await asyncio.sleep(0.2)
        tasks[0].cancel()  # has the turn
        await asyncio.wait(tasks)
        assert not buses.is_busy("line")

    run_in_virtual_time(story())
    assert done == ["c"]


def test_a_line_in_quarantine_refuses_at_once_also_those_who_wait_and_is_tried_again():
    buses = Buses()

    async def story():
        loop = asyncio.get_running_loop()

        async def wait():
            async with buses.hold("line", 60, "b"):
                pass

        async with buses.hold("line", 60, "a"):
            waiting = loop.create_task(wait())
            await asyncio.sleep(0.1)
            for _ in range(3):
                buses.failed("line", "no such port")
        with pytest.raises(LineQuarantined, match="no such port"):
            await waiting
        assert "no such port" in str(buses.shut("line"))
        assert buses.report() == {"line": "no such port"}
        began_s = loop.time()
        with pytest.raises(LineQuarantined):
            async with buses.hold("line", 60, "a"):
                pass
        assert loop.time() == began_s
        await asyncio.sleep(2.1)
        assert buses.shut("line") is None
        assert buses.report() == {"line": "no such port"}  # until it works
        async with buses.hold("line", 60, "a"):
            buses.worked("line")
        assert buses.report() == {}

    run_in_virtual_time(story())
