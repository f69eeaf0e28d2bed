"""The way to the cloud is cut: the gateway finishes on its own, and one report brings it all."""

import json
import time

import pytest

from tests.kit.mqtt_client import MqttClient
from tests.kit.rig_jobs import firmware_job
from tests.kit.rig_site import smp


@pytest.mark.row("E1", "C9")
def test_the_gateway_finishes_offline_and_one_report_brings_the_result(rig):
    site = rig.add_gateway("north", [smp("pump-1", turnaround="12ms")], uplink=True)
    rig.push_image()
    run = rig.start(firmware_job())
    site.devices.wait_for("pump-1", "chunks_received", 3)

    site.uplink.cut()
    site.wait_for_truth("pump-1", lambda truth: truth["version"] == "2.0.0" and truth["confirmed"])
    site.program.wait_for_line("attempt succeeded")
    assert rig.task(run, "pump-1").status.value in ("offered", "accepted", "running")
    restored_ms = time.time_ns() // 1_000_000
    with MqttClient("observer", rig.broker_port) as observer:
        observer.subscribe("roundsman/v1/+/+/+/up/report")
        site.uplink.restore()
        rig.finish(run)
        reports = [json.loads(payload.split(b"\n")[0]) for _, payload in observer.messages]

    about_it = [item for report in reports for item in report.get("tasks", [])]
    # One snapshot; a receipt that is slow to come may have it said twice.
    assert {(item["revision"], item["status"]) for item in about_it} == {
        (about_it[0]["revision"], "succeeded")
    }
    for step in rig.steps(run, "pump-1").values():
        assert step.completed_at.timestamp() * 1000 <= restored_ms, step.id
    assert rig.task(run, "pump-1").tries == 1
