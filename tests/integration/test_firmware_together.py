"""Updates of several devices, where it is hard: late refusals, silence, who may take part."""

from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.faults import Faults, Silence
from firmware_sim.flash import Mode
from gateway.actions.base import Call, StepDone, StepOutcome, StepRefused
from gateway.actions.registry import action_for
from gateway.drivers.base import ConfirmFirmware, Refused
from tests.integration.test_firmware_modes import Reach, image
from tests.kit.device_rigs import smp_rig

pytestmark = pytest.mark.row("E6")


class OfMember(Reach):
    refuses: type | None = None

    async def ask_device(self, request, timeout_s, on_progress):
        if self.refuses is not None and isinstance(request, self.refuses):
            return Refused("device_refused", "not now")
        return await super().ask_device(request, timeout_s, on_progress)

    async def perform(self, call):
        return await action_for(call.uses).perform(call, cast(Any, self))


class Plant:
    """Devices of one gateway, and steps about all of them that remember what earlier ones did."""

    def __init__(self) -> None:
        self.members: dict[str, OfMember] = {}
        self.devices: dict[str, Device] = {}
        self.claimed: list[str] = []
        self.timeout_s = 60.0
        self._memory: dict[str, Any] = {}

    async def claim(self, devices):
        self.claimed = list(devices)

    def member(self, device):
        return self.members[device]

    def keep(self, result):
        assert result["members"]

    def progress(self, percent, note):
        assert 0 <= percent <= 100

    async def do(self, part: str, **more: Any) -> StepOutcome:
        asked: list[Any] = [
            {"device": device, "artifact": "2.0.0", "version": "2.0.0", **more.get(device, {})}
            for device in self.members
        ]
        uses = f"firmware.{part}_together"
        call = Call(
            "a",
            uses,
            {"members": asked, "wait": "5s"},
            self.timeout_s,
            False,
            {},
            dict(self._memory),
        )
        outcome = await action_for(uses).perform(call, cast(Any, self))
        if isinstance(outcome, StepDone):
            self._memory |= outcome.memory
        return outcome

    def versions(self) -> list[tuple[str, bool]]:
        return [(d.version, d.flash.is_confirmed) for d in self.devices.values()]


@asynccontextmanager
async def plant(folder, *modes):
    """d0, d1 ... of these modes."""
    async with AsyncExitStack() as stack:
        made = Plant()
        for number, mode in enumerate(modes):
            name = f"d{number}"
            own = folder / name
            own.mkdir()
            fresh = flash.fresh(image("1.0.0"), 100_000, mode)
            device = Device(Identity(name), fresh, boot_time_s=0.05)
            it = await stack.enter_async_context(smp_rig(own, device=device, no_progress_s=2.0))
            made.members[name], made.devices[name] = OfMember(it, own), device
        yield made


async def until_switched(it: Plant) -> None:
    for part in ("stage", "switch"):
        outcome = await it.do(part)
        assert isinstance(outcome, StepDone), outcome


@pytest.mark.parametrize("mode", [Mode.SWAP, Mode.DIRECT_XIP_REVERT])
async def test_all_are_kept_and_the_last_step_leaves_them_so(tmp_path, mode):
    async with plant(tmp_path, mode, Mode.SWAP) as it:
        await until_switched(it)
        assert it.versions() == [("2.0.0", False)] * 2
        assert isinstance(await it.do("confirm"), StepDone)
        assert isinstance(await it.do("rollback"), StepDone)
        assert it.versions() == [("2.0.0", True)] * 2
        assert it.claimed == ["d0", "d1"]


async def test_a_confirmation_refused_at_last_is_made_good_where_there_is_a_fallback(tmp_path):
    async with plant(tmp_path, Mode.SWAP, Mode.SWAP) as it:
        await until_switched(it)
        it.members["d1"].refuses = ConfirmFirmware
        refused = await it.do("confirm", d1={"rank": 1})
        assert isinstance(refused, StepRefused)
        assert it.versions() == [("2.0.0", True), ("2.0.0", False)]
        truth = cast(Any, refused.result)["members"]
        assert (truth["d0"]["confirmed"], truth["d1"]["confirmed"]) == (True, False)

        without = await it.do("rollback")
        assert isinstance(without, StepRefused)
        assert "no other image" in without.text
        assert it.versions() == [("2.0.0", True), ("1.0.0", True)]

        back = await it.do("rollback", d0={"fallback": "1.0.0"})
        assert isinstance(back, StepDone), back
        assert it.versions() == [("1.0.0", True)] * 2


async def test_a_bootloader_that_never_goes_back_takes_no_part(tmp_path):
    async with plant(tmp_path, Mode.SWAP, Mode.RAM_LOAD) as it:
        outcome = await it.do("stage")
        assert isinstance(outcome, StepRefused)
        assert (outcome.code, "ram_load" in outcome.text) == ("step_invalid", True)
        assert it.devices["d1"].counters.chunks_received == 0
        done = await it.do("rollback")
        assert isinstance(done, StepDone)
        assert done.note
        assert it.versions() == [("1.0.0", True)] * 2


async def test_one_that_falls_silent_is_said_and_the_others_go_back(tmp_path):
    async with plant(tmp_path, Mode.SWAP, Mode.SWAP) as it:
        stage = await it.do("stage")
        it.devices["d1"].faults = Faults(silences=(Silence(after_requests=1),))
        assert isinstance(stage, StepDone), stage
        it.timeout_s = 5.0
        outcome = await it.do("switch", d1={"rank": 1})
        assert isinstance(outcome, StepRefused)
        assert outcome.code in ("device_unreachable", "step_timed_out")
        assert "unread" in cast(Any, outcome.result)["members"]["d1"]
        back = await it.do("rollback")
        assert isinstance(back, StepRefused)  # nobody knows of d1
        assert it.versions() == [("1.0.0", True)] * 2


async def test_an_image_on_test_from_before_is_no_beginning(tmp_path):
    async with plant(tmp_path, Mode.SWAP) as it:
        await until_switched(it)
        again = Plant()
        again.members, again.devices = it.members, it.devices
        outcome = await again.do("stage")
        assert isinstance(outcome, StepRefused)
        assert "on test" in outcome.text
