"""A device goes from one gateway to another: by configuration, by a decision, while it is busy."""

import pytest

from roundsman.errors import Conflict
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import Site, smp
from tests.kit.waiting import wait_until


def sites(rig: Rig) -> tuple[Site, Site]:
    """Two gateways; what the first one's devices are wired to, the second one reaches as well."""
    return rig.add_gateway("north", [smp("pump-1")]), rig.add_gateway("south", [smp("valve-1")])


def hand(device: str, before: Site, to: Site) -> None:
    """Add a device of one configuration to another, and start that gateway anew."""
    entry = next(one for one in before.settings["devices"] if one["id"] == device)
    to.settings["devices"].append(entry)
    to.write_config(to.settings)
    to.restart()


def take(device: str, site: Site) -> None:
    site.settings["devices"] = [d for d in site.settings["devices"] if d["id"] != device]
    site.write_config(site.settings)


@pytest.mark.row("E12")
def test_a_busy_device_is_moved_by_the_two_configurations(rig: Rig):
    north, south = sites(rig)
    slow = delay("8s") | {"id": "slow", "when": "task.attempt == 1"}
    job = command_job(steps=[slow, ask("version")], query={"id": "pump-1"}, attempts=2)
    run = rig.start(job)
    rig.wait_for_step(run, "pump-1", "slow")
    hand("pump-1", north, south)
    wait_until(lambda: rig.client.gateways.get("south").foreign_devices, 30, "a claim")
    found = rig.client.devices.get("pump-1")
    assert (found.gateway, found.claimed_by) == ("north", ["south"])
    assert rig.client.gateways.get("south").claims == ["pump-1"]

    north.kill_9()
    take("pump-1", north)
    north.start()
    rig.finish(run)
    first, second = rig.attempts(run, "pump-1")
    assert (first.gateway, second.gateway) == ("north", "south")
    found = rig.client.devices.get("pump-1")
    assert (found.gateway, found.claimed_by, found.held_by) == ("south", [], None)
    assert rig.client.gateways.get("south").foreign_devices == 0


@pytest.mark.row("E12")
def test_a_person_decides_while_the_gateway_before_is_away(rig: Rig):
    north, south = sites(rig)
    job = command_job(steps=[delay("1s") | {"id": "slow"}, ask("version")], attempts=2)
    run = rig.start({**job, "targets": {"resource": "device", "query": {"id": "pump-1"}}})
    rig.wait_for_step(run, "pump-1", "slow")
    north.kill_9()
    with pytest.raises(Conflict):
        rig.client.devices.move("pump-1", "south")  # it does not have it
    hand("pump-1", north, south)
    wait_until(lambda: rig.client.devices.get("pump-1").claimed_by, 30, "a claim")
    with pytest.raises(Conflict):
        rig.client.devices.move("pump-1", "south")  # an attempt is open
    parked = rig.start(command_job("parked", query={"id": "pump-1"}))
    rig.wait_for_task(parked, "pump-1", lambda task: task.waiting_for)

    assert "south" in rig.cli("devices", "move", "pump-1", "--to", "south", "--force").tail()
    rig.finish(run)
    rig.finish(parked)
    first, second = rig.attempts(run, "pump-1")
    assert first.failure is not None and first.failure.code == "gateway_lost"
    assert (second.gateway, rig.attempts(parked, "pump-1")[0].gateway) == ("south", "south")
    # The one before comes back, and has no say any more.
    north.start()
    north.wait_for_session()
    wait_until(lambda: rig.client.gateways.get("north").claims == ["pump-1"], 30, "a claim")
    assert rig.client.devices.get("pump-1").gateway == "south"
    assert "device.move" in [line.action for line in rig.client.audit.list()]
