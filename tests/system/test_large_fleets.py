"""More devices than a broker takes by default, behind one gateway; gateways that are load only."""

import json

import pytest

from contract.lifecycle import RunStatus, TaskStatus
from tests.kit.rig_jobs import ask, command_job
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.row("E9")

# NATS refuses the 1,001st QoS 1 subscription unless its configuration says otherwise.
DEVICES = 1_010
GATEWAYS = 40
DEVICES_EACH = 5


def test_more_devices_than_a_broker_takes_by_default_hear_their_commands(rig):
    site = rig.add_gateway(
        "north", [{"personality": "mqtt", "id": "device", "count": DEVICES, "qos": 1}]
    )
    pulse = [ask("pulse", "pulse", tag="once")]
    run = rig.start(command_job("all", pulse, concurrency=300, timeout="5m"))

    def ended():
        found = rig.client.runs.get(run)
        return found if found.ended_at is not None else None

    found = wait_until(ended, 120, lambda: rig.describe(run))
    assert found.status is RunStatus.SUCCEEDED, rig.describe(run)
    assert found.counts.succeeded == found.counts.total == DEVICES
    pulses = [device["counters"]["pulses"] for device in site.devices.status().values()]
    assert pulses == [1] * DEVICES
    assert "discarding" not in site.program.output().lower()


def test_one_process_plays_gateways_that_take_offers_and_report(rig, programs):
    names = [f"load-{number}" for number in range(1, GATEWAYS + 1)]
    tokens = rig.folder / "tokens.json"
    tokens.write_text(json.dumps({each: rig.client.gateways.create(each).token for each in names}))
    group = {
        "personality": "gateways",
        "id": "load",
        "count": GATEWAYS,
        "devices_each": DEVICES_EACH,
        "task_time": "200ms",
        "failures": 0.2,
        "tokens": str(tokens),
    }
    scenario = rig.folder / "load.json"
    scenario.write_text(json.dumps({"seed": 1, "broker": rig.broker.url, "devices": [group]}))
    programs.python("firmware_sim", scenario, name="load")

    def are_there():
        found = rig.client.gateways.list(limit=200)
        return sum(each.online and each.devices == DEVICES_EACH for each in found) == GATEWAYS

    wait_until(are_there, 60, "all gateways in session")
    run = rig.start(command_job("load", concurrency=GATEWAYS * DEVICES_EACH, timeout="2m"))
    found = rig.finish(run, RunStatus.PARTIALLY_SUCCEEDED)
    assert found.counts.total == GATEWAYS * DEVICES_EACH
    assert found.counts.failed + found.counts.succeeded == found.counts.total
    assert 0 < found.counts.failed < found.counts.total / 2
    failed = next(task for task in rig.tasks(run) if task.status is TaskStatus.FAILED)
    assert failed.failure.code == "device_refused"
