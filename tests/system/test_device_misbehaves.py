"""Devices that fall silent, restart, lose their line or say what is not so."""

import pytest

from tests.kit.rig_jobs import firmware_job
from tests.kit.rig_site import mqtt, smp

BRIEF = {"timeout": "3s"}


@pytest.mark.row("B4", "E6", "E9")
def test_a_silent_device_costs_its_tries_and_nobody_else_anything(rig):
    site = rig.add_gateway(
        "north",
        [smp("pump-1", faults={"silences": [{"after_requests": 10}]}), smp("pump-2")],
        patience="500ms",
        options={"no_progress_s": 1.0},
    )
    rig.push_image()
    run = rig.start(firmware_job(attempts=2, upload=BRIEF))
    ended = rig.finish(run, "partially_succeeded")

    assert (ended.counts.succeeded, ended.counts.failed) == (1, 1)
    task = rig.task(run, "pump-1")
    assert task.tries == 2
    assert [attempt.status.value for attempt in task.attempts] == ["failed", "failed"]
    assert task.failure.code == "device_unreachable"
    assert task.failure.help
    assert site.devices.device("pump-1")["version"] == "1.0.0"


@pytest.mark.row("B4", "E6")
def test_a_device_that_was_silent_for_a_while_succeeds_at_the_next_try(rig):
    # Longer than one attempt has patience for, shorter than all of them have.
    silence = {"after_requests": 12, "requests": 6}
    rig.add_gateway("north", [smp("pump-1", faults={"silences": [silence]})], patience="500ms")
    rig.push_image()
    run = rig.start(firmware_job(attempts=5, upload={"timeout": "2s"}))
    rig.finish(run)

    task = rig.task(run, "pump-1")
    assert task.attempts[0].status.value == "succeeded"


@pytest.mark.row("E6", "E9")
def test_a_device_that_restarts_in_an_upload_is_sent_what_it_lost(rig):
    faults = {"reboot_after_chunks": [15]}
    site = rig.add_gateway("north", [smp("pump-1", faults=faults), mqtt("meter-1")])
    image = rig.push_image()
    run = rig.start(firmware_job())
    rig.finish(run)

    counters = site.devices.device("pump-1")["counters"]
    assert counters["boots"] == 3  # the factory's, the power cut's, the new image's
    assert counters["bytes_written"] > len(image)  # it began again, as the device asked
    assert rig.task(run, "pump-1").tries == 1


@pytest.mark.row("E6", "E9")
def test_a_line_that_is_gone_for_a_while_costs_no_try(rig):
    faults = {"unplugs": [{"after_chunks": 15, "lasts": "1500ms"}]}
    site = rig.add_gateway("north", [smp("pump-1", faults=faults)])
    image = rig.push_image()
    run = rig.start(firmware_job())
    rig.finish(run)

    counters = site.devices.device("pump-1")["counters"]
    assert counters["unplugs"] == 1
    assert counters["bytes_written"] == len(image)  # it went on where the line was lost
    task = rig.task(run, "pump-1")
    assert (task.attempt, task.tries) == (1, 1)


@pytest.mark.row("E6", "E9")
@pytest.mark.parametrize("boot", ["reverts", "ignored"])
def test_success_is_only_a_version_that_was_read_back(rig, boot: str):
    liars = [smp("pump-1", faults={"test_boot": boot}), mqtt("meter-1", faults={"test_boot": boot})]
    rig.add_gateway("north", [*liars, smp("pump-2")])
    rig.push_image()
    run = rig.start(firmware_job())
    rig.finish(run, "partially_succeeded")

    for device in ("pump-1", "meter-1"):
        task = rig.task(run, device)
        assert task.status.value == "failed"
        assert task.failure.code in ("rolled_back", "version_mismatch")
        assert task.failure.step == "verify"
        assert rig.truth(device)["version"] == "1.0.0"
    assert rig.task(run, "pump-2").status.value == "succeeded"
