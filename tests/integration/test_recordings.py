"""`--record`: what simulated devices hear and say, written down, and played again as a device."""

import json

import pytest

from firmware_sim.recording import Recording
from gateway.drivers.base import Answered, Command, ReadFirmware, ReadPoints
from tests.kit.device_rigs import running
from tests.kit.family_rigs import broker_link, family_driver, family_rig, shipped_profile
from tests.kit.mqtt_client import MqttClient
from tests.kit.transcripts import TranscriptDevice, read_transcript
from tests.kit.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.row("E9")


def lines_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def tell_all(ask):
    found = [await ask(ReadFirmware()), await ask(Command("on"))]
    found += [await ask(ReadPoints(("relay",))), await ask(Command("status"))]
    assert all(isinstance(each, Answered) for each in found)
    return [each.result for each in found]


@pytest.mark.parametrize("family", ["tasmota", "shelly_gen2"])
async def test_a_recording_is_played_again_as_a_device(tmp_path, nats, family):
    file = tmp_path / "recording.jsonl"
    ticks = iter(range(100_000))
    recording = Recording(file, lambda: next(ticks) / 100)
    async with family_rig(family, tmp_path, nats, tap=recording.of("pump-1")) as it:
        before = await tell_all(it.ask)
    nats.restart(wipe=True)  # what was retained is the recording's to say
    async with broker_link(nats, "gateway") as link, broker_link(nats, "device") as other:
        driver = family_driver(shipped_profile(family), link, [], {})
        await driver.talk.open()
        topics = ["cmnd/pump-1/+"] if family == "tasmota" else ["pump-1/rpc"]
        device = TranscriptDevice(read_transcript(file, "pump-1"), other, topics)

        async def ask(request):
            return await driver.perform(request, 20, lambda percent, note: None)

        async with running(device.run):
            assert await tell_all(ask) == before
            await wait_until_async(lambda: device.is_over, message="the recording's end")
        await driver.close()


def test_the_simulator_records_brokers_and_lines(tmp_path, programs, nats):
    scenario = tmp_path / "scenario.json"
    groups = [
        {"personality": "tasmota", "ids": ["plug-1"]},
        {"personality": "line_json", "line": "rs485", "ids": ["pump-1"]},
    ]
    scenario.write_text(json.dumps({"devices": groups, "record": str(tmp_path / "of-the-file")}))
    file = tmp_path / "recording.jsonl"
    words = ["--broker", nats.url, "--dir", tmp_path / "lines", "--record", file]
    program = programs.python("firmware_sim", scenario, *words)
    program.wait_for_line("pump-1 line_json")
    with MqttClient("witness", nats.port) as client:
        client.subscribe("tele/plug-1/LWT")
        wait_until(lambda: client.messages, message="the plug")
        client.publish("cmnd/plug-1/Power", b"\xff\xfe")
        with (tmp_path / "lines" / "rs485").open("r+b", buffering=0) as line:
            line.write(b"garbage\n")
            wait_until(lambda: "rs485" in file.read_text(), message=lambda: file.read_text())
        wait_until(lambda: "fffe" in file.read_text(), message=lambda: file.read_text())
    assert program.terminate() == 0
    found = lines_in(file)
    assert [each["at"] for each in found] == sorted(each["at"] for each in found)
    said = {"device": "plug-1", "direction": "from_device", "topic": "tele/plug-1/LWT",
            "payload": "Online", "retain": True}  # fmt: skip
    assert said in [{key: each[key] for key in each if key != "at"} for each in found]
    heard = [each for each in found if each["direction"] == "to_device"]
    assert {"payload_hex": "fffe"}.items() <= heard[0].items()
    assert b"garbage" in b"".join(
        bytes.fromhex(each["bytes"]) for each in found if each["device"] == "rs485"
    )
    assert not (tmp_path / "of-the-file").exists()


def test_a_recording_is_bounded_and_says_that_it_is_full(tmp_path):
    file = tmp_path / "recording.jsonl"
    recording = Recording(file, lambda: 1.0, max_bytes=2000)
    for _ in range(100):
        recording.of("pump-1").data("to_device", bytes(50))
    assert file.stat().st_size <= 2000
    *whole, last = lines_in(file)
    assert last == {"at": 0.0, "truncated": True}
    assert all(each["bytes"] == "00" * 50 for each in whole)


def test_a_recording_that_cannot_be_made_is_said(tmp_path, programs):
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"devices": [{"personality": "smp", "ids": ["pump-1"]}]}))
    program = programs.python("firmware_sim", scenario, "--record", tmp_path / "none" / "file")
    assert program.wait(30) == 2
    assert "none/file" in program.output()
