"""A restored database: who is waited for, what is taken over, and what is kept beside it."""

import pytest

from cloud.coordinator import admissions, gateways, moving, recovery
from cloud.errors import Conflict
from cloud.storage import recovery as stored_recovery
from cloud.storage.views import orphans
from cloud.storage.views import runs as run_views
from contract.http.fleet import MoveDevice, RetireGateway
from contract.ids import DEFAULT_ORG
from contract.lifecycle import TaskStatus
from contract.messages import TaskMark
from tests.integration.storage.world import World, snapshot


def mark(task: str, status: str, revision: int, attempt: int = 1) -> TaskMark:
    return TaskMark(task=task, attempt=attempt, revision=revision, status=TaskStatus(status))


def restore(world: World) -> None:
    world.run_now(stored_recovery.begin, "another", world.now)


@pytest.mark.row("E12")
def test_it_waits_for_those_that_were_online_when_it_was_backed_up(world: World):
    world.join("berlin", ["pump-1"])
    world.join("paris", ["valve-1"])
    world.create_gateway("never-heard")
    run = world.start_new()
    restore(world)
    assert world.run_now(recovery.look)
    assert world.run_now(recovery.shown, DEFAULT_ORG).awaited == ["berlin", "paris"]
    waits = world.database.read_now(run_views.get_run, DEFAULT_ORG, run, world.now).waiting_for
    assert waits is not None and waits.code == "recovering"
    world.hello("berlin", ["pump-1"])
    assert world.run_now(recovery.look)
    world.hello("paris", ["valve-1"])
    assert not world.run_now(recovery.look)
    assert world.run_now(recovery.shown, DEFAULT_ORG).recovering is False
    assert world.dispatch().offered == 2


@pytest.mark.row("E12")
def test_attempts_that_are_newer_than_the_backup_are_taken_over(world: World):
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    run = world.start_new(iteration={"concurrency": 1}, retry={"attempts": 3})
    world.dispatch()
    (first,) = world.send()["berlin"]
    world.report("berlin", snapshot(first, "running", 1))
    restore(world)
    second, third = f"{run}-1", f"{run}-2"
    told = [
        mark(first.task, "failed", 4),
        mark(first.task, "running", 2, attempt=2),
        mark(second, "succeeded", 5),
        mark("run-gone-0", "succeeded", 3),
    ]
    welcome = world.hello("berlin", ["pump-1", "pump-2", "pump-3"], marks=told)
    asked = {(ref.task, ref.attempt) for ref in welcome.report}
    assert asked == {(first.task, 1), (first.task, 2), (second, 1), ("run-gone-0", 1)}
    # For a moment more are open than the run allows: they were begun one after the other.
    assert world.task(first.task).attempt == 2
    assert world.task(second).status is TaskStatus.OFFERED
    # What is taken over is not offered again, and what its gateway tells of it counts.
    assert not world.run_now(recovery.look)
    assert world.dispatch().offered == 0
    newer = first.model_copy(update={"attempt": 2})
    ended = first.model_copy(update={"task": second})
    gone = first.model_copy(update={"task": "run-gone-0"})
    items = world.report(
        "berlin",
        snapshot(newer, "succeeded", 7),
        snapshot(ended, "succeeded", 5),
        snapshot(gone, "succeeded", 3),
    ).items
    assert [item.code for item in items] == [None, None, "unknown_task"]
    assert world.run(run).counts.succeeded == 2
    world.check()
    (orphan,) = world.database.read_now(orphans.list_orphans, DEFAULT_ORG, "berlin").items
    assert (orphan.task, orphan.status, orphan.outcome is not None) == (
        "run-gone-0",
        "succeeded",
        True,
    )
    # Once it is kept whole it is not asked for again.
    again = world.hello(
        "berlin", ["pump-1", "pump-2", "pump-3"], marks=[mark("run-gone-0", "succeeded", 3)]
    )
    assert "run-gone-0" not in {ref.task for ref in again.report}
    assert world.dispatch().offered == 1
    assert world.send()["berlin"][0].task == third


@pytest.mark.row("E12")
def test_a_person_releases_it(world: World):
    world.join("berlin", ["pump-1"])
    restore(world)
    assert world.run_now(recovery.release, world.caller, world.now).recovering is False
    assert not world.run_now(recovery.look)


@pytest.mark.row("E12")
def test_a_device_goes_to_who_has_claimed_it_for_longest(world: World):
    world.join("berlin", ["pump-1"])
    world.join("paris", ["pump-1", "valve-1"])
    world.now += 1
    world.join("rome", ["pump-1"])
    world.hello("berlin", [])
    assert world.sql("SELECT gateway FROM devices WHERE id = 'pump-1'") == [("paris",)]
    with pytest.raises(Conflict):
        world.run_now(
            moving.move_device, world.caller, "pump-1", MoveDevice(to="berlin"), world.now
        )
    moved, _ = world.run_now(
        moving.move_device, world.caller, "pump-1", MoveDevice(to="rome"), world.now
    )
    assert (moved.gateway, moved.claimed_by) == ("rome", ["paris"])
    assert world.sql("SELECT foreign_devices FROM gateways ORDER BY id") == [(0,), (1,), (0,)]
    world.run_now(
        admissions.retire_gateway, world.caller, "rome", RetireGateway(), "void", world.now
    )
    assert world.sql("SELECT gateway FROM devices WHERE id = 'pump-1'") == [("paris",)]
    world.hello("paris", ["valve-1"])
    assert world.sql("SELECT gateway FROM devices WHERE id = 'pump-1'") == [(None,)]
    assert world.sql("SELECT device FROM device_claims") == []


@pytest.mark.row("E12")
def test_a_journal_that_was_replaced_does_not_come_back(world: World):
    world.join("berlin", ["pump-1"])
    world.start_new()
    world.hello("berlin", ["pump-1"], journal="second", instance_id="second")
    world.dispatch()
    (task,) = world.send()["berlin"]
    assert world.hello("berlin", ["pump-1"]).refused == "journal_retired"
    assert world.task(task.task).status is TaskStatus.OFFERED
    assert world.sql("SELECT refused_code FROM admissions") == [("journal_retired",)]


@pytest.mark.row("E12")
def test_neither_the_central_gateway_nor_a_retired_one_is_replaced(world: World):
    world.join("berlin", ["pump-1"])
    world.run_now(gateways.ensure_central, "central's", world.now)
    retire = RetireGateway(delete_devices=True)
    with pytest.raises(Conflict):
        world.run_now(admissions.retire_gateway, world.caller, "central", retire, "x", world.now)
    world.run_now(admissions.retire_gateway, world.caller, "berlin", retire, "void", world.now)
    assert world.sql("SELECT id FROM devices") == []
    assert world.hello("berlin", ["pump-1"]).refused == "gateway_retired"
    with pytest.raises(Conflict):
        world.run_now(admissions.replace_gateway, world.caller, "berlin", "t", world.now)
    world.create_gateway("berlin")
    # The token was given out anew, so a hello without its proof is nobody's.
    assert world.hello("berlin", ["pump-1"]).refused == "token_void"
