"""Whatever comes on the topics of a shipped profile: only our own errors, and nothing stalls."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contract.documents import load
from gateway.domain.profiles import Profile, SetPoints, matches
from gateway.drivers.base import (
    Answered,
    Command,
    Probe,
    ReadFirmware,
    ReadPoints,
    Refused,
    UploadFirmware,
    WritePoints,
)
from gateway.drivers.mqtt import MqttDriver
from gateway.errors import GatewayError
from gateway.transports.base import Message
from tests.kit.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.row("E4")

FOLDER = Path(__file__).parents[2] / "configs" / "profiles"
PROFILES = {
    path.stem: load(path.read_text(), Profile, path.name)
    for path in sorted(FOLDER.glob("*.yaml"))
    if "driver: modbus" not in path.read_text()
}
WORDS = st.sampled_from(
    ["payload", "result", "error", "update", "state", "POWER", "Upgrade", "StatusFWR", "Version",
     "installed_version", "data", "params", "events", "event", "method", "id", "src", "status",
     "transaction", "fw_state", "current_fw_version", "ON", "online", "Online", "NotifyEvent",
     "ota_progress", "progress_percent", "updating", "ok", "Successful", "staged", "progress"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
FEW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PAYLOADS = st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())


class Echo:
    """A broker where every request brings the next garbage on every topic that is listened to."""

    is_connected = True

    def __init__(self, garbage):
        self.garbage = garbage
        self.listeners = []

    async def publish(self, topic, payload, *, timeout_s, qos=1, is_retained=False):
        for filters, on_message in self.listeners:
            for number, each in enumerate(filters):
                place = each.replace("+", "x").replace("#", "x/y")
                data = self.garbage[(number + len(topic)) % len(self.garbage)]
                on_message(Message(place, data, is_retained=number % 3 == 2))

    async def subscribe(self, filters, on_message, *, timeout_s):
        self.listeners.append((filters, on_message))
        await self.publish("", b"", timeout_s=1)
        listeners = self.listeners

        class Subscription:
            def close(self):
                listeners.clear()

        return Subscription()


def requests_of(profile, file):
    yield from (Probe(), ReadFirmware())
    for name in profile.commands:
        given = {"url": "u", "command": "c", "payload": "p", "kind": "k", "object": "o",
                 "button": "b", "method": "m"}  # fmt: skip
        yield Command("anything" if name == "*" else name, given)
    for name, point in profile.points.items():
        yield ReadPoints((name,))
        if point.write is not None:
            yield WritePoints({name: True})
    yield UploadFirmware(file, "0" * 64, 10, "", "2.0.0", "http://192.0.2.1/f")


async def ask_everything(profile, garbage, file):
    numbers = iter(range(10_000))
    link, forget = Echo(garbage), (lambda line: None)
    driver = MqttDriver("d1", profile, {}, link, forget, lambda: f"r{next(numbers)}")
    for request in requests_of(profile, file):
        try:
            async with asyncio.timeout(600):
                answer = await driver.perform(request, 30, lambda percent, note: None)
        except GatewayError:
            continue
        assert isinstance(answer, Answered | Refused)
        json.dumps(answer.result if isinstance(answer, Answered) else answer.text)
    await driver.close()


@pytest.mark.parametrize("name", PROFILES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(garbage=[b"[" * 5000, b"\xff" * 10, b"9" * 6000, b"NaN", b'{"id":1e999}'])
@given(garbage=st.lists(PAYLOADS, min_size=1, max_size=6))
def test_garbage_on_every_topic_ends_in_an_answer_or_an_error_of_ours(name, garbage, tmp_path):
    file = tmp_path / "firmware.bin"
    file.write_bytes(b"0123456789")
    run_in_virtual_time(ask_everything(PROFILES[name], garbage, file))


@given(text=st.text(max_size=30), more=st.text(max_size=30))
def test_topics_are_matched_or_not_and_never_fail(text, more):
    assert matches(text, text)
    assert matches("#", more)
    assert isinstance(matches(text, more), bool)


def test_every_command_of_a_profile_is_asked_in_the_fuzz():
    assert all(
        isinstance(command, SetPoints) or command.topic or profile.exchange.topic
        for profile in PROFILES.values()
        for command in profile.commands.values()
    )
