"""What every shipped MQTT profile must do, asked of a simulated device of its family."""

import pytest

from firmware_sim.faults import Faults, Silence, TestBoot
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
from gateway.errors import DeviceUnreachable, GatewayError, ReplyGarbled, StepInvalid
from tests.kit.family_rigs import family_rig, shipped_profile
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.row("E3", "E4", "E9")

ALL = ["tasmota", "shelly_gen2", "zigbee2mqtt", "esphome", "shelly_gen1", "losant", "thingsboard"]
RELAYS = ALL[:5]
UPDATED = ["tasmota", "shelly_gen2", "zigbee2mqtt", "thingsboard"]
OWN_UPDATE = {"esphome": "install_update", "shelly_gen1": "update_fw"}
NEW = {"zigbee2mqtt": "33554432"}


@pytest.fixture
def rig(tmp_path, nats):
    return lambda family, *faults, **more: family_rig(family, tmp_path, nats, *faults, **more)


async def version(it):
    answer = await it.ask(ReadFirmware())
    assert isinstance(answer, Answered)
    return answer.firmware.active.version


async def runs_new(it, family):
    async def is_new():
        try:
            return await version(it) == NEW.get(family, "2.0.0")
        except (DeviceUnreachable, ReplyGarbled):
            return False

    await wait_until_async(is_new, message="the new version")


@pytest.mark.parametrize("family", ALL)
async def test_the_version_is_read(rig, family):
    async with rig(family) as it:
        await wait_until_async(lambda: it.device.counters.boots)
        found = await version(it)
        assert found == ("16777216" if family == "zigbee2mqtt" else "1.0.0")
        facts = await it.driver.open()
        assert facts.values["version"] == found
        assert isinstance(await it.ask(Probe()), Answered)


@pytest.mark.parametrize("family", RELAYS)
async def test_a_relay_is_switched_and_read_back(rig, family):
    async with rig(family) as it:
        assert (await it.ask(ReadPoints(("relay",)))).result == {"values": {"relay": False}}
        assert (await it.ask(WritePoints({"relay": True}))).result == {"values": {"relay": True}}
        # Once more: a device that says nothing of what does not change has it all the same.
        assert isinstance(await it.ask(Command("on")), Answered)
        assert (await it.ask(ReadPoints(("relay",)))).result == {"values": {"relay": True}}
        assert isinstance(await it.ask(Command("off")), Answered)
        assert isinstance(await it.ask(Command("toggle")), Answered)
        assert (await it.ask(ReadPoints(("relay",)))).result == {"values": {"relay": True}}


@pytest.mark.parametrize("family", UPDATED)
async def test_an_update_ends_when_the_new_version_is_read_back(rig, family):
    async with rig(family) as it:
        await version(it)
        assert isinstance(await it.ask(it.upload), Answered)
        assert await version(it) == NEW.get(family, "2.0.0")
        assert it.device.version == "2.0.0"


@pytest.mark.parametrize("family", UPDATED)
async def test_a_device_that_lies_about_its_update_still_shows_the_old_version(rig, family):
    quick = shipped_profile(family, settles="2s")
    async with rig(family, Faults(test_boot=TestBoot.IGNORED), profile=quick) as it:
        old = await version(it)
        assert isinstance(await it.ask(it.upload), Answered)  # it says so; firmware.verify judges
        assert await version(it) == old


@pytest.mark.parametrize("family", UPDATED)
async def test_a_failed_update_is_refused_in_the_devices_words(rig, family):
    async with rig(family, Faults(refuse_upload=9)) as it:
        await version(it)
        answer = await it.ask(it.upload)
        assert isinstance(answer, Refused), answer
        assert (answer.code, "refused" in answer.text) == ("image_refused", True)
        assert isinstance(await it.ask(Probe()), Answered)


@pytest.mark.parametrize("family", list(OWN_UPDATE))
async def test_a_device_that_only_updates_itself_is_told_to_and_read_back(rig, family):
    async with rig(family) as it:
        assert await version(it) == "1.0.0"
        assert isinstance(await it.ask(Command(OWN_UPDATE[family])), Answered)
        await runs_new(it, family)
        with pytest.raises(StepInvalid, match=r"firmware\.upload") as caught:
            await it.ask(it.upload)
        assert caught.value.code == "verb_unsupported"


@pytest.mark.parametrize("family", ["tasmota", "shelly_gen2", "esphome"])
async def test_a_restart_ends_when_the_device_is_gone(rig, family):
    async with rig(family) as it:
        boots = it.device.counters.boots
        assert isinstance(await it.ask(Reset()), Answered)
        await wait_until_async(lambda: it.device.counters.boots > boots)
        await wait_until_async(lambda: it.driver.talk.online, message="the device to be back")


async def test_losant_commands_are_seen_in_the_state(rig):
    async with rig("losant") as it:
        assert (await it.ask(Command("report"))) == Answered(None)
        assert (await it.ask(WritePoints({"value": 21}))).result == {"values": {"value": 21}}
        assert (await it.ask(ReadPoints(("value",)))).result == {"values": {"value": 21}}


async def test_thingsboard_rpc_is_answered(rig):
    async with rig("thingsboard") as it:
        assert (await it.ask(Command("getValue"))).result == 0
        answer = await it.ask(Command("setValue", {"level": 3}))
        assert answer.result == {"level": 3}
        assert (await it.ask(ReadPoints(("value",)))).result == {"values": {"value": {"level": 3}}}
        one_way = Command("one_way", {"method": "setValue", "params": {"level": 4}})
        assert (await it.ask(one_way)).result is None
        await wait_until_async(lambda: it.device.counters.requests == 3)


async def test_a_shelly_refuses_in_its_own_words(rig):
    async with rig("shelly_gen2") as it:
        answer = await it.ask(Command("Cover.Open", {"id": 0}))
        assert isinstance(answer, Refused)
        assert answer.text.endswith("no such handler (-114)")


async def test_tasmota_refuses_and_is_not_taken_at_its_words(rig):
    async with rig("tasmota") as it:
        unknown = await it.ask(Command("send", {"command": "MakeCoffee"}))
        assert isinstance(unknown, Refused)
        refused = await it.ask(Command("send", {"command": "Upgrade", "payload": "?"}))
        assert refused.result == {"Upgrade": "1 or >1.0.0 to upgrade"}
        with pytest.raises(StepInvalid, match="no topic"):
            await it.ask(Command("send", {"command": "#"}))


@pytest.mark.parametrize("family", RELAYS[:3])
async def test_silence_is_raised_in_time_and_the_next_request_is_answered_rightly(rig, family):
    quick = shipped_profile(family, timeout="300ms")
    silent = Faults(silences=(Silence(after_requests=1, requests=2),))
    async with rig(family, silent, profile=quick) as it:
        with pytest.raises(GatewayError):
            await it.ask(Command("toggle"), 0.5)
        assert isinstance(await it.ask(Command("on"), 5), Answered)
        assert it.device.counters.requests > 2


@pytest.mark.parametrize("family", RELAYS[:3])
async def test_doubled_and_late_replies_do_not_answer_wrongly(rig, family):
    quick = shipped_profile(family, timeout="3s")
    # Only replies with an id can come in another order: a broker keeps that of one topic.
    late = 0.2 if family == "shelly_gen2" else 0.0
    messy = Faults(seed="3", doubled_replies=0.5, late_replies=late, late_by_s=0.1)
    async with rig(family, messy, profile=quick) as it:
        for is_on in (True, False) * 4:
            assert isinstance(await it.ask(WritePoints({"relay": is_on})), Answered)
            if family == "tasmota":
                continue  # nothing tells the copy of a reply from the reply to the next question
            answer = await it.ask(ReadPoints(("relay",)))
            assert answer.result == {"values": {"relay": is_on}}


async def test_an_offline_device_is_not_asked_and_forgets_what_it_said(rig):
    async with rig("esphome", Faults(disconnect_for_s=1.0)) as it:
        assert await version(it) == "1.0.0"
        it.device.faults = Faults(disconnect_after_requests=(1,), disconnect_for_s=0.5)
        assert isinstance(await it.ask(Command("install_update")), Answered)
        await wait_until_async(lambda: it.driver.is_away)
        with pytest.raises(DeviceUnreachable):
            await it.ask(ReadPoints(("relay",)), 0.2)
        await wait_until_async(lambda: it.driver.talk.online)
        assert (await it.ask(ReadPoints(("relay",)))).result == {"values": {"relay": False}}
