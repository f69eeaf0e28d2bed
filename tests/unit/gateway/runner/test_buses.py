"""Turns on a bus: one at a time, in order, and never for ever."""

import asyncio

import pytest

from gateway.errors import DeviceUnreachable
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
