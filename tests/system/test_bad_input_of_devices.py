"""Images that do not fit, bytes that were changed, devices that talk nonsense: others go on."""

import json
import os

import pytest

from tests.kit.mqtt_client import MqttClient
from tests.kit.rig_jobs import ask, command_job, firmware_job
from tests.kit.rig_site import mqtt, smp


@pytest.mark.row("E6", "E11")
def test_an_image_that_does_not_fit_is_refused_before_it_is_sent(rig):
    small = {"slot_size": 10_240}
    site = rig.add_gateway(
        "north", [smp("pump-1", **small), mqtt("meter-1", **small), smp("pump-2")]
    )
    rig.push_image(size=12_000)
    run = rig.start(firmware_job())
    rig.finish(run, "partially_succeeded")

    assert rig.task(run, "pump-1").failure.code == "image_too_large"
    assert rig.task(run, "meter-1").failure.code in ("image_too_large", "image_refused")
    assert rig.task(run, "pump-2").status.value == "succeeded"
    for device in ("pump-1", "meter-1"):
        truth = site.devices.device(device)
        assert (truth["version"], truth["counters"]["bytes_written"]) == ("1.0.0", 0)


@pytest.mark.row("E6")
def test_a_device_that_refuses_the_image_says_so_in_its_task(rig):
    rig.add_gateway("north", [smp("pump-1", faults={"refuse_upload": 29}), smp("pump-2")])
    rig.push_image()
    run = rig.start(firmware_job())
    rig.finish(run, "partially_succeeded")

    failure = rig.task(run, "pump-1").failure
    assert (failure.code, failure.step) == ("image_refused", "upload")
    assert "29" in failure.text  # the device's own code
    assert failure.sentence and failure.help


@pytest.mark.row("E11")
def test_changed_bytes_never_reach_a_device(rig):
    site = rig.add_gateway("north", [smp("pump-1"), mqtt("meter-1")])
    rig.push_image()
    (stored,) = [path for path in (rig.data_dir / "artifacts").rglob("??/*") if path.is_file()]
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(stored, 0o600)
    stored.write_bytes(data)

    run = rig.start(firmware_job())
    rig.finish(run, "failed")

    for device, truth in site.devices.status().items():
        assert rig.task(run, device).failure.code == "digest_mismatch", device
        assert (truth["version"], truth["counters"]["bytes_written"]) == ("1.0.0", 0)


@pytest.mark.row("E3")
def test_nonsense_from_a_device_costs_its_own_task_alone(rig):
    silent = mqtt("meter-3", faults={"silences": [{"after_requests": 1}]})
    site = rig.add_gateway("north", [mqtt("meter-1"), silent, smp("pump-1")], patience="1s")
    steps = [ask("version", timeout="2s")]
    with MqttClient("vandal", site.local_port) as vandal:
        vandal.subscribe("dev/meter-3/cmd")
        for device in ("meter-1", "meter-3"):
            for topic in ("reply", "online", "status"):
                for payload in (b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b'"x"', b"[" * 20_000):
                    vandal.publish(f"dev/{device}/{topic}", payload)
        run = rig.start(command_job(steps=steps))
        (first, *_) = vandal.wait_for(1)
        asked = json.loads(first[1])
        for answer in ({"id": "nobody", "ok": True}, [asked["id"]], {"id": asked["id"]}):
            vandal.publish("dev/meter-3/reply", json.dumps(answer).encode())
        rig.finish(run, "partially_succeeded")

    assert rig.task(run, "meter-1").status.value == "succeeded"
    assert rig.task(run, "pump-1").status.value == "succeeded"
    failed = rig.task(run, "meter-3")
    assert failed.status.value == "failed"
    assert failed.failure.code in ("device_unreachable", "reply_garbled", "step_timed_out")
    again = rig.client.jobs.run("command", query={"id": {"$ne": "meter-3"}}).id
    rig.finish(again)


@pytest.mark.row("E3")
def test_a_device_refuses_a_command_it_does_not_know(rig):
    rig.add_gateway("north", [mqtt("meter-1"), smp("pump-1")])
    job = command_job(steps=[{"uses": "device.command", "with": {"name": "dance"}}])
    ended = rig.finish(rig.start(job), "failed")

    for device in ("meter-1", "pump-1"):
        failure = rig.task(ended.id, device).failure
        assert failure.code in ("device_refused", "verb_unsupported", "step_invalid"), device
        assert failure.text
