"""The MQTT driver and its transport on real brokers: reconnects, strange messages, lost news."""

import asyncio
import os
import random
import signal

import pytest

from firmware_sim.faults import Faults
from gateway.drivers.base import Answered, Command, Probe, ReadFirmware, Refused
from gateway.errors import DeviceUnreachable, ReplyGarbled, SettingsInvalid
from gateway.transports.local_broker import LocalBroker, find_binary
from gateway.transports.mqtt import MqttTransport
from tests.kit.device_rigs import mqtt_rig, running
from tests.kit.mqtt_client import MqttClient
from tests.kit.ports import free_port
from tests.kit.waiting import wait_until_async


async def test_an_image_reaches_the_device_on_any_broker(tmp_path, broker):
    async with mqtt_rig(tmp_path, broker) as it:
        assert isinstance(await it.ask(it.upload, 30), Answered)
        staged = (await it.ask(ReadFirmware())).firmware.holding(it.upload.image_hash)
        assert (staged.active, staged.pending) == (False, True)
        refused = await it.ask(Command("read", {"point": "nowhere"}))
        assert isinstance(refused, Refused)
        assert "unknown_point" in refused.text


async def test_the_connection_comes_back_with_its_subscriptions(tmp_path, broker):
    async with mqtt_rig(tmp_path, broker) as it:
        broker.restart(wipe=True)

        async def answers():
            try:
                return isinstance(await it.ask(Probe(), 2), Answered)
            except (DeviceUnreachable, ReplyGarbled):
                return False

        await wait_until_async(answers, message="an answer after the restart")


async def test_strange_messages_on_the_reply_topic_answer_nothing(tmp_path, nats):
    async with mqtt_rig(tmp_path, nats) as it:
        with MqttClient("stranger", nats.port) as client:
            for payload in (b"", b'{"id": "r', b"\xff\xfe", b"[]", b'{"id": null}', b"42"):
                client.publish("dev/pump-1/reply", payload)
            client.publish("dev/pump-1/status", b'{"state": "staged"}')
        answer = await it.ask(Command("echo", {"text": "still right"}))
        assert answer == Answered({"echo": "still right"})


async def test_a_reply_that_cannot_be_read_is_garbled(tmp_path, nats):
    async with mqtt_rig(tmp_path, nats, Faults(lost_lines=1.0)) as it:
        driver = it.driver

        async def answer_badly():
            with MqttClient("stranger", nats.port) as client:
                while True:
                    client.publish("dev/pump-1/reply", b'{"id": "r1", "ok"')
                    await asyncio.sleep(0.05)

        async with running(answer_badly):
            with pytest.raises(ReplyGarbled, match="no reply: "):
                await driver.perform(Command("reboot"), 1, lambda percent, note: None)


async def test_a_command_that_may_have_happened_is_not_sent_again(tmp_path, nats):
    async with mqtt_rig(tmp_path, nats) as it:
        before = it.device.counters.requests
        with pytest.raises(ReplyGarbled, match="must not be sent twice"):
            await it.ask(Command("confirm", resumed=True))
        assert it.device.counters.requests == before
        assert isinstance(await it.ask(Command("version", resumed=True)), Answered)


async def test_an_offline_device_is_not_asked(tmp_path, nats):
    async with mqtt_rig(tmp_path, nats) as it:
        with MqttClient("stranger", nats.port) as client:
            client.publish("dev/pump-1/online", b"false", retain=True)
            await wait_until_async(lambda: it.driver.talk.online is False)
        before = it.device.counters.requests
        with pytest.raises(DeviceUnreachable, match="offline"):
            await it.ask(Probe(), 1)
        assert it.device.counters.requests == before


async def test_a_full_download_failure_is_refused_with_our_code(tmp_path, nats):
    async with mqtt_rig(tmp_path, nats) as it:
        wrong = type(it.upload)(**{**vars(it.upload), "url": "http://127.0.0.1:9/none"})
        answer = await it.ask(wrong, 60)
        assert isinstance(answer, Refused)
        assert answer.code == "artifact_unavailable"


async def test_the_local_broker_is_started_again_and_taken_over(tmp_path):
    port = free_port()
    async with LocalBroker(tmp_path, port=port, chance=random.random) as broker:
        link = MqttTransport("127.0.0.1", port, "gateway-1", chance=random.random)
        async with running(link.run):
            await wait_until_async(lambda: link.is_connected)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            await wait_until_async(lambda: broker.starts == 2)
            await wait_until_async(lambda: link.is_connected and link.counters.connects == 2)
        left_behind = broker.pid
        async with LocalBroker(tmp_path, port=port, chance=random.random) as second:
            assert second.pid != left_behind
    assert second.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(second.pid, 0)


async def test_a_taken_port_is_said_at_start(tmp_path):
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as taken:
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(SettingsInvalid, match="cannot listen"):
            async with LocalBroker(tmp_path, port=port, chance=random.random):
                pass


def test_the_binary_is_named_or_found(tmp_path):
    assert find_binary({}).name == "nats-server"
    with pytest.raises(SettingsInvalid, match="NATS_SERVER_BIN"):
        find_binary({"NATS_SERVER_BIN": str(tmp_path / "none")})
