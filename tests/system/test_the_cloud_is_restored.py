"""The cloud comes back from a backup, and its gateways know more than it does."""

from collections import Counter
from pathlib import Path

import pytest

from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import Site, mqtt
from tests.kit.waiting import wait_until

# A side effect that is told by the devices, each time that it happens.
PULSE = ask("pulse", tag="{{ task.id }}")


def pulses(*sites: Site) -> Counter[str]:
    lived = (each for site in sites for each in site.devices.experiences())
    return Counter(each["tag"] for each in lived if each["what"] == "pulse")


def restore(rig: Rig, file: Path) -> None:
    """As the page says: stop the cloud, restore, start it."""
    rig.cloud.terminate()
    said = rig.cli("cloud", "restore", file, "--config", rig.folder / "cloud.json")
    assert said.returncode == 0 and "the database before is" in said.tail(), said.tail()
    rig.start_cloud()


def back_up(rig: Rig) -> Path:
    file = rig.folder / "yesterday.db"
    said = rig.cli("cloud", "backup", file, "--config", rig.folder / "cloud.json")
    assert said.returncode == 0, said.tail()
    assert file.stat().st_mode & 0o777 == 0o600
    return file


@pytest.mark.row("E12")
def test_a_restored_cloud_takes_over_what_its_gateways_did_meanwhile(rig: Rig):
    site = rig.add_gateway("north", [mqtt("pump-1"), mqtt("pump-2")])
    slow = delay("2s") | {"id": "slow"}
    run = rig.start(command_job(steps=[slow, PULSE], concurrency=1))
    first = rig.wait_for_one_in_step(run, "slow")
    before = rig.client.version().incarnation
    file = back_up(rig)
    assert rig.cli("cloud", "backup", file).returncode == 2  # never over another

    # The fleet moves on: one task was open then, one not even offered, one run not begun.
    rig.finish(run)
    late = rig.start(command_job("late", steps=[PULSE]))
    rig.finish(late)
    lived = pulses(site)
    assert set(lived.values()) == {1} and len(lived) == 4
    assert first.id in lived

    restore(rig, file)
    rig.finish(run)
    assert rig.client.version().incarnation != before
    told = wait_until(
        lambda: [one for one in rig.client.gateways.orphans("north") if one.outcome], 30, "orphans"
    )
    assert told is not None
    assert {one.task for one in told} == {f"{late}-0", f"{late}-1"}
    assert {one.status for one in told} == {"succeeded"}
    assert rig.client.gateways.get("north").orphaned_tasks == 2
    assert late in rig.cli("gateways", "orphans", "north").tail()
    again = rig.start(command_job("late", steps=[PULSE]))
    rig.finish(again)
    assert again not in (run, late)
    lived = pulses(site)
    assert set(lived.values()) == {1} and len(lived) == 6
    assert rig.client.recovery.get().recovering is False


@pytest.mark.row("E12")
def test_it_waits_for_who_was_online_or_for_a_person(rig: Rig):
    north = rig.add_gateway("north", [mqtt("pump-1")])
    south = rig.add_gateway("south", [mqtt("valve-1")])
    file = back_up(rig)
    refused = rig.cli("cloud", "restore", file, "--config", rig.folder / "cloud.json")
    assert refused.returncode == 2 and "another cloud runs" in refused.tail()
    north.kill_9()
    restore(rig, file)

    south.wait_for_session()
    wait_until(lambda: rig.client.recovery.get().awaited == ["north"], 30, "south's hello")
    run = rig.start(command_job(steps=[PULSE], query={"id": "valve-1"}))
    waits = rig.client.runs.get(run).waiting_for
    assert waits is not None and waits.code == "recovering"
    assert "north" in rig.cli("recovery", "show").tail()
    assert pulses(north, south) == {}

    assert "nobody" in rig.cli("recovery", "release").tail()
    rig.finish(run)
    assert "recovery.release" in [line.action for line in rig.client.audit.list()]
