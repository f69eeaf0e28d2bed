"""Ends that people ask for, and starts that are refused."""

import pytest

from roundsman._sync.client import Roundsman
from roundsman.errors import Conflict, NotAuthenticated
from tests.kit.rig_jobs import command_job, firmware_job
from tests.kit.rig_site import smp


def three_slow_pumps(rig):
    return rig.add_gateway(
        "north", [smp(f"pump-{number}", turnaround="50ms") for number in (1, 2, 3)]
    )


@pytest.mark.row("C3")
def test_what_is_in_flight_completes_and_all_others_are_cancelled_at_once(rig):
    site = three_slow_pumps(rig)
    rig.push_image()
    run = rig.start(firmware_job(concurrency=1))
    busy = rig.wait_for_one_in_step(run, "upload").device

    rig.client.runs.cancel(run, reason="enough")
    rig.wait_for_counts(run, lambda counts: counts.cancelled == 2 and counts.in_flight == 1)
    ended = rig.finish(run, "cancelled")

    assert (ended.counts.succeeded, ended.counts.cancelled) == (1, 2)
    assert ended.reason == "enough"
    for device, truth in site.devices.status().items():
        expected = "2.0.0" if device == busy else "1.0.0"
        assert truth["version"] == expected
        assert truth["counters"]["chunks_received"] > 0 or device != busy


@pytest.mark.row("C3")
def test_force_stops_inside_a_step(rig):
    site = three_slow_pumps(rig)
    rig.push_image()
    run = rig.start(firmware_job(concurrency=1))
    busy = rig.wait_for_one_in_step(run, "upload").device
    site.devices.wait_for(busy, "chunks_received", 3)

    rig.client.runs.cancel(run, force=True)
    ended = rig.finish(run, "cancelled")

    assert ended.counts.cancelled == 3
    assert site.devices.device(busy)["version"] == "1.0.0"
    steps = rig.steps(run, busy)
    assert (steps["upload"].status.value, steps["upload"].failure.code) == ("failed", "interrupted")
    assert steps["test"].started_at is None
    assert rig.client.devices.get(busy).held_by is None


@pytest.mark.row("C3")
@pytest.mark.parametrize("force", [False, True])
def test_a_cancel_does_not_wait_for_a_device_that_is_silent(rig, force: bool):
    silent = smp("pump-1", faults={"silences": [{"after_requests": 1}]})
    rig.add_gateway("north", [silent], patience="5m")
    run = rig.start(command_job(timeout="10m"))
    rig.wait_for_task(run, "pump-1", lambda task: task.status == "accepted", "accepted")

    rig.client.runs.cancel(run, force=force)
    ended = rig.finish(run, "cancelled", deadline_s=10)

    assert ended.counts.cancelled == 1
    assert rig.task(run, "pump-1").tries == 0


@pytest.mark.row("C2", "C3")
def test_a_job_has_one_run_in_flight(rig):
    three_slow_pumps(rig)
    rig.push_image()
    run = rig.start(firmware_job())

    with pytest.raises(Conflict) as refused:
        rig.client.jobs.run("firmware")
    assert refused.value.run == run
    assert rig.client.jobs.run("firmware", run=run).id == run  # the same start, repeated
    rig.client.runs.cancel(run)
    rig.finish(run, None)
    assert len(list(rig.client.runs.list(job="firmware"))) == 1
    with pytest.raises(Conflict) as ended:
        rig.client.runs.cancel(run)
    assert ended.value.problem.code == "run_ended"


@pytest.mark.row("C1")
def test_nothing_happens_without_a_token(rig):
    for token in (None, "rm_wrong"):
        with Roundsman(rig.url, token) as stranger:
            assert stranger.version().product == "roundsman"
            for ask in (
                lambda of=stranger: list(of.devices.list()),
                lambda of=stranger: of.gateways.create("mine"),
                lambda of=stranger: of.jobs.run("firmware"),
                lambda of=stranger: of.artifacts.push("mine", b"bytes"),
            ):
                with pytest.raises(NotAuthenticated):
                    ask()
    assert list(rig.client.gateways.list()) == []
    assert list(rig.client.artifacts.list()) == []
