"""Who may start: parking and waking, devices, limits, priorities, and why the others wait."""

import pytest

from cloud.storage.views import tasks as task_views
from contract.ids import DEFAULT_ORG
from tests.integration.storage.world import World, snapshot


def waits(world: World, run: str) -> list[str | None]:
    page = world.database.read_now(task_views.list_tasks, DEFAULT_ORG, run, world.now)
    return [task.waiting_for.code if task.waiting_for else None for task in page.items]


def test_tasks_of_a_silent_gateway_are_parked_and_wake_with_its_hello(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    world.join("paris", ["valve-1"])
    world.now += 31_000
    world.hear("paris")
    run = world.start_new(iteration={"concurrency": 1})
    assert world.dispatch().offered == 1
    assert waits(world, run) == ["gateway_offline", "gateway_offline", "acceptance"]
    (task,) = world.send()["paris"]
    world.report("paris", snapshot(task, "succeeded", 1))
    assert world.dispatch().offered == 0
    world.hello("berlin", ["pump-1", "pump-2"])
    assert waits(world, run) == ["dispatch", "dispatch", None]
    assert world.dispatch().offered == 1
    assert waits(world, run)[:2] == ["acceptance", "concurrency"]
    world.check()


def test_a_device_is_held_by_one_task_and_the_next_is_woken(world: World):
    world.join("berlin", ["pump-1"])
    low = world.start_new(name="low", priority="low")
    high = world.start_new(name="high", priority="high")
    world.dispatch()
    assert waits(world, high) == ["acceptance"]
    assert waits(world, low) == ["device_held"]
    (task,) = world.send()["berlin"]
    world.report("berlin", snapshot(task, "succeeded", 1))
    assert waits(world, low) == ["dispatch"]
    assert world.dispatch().offered == 1
    world.check()


def test_a_run_has_so_many_tasks_on_one_gateway(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(5)])
    run = world.start_new(iteration={"concurrency": 10, "per_gateway": 2})
    assert world.dispatch().offered == 2
    assert waits(world, run) == ["acceptance"] * 2 + ["per_gateway"] * 3
    for left in (3, 1):
        for task in world.send()["berlin"]:
            world.report("berlin", snapshot(task, "succeeded", 1))
        assert world.dispatch().offered == min(left, 2)
        world.check()


def test_a_gateway_without_the_verb_is_too_old(world: World):
    world.create_gateway("berlin")
    world.hello("berlin", ["pump-1"], verbs=["flow.delay"])
    run = world.start_new()
    assert world.dispatch().offered == 0
    assert waits(world, run) == ["gateway_too_old"]
    found = world.run(run).waiting_for
    assert found is not None
    assert found.code == "gateway_too_old"
    world.hello("berlin", ["pump-1"])
    assert world.dispatch().offered == 1


def test_an_offer_is_sent_again_until_it_is_answered(world: World):
    world.join("berlin", ["pump-1"])
    world.start_new()
    world.dispatch()
    (first,) = world.send()["berlin"]
    assert world.send() == {}
    world.now += 10_000
    world.hear("berlin")
    (second,) = world.send()["berlin"]
    assert (second.task, second.attempt) == (first.task, first.attempt)
    world.report("berlin", snapshot(first, "accepted", 1))
    world.now += 10_000
    world.hear("berlin")
    assert world.send() == {}


@pytest.mark.row("B1")
@pytest.mark.parametrize(("asked", "slots"), [({}, 5), ({"concurrency": 10_000}, 10_000)])
def test_a_dispatch_takes_no_more_than_there_are_slots(
    world: World, asked: dict[str, int], slots: int
):
    world.join("berlin", [f"pump-{n}" for n in range(slots + 1)])
    run = world.start_new(iteration=asked)
    offered = 0
    while more := world.dispatch().offered:
        offered += more
    assert offered == slots == world.run(run).counts.in_flight
    world.check()
