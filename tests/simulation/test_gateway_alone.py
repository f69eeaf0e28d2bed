"""A gateway alone against a fake cloud, in virtual time: bad weather, and what must hold."""

import asyncio
import contextlib
import json
import random
import sqlite3

import pytest

from contract.lifecycle import StepStatus, TaskStatus
from contract.messages import CancelItem, Limits, Welcome
from contract.topics import Kind
from gateway.actions import flow
from gateway.journal import tasks
from tests.kit.attempts import a_body, a_step, an_offer
from tests.kit.edge_rig import CommandOnce, EdgeRig
from tests.kit.fake_cloud import FakeCloud, Weather
from tests.kit.virtual_time import run_in_virtual_time
from tests.kit.waiting import wait_until_async

STEPS = (
    a_step("first"),
    a_step("pause", "flow.delay", **{"with": {"for": 2}}),
    a_step("second", retry={"attempts": 2, "delay": 500}),
    a_step("clean", always=True),
)


def a_rig(folder, *steps, weather=None, devices=3, seed=1):
    cloud = FakeCloud(a_body(*(steps or STEPS)), random.Random(seed), weather or Weather())
    return EdgeRig(folder, cloud, devices, seed)


def offer_all(rig, tasks, **fields):
    fields.setdefault("timeout", 600_000)
    names = list(rig.devices)
    for ordinal in range(tasks):
        rig.cloud.offer(an_offer(ordinal, device=names[ordinal % len(names)], **fields))


def test_tasks_of_many_devices_end_and_are_stored(tmp_path):
    rig = a_rig(tmp_path, devices=5)
    offer_all(rig, 20)

    async def story():
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 300)

    run_in_virtual_time(story())
    assert {task.status for task in rig.cloud.tasks.values()} == {TaskStatus.SUCCEEDED}
    assert rig.commands_twice() == []
    assert any("step succeeded" in text for text in rig.cloud.logs.values())


@pytest.mark.parametrize("seed", range(12))
def test_every_task_ends_whatever_the_weather_and_however_often_the_process_dies(tmp_path, seed):
    chance = random.Random(seed)
    weather = Weather(lost=0.2, doubled=0.2, longest_delay_s=3.0, cut_every_s=25.0)
    rig = a_rig(tmp_path, weather=weather, devices=4, seed=seed)
    offer_all(rig, 16)

    async def misbehave():
        while True:
            await asyncio.sleep(chance.uniform(0.5, 8))
            device = chance.choice(list(rig.devices.values()))
            device.silent = not device.silent and chance.random() < 0.5

    async def story():
        trouble = asyncio.ensure_future(misbehave())
        for _ in range(12):
            async with rig.running():
                await asyncio.sleep(chance.uniform(0.1, 12))
            if rig.cloud.all_ended:
                break
        trouble.cancel()
        for device in rig.devices.values():
            device.silent = False
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 3_600, lambda: str(rig.cloud.tasks))

    run_in_virtual_time(story())
    assert rig.commands_twice() == []
    for task in rig.cloud.tasks.values():
        revisions = [revision for attempt, revision, _ in task.reported]
        assert revisions == sorted(set(revisions)) or task.offer.attempt > 1


def test_three_days_offline_cost_one_report_for_each_task(tmp_path):
    rig = a_rig(tmp_path)
    offer_all(rig, 6)

    async def story():
        async with rig.running():
            await wait_until_async(
                lambda: all(t.status is not TaskStatus.OFFERED for t in rig.cloud.tasks.values()),
                60,
            )
            rig.cloud.is_up = False
            rig.cloud.cut()
            await asyncio.sleep(3 * 86_400)
            before = len(rig.cloud.reports)
            rig.cloud.is_up = True
            await wait_until_async(lambda: rig.cloud.all_ended, 120)
            snapshots = [s for report in rig.cloud.reports[before:] for s in report.tasks]
            assert len({s.task for s in snapshots}) == 6
            assert all(s.status is TaskStatus.SUCCEEDED for s in snapshots)

    run_in_virtual_time(story())


def test_a_hello_is_repeated_until_its_welcome_comes(tmp_path):
    rig = a_rig(tmp_path)
    rig.cloud.speaks = False

    async def story():
        async with rig.running() as gateway:
            await asyncio.sleep(60)
            assert gateway.state.session is None
            rig.cloud.speaks = True
            await wait_until_async(lambda: gateway.state.session is not None, 40)
            said = len(rig.cloud.hellos)
            rig.cloud.send(Kind.WELCOME, Welcome(hello_within=5_000))
            await wait_until_async(lambda: len(rig.cloud.hellos) > said, 10)
            await wait_until_async(lambda: gateway.state.session is not None, 10)

    run_in_virtual_time(story())


def test_in_conflict_no_new_work_is_begun(tmp_path):
    rig = a_rig(tmp_path)

    async def story():
        async with rig.running() as gateway:
            await wait_until_async(lambda: gateway.state.session is not None, 10)
            offer_all(rig, 1)
            gateway.state.conflict = True
            await asyncio.sleep(120)
            (task,) = rig.cloud.tasks.values()
            assert task.status is TaskStatus.ACCEPTED
            assert task.snapshot is not None
            assert task.snapshot.waiting_for == "in_conflict"
            gateway.state.conflict = False
            await wait_until_async(lambda: rig.cloud.all_ended, 60)

    run_in_virtual_time(story())


def test_a_sleeping_device_costs_no_try(tmp_path):
    rig = a_rig(tmp_path, devices=1)
    rig.sleepy = True
    rig.devices["d0"].silent = True
    offer_all(rig, 1, start_by=60_000)

    async def story():
        async with rig.running():
            await asyncio.sleep(30)
            (task,) = rig.cloud.tasks.values()
            assert task.snapshot is not None
            assert task.snapshot.waiting_for == "device_asleep"
            await wait_until_async(lambda: task.offer.attempt >= 2, 60)
            rig.devices["d0"].silent = False
            await wait_until_async(lambda: rig.cloud.all_ended, 60)
            assert task.status is TaskStatus.SUCCEEDED

    run_in_virtual_time(story())


@pytest.mark.row("E8")
def test_a_task_says_that_its_line_is_left_alone_and_goes_on_when_it_is_back(tmp_path):
    rig = a_rig(tmp_path, devices=2)
    rig.sleepy = True
    rig.devices["d0"].unplugged = True
    offer_all(rig, 2, start_by=600_000)

    async def story():
        async with rig.running() as gateway:
            waiting = next(t for t in rig.cloud.tasks.values() if t.offer.device == "d0")

            def says_so():
                return waiting.snapshot and waiting.snapshot.waiting_for == "line_quarantined"

            await wait_until_async(says_so, 60)
            assert gateway._health()["lines_quarantined"] == {"d0": "no such port"}
            await asyncio.sleep(100)
            assert says_so()
            rig.devices["d0"].unplugged = False
            await wait_until_async(lambda: rig.cloud.all_ended, 120)
            assert gateway._health()["lines_quarantined"] == {}

    run_in_virtual_time(story())
    assert {task.status for task in rig.cloud.tasks.values()} == {TaskStatus.SUCCEEDED}
    assert rig.devices["d0"].opened == 1


def test_a_dead_device_fails_and_the_others_do_not_notice(tmp_path):
    rig = a_rig(tmp_path)
    rig.devices["d0"].silent = True
    offer_all(rig, 3, timeout=60_000)

    async def story():
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 200)

    run_in_virtual_time(story())
    by_device = {t.offer.device: t for t in rig.cloud.tasks.values()}
    assert [by_device[d].status for d in ("d0", "d1", "d2")] == ["failed", "succeeded", "succeeded"]
    snapshot = by_device["d0"].snapshot
    assert snapshot is not None
    assert snapshot.failure is not None
    assert snapshot.failure.code == "device_unreachable"


def test_a_step_that_breaks_our_code_ends_as_crashed_and_alone(tmp_path):
    rig = a_rig(tmp_path, a_step("{{ x }}".strip("{} ")), devices=2)
    broken = a_body(a_step("crash"), run="0198c0de-0000-7000-8000-000000000002")
    offer_all(rig, 2)

    async def story():
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 60)
            rig.cloud.body = broken
            rig.cloud.offer(an_offer(0, device="d0", run=broken.run, timeout=600_000))
            await wait_until_async(lambda: rig.cloud.all_ended, 300)

    run_in_virtual_time(story())
    snapshot = rig.cloud.tasks[f"{broken.run}-0"].snapshot
    assert snapshot is not None
    assert snapshot.failure is not None
    assert snapshot.failure.code == "crashed_gateway"


def test_a_device_nobody_knows_fails_without_a_try(tmp_path):
    rig = a_rig(tmp_path)
    rig.cloud.offer(an_offer(device="ghost"))

    async def story():
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 60)

    run_in_virtual_time(story())
    (task,) = rig.cloud.tasks.values()
    assert task.snapshot is not None
    assert task.snapshot.failure is not None
    assert (task.snapshot.failure.code, task.snapshot.begun) == ("unknown_device", False)


@pytest.mark.parametrize("mode", ["soft", "force"])
def test_a_cancel_ends_a_running_attempt(tmp_path, mode):
    rig = a_rig(tmp_path, a_step("wait", "flow.delay", **{"with": {"for": 20}}), a_step("never"))
    offer_all(rig, 1)

    async def story():
        async with rig.running():
            (task,) = rig.cloud.tasks.values()
            await wait_until_async(lambda: task.status is TaskStatus.RUNNING, 10)
            task.cancel = mode
            await wait_until_async(lambda: rig.cloud.all_ended, 3 if mode == "force" else 40)
            assert task.status is TaskStatus.CANCELLED

    run_in_virtual_time(story())
    assert rig.devices["d0"].commands == []


@pytest.mark.row("E1")
@pytest.mark.parametrize("is_before_restart", [True, False])
def test_a_cancel_that_meets_no_worker_is_said_once_and_obeyed(tmp_path, is_before_restart):
    rig = a_rig(tmp_path, a_step("wait", "flow.delay", **{"with": {"for": 60}}), a_step("never"))
    offer_all(rig, 1)
    (task,) = rig.cloud.tasks.values()
    asked = [CancelItem(task=task.offer.task, attempt=1, mode="force")]

    async def story():
        async with rig.running():
            await wait_until_async(lambda: task.status is TaskStatus.RUNNING, 10)
            await asyncio.sleep(1)
            if is_before_restart:  # the journal has it, and the process ends before anybody hears
                await rig.gateway._journal.run(tasks.cancel, asked, rig._clock())
        rig.cloud.is_up = False  # nobody says it again
        async with rig.running() as gateway:
            if not is_before_restart:  # the lanes are not taken up yet
                held = await gateway._journal.run(tasks.cancel, asked, rig._clock())
                gateway.supervisor.cancel(held)
            await asyncio.sleep(1)
            ((status,),) = await gateway._journal.run(
                lambda db: db.execute("SELECT status FROM tasks").fetchall()
            )
            assert status == TaskStatus.CANCELLED

    run_in_virtual_time(story())
    assert rig.devices["d0"].commands == []


@pytest.mark.row("E1")
def test_a_cloud_that_is_years_ahead_when_a_gateway_starts_buries_nothing(tmp_path):
    rig = a_rig(tmp_path, a_step("first"))
    offer_all(rig, 1)
    ahead = 0
    rig.cloud.clock = lambda: rig._clock().wall + ahead
    rig.cloud.limits = Limits(heartbeat=60_000)

    async def kept():
        ((kept,),) = await rig.gateway._journal.run(
            lambda db: db.execute("SELECT count(*) FROM tasks").fetchall()
        )
        return kept

    async def story():
        nonlocal ahead
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 60)
            await asyncio.sleep(5)
        ahead = 20 * 365 * 86_400_000
        async with rig.running() as gateway:
            await asyncio.sleep(600)
            assert await kept() == 1
            assert gateway._health()["cloud_clock_ahead_ms"] > 0
            said, ahead = len(rig.cloud.hellos), 0
            await asyncio.sleep(3_300)
            assert len(rig.cloud.hellos) > said
            assert gateway._health()["cloud_clock_ahead_ms"] == 0
        async with rig.running():
            await asyncio.sleep(10)
            assert await kept() == 1

    run_in_virtual_time(story())


def test_a_refused_report_does_not_hold_up_the_others(tmp_path):
    rig = a_rig(tmp_path)
    offer_all(rig, 6)
    first = next(iter(rig.cloud.tasks))
    rig.cloud.refuse.add(first)

    async def story():
        async with rig.running():
            others = [t for name, t in rig.cloud.tasks.items() if name != first]
            await wait_until_async(lambda: all(t.status == "succeeded" for t in others), 120)

    run_in_virtual_time(story())


def test_a_clean_end_leaves_the_step_to_be_taken_up(tmp_path):
    rig = a_rig(tmp_path, a_step("wait", "flow.delay", **{"with": {"for": 20}}))
    offer_all(rig, 1)

    async def story():
        for _ in range(6):
            async with rig.running() as gateway:
                await asyncio.sleep(5)
                await gateway.supervisor.stop(1.5)
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 60)

    run_in_virtual_time(story())
    (task,) = rig.cloud.tasks.values()
    assert task.status is TaskStatus.SUCCEEDED


class SeesTheJournal(CommandOnce):
    """Notes what the journal holds of the task at the moment its device would be asked."""

    def __init__(self, rig, folder):
        super().__init__(rig.devices)
        self.seen = []
        self._file = folder / "journal.db"

    async def perform(self, call, reach):
        with contextlib.closing(sqlite3.connect(self._file)) as journal:
            ((snapshot,),) = journal.execute("SELECT snapshot FROM tasks")
        steps = {
            step["id"]: step.get("status", "pending") for step in json.loads(snapshot)["steps"]
        }
        self.seen.append((call.step, steps))
        return await super().perform(call, reach)


def test_steps_that_touch_nothing_are_saved_with_the_next_that_does_before_it_acts(tmp_path):
    rig = a_rig(
        tmp_path,
        a_step("first"),
        a_step("set", "flow.set", **{"with": {"values": {"old": "{{ steps.first.status }}"}}}),
        a_step("second"),
        a_step("check", "flow.check", **{"with": {"that": "steps.set.result.old == 'succeeded'"}}),
        a_step("note", "flow.log", **{"with": {"text": "all is well"}}),
        devices=1,
    )
    rig.actions["device.command"] = command = SeesTheJournal(rig, tmp_path)
    rig.actions |= flow.ACTIONS
    offer_all(rig, 1)

    async def story():
        async with rig.running():
            await wait_until_async(lambda: rig.cloud.all_ended, 300)

    run_in_virtual_time(story())
    (task,) = rig.cloud.tasks.values()
    assert [step.status for step in task.snapshot.steps] == [StepStatus.SUCCEEDED] * 5
    assert any("all is well" in text for text in rig.cloud.logs.values())
    (_, before), (_, between) = command.seen
    assert before["first"] == "running"
    assert (between["first"], between["set"], between["second"]) == (
        "succeeded",
        "succeeded",
        "running",
    )
