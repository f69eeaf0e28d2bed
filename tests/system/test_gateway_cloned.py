"""Two processes with one gateway's name and journal, as from a copied SD card."""

import shutil

import pytest

from tests.kit.rig_jobs import command_job, firmware_job
from tests.kit.rig_site import Site, smp
from tests.kit.waiting import wait_until


@pytest.mark.row("E1", "E12")
def test_a_clone_is_shown_and_nothing_runs_twice(rig):
    original = rig.add_gateway("north", [smp("pump-1")])
    rig.finish(rig.start(command_job()))
    rig.push_image()
    original.kill_9()
    clone = Site(
        rig.programs,
        rig.folder / "clone",
        "north",
        [smp("pump-1")],
        cloud_url=rig.url,
        broker_url=f"mqtt://127.0.0.1:{rig.broker_port}",
        token=original.settings["cloud"]["token"],
        label="clone",
    )
    shutil.copytree(original.data_dir, clone.data_dir)

    original.start()
    original.wait_for_session()
    clone.start()
    wait_until(lambda: rig.client.gateways.get("north").in_conflict, 60, "a conflict")
    run = rig.start(firmware_job())

    shown = rig.client.gateways.get("north")
    assert shown.waiting_for is not None and shown.waiting_for.code == "in_conflict"
    waits = rig.wait_for_task(run, "pump-1", lambda task: task.waiting_for, "a reason to wait")
    assert (waits.status.value, waits.waiting_for.code) == ("scheduled", "in_conflict")
    rig.client.runs.cancel(run)
    assert rig.finish(run, "cancelled").counts.cancelled == 1
    for site in (original, clone):
        counters = site.devices.device("pump-1")["counters"]
        assert (counters["chunks_received"], counters["boots"]) == (0, 1)
