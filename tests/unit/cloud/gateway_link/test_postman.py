"""Messages on their way out: numbered, and lost rather than waited for."""

import asyncio
from functools import partial

from cloud.gateway_link.postman import MAX_WAITING, Postman
from contract.ids import GatewayId, OrgId
from contract.messages import Receipt, Reply, parse
from contract.topics import Address, Kind
from tests.kit.waiting import wait_until_async

NORTH = Address(OrgId("default"), GatewayId("north"))


async def post_one(postman):
    postman.post(NORTH, Kind.RECEIPT, Receipt(session="s"))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(postman.run())
        await wait_until_async(lambda: postman.backlog == 0)
        running.cancel()


async def test_the_counter_grows_over_messages_and_over_restarts():
    sent = []

    async def publish(topic, payload):
        sent.append((topic, parse(Kind.RECEIPT, payload).counter))
        return True

    for start in (1_000, 1_001):  # the second process starts a millisecond later
        await post_one(Postman(publish, partial(int, start)))
    assert sent == [(NORTH.topic(Kind.RECEIPT), 1_000), (NORTH.topic(Kind.RECEIPT), 1_001)]


async def test_a_broker_that_stands_still_costs_messages_not_memory():
    async def never(topic, payload):
        await asyncio.Event().wait()
        return False

    postman = Postman(never, lambda: 0)
    for number in range(MAX_WAITING + 100):
        postman.post(NORTH, Kind.REPLY, Reply(key=str(number)))
    assert postman.backlog == MAX_WAITING
