"""The cloud dies in the middle of a run: it goes on from its database, and counts are right."""

from typing import Any

import pytest

from tests.kit.rig_jobs import firmware_job
from tests.kit.rig_site import mqtt, smp


@pytest.mark.row("E1", "C9")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_run_goes_on_where_the_cloud_was_killed(
    make_rig, request: pytest.FixtureRequest, database: str
):
    url: Any = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    rig = make_rig(database=url)
    pumps = [smp(f"pump-{number}", turnaround="25ms") for number in range(1, 5)]
    site = rig.add_gateway("north", [*pumps, mqtt("meter-1")])
    rig.push_image()
    # Two at a time: some have ended, some are under way and some have not begun.
    run = rig.start(firmware_job(concurrency=2))
    rig.wait_for_counts(run, lambda counts: counts.succeeded >= 1 and counts.in_flight)

    rig.restart_cloud()
    site.program.wait_for_line("cloud asks for a hello")  # it does not wait to be told again
    ended = rig.finish(run)

    assert ended.counts.succeeded == 5
    for device, truth in site.devices.status().items():
        assert truth["counters"]["boots"] == 2, device  # nothing was done twice
        assert rig.task(run, device).tries == 1


@pytest.mark.row("E1")
@pytest.mark.parametrize("broker", ["nats", "embedded"])
def test_what_ended_while_the_cloud_was_down_is_told_once_it_is_back(make_rig, broker: str):
    rig = make_rig(broker=broker)
    site = rig.add_gateway("north", [smp("pump-1", turnaround="25ms")])
    rig.push_image()
    run = rig.start(firmware_job())
    site.devices.wait_for("pump-1", "chunks_received", 3)

    rig.cloud.kill_9()
    site.wait_for_truth("pump-1", lambda truth: truth["version"] == "2.0.0" and truth["confirmed"])
    rig.start_cloud()
    rig.finish(run)

    assert rig.task(run, "pump-1").tries == 1
