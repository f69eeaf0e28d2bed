"""Scenario files: what we ship is sound, and what is wrong is named with file, line and key."""

from pathlib import Path

import pytest

from contract.documents import DocumentInvalid
from firmware_sim import scenario as scenarios
from firmware_sim.__main__ import main
from firmware_sim.faults import Chatter, Unplug
from firmware_sim.scenario import LineSpec, MqttSpec, ScenarioInvalid, SmpSpec

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "scenarios").glob("*.yaml"))

pytestmark = pytest.mark.row("E9")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_scenario_makes_its_devices(path):
    specs = scenarios.make_devices(scenarios.read_scenario(path))
    devices = [device for spec in specs for device in spec.devices]
    assert len({device.identity.id for device in devices}) == len(devices)
    assert all(device.version == "2.3.0" for device in devices)


def test_groups_ids_settings_and_faults_reach_the_devices(tmp_path):
    path = written(
        tmp_path,
        """
seed: 3
devices:
  - {personality: smp, id: pump, count: 3, buf_size: 512, baud: 9600, rx_lines: 2,
     faults_of: {pump-2: {reboot_after_chunks: [4], late_by: 1s}}}
  - {personality: mqtt, ids: [a, b], version: 1.2.3.4, flash_time: 2s}
""",
    )
    specs = {
        spec.device.identity.id: spec
        for spec in scenarios.make_devices(scenarios.read_scenario(path))
    }
    assert list(specs) == ["pump-1", "pump-2", "pump-3", "a", "b"]
    pump, meter = specs["pump-2"], specs["a"]
    assert isinstance(pump, SmpSpec)
    assert isinstance(meter, MqttSpec)
    assert (pump.baud, pump.settings.buf_size, pump.settings.rx_lines) == (9600, 512, None)
    assert pump.device.faults.reboot_after_chunks == (4,)
    assert pump.device.faults.late_by_s == 1.0
    assert specs["pump-1"].device.faults.reboot_after_chunks == ()
    assert pump.device.faults.seed == "3/pump-2"
    assert (meter.device.version, meter.settings.flash_s) == ("1.2.3.4", 2.0)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("devices:\n  - {personality: smp, id: a, buf_sise: 3}\n", 2, "buf_sise"),
        ("devices:\n  - personality: smp\n    id: a\n    buf_size: 1\n", 4, "buf_size"),
        ("devices:\n  - {personality: smp}\n", 2, "id"),
        ("devices:\n  - {personality: smp, id: a, version: one}\n", 2, "image version"),
        ("devices:\n  - {personality: smp, id: a, faults_of: {b: {}}}\n", 2, "faults_of"),
        ("devices:\n  - {personality: ftp, id: a}\n", 2, "personality"),
        ("devices:\n  - {personality: modbus, id: a, count: 9, unit: 240}\n", 2, "up to 247"),
        ("devices:\n  - {personality: modbus, id: a, listen: here}\n", 2, "listen"),
        (
            "devices:\n  - personality: modbus\n    id: a\n    registers: {holding: {0: 70000}}\n",
            4,
            "holding",
        ),
        ("devices: [\n", 2, ""),
    ],
)
def test_a_wrong_scenario_is_named_with_file_line_and_key(tmp_path, capsys, text, line, words):
    path = written(tmp_path, text)
    with pytest.raises(DocumentInvalid) as invalid:
        scenarios.read_scenario(path)
    assert f"{path}:{line}" in str(invalid.value)
    assert words in str(invalid.value)
    assert main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_modbus_units_are_counted_from_the_first_and_hold_registers_of_their_own(tmp_path):
    text = """
devices:
  - {personality: modbus, id: drive, count: 2, unit: 11, line: rs485, baud: 9600,
     line_faults: {flipped: 0.1}, registers: {holding: {0: 5}, exceptions: {9: 4}}}
  - {personality: modbus, ids: [meter], listen: "127.0.0.1:1502"}
"""
    path = written(tmp_path, text)
    line, server = scenarios.make_devices(scenarios.read_scenario(path))
    assert (line.line, line.baud, line.faults.flipped) == ("rs485", 9600, 0.1)
    assert [unit.device.identity.id for unit in line.units.values()] == ["drive-1", "drive-2"]
    line.units[11].registers.holding[0] = 6
    assert line.units[12].registers.holding[0] == 5
    assert line.units[12].registers.exceptions == {9: 4}
    assert (server.listen, list(server.units)) == ("127.0.0.1:1502", [1])


def test_an_id_twice_and_a_missing_or_wrong_image_are_refused(tmp_path):
    twice = "devices:\n  - {personality: smp, ids: [a]}\n  - {personality: mqtt, ids: [a]}\n"
    with pytest.raises(DocumentInvalid, match="stands twice: a"):
        scenarios.read_scenario(written(tmp_path, twice))
    wrong = tmp_path / "wrong.bin"
    for image in (wrong, tmp_path / "missing.bin"):
        wrong.write_bytes(b"not an image")
        text = f"devices:\n  - {{personality: smp, id: a, image: {image}}}\n"
        scenario = scenarios.read_scenario(written(tmp_path, text))
        with pytest.raises(ScenarioInvalid, match="a-1"):
            list(scenarios.make_devices(scenario))


def test_a_group_of_line_json_devices_is_on_one_line_with_its_faults(tmp_path):
    text = """
        seed: 3
        devices:
        - personality: line_json
          line: rs485
          ids: [a, b]
          baud: 9600
          line_faults:
            flipped: 0.01
            echo: true
            chatters: [{after: 1s, lasts: 2s}]
            unplugs: [{after: 3s, lasts: 4s}]
          faults_of: {b: {late_replies: 0.5}}
    """
    (spec,) = scenarios.make_devices(scenarios.read_scenario(written(tmp_path, text)))
    assert isinstance(spec, LineSpec)
    assert (spec.line, spec.baud, [d.identity.id for d in spec.devices]) == (
        "rs485",
        9600,
        ["a", "b"],
    )
    assert (spec.faults.flipped, spec.faults.echo, spec.faults.seed) == (0.01, True, "3/rs485")
    assert spec.faults.chatters == (Chatter(1.0, 2.0),)
    assert spec.faults.unplugs == (Unplug(4.0, after_s=3.0),)
    assert [d.faults.late_replies for d in spec.devices] == [0.0, 0.5]


def test_a_line_belongs_to_one_group(tmp_path):
    group = "- {personality: line_json, line: rs485, ids: [%s]}\n"
    path = written(tmp_path, "devices:\n" + group % "a" + group % "b")
    with pytest.raises(DocumentInvalid, match="one group: rs485"):
        scenarios.read_scenario(path)
