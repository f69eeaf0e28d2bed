"""A gateway's own software, alone and together with its devices; something real restarts it."""

import pytest

from contract.ids import THIS_GATEWAY
from tests.kit.rig_site import smp
from tests.kit.slots import Slots, bundle

pytestmark = pytest.mark.row("E6")


def job(*steps, **more):
    return {
        "name": "itself",
        "id": "itself",
        "targets": {"resource": "gateway", "query": {"id": "north"}},
        "iteration": {"timeout": "60s"},
        "retry": {"attempts": 1},
        "steps": list(steps),
        **more,
    }


def together(*members):
    return job({"uses": "firmware.update_together", "with": {"members": list(members)}})


def itself(rank=0, artifact="gateway-2.0.0"):
    return {"device": THIS_GATEWAY, "artifact": artifact, "version": "2.0.0", "rank": rank}


def pump(number, rank=0):
    named = {"device": f"pump-{number}", "artifact": "image-2.0.0", "version": "2.0.0"}
    return {**named, "rank": rank}


def a_site(rig, tmp_path, groups, crash_at="", in_start=1, script=None):
    slots = Slots(tmp_path / "software")
    site = rig.add_gateway("north", groups, start=False)
    rig.client.artifacts.push("gateway-2.0.0", bundle("2.0.0", script), kind="file")
    rig.push_image()
    site.devices.program.wait_for_line(".")
    slots.keep_running(site, crash_at, in_start)
    rig.wait_for_devices(site)
    return site, slots


def results(rig, run):
    (task,) = rig.tasks(run)
    return {step.id: step.result for step in rig.client.tasks.get(task.id).attempts[-1].steps}


def starts(site):
    return site.program.output().count("gateway started")


def test_a_gateway_and_its_devices_are_updated_together(rig, tmp_path):
    site, slots = a_site(rig, tmp_path, [smp("pump-1"), smp("pump-2")])
    run = rig.start(together(pump(1), itself(), pump(2, rank=1)))
    rig.finish(run)

    kept = results(rig, run)["confirm_together"]["members"]
    assert {name: (m["version"], m["confirmed"]) for name, m in kept.items()} == {
        name: ("2.0.0", True) for name in (THIS_GATEWAY, "pump-1", "pump-2")
    }
    assert slots.running == ("2.0.0", True)
    assert {truth["version"] for truth in site.devices.status().values()} == {"2.0.0"}
    assert starts(site) == 2
    assert "ended with 75" in site.program.output()


def test_a_device_that_fails_takes_the_gateway_back_with_it(rig, tmp_path):
    reverts = {"test_boot": "reverts"}
    site, slots = a_site(rig, tmp_path, [smp("pump-1"), smp("pump-2", faults=reverts)])
    run = rig.start(together(pump(1), itself(), pump(2, rank=1)))
    rig.finish(run, "failed")

    (task,) = rig.tasks(run)
    assert (task.failure.code, "pump-2" in task.failure.text) == ("rolled_back", True)
    after = results(rig, run)["rollback_together"]["members"]
    assert {name: (m["version"], m["confirmed"]) for name, m in after.items()} == {
        name: ("1.0.0", True) for name in (THIS_GATEWAY, "pump-1", "pump-2")
    }
    assert slots.running == ("1.0.0", True)
    assert {truth["version"] for truth in site.devices.status().values()} == {"1.0.0"}
    assert starts(site) == 3


def test_killed_before_it_ends_a_gateway_restarts_once(rig, tmp_path):
    site, slots = a_site(rig, tmp_path, [smp("pump-1")], crash_at="this_gateway.before_end:1")
    run = rig.start(together(itself(), pump(1, rank=1)))
    rig.finish(run)

    assert slots.running == ("2.0.0", True)
    assert site.devices.device("pump-1")["version"] == "2.0.0"
    assert starts(site) == 2
    assert "ended with 137" in site.program.output()


def test_a_version_that_does_not_start_leaves_everything_as_it_was(rig, tmp_path):
    site, slots = a_site(rig, tmp_path, [smp("pump-1")], script="exit 9")
    run = rig.start(together(pump(1), itself(rank=1)))
    rig.finish(run, "failed")

    (task,) = rig.tasks(run)
    assert (task.failure.code, THIS_GATEWAY in task.failure.text) == ("rolled_back", True)
    assert slots.running == ("1.0.0", True)
    assert site.devices.device("pump-1")["version"] == "1.0.0"
    assert "ended with 9" in site.program.output()


def test_killed_on_test_a_gateway_is_back_and_takes_its_devices_along(rig, tmp_path):
    # In its second life the first step is the switch, taken up again, and the next keeps all.
    armed = {"crash_at": "step.before_perform:2", "in_start": 2}
    site, slots = a_site(rig, tmp_path, [smp("pump-1"), smp("pump-2")], **armed)
    run = rig.start(together(pump(2), itself(), pump(1, rank=1)))
    rig.finish(run, "failed")

    (task,) = rig.tasks(run)
    assert (task.failure.code, THIS_GATEWAY in task.failure.text) == ("rolled_back", True)
    assert slots.running == ("1.0.0", True)
    truths = site.devices.status().values()
    assert {(truth["version"], truth["confirmed"]) for truth in truths} == {("1.0.0", True)}
    assert starts(site) == 3


def test_the_steps_of_an_update_work_on_a_gateway_alone(rig, tmp_path):
    site, slots = a_site(rig, tmp_path, [smp("pump-1")])
    update = {"uses": "firmware.update", "with": {"artifact": "gateway-2.0.0", "version": "2.0.0"}}
    run = rig.start(job(update))
    rig.finish(run)
    assert slots.running == ("2.0.0", True)
    back = {"uses": "firmware.rollback", "id": "back"}
    again = rig.start({**job(back), "name": "again", "id": "again"})
    rig.finish(again)
    assert results(rig, again)["back"]["version"] == "1.0.0"
    assert slots.running == ("1.0.0", True)
    assert starts(site) == 3
