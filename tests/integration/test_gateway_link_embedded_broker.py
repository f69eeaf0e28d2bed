"""The embedded broker as a real child: started, killed, left behind, in the way."""

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager

import psutil
import pytest

from cloud.errors import BrokerRefused
from cloud.gateway_link.embedded_broker import EmbeddedBroker
from cloud.gateway_link.session import BrokerAddress, BrokerSession
from tests.kit.ports import free_port
from tests.kit.waiting import wait_until_async


@asynccontextmanager
async def running(broker):
    await broker.start()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.run())
        try:
            yield
        finally:
            task.cancel()
            await broker.stop()


async def test_all_shards_are_granted(tmp_path):
    broker = EmbeddedBroker(tmp_path, 0)
    async with running(broker):
        session = BrokerSession(
            BrokerAddress("127.0.0.1", broker.port), "coordinator", lambda topic, payload: None
        )
        task = asyncio.ensure_future(session.run())
        await wait_until_async(lambda: session.is_open or task.done())
        assert session.is_open
        task.cancel()
        await asyncio.wait([task])


async def test_it_ends_with_us(tmp_path):
    broker = EmbeddedBroker(tmp_path, 0)
    async with running(broker):
        pid = broker.pid
    assert pid is not None and not psutil.pid_exists(pid)


async def test_it_listens_on_loopback_only(tmp_path):
    broker = EmbeddedBroker(tmp_path, 0)
    async with running(broker):
        connections = psutil.Process(broker.pid).net_connections("inet")
        addresses = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


async def test_killed_it_comes_back_on_the_same_port(tmp_path):
    broker = EmbeddedBroker(tmp_path, 0)
    async with running(broker):
        port, pid = broker.port, broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await wait_until_async(lambda: broker.pid != pid and accepts(port))
    assert EmbeddedBroker(tmp_path, 0)._kept_port() == port


async def test_one_that_a_killed_cloud_left_behind_is_ended(tmp_path):
    first = EmbeddedBroker(tmp_path, 0)
    await first.start()
    second = EmbeddedBroker(tmp_path, first.port)
    async with running(second):
        assert second.pid != first.pid
        assert accepts(second.port)
    assert await first._process.wait() == -signal.SIGKILL


async def test_a_port_that_somebody_has_is_said(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        with pytest.raises(BrokerRefused, match="is taken"):
            await EmbeddedBroker(tmp_path, other.getsockname()[1]).start()


async def test_a_binary_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BrokerRefused, match="nats-not-here"):
        await EmbeddedBroker(tmp_path, 0, binary="/nats-not-here").start()


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
