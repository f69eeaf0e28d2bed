"""Firmware jobs on devices whose bootloader does not swap, that hold several images, or none."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pytest

from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.faults import Faults, TestBoot
from firmware_sim.flash import UNBOOTABLE, Mode
from firmware_sim.images import build_image
from gateway.actions.base import Call, FetchedArtifact, StepDone, StepOutcome, StepRefused
from gateway.actions.registry import action_for
from tests.kit.device_rigs import Rig, smp_rig

ADDRESSES = (0x1_0000, 0x8_0000)
PER_SLOT = {"0": "2.0.0@0", "1": "2.0.0@1"}

pytestmark = pytest.mark.row("E6", "E9")


@lru_cache
def image(name: str) -> bytes:
    """`2.0.0`, linked for a slot as `2.0.0@1`, or another one of that version as `2.0.0/net`."""
    version, _, other = name.partition("/")
    version, _, slot = version.partition("@")
    return build_image(version, 3000, other, address=ADDRESSES[int(slot)] if slot else None)


class Reach:
    """What a step may touch, straight on the rig's driver; artifacts are named as images are."""

    def __init__(self, it: Rig, folder: Path) -> None:
        self._it = it
        self._folder = folder
        self.asked: list[str] = []

    async def ask_device(self, request, timeout_s, on_progress):
        self.asked.append(type(request).__name__)
        return await self._it.driver.perform(request, timeout_s, on_progress)

    async def fetch(self, artifact, on_progress):
        path, data = self._folder / artifact.replace("/", "_"), image(artifact)
        path.write_bytes(data)
        return FetchedArtifact(str(path), hashlib.sha256(data).hexdigest(), len(data), "")

    def progress(self, percent, note):
        assert 0 <= percent <= 100

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)

    def now_ms(self):
        return int(asyncio.get_running_loop().time() * 1000)


class Session:
    """Steps on one device, which remember what earlier ones did."""

    def __init__(self, it: Rig, folder: Path) -> None:
        self.device = it.device
        self.reach = Reach(it, folder)
        self._memory: dict[str, Any] = {}

    async def do(self, uses: str, **parameters: Any) -> StepOutcome:
        call = Call("a", uses, parameters, 60.0, False, {}, dict(self._memory))
        outcome = await action_for(uses).perform(call, cast(Any, self.reach))
        if isinstance(outcome, StepDone):
            self._memory |= outcome.memory
        return outcome

    async def done(self, uses: str, **parameters: Any) -> StepDone:
        outcome = await self.do(uses, **parameters)
        assert isinstance(outcome, StepDone), (uses, outcome)
        return outcome

    async def until_restarted(self) -> None:
        await self.done("firmware.test")
        await self.done("device.reset")
        await self.done("device.wait", until="online", timeout="20s")


@asynccontextmanager
async def session(folder, mode=Mode.SWAP, faults=None, further=0, bricked=False, **options):
    addresses = ADDRESSES if "slot_addresses" in options else None
    first = image("1.0.0@0" if addresses else "1.0.0")
    device = Device(
        Identity("pump-1", "pump"),
        flash.fresh(first, 100_000, mode, addresses),
        faults or Faults(),
        boot_time_s=0.05,
        further=[flash.fresh(image("1.0.0/net"), 50_000, mode) for _ in range(further)],
    )
    if bricked:
        device.flash = replace(device.flash, running=UNBOOTABLE)
    async with smp_rig(folder, device=device, **options) as it:
        yield Session(it, folder)


@pytest.mark.parametrize("mode", list(Mode))
async def test_one_job_fits_devices_of_every_mode(tmp_path, mode):
    async with session(tmp_path, mode) as it:
        assert (await it.done("firmware.upload", artifact="2.0.0")).result["uploaded"]
        await it.until_restarted()
        assert (await it.done("firmware.verify", version="2.0.0")).result["version"] == "2.0.0"
        assert (await it.done("firmware.confirm")).result["confirmed"] is True
        assert ("TestFirmware" in it.reach.asked) is mode.has_test
        assert it.device.flash.active_slot == (1 if mode.is_in_place else 0)
        assert not (await it.done("firmware.upload", artifact="2.0.0")).result["uploaded"]
        third = await it.done("firmware.upload", artifact="3.0.0")
        assert third.result["uploaded"]
        await it.until_restarted()
        assert (await it.done("firmware.verify", version="3.0.0")).result["version"] == "3.0.0"


@pytest.mark.parametrize("mode", [Mode.SWAP, Mode.DIRECT_XIP_REVERT])
async def test_an_image_on_test_goes_away_where_there_is_a_way_back(tmp_path, mode):
    async with session(tmp_path, mode) as it:
        await it.done("firmware.upload", artifact="2.0.0")
        await it.until_restarted()
        assert it.device.version == "2.0.0"
        assert (await it.done("firmware.rollback")).result["version"] == "1.0.0"
        assert it.device.version == "1.0.0"


@pytest.mark.parametrize("mode", [Mode.OVERWRITE, Mode.DIRECT_XIP, Mode.RAM_LOAD])
async def test_where_there_is_no_way_back_a_rollback_says_so(tmp_path, mode):
    async with session(tmp_path, mode) as it:
        await it.done("firmware.upload", artifact="2.0.0")
        await it.until_restarted()
        outcome = await it.do("firmware.rollback")
        assert isinstance(outcome, StepRefused)
        assert outcome.code == "device_refused"
        assert "bootloader" in outcome.text


async def test_a_crash_in_direct_xip_with_revert_is_reported_as_rolled_back(tmp_path):
    faults = Faults(test_boot=TestBoot.REVERTS)
    async with session(tmp_path, Mode.DIRECT_XIP_REVERT, faults) as it:
        await it.done("firmware.upload", artifact="2.0.0")
        await it.until_restarted()
        outcome = await it.do("firmware.verify")
        assert isinstance(outcome, StepRefused)
        assert outcome.code == "rolled_back"


@pytest.mark.parametrize("mode", [Mode.DIRECT_XIP, Mode.DIRECT_XIP_REVERT])
async def test_the_image_linked_for_the_free_slot_is_chosen(tmp_path, mode):
    async with session(tmp_path, mode, slot_addresses=list(ADDRESSES)) as it:
        await it.done("firmware.upload", artifact=PER_SLOT)
        await it.until_restarted()
        await it.done("firmware.verify", version="2.0.0")
        await it.done("firmware.confirm")
        assert it.device.flash.running.data == image("2.0.0@1")
        again = await it.done("firmware.upload", artifact=PER_SLOT)
        assert again.result["uploaded"] is False
        await it.done("firmware.upload", artifact={"0": "3.0.0@0", "1": "3.0.0@1"})
        await it.until_restarted()
        assert it.device.flash.running.data == image("3.0.0@0")


@pytest.mark.parametrize(
    ("artifact", "words"),
    [
        ("2.0.0@0", "linked for 0x10000, but slot 1 lies at 0x80000"),
        ({"1": "2.0.0@0"}, "linked for 0x10000"),
        ("0.9.0", "never 0.9.0"),
    ],
)
async def test_an_image_that_would_not_boot_is_refused_before_its_first_byte(
    tmp_path, artifact, words
):
    async with session(tmp_path, Mode.DIRECT_XIP, slot_addresses=list(ADDRESSES)) as it:
        outcome = await it.do("firmware.upload", artifact=artifact)
        assert isinstance(outcome, StepRefused)
        assert (outcome.code, words in outcome.text) == ("image_invalid", True), outcome.text
        assert it.device.counters.chunks_received == 0


async def test_several_images_are_tried_in_one_restart_and_kept_together(tmp_path):
    async with session(tmp_path, further=1) as it:
        await it.done("firmware.upload", artifact="2.0.0")
        await it.done("firmware.upload", artifact="2.1.0/net", image=1)
        boots = it.device.counters.boots
        await it.until_restarted()
        assert it.device.counters.boots == boots + 1
        await it.done("firmware.verify", version="2.0.0", image=0)
        net = await it.done("firmware.verify", version="2.1.0", image=1)
        assert (net.result["image"], net.result["version"]) == (1, "2.1.0")
        kept = await it.done("firmware.confirm")
        assert [(i["version"], i["confirmed"]) for i in kept.result["images"]] == [
            ("2.0.0", True),
            ("2.1.0", True),
        ]
        assert it.device.flash.is_confirmed
        assert it.device.further[0].is_confirmed
        missing = await it.do("firmware.upload", artifact="2.0.0", image=2)
        assert isinstance(missing, StepRefused)


async def test_several_images_go_back_together(tmp_path):
    async with session(tmp_path, further=1) as it:
        await it.done("firmware.upload", artifact="2.0.0")
        await it.done("firmware.upload", artifact="2.1.0/net", image=1)
        await it.until_restarted()
        assert "already" in (await it.done("device.reset")).note
        back = await it.done("firmware.rollback")
        assert [i["version"] for i in back.result["images"]] == ["1.0.0", "1.0.0"]
        assert (await it.done("firmware.rollback")).note


async def test_a_network_core_alone_is_updated(tmp_path):
    async with session(tmp_path, further=1) as it:
        await it.done("firmware.upload", artifact="2.1.0/net", image=1)
        await it.until_restarted()
        assert (await it.done("firmware.verify", version="2.1.0")).result["image"] == 1
        await it.done("firmware.confirm")
        assert (it.device.version, it.device.further[0].running.version) == ("1.0.0", "2.1.0")


async def test_a_device_without_an_application_is_recovered(tmp_path):
    async with session(tmp_path, bricked=True) as it:
        refused = await it.do("firmware.upload", artifact="2.0.0")
        assert isinstance(refused, StepRefused)
        assert "firmware.recover" in refused.text
        done = await it.done("firmware.recover", artifact="2.0.0", version="2.0.0")
        assert (done.result["uploaded"], done.result["version"]) == (True, "2.0.0")
        assert (it.device.version, it.device.in_recovery) == ("2.0.0", False)
        assert (await it.done("firmware.verify", version="2.0.0")).result["confirmed"] is True
        again = await it.done("firmware.recover", artifact="2.0.0")
        assert again.result["uploaded"] is False


async def test_a_recovery_that_was_cut_goes_on_over_restarts_and_lost_lines(tmp_path):
    faults = Faults(seed="3", lost_lines=0.02, reboot_after_chunks=(2,))
    async with session(tmp_path, faults=faults, bricked=True) as it:
        await it.done("firmware.recover", artifact="2.0.0")
        assert it.device.version == "2.0.0"


async def test_a_healthy_device_is_asked_into_recovery(tmp_path):
    async with session(tmp_path) as it:
        done = await it.done("firmware.recover", artifact="0.9.0")
        assert (done.result["version"], it.device.version) == ("0.9.0", "0.9.0")


async def test_an_image_of_another_version_never_recovers_anything(tmp_path):
    async with session(tmp_path, bricked=True) as it:
        outcome = await it.do("firmware.recover", artifact="2.0.0", version="2.0.1")
        assert isinstance(outcome, StepRefused)
        assert it.device.counters.chunks_received == 0
