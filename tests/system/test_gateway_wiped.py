"""A gateway comes back without its journal: what it had open is lost, and tried again."""

import pytest

from tests.kit.rig_jobs import firmware_job
from tests.kit.rig_site import smp


@pytest.mark.row("E1", "B4", "E12")
def test_an_attempt_of_a_wiped_gateway_ends_as_gateway_lost_and_the_retry_succeeds(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="50ms")])
    rig.push_image()
    run = rig.start(firmware_job(attempts=2))
    site.devices.wait_for("pump-1", "chunks_received", 10)
    rig.wait_for_task(run, "pump-1", lambda task: task.attempts[0].begun, "begun")
    journal = rig.client.gateways.get("north").journal

    site.kill_9()
    site.wipe()
    site.start()
    rig.finish(run)

    assert rig.client.gateways.get("north").journal != journal
    first, second = rig.attempts(run, "pump-1")
    assert (first.status.value, first.failure.code) == ("failed", "gateway_lost")
    assert second.status.value == "succeeded"
    assert rig.task(run, "pump-1").tries == 2
    assert site.devices.device("pump-1")["counters"]["boots"] == 2


@pytest.mark.row("B4")
def test_without_tries_left_it_stays_lost(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="50ms"), smp("pump-2")])
    rig.push_image()
    run = rig.start(firmware_job(attempts=1))
    rig.wait_for_task(run, "pump-2", lambda task: task.status.value == "succeeded", "succeeded")
    rig.wait_for_task(run, "pump-1", lambda task: task.attempts[0].begun, "begun")

    site.kill_9()
    site.wipe()
    site.start()
    rig.finish(run, "partially_succeeded")

    assert rig.task(run, "pump-1").failure.code == "gateway_lost"
