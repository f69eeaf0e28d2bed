"""Filters of many devices go to the broker together, and nobody's trouble is another's."""

import asyncio

import aiomqtt
import pytest

from gateway.transports.mqtt_client import FILTERS_A_PACKET, Subscribing

pytestmark = pytest.mark.row("E9")


class Broker:
    """Grants everything but what is named `bad`; while `closed` it does not answer."""

    def __init__(self):
        self.packets = []
        self.may_answer = asyncio.Event()
        self.fails = False

    async def take(self, filters):
        self.packets.append(list(filters))
        await self.may_answer.wait()
        if self.fails:
            raise aiomqtt.MqttError("gone")
        return [0x87 if each == "bad" else 0 for each in filters]


async def asked(subscribing, count):
    tasks = [asyncio.ensure_future(subscribing.ask([f"{n}/a", f"{n}/b"])) for n in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_a_packet_is_under_way_goes_with_the_next():
    broker = Broker()
    subscribing = Subscribing(broker.take)
    tasks = await asked(subscribing, 100)
    assert len(broker.packets) == 1
    broker.may_answer.set()
    assert await asyncio.gather(*tasks) == [[0, 0]] * 100
    sent = [each for packet in broker.packets for each in packet]
    assert sorted(sent) == sorted(f"{n}/{leaf}" for n in range(100) for leaf in "ab")
    assert len(broker.packets) <= 3


async def test_a_packet_has_a_size_and_a_long_group_goes_alone():
    broker = Broker()
    broker.may_answer.set()
    subscribing = Subscribing(broker.take)
    long = [f"long/{n}" for n in range(FILTERS_A_PACKET + 50)]
    await asyncio.gather(*await asked(subscribing, FILTERS_A_PACKET), subscribing.ask(long))
    assert long in broker.packets
    assert all(len(p) <= FILTERS_A_PACKET for p in broker.packets if p != long)


async def test_a_refusal_is_told_to_who_asked_for_that_filter():
    broker = Broker()
    broker.may_answer.set()
    subscribing = Subscribing(broker.take)
    good, other = await asyncio.gather(subscribing.ask(["a"]), subscribing.ask(["b", "bad"]))
    assert (good, other) == ([0], [0, 0x87])


async def test_who_gives_up_holds_up_nobody():
    broker = Broker()
    subscribing = Subscribing(broker.take)
    first, second, third = await asked(subscribing, 3)
    for each in (first, second):  # the one whose packet is under way, and one that waits
        each.cancel()
    await asyncio.sleep(0)
    broker.may_answer.set()
    assert await third == [0, 0]
    assert broker.packets[-1] == ["2/a", "2/b"]
    assert first.cancelled()
    assert second.cancelled()


async def test_a_lost_connection_is_told_to_all_in_the_packet():
    broker = Broker()
    broker.fails = True
    broker.may_answer.set()
    subscribing = Subscribing(broker.take)
    outcomes = await asyncio.gather(*await asked(subscribing, 4), return_exceptions=True)
    assert [type(each) for each in outcomes] == [aiomqtt.MqttError] * 4
    broker.fails = False
    assert await subscribing.ask(["again"]) == [0]
