"""The loops bring a run to its end by themselves, one process at a time."""

import asyncio
import contextlib

import pytest

from cloud.app import new_id
from cloud.coordinator.changes import Changes
from cloud.coordinator.loops import Loops
from contract.lifecycle import RunStatus
from tests.integration.storage.world import World, snapshot
from tests.kit.waiting import wait_until_async


@contextlib.asynccontextmanager
async def running(world: World, changes: Changes, holder: str = "one"):
    loops = Loops(world.database, changes, lambda: world.now, new_id, holder)
    task = asyncio.ensure_future(loops.run())
    try:
        yield loops
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_run_is_filled_offered_and_ended(world: World):
    changes, woken = Changes(), asyncio.Event()
    changes.on_sending(woken.set)
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    async with running(world, changes):
        run = world.start(world.save(iteration={"concurrency": 2}), create=False)
        changes.touched(runs=[run])
        for number in (2, 1):
            async with asyncio.timeout(20):
                await woken.wait()
            await wait_until_async(lambda n=number: world.run(run).counts.in_flight == n)
            woken.clear()
            for task in world.send()["berlin"]:
                world.report("berlin", snapshot(task, "succeeded", 1))
            changes.touched(runs=[run])
        await wait_until_async(lambda: world.run(run).status is RunStatus.SUCCEEDED)
    world.check()


async def test_a_second_process_takes_over_when_the_first_stops(world: World):
    async with running(world, Changes(), "two") as second:
        await wait_until_async(lambda: second.is_coordinator)
    async with running(world, Changes(), "one") as first:
        await wait_until_async(lambda: first.is_coordinator)
        async with running(world, Changes(), "three") as third:
            assert not third.is_coordinator


async def test_trouble_of_one_loop_does_not_stop_the_others(world: World):
    world.join("berlin", ["pump-1"])

    class Broken(Loops):
        async def advance_runs(self) -> bool:
            raise ZeroDivisionError

    loops = Broken(world.database, Changes(), lambda: world.now, new_id, "one")
    run = world.start_new()
    task = asyncio.ensure_future(loops.run())
    await wait_until_async(lambda: world.run(run).counts.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_listener_hears_of_its_run_only():
    changes = Changes()
    with changes.listen("mine") as mine, changes.listen() as all_runs:
        changes.touched(runs=["another"])
        assert not await mine.wait(0)
        assert await all_runs.wait(1)
        changes.touched(runs=["mine"])
        assert await mine.wait(1)
        assert not await mine.wait(0)
