"""One action on many devices, as a run that survives a crash; both databases."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from cloud.coordinator import control, runs, selections
from cloud.errors import Invalid
from contract.http.operations import ActOnDevices
from contract.http.runs import CancelRun, PauseRun
from contract.lifecycle import RunStatus
from contract.messages import InventoryDevice
from tests.integration.storage.test_operations import Office
from tests.integration.storage.world import World, snapshot

pytestmark = pytest.mark.row("A11")


@pytest.fixture
def office(world: World, tmp_path: Path) -> Office:
    return Office(world, tmp_path)


def act(office: Office, action: dict[str, Any], **which: Any) -> str:
    world = office.world
    run, new_run = f"operation-{next(world.numbers)}", f"run-{next(world.numbers)}"
    asked = ActOnDevices.model_validate({"action": action, **which})
    world.run_now(selections.act_on_devices, world.caller, asked, run, new_run, world.now)
    return run


def pumps(world: World, number: int) -> list[str]:
    names = [f"pump-{n:03}" for n in range(number)]
    world.join(
        "berlin", [InventoryDevice(id=name, type="pump", tags={"old": "1"}) for name in names]
    )
    return names


def test_tags_and_attributes_are_set_and_taken_away_in_chunks(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(selections, "ACTED_ON", 10)
    world = office.world
    pumps(world, 25)
    world.hello("berlin", [InventoryDevice(id="valve-1", type="valve"), *world_devices(world)])
    run = act(
        office,
        {"do": "edit", "tags": {"site": "berlin", "old": None}, "attributes": {"size": 3}},
        query="type:pump",
    )
    office.step()
    assert world.run(run).status is RunStatus.RUNNING
    ended = office.finish(run)
    assert (ended.status, ended.results) == (RunStatus.SUCCEEDED, {"changed": 25})
    rows = world.sql("SELECT tags, attributes FROM devices WHERE type = 'pump'")
    assert set(rows) == {('{"site": "berlin"}', '{"size": 3}')}
    assert world.sql("SELECT tags FROM devices WHERE id = 'valve-1'") == [("{}",)]
    # Its gateway says hello again, and the edits stand.
    world.hello("berlin", world_devices(world))
    assert set(world.sql("SELECT tags FROM devices WHERE type = 'pump'")) == {
        ('{"site": "berlin"}',)
    }


def world_devices(world: World) -> list[InventoryDevice]:
    rows = world.sql("SELECT id FROM devices WHERE type = 'pump' ORDER BY id")
    return [InventoryDevice(id=id, type="pump", tags={"old": "1"}) for (id,) in rows]


def test_what_cannot_be_edited_is_named_and_the_others_are(office: Office):
    world = office.world
    pumps(world, 3)
    full = act(office, {"do": "edit", "tags": {"much": "x" * 32_000}}, devices=["pump-001"])
    assert office.finish(full).status is RunStatus.SUCCEEDED
    run = office.finish(act(office, {"do": "edit", "tags": {"more": "y" * 1_000}}, all=True))
    assert run.status is RunStatus.PARTIALLY_SUCCEEDED
    assert (run.results["changed"], run.results["errors"]) == (2, 1)
    (first,) = cast(list[dict[str, str]], run.results["first_errors"])
    assert first["device"] == "pump-001"
    assert "more than" in first["reason"]


@pytest.mark.row("C16")
def test_holds_are_placed_and_lifted_and_tasks_wait_for_them(office: Office):
    world = office.world
    pumps(world, 3)
    held = office.finish(
        act(
            office,
            {"do": "hold", "reason": "crane", "lasts": "2h"},
            devices=["pump-000", "pump-001"],
        )
    )
    assert held.results == {"held": 2}
    rows = world.sql("SELECT kind, id, reason, until FROM holds ORDER BY id")
    until = world.now + timedelta(hours=2) // timedelta(milliseconds=1)
    assert rows == [("device", f"pump-00{n}", "crane", until) for n in (0, 1)]
    run = world.start_new()
    assert world.dispatch().offered == 1
    waits = [world.task(f"{run}-{n}").waiting_for for n in (0, 1)]
    assert [wait.code for wait in waits if wait] == ["hold", "hold"]
    lifted = office.finish(act(office, {"do": "lift_hold"}, query="type:pump"))
    assert lifted.results == {"lifted": 2}
    assert world.dispatch().offered == 2


def test_one_run_of_a_job_is_started_on_them_and_only_once(office: Office):
    world = office.world
    names = pumps(world, 4)
    job = world.save(context={"site": "?"})
    asked = {"do": "start_job", "job": job, "context": {"site": "berlin"}}
    operation = act(office, asked, devices=names[1:3])
    stale = (operation, world.sql("SELECT operation FROM runs WHERE id = :r", r=operation)[0][0])
    ended = office.finish(operation)
    assert ended.status is RunStatus.SUCCEEDED
    world.run_now(selections.act_chunk, *stale, world.now)
    run = str(ended.results["run"])
    while world.run_now(runs.create_tasks, run, world.now):
        pass
    assert world.sql(
        "SELECT id, device FROM runs r JOIN tasks t ON t.run = r.id ORDER BY device"
    ) == [
        (run, "pump-001"),
        (run, "pump-002"),
    ]
    assert world.run(run).context == {"site": "berlin"}
    again = office.finish(act(office, asked, devices=names[:1]))
    assert again.status is RunStatus.FAILED
    assert "has not ended" in again.reason


def test_only_devices_nobody_owns_are_deleted(office: Office):
    world = office.world
    pumps(world, 3)
    world.hello("berlin", [InventoryDevice(id="pump-000", type="pump")])
    run = office.finish(act(office, {"do": "delete"}, all=True))
    assert run.results == {"deleted": 2, "kept": 1}
    assert world.sql("SELECT id FROM devices") == [("pump-000",)]


@pytest.mark.parametrize(
    ("which", "action", "said"),
    [
        ({}, {"do": "lift_hold"}, "say which, or `all`"),
        ({"devices": ["nobody"]}, {"do": "lift_hold"}, "there is no device `nobody`"),
        ({"devices": ["pump-000"], "query": "type:pump"}, {"do": "lift_hold"}, "not both"),
        ({"query": "typ:pump"}, {"do": "delete"}, "did you mean"),
        ({"all": True}, {"do": "start_job", "job": "none"}, "there is no job `none`"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(
    office: Office, which: dict[str, Any], action: dict[str, Any], said: str
):
    pumps(office.world, 1)
    with pytest.raises(Invalid, match=said):
        act(office, action, **which)
    assert office.world.sql("SELECT id FROM runs") == []
    with pytest.raises(ValidationError, match="give tags or attributes"):
        act(office, {"do": "edit"}, all=True)


def test_a_device_at_work_is_acted_on_too(office: Office):
    world = office.world
    pumps(world, 1)
    run = world.start_new()
    world.dispatch()
    (task,) = world.send()["berlin"]
    world.report("berlin", snapshot(task, "running", 1))
    office.finish(act(office, {"do": "hold"}, all=True))
    world.report("berlin", snapshot(task, "succeeded", 2))
    assert world.settle(run).status is RunStatus.SUCCEEDED


def test_paused_it_waits_and_cancelled_it_keeps_what_is_done(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(selections, "ACTED_ON", 2)
    world = office.world
    pumps(world, 6)
    run = act(office, {"do": "hold", "reason": "crane"}, all=True)
    office.step()
    world.run_now(control.pause_run, world.caller, run, PauseRun(), world.now)
    office.step()
    assert world.sql("SELECT count(*) FROM holds") == [(2,)]
    world.run_now(control.resume_run, world.caller, run, world.now)
    office.step()
    world.run_now(runs.cancel_run, world.caller, run, CancelRun(), world.now)
    ended = office.finish(run)
    assert (ended.status, ended.results) == (RunStatus.CANCELLED, {"held": 4})
    assert world.sql("SELECT count(*) FROM holds") == [(4,)]
