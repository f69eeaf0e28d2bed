"""Runs that want the same devices, and time that is counted right: rows B2 and B12."""

from datetime import timedelta
from itertools import pairwise

import pytest

from contract.lifecycle import TaskStatus
from tests.kit.rig_jobs import command_job, delay
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until


@pytest.mark.row("B12")
@pytest.mark.row("C13")
def test_a_device_serves_one_run_at_a_time_the_most_urgent_first(rig):
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2")])
    rig.client.holds.set("gateway", "north")
    steps = [delay("1s")]
    low = rig.start({**command_job(job="low", steps=steps), "priority": "low"})
    normal = rig.start(command_job(job="normal", steps=steps))
    high = rig.start({**command_job(job="high", steps=steps), "priority": "high"})

    def are_planned() -> bool:
        return all(rig.client.runs.get(run).counts.pending == 2 for run in (low, normal, high))

    wait_until(are_planned, 30, "the tasks of all three")
    rig.client.holds.lift("gateway", "north")

    def waiting() -> str | None:
        shown = rig.client.runs.get(low)
        return shown.waiting_for.code if shown.waiting_for else None

    wait_until(lambda: waiting() == "device_held", 30, lambda: f"low waits for {waiting()}")
    holder = rig.client.devices.get("pump-1").held_by
    assert holder is not None
    assert not holder.startswith(low)

    runs = [high, normal, low]
    for run in runs:
        assert rig.finish(run, "succeeded").counts.succeeded == 2
    for device in ("pump-1", "pump-2"):
        attempts = [rig.attempts(run, device)[0] for run in runs]
        for before, after in pairwise(attempts):
            assert before.ended_at <= after.started_at, "two acted on it at once, or out of turn"
        assert rig.client.devices.get(device).held_by is None


@pytest.mark.row("B2")
def test_a_task_that_waits_for_its_gateway_loses_no_time(rig):
    site = rig.add_gateway("north", [smp("pump-1")])
    site.kill_9()
    run = rig.start(command_job(timeout="1s"))
    offered = rig.wait_for_task(run, "pump-1", lambda task: task.waiting_for is not None)
    assert offered.status in (TaskStatus.SCHEDULED, TaskStatus.OFFERED)
    since = rig.client.runs.get(run).started_at

    def passed() -> timedelta:
        return timedelta(milliseconds=rig.client.runs.get(run).duration_ms)

    wait_until(lambda: passed() > timedelta(seconds=2), 30, "twice the timeout to pass")
    site.restart()
    assert rig.finish(run, "succeeded").started_at == since
    (attempt,) = rig.attempts(run, "pump-1")
    assert attempt.begun


@pytest.mark.row("B2")
@pytest.mark.row("C9")
def test_a_running_task_is_out_of_time_and_a_wrong_timeout_is_named(rig):
    rig.add_gateway("north", [smp("pump-1")])
    slow = {**delay("30s"), "name": "Wait", "help": "Press the button beside the lamp."}
    run = rig.start(command_job(steps=[slow], timeout="1s"))
    rig.finish(run, "failed")
    task = rig.task(run, "pump-1")
    assert (task.status, task.failure.code) == (TaskStatus.TIMED_OUT, "task_timed_out")
    # What to do by hand stands beside it: the code's own words, and those of the job's author.
    shown = rig.cli("tasks", "get", task.id).tail()
    for words in (task.failure.sentence, task.failure.help, "Wait: Press the button"):
        assert words, task.failure
        assert words in shown

    file = rig.folder / "job.yaml"
    file.write_text(
        "name: x\nsteps: [{uses: flow.log, with: {text: x}}]\niteration: {timeout: 31d}\n"
    )
    refused = rig.cli("jobs", "save", "-f", file).tail()
    assert "iteration.timeout" in refused
    assert "from 1s to 30 days" in refused
