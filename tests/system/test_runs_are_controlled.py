"""Hands on runs with real processes: pause, replace, serial turns, retry, holds."""

from datetime import timedelta

import pytest

from roundsman.errors import Conflict
from tests.kit.rig_jobs import command_job, firmware_job
from tests.kit.rig_site import smp

WAIT = timedelta(seconds=60)


def pumps(rig, number: int = 3, **options: str):
    return rig.add_gateway("north", [smp(f"pump-{n}", **options) for n in range(1, number + 1)])


@pytest.mark.row("C4")
def test_a_paused_run_goes_on_where_it_stopped(rig):
    pumps(rig, turnaround="50ms")
    rig.push_image()
    run = rig.start(firmware_job(concurrency=1))
    rig.wait_for_one_in_step(run, "upload")

    assert rig.client.runs.pause(run, reason="lunch").status == "pausing"
    paused = rig.client.runs.wait(run, {"paused"}, timeout=WAIT)
    assert (paused.counts.succeeded, paused.counts.pending) == (1, 2)
    assert paused.waiting_for.code == "paused"

    assert rig.client.runs.resume(run).status == "running"
    assert rig.finish(run, "succeeded").counts.succeeded == 3


@pytest.mark.row("C2")
def test_a_run_takes_over_from_the_one_in_flight(rig):
    pumps(rig, turnaround="50ms")
    rig.push_image()
    old = rig.start(firmware_job(concurrency=1))
    rig.wait_for_one_in_step(old, "upload")
    with pytest.raises(Conflict) as refused:
        rig.client.jobs.run("firmware")
    assert refused.value.run == old

    new = rig.client.jobs.run("firmware", replace=True)
    assert (new.status, new.replaces) == ("scheduled", old)
    ended = rig.finish(old, "replaced")
    assert (ended.replaced_by, ended.counts.succeeded) == (new.id, 1)
    assert rig.finish(new.id, "succeeded").counts.succeeded == 3


@pytest.mark.row("B5")
def test_a_serial_run_hands_on_its_accumulator(rig):
    pumps(rig)
    job = command_job(mode="serial")
    job["accumulator"] = "{{ (accumulator or []) + [target.id] }}"
    ended = rig.finish(rig.start(job), "succeeded")
    assert ended.accumulator == ["pump-1", "pump-2", "pump-3"]
    began = [task.started_at for task in rig.client.runs.tasks(ended.id)]
    assert began == sorted(began)


@pytest.mark.row("B11")
def test_failed_tasks_are_tried_again_in_the_same_run(rig):
    pumps(rig, 2)
    job = command_job(steps=[{"uses": "flow.check", "with": {"that": "task.attempt > 1"}}])
    job["steps"][0]["with"] = {"that": "task.attempt > 1"}
    run = rig.start(job)
    assert rig.finish(run, "failed").counts.failed == 2
    failure = next(iter(rig.client.runs.tasks(run))).failure
    assert failure is not None
    again = rig.client.runs.retry(run, failures=[failure.code])
    assert again.status == "running"
    assert rig.finish(run, "succeeded").counts.succeeded == 2


@pytest.mark.row("C16")
def test_the_emergency_stop_lets_nothing_new_start(rig):
    pumps(rig)
    rig.client.holds.stop_everything(reason="smoke")
    run = rig.start(command_job())
    waiting = rig.wait_for_counts(run, lambda counts: counts.pending == 3)
    assert rig.client.runs.get(run).waiting_for.code == "emergency_stop", waiting
    assert [hold.reason for hold in rig.client.holds.list()] == ["smoke"]
    rig.client.holds.release()
    assert rig.finish(run, "succeeded").counts.succeeded == 3


@pytest.mark.row("C16")
def test_a_hold_keeps_one_device(rig):
    pumps(rig)
    rig.client.holds.set("device", "pump-2", reason="in repair")
    run = rig.start(command_job())
    rig.wait_for_counts(run, lambda counts: counts.succeeded == 2 and counts.pending == 1)
    (held,) = [task for task in rig.client.runs.tasks(run) if task.status == "scheduled"]
    assert (held.target, held.waiting_for.code) == ("pump-2", "hold")
    rig.client.holds.lift("device", "pump-2")
    assert rig.finish(run, "succeeded").counts.succeeded == 3
