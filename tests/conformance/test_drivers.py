"""What every driver must do, whatever its protocol, asked of a simulated device in real bytes."""

import asyncio
from typing import Any, cast

import pytest

from firmware_sim.faults import Faults, Silence, TestBoot, Unplug
from gateway.actions.base import Call, FetchedArtifact, StepDone, StepRefused
from gateway.actions.registry import action_for
from gateway.drivers.base import (
    Answered,
    Command,
    ConfirmFirmware,
    Probe,
    ReadFirmware,
    Refused,
    Reset,
    RollbackFirmware,
    TestFirmware,
)
from gateway.errors import DeviceUnreachable, GatewayError, ReplyGarbled, StepInvalid
from tests.kit.device_rigs import mqtt_rig, smp_rig
from tests.kit.line_rigs import line_json_rig
from tests.kit.modbus_rigs import one_modbus_rig
from tests.kit.waiting import wait_until_async

WITH_FIRMWARE = ["smp", "mqtt"]
WITHOUT_FIRMWARE = ["line_json", "modbus"]
READ = Command("read", {"points": ["temperature"]})
# Which command of each only reads.
HARMLESS = {
    "smp": Command("version"),
    "mqtt": Command("version"),
    "line_json": READ,
    "modbus": READ,
}


def rig_of(name, request, tmp_path):
    """How the rig of a driver is made; used as a context manager."""
    rigs = {"smp": smp_rig, "line_json": line_json_rig, "modbus": one_modbus_rig}
    if name in rigs:
        return lambda faults=None: rigs[name](tmp_path, faults)
    broker = request.getfixturevalue("nats")
    return lambda faults=None: mqtt_rig(tmp_path, broker, faults)


@pytest.fixture(params=WITH_FIRMWARE)
def rig(request, tmp_path):
    """The drivers that can update firmware, in turn."""
    return rig_of(request.param, request, tmp_path)


@pytest.fixture(params=WITHOUT_FIRMWARE)
def plain_rig(request, tmp_path):
    return rig_of(request.param, request, tmp_path)


@pytest.fixture(params=[*WITH_FIRMWARE, *WITHOUT_FIRMWARE])
def any_rig(request, tmp_path):
    """Every driver in turn."""
    return rig_of(request.param, request, tmp_path)


@pytest.fixture
def harmless(any_rig, request):
    return HARMLESS[request.node.callspec.params["any_rig"]]


@pytest.fixture
def kind(rig, request):
    return request.node.callspec.params["rig"]


async def online_again(it):
    async def answers():
        try:
            return isinstance(await it.ask(Probe(), 2), Answered)
        except (DeviceUnreachable, ReplyGarbled):
            return False

    await wait_until_async(answers, message="the device to be back")


async def state(it):
    answer = await it.ask(ReadFirmware())
    assert isinstance(answer, Answered)
    assert answer.firmware is not None
    return answer.firmware


async def update(it):
    assert isinstance(await it.ask(it.upload, 60), Answered)
    assert isinstance(await it.ask(TestFirmware(it.upload.image_hash)), Answered)
    assert isinstance(await it.ask(Reset()), Answered)
    await online_again(it)


class Reach:
    """What a step may touch, straight on the rig's driver."""

    def __init__(self, it):
        self._it = it

    async def ask_device(self, request, timeout_s, on_progress):
        return await self._it.driver.perform(request, timeout_s, on_progress)

    async def fetch(self, artifact, on_progress):
        upload = self._it.upload
        return FetchedArtifact(str(upload.path), upload.sha256, upload.size, upload.url)

    def artifact_ref(self, artifact):
        return None

    def progress(self, percent, note):
        self._it.progress.append(percent)

    def log(self, level, text):
        return

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)

    def now_ms(self):
        return int(asyncio.get_running_loop().time() * 1000)


JOB = [
    ("device.command", {"name": "version"}),
    ("firmware.upload", {"artifact": "image"}),
    ("firmware.test", {}),
    ("device.reset", {}),
    ("device.wait", {"until": "online", "timeout": "20s"}),
    ("firmware.verify", {"version": "2.0.0"}),
    ("firmware.confirm", {}),
]


async def run_job(it, steps=JOB, memory=None):
    """Perform steps in order until one is not done; the outcomes."""
    outcomes, kept = [], dict(memory or {})
    for number, (uses, parameters) in enumerate(steps):
        call = Call(f"step-{number}", uses, parameters, 60.0, False, {}, kept)
        outcome = await action_for(uses).perform(call, cast(Any, Reach(it)))
        outcomes.append(outcome)
        if not isinstance(outcome, StepDone):
            break
        kept |= outcome.memory
    return outcomes


@pytest.mark.row("E6")
async def test_the_same_firmware_job_runs_on_every_driver_and_may_run_again(rig):
    async with rig() as it:
        assert len([o for o in await run_job(it) if isinstance(o, StepDone)]) == len(JOB)
        running = it.device.flash
        assert (it.device.version, running.is_confirmed) == ("2.0.0", True)
        chunks = it.device.counters.chunks_received
        again = await run_job(it)
        assert isinstance(again[-1], StepDone)
        assert it.device.counters.chunks_received == chunks


async def test_an_image_that_does_not_run_is_reported_as_rolled_back(rig):
    async with rig(Faults(test_boot=TestBoot.REVERTS)) as it:
        last = (await run_job(it))[-1]
        assert isinstance(last, StepRefused)
        assert last.code == "rolled_back"
        assert it.device.version == "1.0.0"


async def test_a_second_attempt_after_a_stop_in_the_test_boot_keeps_the_new_image(rig):
    """Attempt one ended after the restart; the next one must not restart once more."""
    async with rig() as it:
        await run_job(it, JOB[:5])
        assert (it.device.version, it.device.flash.is_confirmed) == ("2.0.0", False)
        last = (await run_job(it))[-1]
        assert isinstance(last, StepDone)
        assert (it.device.version, it.device.flash.is_confirmed) == ("2.0.0", True)


@pytest.mark.row("E6")
async def test_an_image_is_uploaded_tried_and_kept(rig):
    async with rig() as it:
        facts = await it.driver.open()
        assert facts.values["version"] == "1.0.0"
        await update(it)
        on_test = (await state(it)).active
        assert (on_test.version, on_test.confirmed) == ("2.0.0", False)
        assert isinstance(await it.ask(ConfirmFirmware()), Answered)
        kept = (await state(it)).active
        assert (kept.image_hash, kept.confirmed) == (it.upload.image_hash, True)
        assert it.progress[-1] == 100
        version = await it.ask(Command("version"))
        assert version.result["version"] == "2.0.0"


async def test_an_image_on_test_is_taken_back(rig):
    async with rig() as it:
        await update(it)
        answer = await it.ask(RollbackFirmware())
        assert isinstance(answer, Answered)
        assert isinstance(answer.result, dict)
        if answer.result["reset_needed"]:
            await it.ask(Reset())

        async def is_back():
            await online_again(it)
            return (await state(it)).active.version == "1.0.0"

        await wait_until_async(is_back, message="the image before")


async def test_a_refusal_is_an_answer(rig):
    async with rig(Faults(refuse_upload=9)) as it:
        answer = await it.ask(it.upload)
        assert isinstance(answer, Refused)
        assert answer.code == "image_refused"
        assert answer.text
        assert isinstance(await it.ask(Probe()), Answered)


async def test_an_unknown_command_is_our_mistake_or_the_devices_refusal(rig, kind):
    async with rig() as it:
        if kind == "smp":
            with pytest.raises(StepInvalid, match="know version") as caught:
                await it.ask(Command("make_coffee"))
            assert caught.value.code == "verb_unsupported"
        else:
            answer = await it.ask(Command("make_coffee"))
            assert isinstance(answer, Refused)
            assert "make_coffee" in answer.text


async def test_silence_is_raised_in_time_and_forgotten_when_it_ends(any_rig, harmless):
    async with any_rig(Faults(silences=(Silence(after_requests=1, requests=6),))) as it:
        with pytest.raises(DeviceUnreachable):
            await it.ask(Probe(), 0.6)
        await online_again(it)
        assert isinstance(await it.ask(harmless), Answered)


@pytest.mark.row("E4")
async def test_a_device_is_opened_asked_closed_and_opened_again(any_rig, harmless):
    async with any_rig() as it:
        for _ in range(2):
            await it.driver.open()
            assert not it.driver.is_away
            assert isinstance(await it.ask(Probe()), Answered)
            assert isinstance(await it.ask(harmless), Answered)
            await it.driver.close()
            await it.driver.close()


@pytest.mark.row("E4")
async def test_what_a_driver_cannot_do_is_unsupported_and_harms_nothing(plain_rig):
    async with plain_rig() as it:
        for request in (ReadFirmware(), it.upload, ConfirmFirmware()):
            with pytest.raises(StepInvalid) as caught:
                await it.ask(request)
            assert caught.value.code == "verb_unsupported"
        assert isinstance(await it.ask(Probe()), Answered)


async def test_a_question_that_is_given_up_leaves_a_driver_that_works(any_rig, harmless):
    slow = Faults(late_replies=1.0, late_by_s=0.1)
    async with any_rig(slow) as it:
        for _ in range(3):
            asking = asyncio.get_running_loop().create_task(it.ask(harmless))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert isinstance(await it.ask(harmless), Answered)


async def test_doubled_and_late_replies_answer_nothing_else(rig):
    faults = Faults(seed="3", doubled_replies=0.5, late_replies=0.2, late_by_s=0.4)
    async with rig(faults) as it:
        for number in range(12):
            text = f"no. {number}"
            answer = await it.ask(Command("echo", {"text": text}))
            assert answer.result == {"echo": text}


async def test_damage_on_the_way_costs_time_only(rig):
    faults = Faults(seed="5", corrupted_lines=0.05, lost_lines=0.02, log_noise=0.3)
    async with rig(faults) as it:
        assert isinstance(await it.ask(it.upload, 60), Answered)
        assert it.holds_new


@pytest.mark.parametrize("chunk", [1, 2, 30])
async def test_a_cut_at_any_step_ends_with_the_right_image(rig, kind, chunk):
    cut = Faults(unplugs=(Unplug(0.4, after_chunks=chunk),))
    if kind == "mqtt":
        cut = Faults(disconnect_after_requests=(min(chunk, 3),), disconnect_for_s=0.4)
    async with rig(cut) as it:
        assert isinstance(await it.ask(it.upload, 60), Answered)
        await state(it)
        assert it.holds_new


async def test_a_cancel_in_the_middle_leaves_a_driver_that_works(rig):
    async with rig() as it:
        uploading = asyncio.get_running_loop().create_task(it.ask(it.upload, 60))
        await wait_until_async(lambda: it.progress, message="the upload to begin")
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert isinstance(await it.ask(Probe()), Answered)
        assert isinstance(await it.ask(it.upload, 60), Answered)
        assert it.holds_new


async def test_a_device_that_is_not_there_is_unreachable(any_rig, harmless):
    async with any_rig(Faults(silences=(Silence(after_requests=1),))) as it:
        with pytest.raises(GatewayError):
            await it.ask(harmless, 0.6)
        with pytest.raises(DeviceUnreachable):
            await it.ask(Probe(), 0.6)
        await it.driver.close()
        await it.driver.close()
