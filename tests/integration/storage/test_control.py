"""People's hands on runs: pause, resume, priority, replace, start later, retry failed."""

import pytest

from cloud.coordinator import control, dispatch
from cloud.errors import Conflict, Invalid
from contract.http.runs import ChangeRun, PauseRun
from contract.lifecycle import RunStatus, TaskStatus
from tests.integration.storage.world import World, snapshot

PUMPS = [f"pump-{n}" for n in range(6)]


@pytest.mark.row("C4")
def test_pausing_recalls_what_has_not_begun_and_lets_the_rest_complete(world: World):
    world.join("berlin", PUMPS)
    run = world.start_new(iteration={"concurrency": 3})
    world.dispatch()
    first, second, third = world.send()["berlin"]
    world.report("berlin", snapshot(first, "running", 1))
    paused = world.pause(run)
    assert (paused.status, paused.paused_by) == (RunStatus.PAUSING, ["person"])
    (cancelling,) = world.database.read_now(dispatch.cancels_to_send, world.now)
    assert [(item.task, item.mode) for item in cancelling.items] == [
        (second.task, "recall"),
        (third.task, "recall"),
    ]
    for task in (second, third):
        world.report("berlin", snapshot(task, "scheduled", 1))
    assert world.dispatch().offered == 0
    world.report("berlin", snapshot(first, "failed", 2))
    world.check()
    shown = world.settle(run)
    assert shown.status is RunStatus.PAUSED
    assert shown.waiting_for is not None
    assert shown.waiting_for.code == "paused"
    assert shown.counts.retrying == 1
    world.now += 60_000
    world.hear("berlin")
    assert world.dispatch().offered == 0
    assert world.resume(run).status is RunStatus.RUNNING
    assert world.play(run).status is RunStatus.SUCCEEDED
    assert world.task(second.task).tries == 1  # a recall costs none


@pytest.mark.row("C4")
def test_a_paused_job_pauses_its_runs_and_refuses_starts(world: World):
    world.join("berlin", PUMPS)
    job = world.save()
    run = world.start(job)
    world.run_now(control.pause_job, world.caller, job, PauseRun(), world.now)
    assert world.run(run).paused_by == ["job"]
    with pytest.raises(Conflict) as refused:
        world.start(job)
    assert refused.value.code == "job_paused"
    world.pause(run)
    resumed = world.run_now(control.resume_job, world.caller, job, world.now)
    assert resumed.paused_at is None
    # Neither lifts the other's pause.
    assert (world.run(run).status, world.run(run).paused_by) == (RunStatus.PAUSED, ["person"])
    assert world.resume(run).status is RunStatus.RUNNING


@pytest.mark.row("C2")
def test_a_replacing_run_starts_when_the_one_in_flight_has_ended(world: World):
    world.join("berlin", PUMPS)
    job = world.save()
    old = world.start(job)
    world.dispatch()
    offered = world.send()["berlin"]
    world.report("berlin", *(snapshot(task, "running", 1) for task in offered))
    new = world.start(job, replace=True)
    shown = world.run(new)
    assert (shown.status, shown.replaces) == (RunStatus.SCHEDULED, old)
    assert shown.waiting_for is not None
    assert shown.waiting_for.code == "replacing"
    assert world.run(old).replaced_by == new
    assert world.start_due() == []
    third = world.start(job, replace=True)
    assert world.run(new).status is RunStatus.REPLACED
    world.sweep(old)
    world.report("berlin", *(snapshot(task, "succeeded", 2) for task in offered))
    assert world.settle(old).status is RunStatus.REPLACED
    assert world.start_due() == [third]
    assert world.run(third).started_at is not None
    assert world.play(third).status is RunStatus.SUCCEEDED


@pytest.mark.row("C2")
def test_runs_wait_in_the_future_and_start_one_at_a_time(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save()
    first = world.start(job, after="1h")
    second = world.start(job, after="1h")
    now = world.start(job)
    assert world.run(first).waiting_for.code == "start"
    world.now += 3_600_000
    world.hear("berlin")
    assert world.start_due() == []
    assert world.run(first).waiting_for.code == "previous_run"
    world.play(now)
    assert world.start_due() == [first]
    world.play(first)
    assert world.cancel(second).status is RunStatus.CANCELLED
    assert world.start_due() == []


@pytest.mark.row("C2")
def test_a_job_replaces_runs_of_the_jobs_it_names(world: World):
    world.join("berlin", ["pump-1"])
    old = world.start_new(name="old")
    new = world.start_new(name="new", replaces=["old"])
    assert world.run(new).status is RunStatus.SCHEDULED
    assert world.run(old).replaced_by == new
    world.sweep(old)
    assert world.settle(old).status is RunStatus.REPLACED
    assert world.start_due() == [new]


@pytest.mark.row("B11")
def test_failed_tasks_are_tried_again_in_the_same_run(world: World):
    world.join("berlin", PUMPS)
    run = world.start_new(iteration={"concurrency": 10}, retry={"attempts": 1})
    world.dispatch()
    offered = world.send()["berlin"]
    codes = ["device_refused", "device_refused", "rolled_back"]
    for task, code in zip(offered, codes, strict=False):
        world.report("berlin", snapshot(task, "failed", 1, failure={"code": code}))
    for task in offered[3:]:
        world.report("berlin", snapshot(task, "succeeded", 1))
    assert world.settle(run).status is RunStatus.PARTIALLY_SUCCEEDED
    with pytest.raises(Conflict) as refused:
        world.retry(run, failures=["no_such"])
    assert refused.value.code == "nothing_to_retry"
    with pytest.raises(Invalid):
        world.retry(run, tasks=["other-1"])
    again = world.retry(run, failures=["device_refused"])
    assert (again.status, again.ended_at) == (RunStatus.RUNNING, None)
    world.check()
    assert world.run(run).counts.retrying == 2
    assert world.play(run).counts.failed == 1
    world.retry(run, tasks=[offered[2].task])
    ended = world.play(run)
    assert (ended.status, ended.counts.succeeded) == (RunStatus.SUCCEEDED, 6)
    shown = world.task(offered[0].task)
    assert [attempt.status for attempt in shown.attempts] == [
        TaskStatus.SUCCEEDED,
        TaskStatus.FAILED,
    ]
    texts = [row[0] for row in world.sql("SELECT text FROM run_log WHERE run = :r", r=run)]
    assert texts.count("retry of failed tasks asked for") == 2


@pytest.mark.row("B11")
def test_an_ended_run_is_not_reopened_beside_another_in_flight(world: World):
    world.join("berlin", ["pump-1"])
    job = world.save(retry={"attempts": 1})
    run = world.start(job)
    assert world.play(run, "failed").status is RunStatus.FAILED
    other = world.start(job)
    with pytest.raises(Conflict) as refused:
        world.retry(run)
    assert (refused.value.code, refused.value.run) == ("run_in_flight", other)


@pytest.mark.row("C13")
def test_the_priority_of_a_live_run_decides_who_is_next(world: World):
    world.join("berlin", ["pump-1"])
    first = world.start_new(name="first")
    second = world.start_new(name="second")
    wanted = ChangeRun(priority="low")
    shown = world.run_now(control.change_run, world.caller, first, wanted, world.now)
    assert shown.priority == "low"
    world.dispatch()
    assert [task.run for task in world.send()["berlin"]] == [second]


@pytest.mark.row("C3")
def test_a_device_held_after_an_unconfirmed_cancel_is_freed_by_hand(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    world.dispatch()
    (task,) = world.send()["berlin"]
    world.report("berlin", snapshot(task, "running", 1))
    with pytest.raises(Conflict) as refused:
        world.run_now(control.free_device, world.caller, "pump-1", world.now)
    assert refused.value.code == "task_open"
    world.cancel(run, force=True)
    world.now += 400_000
    assert world.settle(run).status is RunStatus.CANCELLED
    after = world.start_new(name="after")
    world.hear("berlin")
    world.dispatch()
    assert world.run(after).waiting_for.code == "device_held"
    freed = world.run_now(control.free_device, world.caller, "pump-1", world.now)
    assert freed.held_by is None
    assert world.play(after).status is RunStatus.SUCCEEDED


@pytest.mark.row("C9")
def test_a_run_ends_at_its_expiry_with_what_it_has(world: World):
    world.join("berlin", PUMPS)
    run = world.start(world.save(), expires_after="1h")
    world.now += 3_600_000
    ended = world.settle(run)
    assert (ended.status, ended.counts.failed) == (RunStatus.FAILED, 6)
    world.check()
