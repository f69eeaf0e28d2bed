"""What every driver must do, whatever its protocol, asked of a simulated device in real bytes."""

import asyncio

import pytest

from firmware_sim.faults import Faults, Silence, Unplug
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
from tests.kit.waiting import wait_until_async

DRIVERS = ["smp", "mqtt"]


@pytest.fixture(params=DRIVERS)
def rig(request, tmp_path):
    """Make the rig of each driver in turn; used as a context manager."""
    if request.param == "smp":
        return lambda faults=None: smp_rig(tmp_path, faults)
    broker = request.getfixturevalue("nats")
    return lambda faults=None: mqtt_rig(tmp_path, broker, faults)


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


async def test_silence_is_raised_in_time_and_forgotten_when_it_ends(rig):
    async with rig(Faults(silences=(Silence(after_requests=1, requests=6),))) as it:
        with pytest.raises(DeviceUnreachable):
            await it.ask(Probe(), 0.6)
        await online_again(it)
        assert isinstance(await it.ask(Command("version")), Answered)


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


async def test_a_device_that_is_not_there_is_unreachable(rig):
    async with rig(Faults(silences=(Silence(after_requests=1),))) as it:
        with pytest.raises(GatewayError):
            await it.ask(Command("version"), 0.6)
        with pytest.raises(DeviceUnreachable):
            await it.ask(Probe(), 0.6)
        await it.driver.close()
        await it.driver.close()
