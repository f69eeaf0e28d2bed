"""Profiles are deployed to gateways, refused by them, and withdrawn; whoever dies meanwhile."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
import yaml

from contract.crash_points import CRASH_AT
from contract.http.runs import Run
from tests.kit.processes import REPOSITORY
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import mqtt
from tests.kit.waiting import wait_until

WAIT = timedelta(seconds=60)
DEMO = REPOSITORY / "configs" / "profiles" / "roundsman_demo.yaml"


def profile(**commands):
    """The shipped profile with these commands in it; `*` is left out, so no other name works."""
    values = yaml.safe_load(DEMO.read_text())
    values["commands"] = {"version": {"repeatable": True}, **commands}
    return yaml.safe_dump(values).encode()


# A command of the new profile only; the device knows it as `version`.
WHICH = {"payload": {"id": "{{ request }}", "command": "version"}}
NEW = profile(which_one=WHICH)
JOB = command_job(steps=[ask("which_one")])


def digest(data):
    return sha256(data).hexdigest()


def held(rig, gateway):
    return {one.name: one for one in rig.client.gateways.get(gateway).profiles}


def errors_of(run: Run) -> list[Any]:
    found = run.results["first_errors"]
    assert isinstance(found, list)
    return found


@pytest.mark.row("A11")
def test_a_profile_reaches_gateways_that_are_away_and_that_die_over_it(rig: Rig):
    north = rig.add_gateway("north", [mqtt("meter-1")])
    south = rig.add_gateway("south", [mqtt("meter-2")])
    south.kill_9()
    north.program.terminate()
    north.program.env = {CRASH_AT: f"artifacts.after_fetch@{digest(NEW)}:1"}
    north.start()
    rig.wait_for_devices(north)
    deployed = rig.client.profiles.deploy("roundsman_demo", NEW, everything=True)
    wait_until(lambda: not north.program.is_running, 60, north.program.tail)
    assert rig.client.runs.get(deployed.id).results["waiting_for"] == ["north", "south"]
    rig.restart_cloud()
    north.program.env = {}
    north.start()
    waits = lambda: rig.client.runs.get(deployed.id).results["waiting_for"]  # noqa: E731
    wait_until(lambda: waits() == ["south"], 60)
    assert held(rig, "north")["roundsman_demo"].state == "held"
    assert rig.client.runs.get(deployed.id).progress == 50
    south.start()
    ended = rig.client.runs.wait(deployed.id, timeout=WAIT)
    assert (ended.status, ended.results) == ("succeeded", {"gateways": 2, "deployed": 2})
    run = rig.start(JOB)
    assert rig.finish(run, "succeeded").counts.succeeded == 2
    # It outlives the process, and is no file of the folder that people look after.
    north.restart()
    north.wait_for_session()
    assert rig.finish(rig.client.jobs.run("command").id).counts.succeeded == 2
    assert (north.data_dir / "profiles" / "roundsman_demo.yaml").read_bytes() == NEW


@pytest.mark.row("A11")
def test_devices_take_the_new_profile_when_their_attempt_has_ended(rig: Rig):
    rig.add_gateway("north", [mqtt("meter-1")])
    slow = rig.start(
        command_job("slow", steps=[ask("version"), delay("3s") | {"id": "slow"}, ask("echo")])
    )
    rig.wait_for_step(slow, "meter-1", "slow")
    shown = rig.folder / "roundsman_demo.yaml"
    shown.write_bytes(NEW)
    said = rig.cli("profiles", "deploy", shown, "--gateway", "north")
    assert "deployed\t1" in said.tail()
    # The new one has no `echo`: what runs ends as it began.
    rig.finish(slow, "succeeded")
    assert rig.finish(rig.start(JOB), "succeeded").counts.succeeded == 1
    listed = rig.cli("profiles", "list", "--name", "roundsman_demo").tail()
    assert f"north\troundsman_demo\theld\t{digest(NEW)[:12]}" in listed


@pytest.mark.row("A11")
def test_a_refused_profile_leaves_the_old_one_at_work(rig: Rig):
    north = rig.add_gateway("north", [mqtt("meter-1")])
    good = rig.client.profiles.deploy("roundsman_demo", NEW, gateways=["north"])
    rig.client.runs.wait(good.id, timeout=WAIT)
    bad = profile(which_one={"topik": "x"})
    refused = rig.client.profiles.deploy("roundsman_demo", bad, gateways=["north"])
    ended = rig.client.runs.wait(refused.id, timeout=WAIT)
    assert ended.status == "failed"
    (error,) = errors_of(ended)
    assert error["gateway"] == "north"
    assert "topik" in error["reason"]
    assert held(rig, "north")["roundsman_demo"].sha256 == digest(NEW)
    assert rig.finish(rig.start(JOB), "succeeded").counts.succeeded == 1
    # Withdrawn, it gives way to the one of the gateway's own folder, which knows every command.
    back = rig.client.profiles.withdraw("roundsman_demo", gateways=["north"])
    assert rig.client.runs.wait(back.id, timeout=WAIT).results["withdrawn"] == 1
    assert held(rig, "north") == {}
    assert rig.finish(rig.start(command_job("echo", steps=[ask("echo")])), "succeeded")
    assert not list((north.data_dir / "profiles").iterdir())
    lines = [line.text for line in rig.client.runs.log(refused.id)]
    assert any("topik" in line for line in lines)


@pytest.mark.row("A11")
def test_a_device_without_its_profile_is_down_until_one_is_deployed(rig: Rig):
    north = rig.add_gateway("north", [mqtt("meter-1"), mqtt("meter-2")], start=False)
    named = [
        {**device, "profile": "meter_v2"} if device["id"] == "meter-2" else device
        for device in north.settings["devices"]
    ]
    north.write_config({**north.settings, "devices": named})
    north.start()
    rig.wait_for_devices(north)
    down = rig.client.devices.get("meter-2")
    assert down.link == "down"
    assert "no profile `meter_v2`" in str(down.attributes["problem"])
    assert rig.finish(rig.start(command_job("one", query={"id": "meter-1"})), "succeeded")
    values = yaml.safe_load(NEW) | {"name": "meter_v2"}
    deployed = rig.client.profiles.deploy(
        "meter_v2", yaml.safe_dump(values).encode(), gateways=["north"]
    )
    assert rig.client.runs.wait(deployed.id, timeout=WAIT).status == "succeeded"
    wait_until(lambda: rig.client.devices.get("meter-2").link != "down", 60)
    job = command_job("two", query={"id": "meter-2"}, steps=[ask("which_one")])
    assert rig.finish(rig.start(job), "succeeded")
    refused = rig.client.profiles.withdraw("meter_v2", gateways=["north"])
    ended = rig.client.runs.wait(refused.id, timeout=WAIT)
    assert ended.status == "failed"
    assert "used by meter-2" in errors_of(ended)[0]["reason"]
    assert rig.finish(rig.client.jobs.run("two").id, "succeeded")


@pytest.mark.row("A11")
def test_a_deployment_is_cancelled_while_a_gateway_is_away(rig: Rig):
    north = rig.add_gateway("north", [mqtt("meter-1")])
    north.kill_9()
    run = rig.client.profiles.deploy("roundsman_demo", NEW, gateways=["north"])
    wait_until(lambda: rig.client.runs.get(run.id).results.get("waiting_for") == ["north"], 60)
    rig.client.runs.cancel(run.id)
    ended = rig.client.runs.wait(run.id, timeout=WAIT)
    assert (ended.status, ended.results["taken_back"]) == ("cancelled", 1)
    north.start()
    north.wait_for_session()
    assert rig.finish(rig.start(command_job(steps=[ask("echo")])), "succeeded")
    assert held(rig, "north") == {}
