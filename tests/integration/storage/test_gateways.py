"""Hellos: journals that vanish or differ, inventories, two processes of one name."""

import pytest

from cloud.coordinator import dispatch
from cloud.errors import Conflict, NotFound
from cloud.storage.views import gateways as views
from contract.http.fleet import Gateway
from contract.ids import DEFAULT_ORG
from contract.lifecycle import TaskStatus
from contract.messages import InventoryDevice, TaskMark
from tests.integration.storage.world import World, snapshot


def shown(world: World, gateway: str) -> Gateway:
    return world.database.read_now(views.get_gateway, DEFAULT_ORG, gateway, world.now)


def mark(task: str, status: str, revision: int, attempt: int = 1) -> TaskMark:
    return TaskMark(task=task, attempt=attempt, revision=revision, status=TaskStatus(status))


def test_a_gateway_nobody_created_is_not_welcome(world: World):
    with pytest.raises(NotFound):
        world.hello("nobody")
    world.create_gateway("berlin")
    with pytest.raises(Conflict):
        world.create_gateway("berlin")


def test_a_new_journal_ends_what_was_bound_to_the_old_one(world: World):
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    run = world.start_new(iteration={"concurrency": 2})
    world.dispatch()
    first, _ = world.send()["berlin"]
    world.report("berlin", snapshot(first, "running", 1))
    world.hello("berlin", ["pump-1", "pump-2", "pump-3"], journal="another")
    assert world.run(run).counts.retrying == 2
    world.check()
    task = world.task(first.task)
    assert task.failure is not None
    assert (task.failure.code, task.tries) == ("gateway_lost", 1)
    assert world.dispatch().offered == 2
    again = {task.task: task for task in world.send()["berlin"]}
    assert again[first.task].attempt == 2
    (item,) = world.report("berlin", snapshot(first, "succeeded", 2)).items
    assert item.code == "foreign_task"  # that journal is gone, so this cannot be from it
    for offered in again.values():
        world.report("berlin", snapshot(offered, "succeeded", 1))
    world.check()


def test_the_welcome_says_what_differs(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(5)])
    run = world.start_new(iteration={"concurrency": 5}, retry={"attempts": 1})
    world.dispatch()
    ended, newer, lost, fresh, same = world.send()["berlin"]
    world.report("berlin", *(snapshot(t, "running", 3) for t in (ended, newer, lost, same)))
    world.report("berlin", snapshot(ended, "failed", 4))
    marks = [
        mark(ended.task, "running", 4),
        mark(newer.task, "running", 5),
        mark(same.task, "running", 3),
        mark("nobody-1", "running", 1),
    ]
    devices = [f"pump-{n}" for n in range(5)]
    welcome = world.hello("berlin", devices, marks=marks)
    assert [(item.task, item.mode) for item in welcome.cancel] == [(ended.task, "soft")]
    assert {ref.task for ref in welcome.report} == {newer.task, lost.task}
    assert welcome.forget == []
    assert [task.task for task in world.send()["berlin"]] == [fresh.task]
    assert shown(world, "berlin").orphaned_tasks == 1
    assert world.run(run).counts.in_flight == 4


def test_an_offer_of_an_ended_run_is_forgotten(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    world.dispatch()
    (task,) = world.send()["berlin"]
    world.cancel(run)
    world.now += 2_000_000
    world.settle(run)
    assert world.task(task.task).status is TaskStatus.CANCELLED
    assert world.sql("SELECT held_by FROM devices") == [(task.task,)]
    welcome = world.hello("berlin", ["pump-1"], marks=[mark(task.task, "accepted", 1)])
    assert [ref.task for ref in welcome.forget] == [task.task]
    world.hello("berlin", ["pump-1"])
    assert world.sql("SELECT held_by FROM devices") == [(None,)]


def test_an_inventory_takes_no_device_of_another_gateway(world: World):
    pump = InventoryDevice(id="pump-1", type="pump", tags={"site": "berlin"})
    world.join("berlin", [pump, "pump-2"])
    world.join("paris", [InventoryDevice(id="pump-1", type="stolen"), "valve-1"])
    rows = world.sql("SELECT id, gateway, type FROM devices ORDER BY id")
    assert rows == [
        ("pump-1", "berlin", "pump"),
        ("pump-2", "berlin", ""),
        ("valve-1", "paris", ""),
    ]
    world.hello("berlin", [pump])
    world.hello("paris", ["pump-2", "valve-1"])
    assert world.sql("SELECT gateway FROM devices WHERE id = 'pump-2'") == [("paris",)]


def test_two_processes_of_one_name_are_in_conflict_and_get_no_offers(world: World):
    world.join("berlin", ["pump-1"])
    world.start_new()
    assert not world.hello("berlin", ["pump-1"], instance_id="second").conflict
    assert world.hello("berlin", ["pump-1"]).conflict
    assert shown(world, "berlin").in_conflict
    assert world.dispatch().offered == 0
    (waiting,) = world.sql("SELECT parked FROM tasks")
    assert waiting == ("gateway:berlin",)
    world.now += 91_000
    world.hear("berlin")
    assert world.run_now(dispatch.wake_parked, world.now)
    assert world.dispatch().offered == 1
