"""Devices that share a serial line: turns, noise, replugging, a bad port, and one owner."""

import json

import pytest

from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import on_one_line

THREE = ("valve-1", "valve-2", "valve-3")
NOISE = {"flipped": 0.003, "dropped": 0.001, "doubled": 0.001, "bursts": 0.1, "echo": True}


@pytest.mark.row("E3", "E4", "E8")
def test_a_job_runs_on_all_devices_of_a_noisy_line_and_does_everything_once(rig):
    site = rig.add_gateway("north", [on_one_line("rs485", *THREE, line_faults=NOISE)])
    read = {"uses": "device.read", "with": {"points": ["setpoint"]}}
    add = [ask("add", f"add_{n}") for n in range(1, 6)]
    run = rig.start(command_job(steps=[*add, read]))
    rig.finish(run)

    for device in THREE:
        steps = rig.steps(run, device)
        assert [steps[f"add_{n}"].result["total"] for n in range(1, 6)] == [1, 2, 3, 4, 5]
        assert steps["read"].result == {"values": {"setpoint": 20.0}}
        truth = site.devices.device(device)
        assert truth["counters"]["done"] == 5
    repeats = sum(site.devices.device(device)["counters"]["repeats"] for device in THREE)
    assert repeats > 0  # replies were lost, and asked for again under the same id


@pytest.mark.row("E8")
def test_long_work_on_one_device_does_not_starve_its_neighbours(rig):
    """The first device is at it until its neighbours have done all of theirs."""
    site = rig.add_gateway("north", [on_one_line("rs485", *THREE, baud=57600)])
    long_run = rig.start(
        command_job("long", [ask("work", "work", timeout="50s", seconds=4)], {"id": "valve-1"})
    )
    site.devices.wait_for("valve-1", "done", 1)
    rest = {"id": {"$in": ["valve-2", "valve-3"]}}
    short_run = rig.start(command_job("short", [ask("add", f"add_{n}") for n in range(5)], rest))
    rig.finish(short_run)

    assert rig.task(long_run, "valve-1").status.value == "running"
    rig.finish(long_run)
    assert rig.steps(long_run, "valve-1")["work"].result == {"worked_s": 4}
    assert site.devices.device("valve-1")["counters"]["done"] == 1


@pytest.mark.row("E8")
def test_a_line_replugged_under_another_name_goes_on(rig):
    # The link, as udev's by-id, points to another pty afterwards.
    unplug = {"unplugs": [{"after": "4s", "lasts": "1500ms"}]}
    site = rig.add_gateway("north", [on_one_line("rs485", *THREE, line_faults=unplug)])
    site.devices.wait_for("valve-1", "unplugs", 1)
    run = rig.start(command_job(steps=[ask("add", "add", timeout="40s")]))
    rig.finish(run)

    for device in THREE:
        assert site.devices.device(device)["counters"]["done"] == 1
        assert rig.task(run, device).tries == 1


@pytest.mark.row("E8")
def test_a_line_that_chatters_is_left_alone_reported_and_back_by_itself(rig):
    site = rig.add_gateway("north", [on_one_line("rs485", *THREE, baud=115200)], patience="50s")
    # At a true baud rate nothing else comes through while one device babbles.
    rig.finish(rig.start(command_job("babble", [ask("babble", seconds=5)], {"id": "valve-3"})))
    run = rig.start(command_job("add", [ask("add", f"add_{n}", timeout="50s") for n in range(3)]))
    rig.finish(run)

    said = site.program.output()
    assert "line quarantined" in said
    assert "more garbage than frames" in said
    assert "line is back" in said
    assert [site.devices.device(device)["counters"]["done"] for device in THREE] == [3] * 3


@pytest.mark.row("E8")
def test_a_second_gateway_cannot_take_the_port(rig):
    site = rig.add_gateway("north", [on_one_line("rs485", *THREE)])
    long_run = rig.start(
        command_job("long", [ask("work", "work", timeout="50s", seconds=6)], {"id": "valve-1"})
    )
    site.devices.wait_for("valve-1", "done", 1)
    thief = rig.add_gateway("south", start=False)
    stolen = {**site.settings["devices"][1], "id": "stolen-2"}
    thief.settings["devices"] = [stolen]
    thief.write_config(thief.settings)
    thief.start()
    rig.wait_for_devices(thief)
    refused = rig.start(
        command_job("refused", [ask("add", "add", timeout="2s")], {"id": "stolen-2"})
    )
    rig.finish(refused, "failed")

    failure = rig.task(refused, "stolen-2").failure
    assert failure.code == "device_unreachable"
    assert site.devices.device("valve-2")["counters"]["done"] == 0
    rig.finish(long_run)
    assert "another program has it" in json.dumps(failure.model_dump(mode="json"))
