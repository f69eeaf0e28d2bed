"""A settings file is read whole, the environment goes over it, and every mistake is named."""

import re
from pathlib import Path

import pytest

from gateway.device_settings import read_profiles, stable_name
from gateway.errors import SettingsInvalid
from gateway.settings import broker_at, read_settings

REPOSITORY = Path(__file__).resolve().parents[3]
PUMP = "{id: pump-1, driver: smp, port: /dev/ttyUSB0}"


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        return path

    return written


def test_one_line_is_enough(write):
    settings = read_settings(write("gateway: north"), {})
    assert (settings.org, settings.gateway, settings.devices) == ("default", "north", [])


def test_the_shipped_file_is_valid():
    assert read_settings(REPOSITORY / "configs" / "gateway.yaml", {}).gateway == "north"


def test_the_environment_goes_over_the_file(write):
    given = {
        "ROUNDSMAN_GATEWAY__CLOUD__MQTT": "mqtts://broker:9",
        "ROUNDSMAN_GATEWAY__CLOUD__TOKEN": "secret",
        "ROUNDSMAN_GATEWAY__ARTIFACTS__MAX_BYTES": "5000000",
        "HOME": "/root",
    }
    settings = read_settings(write("gateway: north\ncloud: {url: 'http://c'}"), given)
    assert (settings.cloud.url, settings.token()) == ("http://c", "secret")
    assert broker_at(settings.cloud.mqtt) == ("broker", 9, True)
    assert settings.artifacts.max_bytes == 5_000_000


def test_a_wrong_value_in_the_environment_names_its_variable(write):
    with pytest.raises(SettingsInvalid, match="ROUNDSMAN_GATEWAY__CLOUD__URL"):
        read_settings(write("gateway: north"), {"ROUNDSMAN_GATEWAY__CLOUD__URL__X": "1"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("org: default", ":1:1: gateway: missing key"),
        ("gateway: north\ncluod: {}", ":2:1: cluod: unknown key `cluod`; did you mean `cloud`"),
        ("gateway: North!", ":1:10: gateway:"),
        (f"gateway: n\ndevices: [{PUMP}, {PUMP}]", "`pump-1` stands twice"),
        (f"gateway: n\ndevices: [{PUMP}, {PUMP.replace('-1', '-2')}]", "share the port"),
        ("gateway: n\ndevices: [{id: a, driver: smp, prot: x}]", "did you mean `port`"),
        ("gateway: n\ncloud: {mqtt: 'http://x'}", "mqtt://"),
        ("gateway: n\ncloud: {token: a, token_file: b}", "give one of them"),
        ("gateway: n\nlocal_broker: {embedded: false}", "url"),
        ("gateway: [", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(write, text, said):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(write(text), {})
    assert said in str(caught.value)


def test_a_missing_profile_names_those_there_are(write, tmp_path):
    (tmp_path / "tasmota.yaml").write_text("name: tasmota")
    text = f"gateway: n\nprofiles: {tmp_path}\ndevices: [{{id: m, driver: mqtt, profile: tasmoda}}]"
    settings = read_settings(write(text), {})
    missing = read_profiles(settings.profiles, settings.devices).missing["tasmoda"]
    assert re.search(r"device m: no profile `tasmoda`.*tasmota", missing)


def test_a_deployed_profile_goes_first_unless_it_cannot_be_used(write, tmp_path):
    (tmp_path / "tasmota.yaml").write_text("name: tasmota\ndescription: of the folder")
    text = f"gateway: n\nprofiles: {tmp_path}\ndevices: [{{id: m, driver: mqtt, profile: tasmota}}]"
    settings = read_settings(write(text), {})
    deployed = tmp_path / "deployed"
    deployed.mkdir()

    def read():
        return read_profiles(settings.profiles, settings.devices, (), deployed)

    assert read().found["tasmota"].description == "of the folder"
    (deployed / "tasmota.yaml").write_text("name: tasmota\ndescription: deployed")
    assert read().found["tasmota"].description == "deployed"
    (deployed / "tasmota.yaml").write_text("name: tasmota\nnew_key: 1")
    assert "new_key" in read().unusable["tasmota"]
    assert read().found["tasmota"].description == "of the folder"


def test_a_port_is_known_by_its_stable_name(tmp_path):
    port, link = tmp_path / "ttyUSB0", tmp_path / "by-id" / "usb-FTDI_0001-if00"
    port.touch()
    link.parent.mkdir()
    link.symlink_to(port)
    assert stable_name(str(port), link.parent) == str(link)
    assert stable_name(str(link), link.parent) is None
    assert stable_name(str(port), tmp_path / "none") is None
    assert stable_name(str(tmp_path / "other"), link.parent) is None


VALVES = """
gateway: n
devices:
- {id: valve-1, driver: line_json, port: /dev/ttyUSB1, address: v1}
- {id: valve-2, driver: line_json, port: /dev/ttyUSB1, address: v2}
"""


def test_devices_with_addresses_share_a_port(write):
    devices = read_settings(write(VALVES), {}).devices
    assert [device.shares.name for device in devices] == ["serial:/dev/ttyUSB1"] * 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("address: v2", "address: v1", "both address v1 on the port /dev/ttyUSB1"),
        ("address: v2", "address: v2, baud: 9600", "not its `baud`"),
        (
            "driver: line_json, port: /dev/ttyUSB1, address: v2",
            "driver: smp, port: /dev/ttyUSB1",
            "share the port",
        ),
        ("address: v2", "address: v 2", "address"),
    ],
)
def test_neighbours_agree_on_their_line(write, old, new, said):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(write(VALVES.replace(old, new)), {})
    assert said in str(caught.value)
