"""The broker dies and its data with it: nobody depended on a message it held."""

import pytest

from tests.kit.rig_jobs import firmware_job
from tests.kit.rig_site import mqtt, smp


@pytest.mark.row("E1")
@pytest.mark.parametrize("broker", ["nats", "mosquitto"])
def test_a_run_ends_well_over_the_loss_of_the_broker(make_rig, broker: str):
    rig = make_rig(broker=broker)
    pumps = [smp(f"pump-{number}", turnaround="25ms") for number in range(1, 4)]
    north = rig.add_gateway("north", [*pumps, mqtt("meter-1")])
    rig.push_image()
    run = rig.start(firmware_job(concurrency=2))
    north.devices.wait_for("pump-1", "chunks_received", 5)

    rig.broker.kill_9()
    rig.broker.wipe()
    rig.broker.start()
    ended = rig.finish(run)

    assert ended.counts.succeeded == 4
    for device, truth in north.devices.status().items():
        assert truth["counters"]["boots"] == 2, device
        assert rig.task(run, device).tries == 1
