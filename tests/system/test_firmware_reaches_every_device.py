"""The main job: a real image to SMP and MQTT devices, and a report of what became of each."""

import csv
import io
from typing import Any

import pytest

from tests.kit.rig_jobs import NEW_VERSION, firmware_job
from tests.kit.rig_site import mqtt, smp

STEPS = ["upload", "test", "reset", "wait", "verify", "confirm"]


@pytest.mark.row("E1", "E3", "E6", "E9", "E11", "C7", "C9")
@pytest.mark.parametrize(
    ("broker", "database"),
    [("nats", "sqlite"), ("mosquitto", "postgresql"), ("embedded", "sqlite")],
)
def test_every_device_ends_with_the_new_version_confirmed(
    make_rig, request: pytest.FixtureRequest, broker: str, database: str
):
    url: Any = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    rig = make_rig(broker=broker, database=url)
    rig.add_gateway("north", [smp("pump-1"), smp("pump-2"), mqtt("meter-1")])
    rig.add_gateway("south", [smp("pump-3"), mqtt("meter-2"), mqtt("meter-3")])
    rig.push_image()

    run = rig.start(firmware_job())
    ended = rig.finish(run)

    assert (ended.counts.succeeded, ended.counts.total) == (6, 6)
    assert ended.started_at is not None and ended.ended_at is not None
    for task in rig.tasks(run):
        assert rig.truth(task.device)["version"] == NEW_VERSION
        steps = rig.attempts(run, task.device)[0].steps
        assert [step.id for step in steps] == STEPS
        assert all(step.started_at and step.completed_at for step in steps)
        assert steps[4].result["version"] == NEW_VERSION  # read back, not believed
        assert steps[5].result["confirmed"] is True
    rows = list(csv.DictReader(io.StringIO(rig.client.runs.report(run).decode())))
    assert sorted(row["target"] for row in rows) == [
        "meter-1", "meter-2", "meter-3", "pump-1", "pump-2", "pump-3",
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"succeeded"}
    assert {row["gateway"] for row in rows} == {"north", "south"}


@pytest.mark.row("C9", "E6")
def test_a_second_run_finds_the_image_there_and_uploads_nothing(rig):
    site = rig.add_gateway("north", [smp("pump-1")])
    rig.push_image()
    rig.finish(rig.start(firmware_job()))
    received = site.devices.device("pump-1")["counters"]["chunks_received"]

    run = rig.client.jobs.run("firmware").id
    rig.finish(run)

    assert rig.steps(run, "pump-1")["upload"].result["uploaded"] is False
    assert site.devices.device("pump-1")["counters"]["chunks_received"] == received
