"""Devices of one gateway that are updated all together, or not at all."""

import pytest

from tests.kit.rig_jobs import ask, command_job
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until


def together(members, **more):
    return {
        "name": "together",
        "id": "together",
        "type": "maintenance",
        "targets": {"resource": "gateway"},
        "context": {"image": "image-2.0.0"},
        "iteration": {"timeout": "90s"},
        "retry": {"attempts": 1},
        "steps": [{"uses": "firmware.update_together", "with": {"members": members, **more}}],
    }


def member(device, rank=0):
    named = {"device": device, "artifact": "{{ ctx.image }}", "version": "2.0.0"}
    return {**named, "rank": rank}


def steps_of(rig, run):
    (task,) = rig.tasks(run)
    return {step.id: step for step in rig.client.tasks.get(task.id).attempts[0].steps}


def is_staged(rig, run):
    for task in rig.tasks(run):
        attempts = rig.client.tasks.get(task.id).attempts
        return bool(attempts and attempts[0].steps and attempts[0].steps[0].completed_at)
    return False


def boots(site):
    return [
        each["device"]
        for each in site.devices.experiences()
        if each["what"] == "boot" and each["version"] == "2.0.0"
    ]


@pytest.mark.row("E6")
def test_ranks_follow_each_other_and_nobody_else_has_the_devices_meanwhile(rig):
    site = rig.add_gateway(
        "north", [smp("pump-1", boot_time="1500ms"), smp("pump-2"), smp("pump-3")]
    )
    rig.push_image()
    run = rig.start(together([member("pump-3", 1), member("pump-1"), member("pump-2", 1)]))
    wait_until(lambda: is_staged(rig, run), 60, "all images to be there")
    other = rig.start(command_job(steps=[ask("version")], query={"id": "pump-2"}))
    rig.finish(run)
    rig.finish(other)

    steps = steps_of(rig, run)
    truth = {"version": "2.0.0", "confirmed": True}
    kept = steps["confirm_together"].result["members"]
    assert {device: {k: about[k] for k in truth} for device, about in kept.items()} == {
        device: truth for device in ("pump-1", "pump-2", "pump-3")
    }
    assert boots(site)[0] == "pump-1"
    assert sorted(boots(site)) == ["pump-1", "pump-2", "pump-3"]
    asked = rig.attempts(other, "pump-2")[0].steps[0]
    assert asked.result["version"] == "2.0.0"
    assert asked.started_at >= steps["confirm_together"].completed_at


@pytest.mark.row("E6")
def test_one_that_fails_takes_all_others_back(rig):
    faults = {"test_boot": "reverts"}
    site = rig.add_gateway(
        "north", [smp("pump-1"), smp("pump-2"), smp("pump-3", faults=faults), smp("pump-4")]
    )
    rig.push_image()
    ranks = [member("pump-1"), member("pump-2"), member("pump-3", 1), member("pump-4", 2)]
    run = rig.start(together(ranks))
    rig.finish(run, "failed")

    (task,) = rig.tasks(run)
    assert task.failure.code == "rolled_back"
    assert "pump-3" in task.failure.text
    steps = steps_of(rig, run)
    after = steps["rollback_together"].result["members"]
    assert {device: about["version"] for device, about in after.items()} == {
        f"pump-{n}": "1.0.0" for n in (1, 2, 3, 4)
    }
    truths = site.devices.status()
    assert {truths[device]["version"] for device in after} == {"1.0.0"}
    assert all(truths[device]["confirmed"] for device in after)
    assert "pump-4" not in boots(site)  # its rank never came


@pytest.mark.row("E6", "E1")
def test_a_gateway_killed_in_the_middle_goes_on_and_keeps_its_devices(rig):
    site = rig.add_gateway("north", [smp("pump-1", boot_time="1500ms"), smp("pump-2")])
    rig.push_image()
    run = rig.start(together([member("pump-1"), member("pump-2", 1)]))
    wait_until(lambda: is_staged(rig, run), 60, "all images to be there")
    site.kill_9()
    site.start()
    rig.finish(run)

    truths = site.devices.status()
    assert {truths[device]["version"] for device in ("pump-1", "pump-2")} == {"2.0.0"}
    assert boots(site) == ["pump-1", "pump-2"]  # each of them tried once
