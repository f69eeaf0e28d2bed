"""The state of devices is collected while nobody listens, comes in behind what is live, once."""

import json
import sqlite3
import time
from contextlib import closing
from itertools import pairwise

import pytest

from contract.http.targets import NewTable
from tests.kit.mqtt_client import MqttClient
from tests.kit.rig_site import modbus, mqtt
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.row("E2")
DEADLINE_S = 60


def ask(database, sql):
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
        return db.execute(sql).fetchall()


def waiting(site, stream):
    """How many samples lie in the gateway's outbox."""
    sql = f"SELECT count(*) FROM outbox WHERE kind = 'states' AND stream = '{stream}'"
    return ask(site.data_dir / "journal.db", sql)[0][0]


def stored(rig, where="true"):
    """The numbers and times of the gateway's samples in the cloud."""
    sql = f"SELECT number, at FROM device_samples WHERE source NOT LIKE 'cloud%' AND {where}"
    return ask(rig.data_dir / "cloud.db", f"{sql} ORDER BY number")


def collecting(rig, name, groups, collect, **journal):
    """A gateway that collects the same of each device."""
    site = rig.add_gateway(name, groups, uplink=True, start=False)
    for device in site.settings["devices"]:
        device["collect"] = collect
    site.settings["journal"] = journal
    site.write_config(site.settings)
    site.start()
    rig.wait_for_devices(site)
    return site


def test_samples_of_an_outage_come_behind_what_is_live_and_none_twice(rig):
    often = {"read": ["speed", "temperature"], "every": "100ms", "at_least": "50ms"}
    site = collecting(rig, "north", [modbus("rs485", "drive-1")], [often], backlog_per_s=40)
    client = rig.client.devices
    wait_until(lambda: client.get("drive-1").state.get("temperature") == 21.5, DEADLINE_S)

    site.uplink.cut()
    wait_until(lambda: waiting(site, "backlog") >= 30, DEADLINE_S, "samples in the outbox")
    site.kill_9()
    before = waiting(site, "backlog")
    site.start()
    wait_until(lambda: waiting(site, "backlog") >= before + 60, DEADLINE_S, "more samples")
    back_at = time.time_ns() // 1_000_000
    site.uplink.restore()
    wait_until(lambda: stored(rig, f"at > {back_at}"), DEADLINE_S, "what is live")
    assert waiting(site, "backlog") > 0
    wait_until(lambda: waiting(site, "backlog") == 0, DEADLINE_S, "the backlog to come in")
    site.program.terminate()

    numbers = [number for number, _ in stored(rig)]
    # One sample for each number, none missing but those that the second start passed over.
    leaps = [later for number, later in pairwise(numbers) if later != number + 1]
    assert numbers[0] == 1
    assert len(leaps) == 1
    assert leaps[0] > 10_000
    assert len(numbers) > before + 60
    assert client.get("drive-1").state["speed"] == 150
    told = list(client.state("drive-1", keys=["speed"], period="1h", limit=40))
    assert len(told) == sum("speed" in one.values for one in client.state("drive-1"))
    assert [one.at for one in told] == sorted(one.at for one in told)
    shown = rig.cli("devices", "state", "drive-1", "--since", "1h", "-k", "speed", "-o", "ndjson")
    assert len(shown.output().splitlines()) == len(told)


def test_a_job_starts_from_what_was_collected_and_writes_it_into_a_table(rig):
    once = {"read": "temperature", "every": "200ms", "at_least": "1h"}
    collecting(rig, "north", [modbus("rs485", "drive-1", "drive-2")], [once])
    client = rig.client
    devices = ("drive-1", "drive-2")
    wait_until(
        lambda: all(client.devices.get(d).state.get("temperature") == 21.5 for d in devices),
        DEADLINE_S,
    )
    client.tables.create(NewTable(id="readings", name="Readings"))
    read = {"id": "read", "uses": "device.read", "with": {"points": ["speed", "temperature"]}}
    write = {
        "uses": "fleet.write_row",
        "with": {
            "table": "readings",
            "values": {
                "device": "{{ device.id }}",
                "speed": "{{ steps.read.result.values.speed }}",
            },
        },
    }
    record = {"uses": "fleet.record_state", "with": {"values": {"inspected": True}}}
    job = {"name": "poll", "id": "poll", "steps": [read, write, record]}
    query = {"state.temperature": {"$gt": 20}}
    rig.finish(rig.start({**job, "targets": {"resource": "device", "query": query}}))
    rows = [dict(row.values) for row in client.tables.rows("readings")]
    assert sorted(row["device"] for row in rows) == ["drive-1", "drive-2"]
    assert {row["speed"] for row in rows} == {150}
    assert client.devices.get("drive-1").state["inspected"] is True
    told = [one for one in client.devices.state("drive-1") if "inspected" in one.values]
    assert [one.source for one in told] == ["cloud"]
    # And what a step recorded is a reason to be a target, or not.
    not_yet = {"targets": {"resource": "device", "query": {"state.inspected": {"$ne": True}}}}
    again = rig.finish(rig.start({**job, "id": "again", "name": "again", **not_yet}))
    assert again.counts.total == 0


def test_what_an_mqtt_device_publishes_is_heard_where_settings_say_so(rig):
    site = collecting(rig, "north", [mqtt("meter-1")], [{"published": True, "deadband": 0.5}])
    talker = MqttClient("talker", site.local_port)
    talker.connect()
    wait_until(lambda: talker_is_heard(rig, talker), DEADLINE_S, "what was published")
    talker.publish("dev/meter-1/state", json.dumps({"temperature": 20.2, "mode": "eco"}).encode())
    talker.publish("dev/meter-1/state", json.dumps({"temperature": 23.0, "mode": "eco"}).encode())
    wait_until(lambda: rig.client.devices.get("meter-1").state["temperature"] == 23, DEADLINE_S)
    talker.close()
    told = [one.values for one in rig.client.devices.state("meter-1", keys=["temperature"])]
    assert told == [{"temperature": 20.0}, {"temperature": 23.0}]


def talker_is_heard(rig, talker):
    talker.publish("dev/meter-1/state", json.dumps({"temperature": 20, "mode": "eco"}).encode())
    return rig.client.devices.get("meter-1").state.get("mode") == "eco"
