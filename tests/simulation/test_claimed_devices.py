"""An attempt that has several devices keeps other attempts off them, and says why they wait."""

import asyncio
import random

import pytest

from contract.lifecycle import TaskStatus
from contract.steps import AfterRestart
from gateway.actions.base import StepDone
from tests.kit.attempts import a_body, a_step, an_offer
from tests.kit.edge_rig import EdgeRig
from tests.kit.fake_cloud import FakeCloud, Weather
from tests.kit.virtual_time import run_in_virtual_time
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.row("E6")


class ClaimFirst:
    """Without a device of its own it has d0 and d1 for a while; with one it is done at once."""

    after_restart = AfterRestart.REPEAT

    def __init__(self) -> None:
        self.log: list[str] = []

    async def perform(self, call, reach):
        device = call.scope["device"].get("id")
        if device is not None:
            self.log.append(device)
            return StepDone()
        await reach.claim(["d0", "d1"])
        self.log.append("has both")
        await reach.sleep(20)
        self.log.append("lets go")
        return StepDone(memory={"together": {"d0": {}, "d1": {}}})


def a_rig(folder, *steps):
    rig = EdgeRig(folder, FakeCloud(a_body(*steps), random.Random(1), Weather()), 3, 1)
    claims = rig.actions["flow.claim"] = ClaimFirst()
    return rig, claims


def test_other_tasks_of_claimed_devices_wait_with_the_true_reason(tmp_path):
    rig, claims = a_rig(tmp_path, a_step("a", "flow.claim"))
    reasons: dict[int, str] = {}

    async def story():
        async with rig.running():
            rig.cloud.offer(an_offer(0, device=None, timeout=600_000))
            await wait_until_async(lambda: claims.log == ["has both"], 60)
            for ordinal, device in enumerate(("d0", "d1", "d2"), 1):
                rig.cloud.offer(an_offer(ordinal, device=device, timeout=600_000))

            def waits(ordinal):
                snapshot = list(rig.cloud.tasks.values())[ordinal].snapshot
                if snapshot and snapshot.waiting_for:
                    reasons[ordinal] = snapshot.waiting_for
                return ordinal in reasons

            await wait_until_async(lambda: waits(1) and waits(2), 60)
            await wait_until_async(lambda: rig.cloud.all_ended, 120)

    run_in_virtual_time(story())
    assert reasons == {1: "device_held", 2: "device_held"}
    assert claims.log[:3] == ["has both", "d2", "lets go"]
    assert sorted(claims.log[3:]) == ["d0", "d1"]
    assert {task.status for task in rig.cloud.tasks.values()} == {TaskStatus.SUCCEEDED}


def test_what_an_attempt_had_is_its_again_after_the_process_died(tmp_path):
    rig, claims = a_rig(
        tmp_path, a_step("a", "flow.claim"), a_step("b", "flow.delay", **{"with": {"for": 5}})
    )

    async def story():
        async with rig.running():
            rig.cloud.offer(an_offer(0, device=None, timeout=600_000))
            await wait_until_async(lambda: "lets go" in claims.log, 60)
            await asyncio.sleep(1)
        async with rig.running() as gateway:
            await asyncio.sleep(0.5)
            held = [gateway.supervisor.is_at_work(device) for device in ("d0", "d1", "d2")]
            assert held == [True, True, False]
            await wait_until_async(lambda: rig.cloud.all_ended, 120)
            assert not gateway.supervisor.is_at_work("d0")

    run_in_virtual_time(story())
