"""What becomes of reports: copies, old ones, foreign ones, late ones, and bad items among good."""

import random

import pytest

from cloud.coordinator import dispatch
from cloud.coordinator.tasks import Received
from cloud.storage.views import gateways as views
from contract.ids import DEFAULT_ORG
from contract.lifecycle import RunStatus, TaskStatus
from contract.messages import (
    DeviceState,
    LogLine,
    OfferedTask,
    Report,
    TaskMark,
    Undecodable,
    digest_of,
)
from tests.integration.storage.world import World, snapshot


@pytest.fixture
def offered(world: World) -> OfferedTask:
    world.join("berlin", ["pump-1"])
    world.start_new(retry={"attempts": 2, "delay": "1m", "backoff": 2})
    world.dispatch()
    return world.send()["berlin"][0]


def test_copies_and_old_reports_are_stored_and_change_nothing(world: World, offered: OfferedTask):
    story = [
        snapshot(offered, "accepted", 1),
        snapshot(offered, "running", 2, progress=10),
        snapshot(offered, "running", 3, progress=60),
        snapshot(offered, "succeeded", 4, result=1),
    ]
    many = story * 4
    random.Random(7).shuffle(many)
    for one in [story[3], *many]:
        (item,) = world.report("berlin", one).items
        assert item.outcome == "stored"
    found = world.task(offered.task)
    assert (found.status, found.progress, found.tries) == (TaskStatus.SUCCEEDED, 100, 1)
    assert found.attempts[0].late_outcome is None
    world.check()


def test_the_newest_revision_of_a_batch_wins(world: World, offered: OfferedTask):
    batch = [snapshot(offered, "running", n, progress=n) for n in (3, 9, 1, 9)]
    outcome = world.report("berlin", *batch)
    assert [item.outcome for item in outcome.items] == ["stored"] * 4
    assert sorted(item.revision for item in outcome.items) == [1, 3, 9, 9]
    assert world.task(offered.task).progress == 9
    world.check()


def test_the_retry_policy_waits_longer_each_time(world: World, offered: OfferedTask):
    world.report("berlin", snapshot(offered, "failed", 1))
    task = world.task(offered.task)
    assert task.status is TaskStatus.RESCHEDULED
    assert task.waiting_for is not None
    assert task.waiting_for.code == "retry"
    assert world.dispatch().offered == 0
    world.now += 60_000
    world.hear("berlin")
    assert world.dispatch().offered == 1
    (again,) = world.send()["berlin"]
    assert (again.attempt, again.tries) == (2, 1)
    world.report("berlin", snapshot(again, "timed_out", 1))
    assert world.task(offered.task).status is TaskStatus.TIMED_OUT
    world.check()


def test_a_task_handed_back_costs_no_try(world: World, offered: OfferedTask):
    world.report("berlin", snapshot(offered, "accepted", 1, waiting_for="bus_busy"))
    waiting = world.task(offered.task).waiting_for
    assert waiting is not None
    assert waiting.code == "bus_busy"
    world.report("berlin", snapshot(offered, "scheduled", 2))
    world.now += 1_000
    world.dispatch()
    (again,) = world.send()["berlin"]
    assert (again.attempt, again.tries) == (2, 0)
    (item,) = world.report("berlin", snapshot(offered, "scheduled", 2)).items
    assert item.outcome == "stored"
    world.check()


def test_what_is_foreign_or_unknown_is_refused_alone(world: World, offered: OfferedTask):
    world.join("paris", ["valve-1"])
    (foreign,) = world.report("paris", snapshot(offered, "succeeded", 5)).items
    assert (foreign.outcome, foreign.code) == ("refused", "foreign_task")
    unknown = snapshot(offered, "succeeded", 1).model_copy(update={"task": "nobody-3"})
    newer = snapshot(offered, "succeeded", 1).model_copy(update={"attempt": 7})
    bad = Undecodable("broken", 0, 0, '{"task": "\0"}', "not a\0snapshot")
    good = snapshot(offered, "running", 1)
    outcome = world.report("berlin", unknown, good, newer, undecodable=(bad,))
    found = {(item.task, item.attempt): (item.outcome, item.code) for item in outcome.items}
    assert found == {
        ("nobody-3", 1): ("refused", "unknown_task"),
        (offered.task, 1): ("stored", None),
        (offered.task, 7): ("refused", "unknown_attempt"),
        ("broken", 0): ("refused", "undecodable"),
    }
    assert world.sql("SELECT count(*) FROM refused") == [(4,)]
    (back,) = world.report("berlin", snapshot(offered, "accepted", 2)).items
    assert back.code == "illegal_move"


def test_an_ended_attempt_keeps_its_end_and_its_late_outcome(world: World, offered: OfferedTask):
    world.report("berlin", snapshot(offered, "running", 1))
    world.now += 40_000
    for _ in range(20):  # online all the time, and silent about its task
        world.now += 10_000
        world.hear("berlin")
    assert world.run_now(dispatch.time_out, world.now)
    assert world.task(offered.task).attempts[0].status is TaskStatus.TIMED_OUT
    (item,) = world.report("berlin", snapshot(offered, "succeeded", 9, result="late")).items
    assert item.outcome == "stored"
    (attempt,) = world.task(offered.task).attempts
    assert attempt.status is TaskStatus.TIMED_OUT
    assert attempt.failure is not None
    assert attempt.failure.code == "gateway_silent"
    assert attempt.late_outcome is not None
    assert attempt.late_outcome["result"] == "late"
    world.report("berlin", snapshot(offered, "running", 8))
    assert world.task(offered.task).attempts[0].late_outcome == attempt.late_outcome
    world.check()


def test_log_lines_are_stored_once_and_states_are_merged(world: World, offered: OfferedTask):
    line = LogLine(number=1, at=world.now, level="ERROR", text="a\0b", task=offered.task)
    alien = LogLine(number=2, at=world.now, text="of no run", task="nobody-1")
    states = [
        DeviceState(number=1, at=5, device="pump-1", link="up", values={"version": "1", "t": 2}),
        DeviceState(number=2, at=6, device="pump-1", values={"version": "2"}),
        DeviceState(number=3, at=6, device="another", values={"version": "2"}),
    ]
    for _ in range(2):
        outcome = world.report("berlin", logs=[line, alien], states=states)
        assert {(s.kind, s.number) for s in outcome.streams} == {("logs", 2), ("states", 3)}
    old = DeviceState(number=1, at=1, device="pump-1", values={"version": "0"})
    world.report("berlin", states=[old], stream="backlog")
    assert world.sql("SELECT text FROM run_log WHERE level = 'ERROR'") == [("a�b",)]
    assert world.run(offered.run).has_errors
    assert world.sql("SELECT state, link FROM devices") == [('{"version": "2", "t": 2}', "up")]


def test_two_wrong_digests_in_a_row_ask_for_a_hello(world: World, offered: OfferedTask):
    world.report("berlin", snapshot(offered, "running", 1))
    mark = TaskMark(task=offered.task, attempt=1, revision=1, status=TaskStatus.RUNNING)
    digests = ["0" * 32, digest_of([mark]), "1" * 32, "2" * 32]
    asked = [world.report("berlin", digest=digest).ask_hello for digest in digests]
    assert asked == [False, False, False, True]


def test_a_batch_of_many_gateways_touches_each_run(world: World):
    for gateway in ("berlin", "paris"):
        world.join(gateway, [f"{gateway}-{n}" for n in range(3)])
    run = world.start_new(iteration={"concurrency": 6})
    world.dispatch()
    offers = world.send()
    batch = [
        Received(world.address(gateway), Report(tasks=[snapshot(t, "succeeded", 1) for t in ts]))
        for gateway, ts in offers.items()
    ]
    outcomes = world.report_all(batch)
    assert all(outcome.ended and outcome.runs == {run} for outcome in outcomes)
    assert world.settle(run).status is RunStatus.SUCCEEDED
    world.check()


@pytest.mark.row("E1")
def test_what_a_gateway_has_dropped_stays_shown_whatever_else_it_says(
    world: World, offered: OfferedTask
):
    world.report("berlin", dropped={"logs": 7, "states": 2}, health={"alarm": "no room"})
    world.report("berlin", snapshot(offered, "running", 2))
    world.report("berlin", health={"alarm": None, "storage_full": True})
    world.report("berlin", dropped={"logs": 9, "states": 2})
    found = world.run_now(views.get_gateway, DEFAULT_ORG, "berlin", world.now)
    assert found.dropped == {"logs": 9, "states": 2}
    assert found.health == {"alarm": None, "storage_full": True}
