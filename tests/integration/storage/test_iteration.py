"""How the tasks of a run take their turns: serial, delay, limits, silent gateways, fairness."""

from typing import Literal

import pytest

from cloud.coordinator import dispatch, holds, runs, stranded
from cloud.errors import Invalid
from cloud.storage import runs as stored_runs
from contract.http.holds import HoldKind, SetHold
from contract.lifecycle import RunStatus, TaskStatus
from contract.messages import DeviceState, InventoryDevice, OfferedTask, TaskSnapshot
from tests.integration.storage.world import World, snapshot

PUMPS = [f"pump-{n}" for n in range(4)]
MINUTE = 60_000


def one(world: World, gateway: str = "berlin") -> OfferedTask:
    world.dispatch()
    (task,) = world.send()[gateway]
    return task


def wait_of(world: World, task: str) -> str | None:
    found = world.task(task).waiting_for
    return None if found is None else found.code


def said(task: OfferedTask, status: str, value: object) -> TaskSnapshot:
    return snapshot(task, status, 9).model_copy(update={"accumulator": value})


@pytest.mark.row("B5")
def test_serial_tasks_take_turns_and_hand_on_what_they_gave(world: World):
    world.join("berlin", PUMPS)
    run = world.start_new(
        iteration={"mode": "serial", "concurrency": 50}, retry={"attempts": 2, "delay": "1m"}
    )
    first = one(world)
    assert (first.device, first.accumulator) == ("pump-0", None)
    assert wait_of(world, f"{run}-1") == "turn"
    world.report("berlin", said(first, "succeeded", {"seen": ["pump-0"]}))
    second = one(world)
    assert (second.ordinal, second.accumulator) == (1, {"seen": ["pump-0"]})
    world.report("berlin", said(second, "failed", "not handed on: it is tried again"))
    # The retry comes before the next target.
    assert world.dispatch().offered == 0
    assert (wait_of(world, second.task), wait_of(world, f"{run}-2")) == ("retry", "turn")
    world.now += MINUTE
    world.hear("berlin")
    again = one(world)
    assert (again.ordinal, again.accumulator) == (1, {"seen": ["pump-0"]})
    world.report("berlin", snapshot(again, "scheduled", 1))  # handed back: it keeps its turn
    assert world.dispatch().offered == 0
    world.now += 2_000
    again = one(world)
    world.report("berlin", said(again, "timed_out", "a timeout changes nothing"))
    third = one(world)
    assert (third.ordinal, third.accumulator) == (2, {"seen": ["pump-0"]})
    world.report("berlin", snapshot(third, "succeeded", 1))  # an end without a value neither
    fourth = one(world)
    assert fourth.accumulator == {"seen": ["pump-0"]}
    world.report("berlin", said(fourth, "succeeded", 4))
    ended = world.settle(run)
    assert (ended.status, ended.accumulator) == (RunStatus.PARTIALLY_SUCCEEDED, 4)


@pytest.mark.row("B5")
def test_what_a_retried_task_gives_is_handed_on_although_it_was_the_last(world: World):
    world.join("berlin", PUMPS[:1])
    run = world.start_new(iteration={"mode": "serial"}, retry={"attempts": 1})
    world.report("berlin", said(one(world), "failed", "the first word"))
    assert world.settle(run).accumulator == "the first word"
    world.retry(run)
    again = one(world)
    assert again.accumulator == "the first word"
    world.report("berlin", said(again, "succeeded", "the last word"))
    assert world.settle(run).accumulator == "the last word"


@pytest.mark.row("B5")
def test_the_accumulator_is_computed_by_the_jobs_template(world: World):
    world.join("berlin", PUMPS)
    run = world.start_new(
        iteration={"mode": "serial"},
        context={"step": 2},
        accumulator="{{ (accumulator or 0) + ctx.step }}",
    )
    assert world.play(run).accumulator == 8
    run = world.start_new(
        name="broken", iteration={"mode": "serial"}, accumulator="{{ accumulator.nothing }}"
    )
    ended = world.play(run)
    assert (ended.accumulator, ended.has_errors) == (None, True)


@pytest.mark.row("B5")
def test_tags_are_those_of_the_moment_and_a_deleted_target_fails(world: World):
    world.join("berlin", PUMPS)
    run = world.start_new(iteration={"mode": "serial"})
    first = one(world)
    world.run_now(_change, "UPDATE devices SET tags = '{\"a\": 1}' WHERE id = 'pump-1'")
    world.run_now(_change, "DELETE FROM devices WHERE id = 'pump-2'")
    world.report("berlin", snapshot(first, "succeeded", 1))
    second = one(world)
    assert second.target["tags"] == {"a": 1}
    world.report("berlin", snapshot(second, "succeeded", 1))
    world.dispatch()
    fourth = one(world)
    assert fourth.device == "pump-3"
    gone = world.task(f"{run}-2")
    assert gone.failure is not None
    assert (gone.status, gone.failure.code, gone.tries) == (TaskStatus.FAILED, "target_deleted", 0)
    world.report("berlin", snapshot(fourth, "succeeded", 1))
    world.check()
    assert world.settle(run).status is RunStatus.PARTIALLY_SUCCEEDED


def _change(session: object, sql: str) -> None:
    from cloud.storage.dialect import change

    change(session, sql)  # type: ignore[arg-type]


@pytest.mark.row("B14")
@pytest.mark.parametrize("begun", [True, False])
def test_a_silent_gateway_lets_the_next_of_a_serial_run_go(world: World, begun: bool):
    world.join("berlin", ["a-1"])
    world.join("paris", ["b-1"])
    run = world.start_new(iteration={"mode": "serial", "offline_after": "5m"})
    first = one(world)
    if begun:
        world.report("berlin", snapshot(first, "running", 1))
    for _ in range(2):
        world.now += 3 * MINUTE
        world.hear("paris")
        world.run_now(stranded.strand, world.now)
        world.check()
    world.now += 2_000
    second = one(world, "paris")
    assert second.device == "b-1"
    world.report("paris", snapshot(second, "succeeded", 1))
    assert world.settle(run).status is RunStatus.RUNNING
    world.hello("berlin", ["a-1"])
    world.run_now(stranded.come_back, world.now)
    world.check()
    if not begun:
        first = one(world)
        assert first.attempt == 2
    world.report("berlin", snapshot(first, "succeeded", 5))
    world.check()
    assert world.settle(run).status is RunStatus.SUCCEEDED


@pytest.mark.row("B14")
@pytest.mark.parametrize(
    ("policy", "status"), [("skip", TaskStatus.CANCELLED), ("fail", TaskStatus.FAILED)]
)
def test_a_run_need_not_wait_for_a_silent_gateway(world: World, policy: str, status: TaskStatus):
    world.join("berlin", ["a-1", "a-2", "a-3"])
    world.join("paris", ["b-1"])
    run = world.start_new(
        iteration={"offline": policy, "offline_after": "1m", "per_gateway": 2, "timeout": "1m"}
    )
    world.dispatch()
    offered = world.send()
    world.report("berlin", snapshot(offered["berlin"][0], "running", 1))
    world.report("paris", snapshot(offered["paris"][0], "succeeded", 1))
    for _ in range(6):
        world.now += MINUTE
        world.hear("paris")
        world.run_now(stranded.strand, world.now)
        world.dispatch()
        world.check()
    ended = world.settle(run)
    assert ended.ended_at is not None
    shown = [world.task(f"{run}-{n}") for n in range(3)]
    assert [task.status for task in shown] == [status] * 3
    assert {task.failure.code for task in shown if task.failure} == {"gateway_offline"}
    # What was sent is held until its gateway speaks: it may still be at work.
    held = world.sql("SELECT id FROM devices WHERE held_by IS NOT NULL ORDER BY id")
    assert held == [("a-1",), ("a-2",)]
    world.hello("berlin", ["a-1", "a-2", "a-3"])
    assert world.sql("SELECT id FROM devices WHERE held_by IS NOT NULL") == []


@pytest.mark.row("B14")
def test_a_stranded_task_gives_back_its_slot(world: World):
    world.join("berlin", ["a-1"])
    world.join("paris", ["b-1", "b-2"])
    run = world.start_new(iteration={"concurrency": 1})
    first = one(world)
    world.report("berlin", snapshot(first, "running", 1))
    world.now += 6 * MINUTE
    world.hear("paris")
    assert world.dispatch().offered == 0
    world.run_now(stranded.strand, world.now)
    world.check()
    second = one(world, "paris")
    assert second.device == "b-1"
    world.report("paris", snapshot(second, "succeeded", 1))
    world.hear("berlin")
    world.report("berlin", snapshot(first, "succeeded", 2))
    world.check()
    assert world.play(run).status is RunStatus.SUCCEEDED


@pytest.mark.row("B3")
def test_a_freed_slot_rests_for_the_delay(world: World):
    world.join("berlin", PUMPS)
    run = world.start_new(
        iteration={"concurrency": 2, "delay": "1m"}, retry={"attempts": 2, "delay": "10s"}
    )
    world.dispatch()
    first, second = world.send()["berlin"]
    world.report("berlin", snapshot(first, "failed", 1))
    assert world.dispatch().offered == 0
    assert wait_of(world, f"{run}-2") == "delay"
    world.now += 30_000
    world.hear("berlin")
    world.report("berlin", snapshot(second, "succeeded", 1))
    assert world.dispatch().offered == 0  # the greater of retry delay and delay
    world.now += 30_000
    world.hear("berlin")
    assert world.dispatch().offered == 1
    world.now += 30_000
    world.hear("berlin")
    assert world.dispatch().offered == 1


@pytest.mark.row("B14")
def test_lines_and_sites_have_limits(world: World):
    def device(name: str, bus: str, site: str) -> InventoryDevice:
        return InventoryDevice(id=name, bus=bus, tags={"site": site})

    world.join(
        "berlin",
        [device("a", "tty1", "mitte"), device("b", "tty1", "mitte"), device("c", "tty2", "mitte"),
         device("d", "tty3", "wedding")],
    )  # fmt: skip
    run = world.start_new(iteration={"concurrency": 9, "per_bus": 1, "per_site": 2})
    world.dispatch()
    first, second, third = world.send()["berlin"]
    assert [task.device for task in (first, second, third)] == ["a", "c", "d"]
    assert wait_of(world, f"{run}-1") == "per_bus"
    world.report("berlin", snapshot(third, "succeeded", 1))
    assert world.dispatch().offered == 0
    world.report("berlin", snapshot(first, "succeeded", 1))
    assert one(world).device == "b"
    run = world.start_new(
        name="sites", iteration={"concurrency": 9, "per_site": 1}, targets={"query": {"id": "c"}}
    )


@pytest.mark.row("C16")
@pytest.mark.parametrize(
    ("kind", "id", "code"),
    [
        ("gateway", "berlin", "hold"),
        ("device", "pump-0", "hold"),
        ("site", "mitte", "hold"),
        ("org", "all", "emergency_stop"),
    ],
)
def test_nothing_new_starts_on_what_is_held(world: World, kind: HoldKind, id: str, code: str):
    device = InventoryDevice(id="pump-0", tags={"site": "mitte"})
    world.join("berlin", [device, InventoryDevice(id="pump-1", tags={"site": "mitte"})])
    run = world.start_new(iteration={"concurrency": 1})
    first = one(world)
    wanted = SetHold(reason="crane at work")
    world.run_now(holds.set_hold, world.caller, kind, id, wanted, world.now)
    world.report("berlin", snapshot(first, "running", 1))
    world.report("berlin", snapshot(first, "succeeded", 2))  # what runs completes
    other = world.start_new(name="other", targets={"query": {"id": "pump-0"}})
    world.dispatch()
    assert wait_of(world, f"{other}-0") == code
    held = kind != "device"
    assert (wait_of(world, f"{run}-1") == code) is held
    world.run_now(holds.lift_hold, world.caller, kind, id, world.now)
    assert world.play(other).status is RunStatus.SUCCEEDED


@pytest.mark.row("C16")
def test_a_hold_runs_out(world: World):
    world.join("berlin", ["pump-0"])
    wanted = SetHold.model_validate({"lasts": "10m"})
    world.run_now(holds.set_hold, world.caller, "gateway", "berlin", wanted, world.now)
    run = world.start_new()
    assert world.dispatch().offered == 0
    world.now += 10 * MINUTE
    world.hear("berlin")
    world.run_now(holds.lift_expired, world.now)
    assert world.play(run).status is RunStatus.SUCCEEDED


@pytest.mark.row("C13")
def test_a_low_run_yields_and_does_not_starve(world: World):
    world.join("berlin", ["pump-0"])
    low = world.start_new(name="low", priority="low")
    for number in range(4):
        world.start_new(name=f"normal-{number}")
        assert one(world).run != low
        (task,) = [task for task in _open(world)]
        world.report("berlin", snapshot(task, "succeeded", 1))
        world.now += 5 * MINUTE
        world.hear("berlin")
        world.dispatch()
        if world.sql("SELECT 1 FROM tasks WHERE run = :r AND status = 'offered'", r=low):
            return
        world.run_now(dispatch.time_out, world.now)
    raise AssertionError("the low run has starved")


def _open(world: World) -> list[OfferedTask]:
    world.now += 10_000
    world.hear("berlin")
    return world.send()["berlin"]


@pytest.mark.row("A6")
def test_listed_items_run_the_list_they_name_with_their_parameters(world: World):
    world.join("berlin", PUMPS)
    world.join("central")
    steps = {
        "greet": [{"uses": "flow.log", "with": {"text": "{{ parameters.word }}"}}],
        "wait": [{"uses": "flow.delay", "with": {"for": "1s"}}],
    }
    items = [
        {"target": "pump-1", "steps": "wait", "attempts": 1},
        {"target": "pump-0", "steps": "greet", "parameters": {"word": "hello"}},
        {"steps": "greet", "parameters": {"word": "nobody"}},
    ]
    run = world.start_new(steps=steps, targets={"items": items})
    world.dispatch()
    offerings = world.database.read_now(dispatch.offers_to_send, world.now)
    seen = []
    for offering in offerings:
        for task in offering.tasks:
            uses = [step.uses for step in offering.bodies[task.body].steps]
            seen.append((task.ordinal, task.device, uses, task.parameters))
    assert sorted(seen, key=lambda one: one[0]) == [
        (0, "pump-1", ["flow.delay"], {}),
        (1, "pump-0", ["flow.log"], {"word": "hello"}),
        (2, None, ["flow.log"], {"word": "nobody"}),
    ]
    assert [world.task(f"{run}-{n}").attempts_allowed for n in range(3)] == [1, 3, 3]
    world.check()
    assert world.play(run).status is RunStatus.SUCCEEDED
    assert [step.uses for step in world.task(f"{run}-0").attempts[0].steps] == ["flow.delay"]


@pytest.mark.row("A6")
def test_items_that_name_nothing_are_refused(world: World):
    with pytest.raises(Invalid, match="not valid"):
        world.save(targets={"items": [{"target": "pump-1", "steps": "nothing"}]})
    job = world.save(targets={"items": [{"target": "pump-1"}]})
    with pytest.raises(Invalid) as refused:
        world.start(job)
    assert refused.value.items[0].key == "targets.items[0].target"


@pytest.mark.row("A14")
def test_devices_that_come_to_match_later_join_a_continuous_run(world: World):
    world.join("berlin", ["pump-0"])
    run = world.start_new(targets={"query": {"type": {"$ne": "valve"}}, "continuous": True})
    assert world.play(run, rounds=2).ended_at is None
    assert world.run(run).waiting_for.code == "targets"
    assert world.database.read_now(stored_runs.to_fill, world.now) == []
    world.now += 10_000
    valve = InventoryDevice(id="valve-1", type="valve")
    world.hello("berlin", ["pump-0", "pump-1", valve])
    assert world.database.read_now(stored_runs.to_fill, world.now) == [run]
    while world.run_now(runs.create_tasks, run, world.now, 1):
        pass
    assert world.run(run).counts.total == 2
    world.check()
    assert world.play(run, rounds=2).counts.succeeded == 2
    world.cancel(run)
    assert world.settle(run).status is RunStatus.CANCELLED


@pytest.mark.row("B11")
def test_a_retry_may_wait_for_the_device_to_be_up(world: World):
    world.join("berlin", ["pump-0"])
    run = world.start_new(retry={"attempts": 2, "when": "online"})
    first = one(world)
    world.report("berlin", snapshot(first, "failed", 1, failure={"code": "device_unreachable"}))

    def link(number: int, link: Literal["up", "down"]) -> None:
        state = DeviceState(number=number, at=world.now + number, device="pump-0", link=link)
        world.report("berlin", states=[state])

    link(1, "down")
    assert world.dispatch().offered == 0
    assert wait_of(world, first.task) == "device_down"
    link(2, "up")
    assert world.play(run).status is RunStatus.SUCCEEDED


@pytest.mark.row("B4")
def test_what_was_accepted_and_never_begun_is_asked_for_back(world: World):
    world.join("berlin", ["pump-0"])
    run = world.start_new(iteration={"start_by": "1m"})
    first = one(world)
    world.report("berlin", snapshot(first, "accepted", 1))
    for _ in range(4):
        world.now += MINUTE
        world.hear("berlin")
    world.run_now(dispatch.time_out, world.now)
    (cancelling,) = world.database.read_now(dispatch.cancels_to_send, world.now)
    assert [item.mode for item in cancelling.items] == ["recall"]
    world.report("berlin", snapshot(first, "scheduled", 2))
    world.now += 2_000
    assert one(world).tries == 0
    world.now += 10 * MINUTE
    world.hear("berlin")
    assert world.play(run).status is RunStatus.SUCCEEDED
