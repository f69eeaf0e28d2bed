"""A task that is cancelled at the moment its answer comes ends, whatever the moment."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from cloud.gateway_link.session import BrokerAddress, BrokerSession
from gateway.transports.mqtt import MqttTransport
from tests.kit.waiting import wait_until_async

TURNS_OF_THE_LOOP = range(6)  # from the answer's arrival until whoever waits goes on: three


@asynccontextmanager
async def coordinators_publish(broker):
    session = BrokerSession(BrokerAddress(broker.host, broker.port), "c", lambda *_: None)
    async with running(session.run()):
        await wait_until_async(lambda: session.is_open)
        yield session._client, lambda: session.publish("t", b"{}")


@asynccontextmanager
async def gateways_publish(broker):
    transport = MqttTransport(broker.host, broker.port, "g", chance=lambda: 0.5)
    async with running(transport.run()):
        await wait_until_async(lambda: transport.is_connected)
        yield transport._client, lambda: transport.publish("t", b"{}", timeout_s=10)


@asynccontextmanager
async def running(loop):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(loop)
        try:
            yield task
        finally:
            task.cancel()


@pytest.mark.parametrize("publishes", [coordinators_publish, gateways_publish])
async def test_a_cancel_that_meets_the_answer_is_kept(broker, publishes):
    async with publishes(broker) as (client, publish):
        for turns in TURNS_OF_THE_LOOP:
            async with running(publish_for_ever(publish)) as task:
                cancel_after_answer(client, task, turns)
                done, _ = await asyncio.wait([task], timeout=5)
                assert done, f"lost the cancel {turns} turns after the answer"


async def publish_for_ever(publish):
    while True:
        await publish()


def cancel_after_answer(client, task, turns):
    """Cancel `task` so many turns of the loop after the next PUBACK."""
    paho, tell = client._client, client._client.on_publish
    loop = asyncio.get_running_loop()

    def count_down(left):
        if left:
            loop.call_soon(count_down, left - 1)
        else:
            task.cancel()

    def on_publish(*words):
        tell(*words)
        paho.on_publish = tell
        count_down(turns)

    paho.on_publish = on_publish
