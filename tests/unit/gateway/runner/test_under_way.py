"""Before an end that is no hurry, what may not be cut comes to its end, and nothing begins."""

import asyncio

from gateway.runner.under_way import UnderWay
from tests.kit.virtual_time import run_in_virtual_time


def test_a_fragile_step_is_waited_for_and_others_are_not():
    async def story():
        steps, log = UnderWay(), []

        async def step(holder, is_fragile, seconds):
            async with steps.step(holder, is_fragile):
                await asyncio.sleep(seconds)
                log.append(holder)

        async with asyncio.TaskGroup() as group:
            group.create_task(step("command", True, 5))
            upload = group.create_task(step("upload", False, 500))
            asks = group.create_task(step("asks", True, 500))
            await asyncio.sleep(1)
            assert await steps.quiet("asks", 30)
            assert log == ["command"]
            late = group.create_task(step("late", True, 0))
            await asyncio.sleep(60)
            assert not late.done()
            for each in (upload, asks, late):
                each.cancel()
        assert log == ["command"]

    run_in_virtual_time(story())


def test_the_waiting_has_an_end():
    async def story():
        steps = UnderWay()

        async def hang():
            async with steps.step("a", True):
                await asyncio.sleep(1_000)

        async with asyncio.TaskGroup() as group:
            hanging = group.create_task(hang())
            await asyncio.sleep(0)
            assert not await steps.quiet("b", 30)
            hanging.cancel()

    run_in_virtual_time(story())
