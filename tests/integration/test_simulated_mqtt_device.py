"""The simulated MQTT device on real brokers: presence, an update over HTTP, a broker that dies."""

import functools
import hashlib
import http.server
import json
import threading

import pytest

from firmware_sim.images import build_image
from tests.kit.mqtt_client import MqttClient
from tests.kit.waiting import wait_until

SCENARIO = """
seed: 7
devices:
  - {personality: mqtt, id: meter, count: 2, version: 2.3.0, flash_time: 100ms, boot_time: 100ms}
"""

pytestmark = pytest.mark.row("E9")


@pytest.fixture
def files(tmp_path):
    """A folder served over HTTP; its address."""
    folder = tmp_path / "files"
    folder.mkdir()
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def sim(tmp_path, programs, broker):
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SCENARIO)
    program = programs.python(
        "firmware_sim", scenario, "--broker", broker.url, "--status-file", tmp_path / "status.json"
    )
    program.wait_for_line("meter-2 mqtt ")
    return program


def said(client, topic):
    return [payload for where, payload in client.messages if where == topic]


def ask(client, command_id, command, **more):
    body = {"id": command_id, "command": command, **more}
    client.publish("dev/meter-1/cmd", json.dumps(body).encode())

    def reply():
        replies = [json.loads(each) for each in said(client, "dev/meter-1/reply")]
        return next((each for each in replies if each["id"] == command_id), None)

    return wait_until(reply, message=f"a reply to {command_id}")


def test_a_meter_updates_itself_reboots_and_is_confirmed(sim, broker, files):
    folder, address = files
    image = build_image("2.4.1", 30000, seed=7)
    (folder / "image.bin").write_bytes(image)
    with MqttClient("witness", broker.port) as client:
        client.subscribe("dev/meter-1/#")
        wait_until(lambda: b"true" in said(client, "dev/meter-1/online"), message="presence")
        assert ask(client, "1", "version")["result"]["version"] == "2.3.0"
        digest = hashlib.sha256(image).hexdigest()
        asked = {"url": f"{address}/image.bin", "version": "2.4.1", "sha256": digest}
        assert ask(client, "2", "update", size=len(image), **asked)["ok"]
        wait_until(
            lambda: said(client, "dev/meter-1/online")[-2:] == [b"false", b"true"],
            message=lambda: f"gone and back: {client.messages}",
        )
        states = [json.loads(each)["state"] for each in said(client, "dev/meter-1/status")]
        assert {"downloading", "flashing", "rebooting"} <= set(states)
        version = ask(client, "3", "version")["result"]
        assert (version["version"], version["confirmed"]) == ("2.4.1", False)
        assert ask(client, "4", "confirm")["result"]["confirmed"] is True
        missing = {**asked, "url": f"{address}/missing.bin"}
        assert ask(client, "5", "update", **missing)["ok"]
        wait_until(
            lambda: any(b"download_failed" in each for each in said(client, "dev/meter-1/status")),
            message="the failed download",
        )


def test_meters_come_back_to_a_broker_that_died(sim, broker):
    with MqttClient("first", broker.port) as client:
        client.subscribe("dev/+/online")
        wait_until(lambda: said(client, "dev/meter-2/online"), message="presence")
    broker.restart(wipe=True)
    with MqttClient("second", broker.port) as client:
        client.subscribe("dev/#")
        wait_until(
            lambda: b"true" in said(client, "dev/meter-1/online"),
            message=lambda: f"presence after the restart: {client.messages}",
        )
        assert ask(client, "1", "echo", text="still here")["result"] == {"echo": "still here"}
    assert sim.terminate() == 0
