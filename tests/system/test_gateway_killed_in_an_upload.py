"""A gateway dies in the middle of a step: it goes on from what the device says, not from zero."""

import pytest

from tests.kit.rig_jobs import firmware_job
from tests.kit.rig_site import mqtt, smp

CHUNKS_BEFORE = 12


@pytest.mark.row("E1", "E6", "E9")
def test_an_upload_goes_on_at_the_offset_the_device_names(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="50ms"), smp("pump-2")])
    image = rig.push_image()
    run = rig.start(firmware_job())
    site.devices.wait_for("pump-1", "chunks_received", CHUNKS_BEFORE)

    site.kill_9()
    at_the_kill = site.devices.device("pump-1")["counters"]
    site.start()
    rig.finish(run)

    counters = site.devices.device("pump-1")["counters"]
    assert counters["resumes"] >= 1
    assert at_the_kill["bytes_written"] < len(image)
    assert counters["bytes_written"] == len(image)  # no byte was written twice
    assert counters["boots"] == 2  # the factory's and the new image's: reset only once
    task = rig.task(run, "pump-1")
    assert (task.attempt, task.tries) == (1, 1)
    assert rig.steps(run, "pump-1")["upload"].tries == 1


@pytest.mark.row("E1", "E6")
def test_a_reset_under_way_is_not_repeated(rig):
    site = rig.add_gateway("north", [smp("pump-1", boot_time="2s")])
    rig.push_image()
    run = rig.start(firmware_job())
    site.devices.wait_for("pump-1", "boots", 2)

    site.restart()
    rig.finish(run)

    assert site.devices.device("pump-1")["counters"]["boots"] == 2
    assert rig.task(run, "pump-1").tries == 1


@pytest.mark.row("E1")
def test_a_gateway_that_ends_in_good_order_goes_on_as_well(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="50ms")])
    image = rig.push_image()
    run = rig.start(firmware_job())
    site.devices.wait_for("pump-1", "chunks_received", CHUNKS_BEFORE)

    assert site.program.terminate() == 0
    site.start()
    rig.finish(run)

    assert site.devices.device("pump-1")["counters"]["bytes_written"] == len(image)
    assert rig.task(run, "pump-1").tries == 1


@pytest.mark.row("E1", "E3", "E6")
def test_a_device_that_flashes_on_its_own_is_found_where_it_is(rig):
    site = rig.add_gateway("north", [mqtt("meter-1", flash_time="2s")])
    rig.push_image()
    run = rig.start(firmware_job())
    site.devices.wait_for("meter-1", "chunks_received", 1)  # fetched: now it writes

    site.restart()
    rig.finish(run)

    assert site.devices.device("meter-1")["counters"]["boots"] == 2
    assert rig.task(run, "meter-1").tries == 1
