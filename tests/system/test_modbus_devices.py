"""Modbus drives behind one gateway: jobs read and write their points; failures have names."""

import pytest

from contract.lifecycle import RunStatus, TaskStatus
from tests.kit.ports import free_port
from tests.kit.rig_site import modbus
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.row("E3", "E4")


def job(*steps, job="drives", **fields):
    return {"name": job, "id": job, "steps": list(steps), "retry": {"attempts": 1}, **fields}


READ = {
    "id": "before",
    "uses": "device.read",
    "with": {"points": ["speed", "temperature", "state"]},
    "expect": "result.values.state.ready",
}
WRITE = {
    "id": "faster",
    "uses": "device.write",
    "with": {
        "values": {
            "speed": "{{ steps.before.result.values.speed + 20.5 }}",
            "options": {"brake": True},
            "enable": True,
        }
    },
}
AFTER = {"id": "after", "uses": "device.read", "with": {"points": "speed"}}


def test_a_job_reads_and_writes_the_points_of_two_units_on_one_noisy_line(rig):
    faults = {"flipped": 5e-4, "doubled": 5e-4}
    site = rig.add_gateway("north", [modbus("rs485", "drive-1", "drive-2", line_faults=faults)])
    run = rig.start(job(READ, WRITE, AFTER))
    rig.finish(run)
    for device in ("drive-1", "drive-2"):
        steps = rig.steps(run, device)
        assert rig.task(run, device).status is TaskStatus.SUCCEEDED
        assert steps["before"].result["values"]["temperature"] == 21.5
        assert steps["faster"].result["values"]["speed"] == 170.5
        assert steps["after"].result == {"values": {"speed": 170.5}}
        written = [e for e in site.devices.experiences() if e["device"] == device]
        assert {"holding": [1705], "coils": [1]}.items() <= {
            e["table"]: e["values"] for e in written if e["what"] == "write" and e["address"] == 0
        }.items()

    def tells_who_it_is():
        return rig.client.devices.get("drive-1").state.get("serial_number") == "DRV-42"

    wait_until(tells_who_it_is, 30, "the facts of the device")


def test_an_exception_of_the_device_fails_the_step_with_its_name(rig):
    place = {"listen": f"127.0.0.1:{free_port()}"}
    rig.add_gateway("north", [modbus("tcp", "drive-1", **place)])
    missing = {"id": "ask", "uses": "device.read", "with": {"points": ["missing"]}}
    broken = {"id": "ask", "uses": "device.read", "with": {"points": ["broken_sensor"]}}
    wrong = {"id": "ask", "uses": "device.write", "with": {"values": {"speed": 500}}}
    for name, step, code, said in (
        ("missing", missing, "device_refused", "illegal data address (exception 2)"),
        ("broken", broken, "device_refused", "server device failure (exception 4)"),
        ("wrong", wrong, "step_invalid", "`speed`: 500 is above 400 Hz"),
    ):
        run = rig.start(job(step, job=name))
        rig.finish(run, RunStatus.FAILED)
        failure = rig.steps(run, "drive-1")["ask"].failure
        assert failure.code == code
        assert said in failure.text


def test_a_write_that_a_killed_gateway_was_about_is_read_back_and_not_repeated(rig):
    slow = modbus("rs485", "drive-1", turnaround="600ms")
    site = rig.add_gateway("north", [slow], start=False)
    for device in site.settings["devices"]:
        device["reply_wait_s"] = 20
    site.write_config(site.settings)
    site.start()
    rig.wait_for_devices(site)
    write = {"id": "faster", "uses": "device.write", "with": {"values": {"speed": 42}}}
    run = rig.start(job(write))

    def writes():
        return [e for e in site.devices.experiences() if e["what"] == "write"]

    wait_until(writes, 60, "the write to reach the device")
    site.kill_9()
    site.start()
    rig.finish(run)
    assert rig.steps(run, "drive-1")["faster"].result == {"values": {"speed": 42}}
    assert [e["values"] for e in writes()] == [[420]]
