"""The SMP driver against the simulated device: the right image, or an error that says why."""

import pytest

from firmware_sim.faults import Chatter, Faults, Silence, Unplug
from firmware_sim.flash import Swap
from firmware_sim.personalities.smp import SmpSettings
from gateway.drivers.base import Answered, Command, ReadFirmware, Refused, Reset, TestFirmware
from gateway.errors import DeviceUnreachable, LineQuarantined
from tests.kit.device_rigs import smp_rig
from tests.kit.waiting import wait_until_async


@pytest.mark.parametrize(
    ("faults", "settings"),
    [
        pytest.param(Faults(seed="1", lost_lines=0.04), SmpSettings(), id="lost lines"),
        pytest.param(Faults(seed="2", corrupted_lines=0.04), SmpSettings(), id="corrupted lines"),
        pytest.param(Faults(seed="3", doubled_replies=0.5), SmpSettings(), id="doubled replies"),
        pytest.param(Faults(late_replies=0.05, late_by_s=0.6), SmpSettings(), id="late replies"),
        pytest.param(Faults(torn_replies=0.05, log_noise=0.5), SmpSettings(), id="logs between"),
        pytest.param(Faults(reboot_after_chunks=(1, 9, 40)), SmpSettings(), id="reboots"),
        pytest.param(Faults(), SmpSettings(rx_lines=2), id="two lines at a time"),
        pytest.param(Faults(), SmpSettings(buf_size=2048), id="large buffer"),
        pytest.param(Faults(), SmpSettings(zephyr="3.4.0"), id="Zephyr 3.4"),
        pytest.param(Faults(), SmpSettings(turnaround_s=0.3), id="slower than the first wait"),
    ],
)
async def test_an_upload_ends_with_the_image_on_the_device(tmp_path, faults, settings):
    slow = settings.turnaround_s > 0.1
    settings = SmpSettings(**{**fields(settings), "buf_size": 2048}) if slow else settings
    async with smp_rig(tmp_path, faults, settings=settings) as it:
        assert await it.ask(it.upload, 90) == Answered({"bytes": it.upload.size})
        assert it.holds_new


def fields(settings):
    return {name: getattr(settings, name) for name in SmpSettings.__slots__}


async def test_an_unplugged_device_goes_on_where_it_was(tmp_path):
    async with smp_rig(tmp_path, Faults(unplugs=(Unplug(1.0, after_chunks=30),))) as it:
        assert isinstance(await it.ask(it.upload, 60), Answered)
        counters = it.device.counters
        assert (counters.unplugs, counters.resumes) == (1, 1)
        assert counters.bytes_written == it.upload.size
        assert it.holds_new


async def test_a_device_unplugged_for_good_is_given_up_and_found_again(tmp_path):
    forever = Faults(unplugs=(Unplug(3.0, after_chunks=10),))
    async with smp_rig(tmp_path, forever, no_progress_s=1.0) as it:
        with pytest.raises(DeviceUnreachable, match="upload stopped at byte"):
            await it.ask(it.upload, 60)
        with pytest.raises(DeviceUnreachable, match="cannot open"):
            await it.ask(Command("version"), 1)
        await wait_until_async((tmp_path / "pump-1").exists, message="the line to be back")
        assert isinstance(await it.ask(it.upload, 60), Answered)
        assert it.device.counters.resumes == 1


async def test_a_line_lost_for_a_while_costs_no_more_than_that(tmp_path):
    faults = Faults(silences=(Silence(after_requests=30, requests=6),))
    async with smp_rig(tmp_path, faults) as it:
        assert isinstance(await it.ask(it.upload, 60), Answered)
        assert it.holds_new


async def test_a_new_driver_resumes_what_another_process_began(tmp_path):
    async with smp_rig(tmp_path, Faults(silences=(Silence(after_requests=30, requests=8),))) as it:
        with pytest.raises(DeviceUnreachable):
            await it.ask(it.upload, 0.7)
        await it.driver.close()
        assert isinstance(await it.ask(it.upload, 60), Answered)
        assert it.device.counters.resumes >= 1
        assert it.device.counters.bytes_written == it.upload.size


@pytest.mark.row("E8")
async def test_a_chattering_line_is_left_alone_then_comes_back_by_itself(tmp_path):
    faults = Faults(chatters=(Chatter(0.3, 0.6, bytes_per_s=200_000),))
    async with smp_rig(tmp_path, faults) as it:
        line = f"serial:{tmp_path / 'pump-1'}"
        assert isinstance(await it.ask(Command("version")), Answered)
        await wait_until_async(lambda: it.buses.shut(line), message="quarantine")
        assert "chatters" in str(it.buses.report()[line])
        assert not it.driver.link.is_open  # nobody listens to it
        with pytest.raises(LineQuarantined, match="left alone"):
            await it.ask(Command("version"))
        await wait_until_async(lambda: not it.buses.shut(line), message="the end of the pause")
        assert isinstance(await it.ask(Command("version")), Answered)
        assert it.buses.report() == {}


@pytest.mark.row("E8")
async def test_an_upload_outlives_a_line_that_chatters(tmp_path, caplog):
    faults = Faults(
        chatters=(Chatter(0.3, 0.5, bytes_per_s=200_000),),
        silences=(Silence(after_s=0.3, for_s=1),),
    )
    async with smp_rig(tmp_path, faults, settings=SmpSettings(turnaround_s=0.008)) as it:
        assert isinstance(await it.ask(it.upload, 60), Answered)
        assert it.holds_new
    assert "line quarantined" in caplog.text


@pytest.mark.row("E8")
async def test_a_device_that_logs_much_is_no_chattering_line(tmp_path):
    async with smp_rig(tmp_path, Faults(log_noise=1.0)) as it:
        for _ in range(60):
            assert isinstance(await it.ask(Command("echo", {"text": "x"})), Answered)
        assert it.driver.link.frames.garbage_bytes == 0


async def test_a_slow_erase_is_waited_for(tmp_path):
    async with smp_rig(tmp_path, settings=SmpSettings(erase_s=2.0)) as it:
        assert isinstance(await it.ask(it.upload, 60), Answered)


async def test_an_image_larger_than_the_slot_is_refused_before_it_is_sent(tmp_path):
    async with smp_rig(tmp_path) as it:
        it.device.flash = type(it.device.flash)(10_000, it.device.flash.running)
        answer = await it.ask(it.upload)
        assert isinstance(answer, Refused)
        assert answer.code == "image_too_large"
        assert it.device.counters.chunks_received == 0


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_reset_whose_reply_is_lost_happens_once(tmp_path, lost):
    """A second restart would take the image on test away again."""
    async with smp_rig(tmp_path) as it:
        await it.ask(it.upload)
        await it.ask(TestFirmware(it.upload.image_hash))
        counters = it.device.counters
        # The reset is the request after the look at the images, which is one message.
        first = counters.requests + 2
        it.device.faults = Faults(silences=(Silence(after_requests=first, requests=lost),))
        assert isinstance(await it.ask(Reset()), Answered)

        async def boots():
            answer = await it.ask(ReadFirmware(), 5)
            return answer.firmware.active.version == "2.0.0"

        await wait_until_async(boots, message="the new image")
        assert it.device.flash.swap is Swap.NONE
        assert it.device.flash.is_confirmed is False


async def test_what_the_device_prints_is_passed_on(tmp_path):
    async with smp_rig(tmp_path) as it:
        await it.ask(Command("version"))
        await it.ask(Reset())
        await wait_until_async(lambda: any("Booting Zephyr" in line for line in it.logs))


async def test_an_upload_fills_the_line(tmp_path):
    """At a true baud rate hardly any time is lost between frames."""
    async with smp_rig(tmp_path, baud=460_800, settings=SmpSettings(turnaround_s=0.0)) as it:
        await it.ask(it.upload, 60)
        counters = it.driver.link.counters
        assert counters.timeouts == 0
        assert counters.requests < it.upload.size / 340 + 10
