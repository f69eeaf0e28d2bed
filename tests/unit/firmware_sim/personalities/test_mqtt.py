"""The MQTT device: commands, an update it downloads itself, test boot, revert, and its faults."""

import hashlib
import json

import pytest

from firmware_sim.device import Device, Identity
from firmware_sim.faults import Faults, Silence, TestBoot
from firmware_sim.flash import fresh
from firmware_sim.images import build_image
from firmware_sim.messages import Action, Disconnect, Fetch, Publish, Reboot
from firmware_sim.personalities.mqtt import MqttPersonality, MqttSettings

OLD = build_image("1.0.0", 2000, seed=1)
NEW = build_image("2.0.0", 3000, seed=2)

pytestmark = pytest.mark.row("E9")


class Session:
    def __init__(self, **faults) -> None:
        self.device = Device(Identity("meter-1", "meter"), fresh(OLD, 65536), Faults(**faults))
        self.personality = MqttPersonality(self.device, MqttSettings())
        self.personality.boot(0.0)
        self.effects: list[Action] = []

    def ask(self, command, **more):
        request = {"id": "c1", "command": command, **more}
        actions = self.personality.received("dev/meter-1/cmd", json.dumps(request).encode(), 1.0)
        self.effects = actions[1:]
        return json.loads(actions[0].payload) if actions else None

    def update(self, **changes):
        digest = hashlib.sha256(NEW).hexdigest()
        request = {"url": "http://x/a", "version": "2.0.0", "sha256": digest, "size": len(NEW)}
        return self.ask("update", **(request | changes))


def states(actions):
    return [
        (json.loads(each.payload)["state"], json.loads(each.payload)["progress"])
        for each in actions
        if isinstance(each, Publish) and each.topic.endswith("/status")
    ]


def test_presence_is_retained_and_the_will_says_false():
    personality = Session().personality
    assert personality.presence(False) == Publish("dev/meter-1/online", b"false", retain=True)
    online, status = personality.connected()
    assert online == personality.presence(True)
    assert json.loads(status.payload)["version"] == "1.0.0"


def test_plain_commands():
    session = Session()
    version = session.ask("version")
    assert (version["id"], version["ok"]) == ("c1", True)
    assert version["result"]["version"] == "1.0.0"
    assert version["result"]["confirmed"] is True
    assert session.ask("echo", text="hi")["result"] == {"echo": "hi"}
    assert 20 <= session.ask("read", point="temperature")["result"]["value"] <= 25
    assert session.ask("reboot")["ok"]
    assert session.effects == [Reboot(0.25)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\xff", "invalid"),
        (b"[1]", "invalid"),
        (b'{"id":"c","command":"fly"}', "unknown_command"),
        (b'{"id":"c","command":"read","point":"moon"}', "unknown_point"),
        (b'{"id":"c","command":"update","url":5}', "invalid"),
        (b'{"id":"c","command":"rollback"}', "nothing_to_roll_back"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_code(payload, code):
    (reply,) = Session().personality.received("dev/meter-1/cmd", payload, 1.0)
    body = json.loads(reply.payload)
    assert (body["ok"], body["code"]) == (False, code)
    assert body["error"]


def test_an_update_is_downloaded_checked_booted_and_waits_for_its_confirmation():
    session = Session()
    assert session.update()["result"] == {"accepted": True}
    assert states(session.effects) == [("downloading", 0)]
    assert session.effects[-1] == Fetch("http://x/a", 65536)
    assert states(session.personality.downloading(1500, 3000)) == [("downloading", 50)]
    assert session.personality.downloading(1510, 3000) == []
    actions = session.personality.downloaded(NEW)
    assert states(actions)[0] == ("flashing", 0)
    assert states(actions)[-1] == ("rebooting", 100)
    assert isinstance(actions[-1], Reboot)
    session.personality.boot(5.0)
    assert (
        session.ask("version")["result"] | {"version": "2.0.0", "confirmed": False}
        == (session.ask("version")["result"])
    )
    assert session.ask("confirm")["result"]["confirmed"] is True
    session.personality.boot(6.0)
    assert session.device.version == "2.0.0"


@pytest.mark.parametrize("command", ["rollback", "reboot"])
def test_an_unconfirmed_image_goes_at_the_next_boot(command):
    session = Session()
    session.update()
    session.personality.downloaded(NEW)
    session.personality.boot(5.0)
    assert session.ask(command)["ok"]
    assert session.effects == [Reboot(0.25)]
    session.personality.boot(6.0)
    assert (session.device.version, session.device.flash.is_confirmed) == ("1.0.0", True)


@pytest.mark.parametrize(
    ("changes", "data", "code"),
    [
        ({}, NEW[:-1], "digest_wrong"),
        ({"version": "3.0.0"}, NEW, "version_wrong"),
        ({"sha256": hashlib.sha256(b"text").hexdigest()}, b"text", "image_refused"),
    ],
)
def test_a_wrong_download_is_given_up_and_the_old_image_stays(changes, data, code):
    session = Session()
    session.update(**changes)
    (failed,) = session.personality.downloaded(data)
    body = json.loads(failed.payload)
    assert (body["state"], body["code"], body["id"]) == ("failed", code, "c1")
    assert session.device.flash.other is None
    assert session.update()["ok"]


def test_a_failed_download_and_a_late_one_after_a_reboot():
    session = Session()
    session.update()
    (failed,) = session.personality.download_failed("404")
    assert json.loads(failed.payload)["code"] == "download_failed"
    session.update()
    session.personality.boot(3.0)
    assert session.personality.downloaded(NEW) == []


def test_an_image_over_the_slot_or_a_second_update_is_refused_at_once():
    session = Session()
    assert session.update(size=10**6)["code"] == "image_refused"
    session.update()
    assert session.update()["code"] == "busy"


def test_planned_silence_doubles_refusal_and_disconnects():
    assert Session(silences=(Silence(after_requests=1),)).ask("version") is None
    doubled = Session(doubled_replies=1)
    doubled.ask("version")
    assert len(doubled.effects) == 1
    refusing = Session(refuse_upload=30)
    refusing.update()
    assert states(refusing.personality.downloaded(NEW)) == [("failed", 0)]
    cut = Session(disconnect_after_requests=(1,), disconnect_for_s=4)
    assert cut.personality.received("dev/meter-1/cmd", b"{}", 1.0) == [Disconnect(4)]


def test_the_wrong_version_after_the_reboot():
    session = Session(test_boot=TestBoot.REVERTS)
    session.update()
    session.personality.downloaded(NEW)
    session.personality.boot(5.0)
    assert session.ask("version")["result"]["version"] == "1.0.0"
