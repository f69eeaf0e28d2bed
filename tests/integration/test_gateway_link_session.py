"""The broker session against real brokers: both versions of MQTT, refusals, lost connections."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from cloud.errors import BrokerRefused
from cloud.gateway_link.session import BrokerAddress, BrokerSession
from contract.ids import GatewayId, OrgId
from contract.topics import Address, Kind
from tests.kit.brokers import Mosquitto
from tests.kit.waiting import wait_until_async


class Inbox(list[tuple[str, bytes]]):
    def deliver(self, topic, payload):
        self.append((topic, payload))


@asynccontextmanager
async def running(session):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(session.run())
        try:
            yield task
        finally:
            task.cancel()


def session_on(broker, inbox, **options):
    address = BrokerAddress(broker.host, broker.port)
    return BrokerSession(address, "coordinator-test", inbox.deliver, **options)


async def test_every_shard_is_subscribed_and_delivers(broker):
    """On NATS this is what its max_ack_pending decides."""
    inbox = Inbox()
    session = session_on(broker, inbox)
    topics_by_shard: dict[str, str] = {}
    number = 0
    while len(topics_by_shard) < 32:
        address = Address(OrgId("default"), GatewayId(f"g{number}"))
        topics_by_shard.setdefault(address.shard, address.topic(Kind.REPORT))
        number += 1
    async with running(session):
        await wait_until_async(lambda: session.is_open)
        for topic in topics_by_shard.values():
            assert await session.publish(topic, b"{}")
        await wait_until_async(lambda: len(inbox) >= 32)
    assert sorted(topic for topic, _ in inbox) == sorted(topics_by_shard.values())
    assert session.speaks_mqtt5 == broker.speaks_mqtt5


async def test_a_large_message_arrives_whole(broker):
    inbox = Inbox()
    session = session_on(broker, inbox)
    topic = Address(OrgId("default"), GatewayId("g1")).topic(Kind.REPORT)
    async with running(session):
        await wait_until_async(lambda: session.is_open)
        assert await session.publish(topic, b"x" * 128 * 1024)
        await wait_until_async(lambda: inbox)
    assert inbox == [(topic, b"x" * 128 * 1024)]


async def test_many_publishes_at_once_all_arrive(broker):
    inbox = Inbox()
    session = session_on(broker, inbox)
    topic = Address(OrgId("default"), GatewayId("g1")).topic(Kind.REPORT)
    async with running(session):
        await wait_until_async(lambda: session.is_open)
        sent = await asyncio.gather(*(session.publish(topic, b"%d" % n) for n in range(500)))
        assert all(sent)
        await wait_until_async(lambda: len(inbox) == 500)


async def test_a_broker_that_dies_is_found_again(broker):
    inbox = Inbox()
    opened = []
    session = session_on(broker, inbox, on_open=lambda: opened.append(1))
    topic = Address(OrgId("default"), GatewayId("g1")).topic(Kind.REPORT)
    async with running(session):
        await wait_until_async(lambda: session.is_open)
        broker.kill_9()
        await wait_until_async(lambda: not session.is_open)
        assert not await session.publish(topic, b"lost")
        broker.restart(wipe=True)
        await wait_until_async(lambda: session.is_open)
        assert await session.publish(topic, b"kept")
        await wait_until_async(lambda: inbox)
    assert inbox == [(topic, b"kept")]
    assert len(opened) == 2


async def test_nagle_is_off(mosquitto):
    session = session_on(mosquitto, Inbox())
    async with running(session):
        await wait_until_async(lambda: session.is_open)
        raw = session._client._client.socket()
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Strict(Mosquitto):
    """Knows one user, who may read nothing."""

    def _configure(self):
        super()._configure()
        passwords = self.folder / "passwords"
        rules = self.folder / "rules"
        passwords.write_text(
            # `right`, as mosquitto_passwd writes it
            "someone:$7$101$d29ybGR3b3JsZA==$" + "x" * 86 + "==\n"
        )
        rules.write_text("user someone\ntopic write nothing\n")
        text = self._config.read_text().replace("allow_anonymous true", "allow_anonymous false")
        self._config.write_text(f"{text}password_file {passwords}\nacl_file {rules}\n")
        for path in (passwords, rules):
            path.chmod(0o600)


async def test_wrong_credentials_stop_the_process_with_a_reason(tmp_path):
    with Strict(tmp_path / "strict") as broker:
        session = session_on(broker, Inbox())
        with pytest.raises(BrokerRefused, match=r"broker\.username"):
            async with asyncio.timeout(20):
                await session.run()
