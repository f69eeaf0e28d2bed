"""Off-the-shelf devices behind one gateway: each family does a command, and updates as it can."""

import pytest

from contract.lifecycle import TaskStatus
from tests.kit.processes import REPOSITORY
from tests.kit.rig_jobs import NEW_VERSION, artifact_name
from tests.kit.rig_site import FAMILIES, family

pytestmark = pytest.mark.row("E3", "E4", "E9")

# Zigbee files have numbers for versions: this is 2.0.0.
ZIGBEE_VERSION = "33554432"


def device(name):
    return f"{name.replace('_', '-')}-1"


def job(name, steps, only, **context):
    return {
        "name": name,
        "id": name,
        "targets": {
            "resource": "device",
            "query": {"id": {"$in": [device(each) for each in only]}},
        },
        "context": context,
        "iteration": {"concurrency": 50, "timeout": "90s"},
        "retry": {"attempts": 1},
        "steps": steps,
    }


def update(version):
    return [
        {"uses": "firmware.upload", "with": {"artifact": "{{ ctx.image }}", "version": version}},
        {"uses": "firmware.verify", "with": {"version": version}},
    ]


def own_update(command):
    """The maker's newest: the device is told, and its version read until it is there."""
    return [
        {"uses": "device.command", "with": {"name": command}},
        {
            "uses": "firmware.verify",
            "with": {"version": "{{ ctx.version }}"},
            "retry": {"attempts": 30, "delay": "500ms"},
        },
    ]


def site(rig, *names, start=True, **group):
    groups = [family(each, device(each), **group) for each in names]
    return rig.add_gateway("north", groups, start=start)


def test_every_family_performs_a_command_job(rig):
    place = site(rig, *FAMILIES)
    relays = [each for each in FAMILIES if each not in ("losant", "thingsboard")]
    steps = [
        {"uses": "device.command", "with": {"name": "on"}},
        {"id": "read", "uses": "device.read", "with": {"points": ["relay"]}},
    ]
    switched = rig.start(job("switch", steps, relays))
    set_value = {"uses": "device.write", "with": {"values": {"value": 7}}}
    losant = rig.start(job("losant", [set_value], ["losant"]))
    asked = {"name": "setValue", "parameters": {"level": 3}}
    ask = {"id": "ask", "uses": "device.command", "with": asked}
    thingsboard = rig.start(job("thingsboard", [ask], ["thingsboard"]))

    for run in (switched, losant, thingsboard):
        rig.finish(run)
    for each in relays:
        assert rig.steps(switched, device(each))["read"].result == {"values": {"relay": True}}
    assert rig.steps(thingsboard, device("thingsboard"))["ask"].result == {"level": 3}
    told = [(e["device"], e["what"]) for e in place.devices.experiences() if e["what"] != "boot"]
    assert set(told) == {(device(each), "switch") for each in relays} | {
        (device(each), "set") for each in ("losant", "thingsboard")
    }


@pytest.mark.row("E6")
def test_updates_end_with_a_version_that_was_read_back(rig):
    by_url = ["tasmota", "shelly_gen2", "thingsboard"]
    site(rig, *by_url, "zigbee2mqtt", "esphome", "shelly_gen1", offers=NEW_VERSION)
    rig.push_image()
    image = {"image": artifact_name(NEW_VERSION), "version": NEW_VERSION}
    runs = [
        rig.start(job("by-url", update("{{ ctx.version }}"), by_url, **image)),
        rig.start(job("zigbee", update(ZIGBEE_VERSION), ["zigbee2mqtt"], **image)),
        rig.start(job("esphome", own_update("install_update"), ["esphome"], version=NEW_VERSION)),
        rig.start(job("gen1", own_update("update_fw"), ["shelly_gen1"], version=NEW_VERSION)),
    ]
    for run in runs:
        rig.finish(run)
        for task in rig.tasks(run):
            assert rig.truth(task.device)["version"] == NEW_VERSION
            verified = rig.steps(run, task.device)["verify"].result["version"]
            assert verified == (ZIGBEE_VERSION if run == runs[1] else NEW_VERSION)


@pytest.mark.row("E6")
def test_a_device_that_says_success_and_runs_the_old_version_fails(rig, tmp_path):
    liars = ["tasmota", "shelly_gen2"]
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    for each in liars:  # which need not wait long for what never comes
        text = (REPOSITORY / "configs" / "profiles" / f"{each}.yaml").read_text()
        (profiles / f"{each}.yaml").write_text(text.replace("settles: 90s", "settles: 2s"))
    place = site(rig, *liars, faults={"test_boot": "ignored"}, start=False)
    place.write_config({**place.settings, "profiles": str(profiles)})
    place.start()
    rig.wait_for_devices(place)
    rig.push_image()
    image = {"image": artifact_name(NEW_VERSION), "version": NEW_VERSION}
    run = rig.start(job("liars", update("{{ ctx.version }}"), liars, **image))
    rig.finish(run, "failed")
    for each in liars:
        failed = rig.task(run, device(each))
        assert failed.status is TaskStatus.FAILED
        assert failed.failure.code in ("rolled_back", "version_mismatch")
        assert failed.failure.step == "verify"
        assert rig.truth(device(each))["version"] == "1.0.0"
