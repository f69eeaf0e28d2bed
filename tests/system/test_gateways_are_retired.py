"""A gateway is retired while it works, and its name is given to a new machine."""

import pytest

from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until

SLOW = [delay("20s") | {"id": "slow", "when": "target.id == 'pump-1'"}, ask("version")]


@pytest.mark.row("E12")
def test_a_retired_gateway_is_out_at_once_and_comes_back_with_a_new_token(rig: Rig):
    site = rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    rig.add_gateway("south", [smp("valve-1")])
    run = rig.start(command_job(steps=SLOW, attempts=2))
    rig.wait_for_step(run, "pump-1", "slow")
    rig.wait_for_task(run, "pump-2", lambda task: task.status == "succeeded")

    said = rig.cli("gateways", "retire", "north", "--reason", "the site is closed")
    assert "retired" in said.tail()
    # The session that is open ends, and what ran there stops.
    site.program.wait_for_line("refused by the cloud", 30)
    first = rig.wait_for_task(run, "pump-1", lambda task: task.status == "rescheduled")
    assert first.attempts[0].failure is not None
    assert first.attempts[0].failure.code == "gateway_lost"
    shown = rig.client.gateways.get("north")
    assert (shown.state, shown.online, shown.devices) == ("retired", False, 0)
    assert rig.client.devices.get("pump-1").gateway is None
    waits = rig.wait_for_task(run, "pump-1", lambda task: task.waiting_for)
    assert waits.waiting_for is not None and waits.waiting_for.code == "gateway_unknown"
    # Others go on, and the old token opens nothing.
    rig.finish(rig.start(command_job("other", query={"id": "valve-1"})))
    site.restart()
    site.program.wait_for_line("refused by the cloud", 30)
    assert rig.client.gateways.get("north").turned_away.code == "gateway_retired"

    made = rig.cli("gateways", "create", "north")
    site.kill_9()
    site.settings["cloud"]["token"] = made.output().split()[0]
    site.write_config(site.settings)
    site.wipe()
    site.start()
    rig.finish(run)
    assert rig.task(run, "pump-1").attempt == 2
    assert rig.client.gateways.get("north").state == "working"
    said_so = [line.action for line in rig.client.audit.list()]
    assert said_so[:2] == ["gateway.enroll_again", "gateway.retire"]


@pytest.mark.row("E12")
def test_a_gateways_own_task_says_that_it_was_retired(rig: Rig):
    rig.add_gateway("north", [smp("pump-1")])
    rig.client.gateways.retire("north", delete_devices=True)
    assert not [device.id for device in rig.client.devices.list()]
    job = command_job(steps=[{"uses": "flow.log", "with": {"text": "here"}}])
    run = rig.start({**job, "targets": {"resource": "gateway", "query": {"id": "north"}}})

    def waits() -> bool:
        found = rig.client.runs.get(run).waiting_for
        return found is not None and found.code == "gateway_retired"

    wait_until(waits, 30, lambda: rig.describe(run))
    rig.client.runs.cancel(run)
    rig.finish(run, "cancelled")
