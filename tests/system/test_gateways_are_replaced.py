"""Other hardware takes a gateway's place, and the old machine comes back."""

import shutil
from collections import Counter

import pytest

from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import Site, mqtt
from tests.kit.waiting import wait_until

# A pulse is a side effect that may not happen twice in an attempt; devices tell of each.
PULSE = ask("pulse", tag="{{ task.id }}/{{ task.attempt }}")


def another_machine(rig: Rig, name: str, site: Site, token: str) -> Site:
    """A machine for the same gateway, with devices of its own that say what they lived."""
    return Site(
        rig.programs, rig.folder / name, site.name, site.groups, cloud_url=rig.url,
        broker_url=f"mqtt://127.0.0.1:{rig.broker_port}", token=token, label=name,
    )  # fmt: skip


def pulses(*sites: Site) -> Counter[str]:
    """How often each pulse was lived through, on all machines together."""
    lived = (each for site in sites for each in site.devices.experiences())
    return Counter(each["tag"] for each in lived if each["what"] == "pulse")


@pytest.mark.row("E12")
def test_hardware_is_replaced_and_the_old_one_runs_nothing_any_more(rig: Rig):
    old = rig.add_gateway("north", [mqtt("pump-1"), mqtt("pump-2")])
    slow = delay("3s") | {"id": "slow", "when": "task.attempt == 1"}
    run = rig.start(command_job(steps=[slow, PULSE], attempts=2))
    rig.wait_for_step(run, "pump-1", "slow")
    rig.wait_for_step(run, "pump-2", "slow")
    old.kill_9()

    token = rig.cli("gateways", "replace", "north").output().split()[0]
    new = another_machine(rig, "new-machine", old, token)
    new.start()
    new.wait_for_session()
    rig.finish(run)
    first, second = rig.attempts(run, "pump-1")
    assert first.failure is not None
    assert (first.failure.code, second.status) == ("gateway_lost", "succeeded")
    once = {f"{task.id}/2": 1 for task in rig.tasks(run)}
    assert pulses(old, new) == once

    old.start()
    old.program.wait_for_line("refused by the cloud.*token_void", 30)
    shown = rig.client.gateways.get("north")
    assert shown.turned_away is not None and shown.turned_away.code == "token_void"
    assert not shown.in_conflict
    assert "token_void" in rig.cli("gateways", "get", "north").tail()
    rig.finish(rig.start(command_job("after", steps=[PULSE])))
    # What the old one had begun has not gone on.
    assert not any("/1" in tag and tag[:36] == run for tag in pulses(old))


@pytest.mark.row("E12")
def test_of_two_machines_with_one_disk_the_copy_is_shut_out_and_shown(rig: Rig):
    old = rig.add_gateway("north", [mqtt("pump-1")])
    slow = delay("3s") | {"id": "slow"}
    run = rig.start(command_job(steps=[slow, PULSE], attempts=2))
    rig.wait_for_step(run, "pump-1", "slow")
    old.kill_9()
    copy = another_machine(rig, "copy", old, old.settings["cloud"]["token"])
    shutil.copytree(old.data_dir, copy.data_dir)

    old.start()
    old.wait_for_session()
    copy.start()
    copy.program.wait_for_line("refused by the cloud.*journal_copied", 30)
    wait_until(lambda: rig.client.gateways.get("north").in_conflict, 30, "a conflict")
    assert rig.client.gateways.get("north").turned_away.code == "journal_copied"
    rig.finish(run)
    assert pulses(old, copy) == {f"{rig.tasks(run)[0].id}/1": 1}

    # A person decides that the copy is right: a new token settles it.
    copy.kill_9()
    copy.settings["cloud"]["token"] = rig.client.gateways.replace("north").token
    copy.write_config(copy.settings)
    copy.start()
    copy.wait_for_session()
    wait_until(lambda: not rig.client.gateways.get("north").in_conflict, 30, "no conflict")


@pytest.mark.row("E12")
def test_twins_with_journals_of_their_own_do_not_end_each_others_attempts(rig: Rig):
    old = rig.add_gateway("north", [mqtt("pump-1")])
    twin = another_machine(rig, "twin", old, old.settings["cloud"]["token"])
    twin.start()
    twin.wait_for_session()
    old.program.wait_for_line("refused by the cloud.*journal_retired", 30)
    run = rig.start(command_job(steps=[PULSE]))
    rig.finish(run)
    assert pulses(old, twin) == {f"{rig.tasks(run)[0].id}/1": 1}
    assert rig.client.gateways.get("north").turned_away.code == "journal_retired"
