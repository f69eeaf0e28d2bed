"""One action on many devices, and a gateway that drains, while the cloud is killed in between."""

from datetime import timedelta

import pytest

from contract.http.operations import EditThem, RunOnThem
from contract.job_document import JobDocument
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask, command_job, delay
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until

WAIT = timedelta(seconds=60)


@pytest.mark.row("A11")
def test_a_gateway_drains_though_the_cloud_is_killed_meanwhile(rig: Rig):
    rig.add_gateway("north", [smp(f"pump-{n}") for n in (1, 2, 3)])
    slow = delay("3s") | {"id": "slow", "when": "target.id == 'pump-1'"}
    run = rig.start(command_job(steps=[slow, ask("version")], concurrency=1))
    rig.wait_for_step(run, "pump-1", "slow")

    stop = rig.client.gateways.stop(["north"], reason="a new cable")
    wait_until(lambda: rig.client.gateways.get("north").state == "stopping", 30)
    rig.restart_cloud()
    ended = rig.client.runs.wait(stop.id, timeout=WAIT)
    assert (ended.status, ended.type) == ("succeeded", "stop_gateways")
    assert (ended.results["finished"], ended.results["stopped"]) == (1, 1)
    assert rig.client.gateways.get("north").state == "stopped"
    assert rig.task(run, "pump-1").status == "succeeded"
    waiting = rig.client.runs.get(run).waiting_for
    assert waiting is not None and waiting.code == "gateway_stopped"
    assert rig.client.runs.get(run).counts.pending == 2

    assert "started\t1" in rig.cli("gateways", "start", "north").tail()
    assert rig.finish(run, "succeeded").counts.succeeded == 3
    said = [(line.action, line.subject) for line in rig.client.audit.list()]
    assert said[0][0] == "gateways.start"
    assert ("gateways.stop", f"run/{stop.id}") in said


@pytest.mark.row("A11")
def test_devices_are_edited_held_and_run_on_in_one_go(rig: Rig):
    rig.add_gateway("north", [smp(f"pump-{n}") for n in (1, 2, 3)])
    edited = rig.client.devices.act(
        EditThem(do="edit", tags={"hall": "south"}), devices=["pump-1", "pump-2"]
    )
    rig.restart_cloud()
    ended = rig.client.runs.wait(edited.id, timeout=WAIT)
    assert (ended.status, ended.results) == ("succeeded", {"changed": 2})
    held = rig.cli("devices", "act", "-d", "pump-2", "--hold", "--reason", "crane", "--for", "2h")
    assert "held\t1" in held.tail()
    rig.client.jobs.create(JobDocument.model_validate(command_job()))
    on_them = rig.client.devices.act(
        RunOnThem(do="start_job", job="command"), query="tags.hall:south"
    )
    run = str(rig.client.runs.wait(on_them.id, timeout=WAIT).results["run"])
    rig.wait_for_counts(run, lambda counts: counts.succeeded == 1)
    waiting = rig.client.runs.get(run).waiting_for
    assert waiting is not None and waiting.code == "hold"
    lifted = rig.cli("devices", "act", "--all", "--lift-hold")
    assert "lifted\t1" in lifted.tail()
    assert rig.finish(run, "succeeded").counts.succeeded == 2
    assert "hold.set" not in rig.cli("audit", "list").tail()
    assert "devices.hold" in rig.cli("audit", "list").tail()
