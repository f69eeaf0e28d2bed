"""Messages on their way to gateways: numbered, encoded, published by a few workers at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Never

from cloud import metrics
from cloud.crash_points import reach
from contract.messages import Message, encode
from contract.topics import Address, Kind

Publish = Callable[[str, bytes], Awaitable[bool]]
Clock = Callable[[], int]

WORKERS: Final = 32
MAX_WAITING: Final = 10_000


class Postman:
    """Takes messages without waiting. What it cannot deliver is lost: the rows say it again."""

    def __init__(self, publish: Publish, clock: Clock) -> None:
        self._publish = publish
        self._clock = clock
        self._counter = 0
        self._waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(MAX_WAITING)

    def post(self, address: Address, kind: Kind, message: Message) -> int:
        """Send a message soon; its `counter` is put in here. Returns its size in bytes."""
        # Never below the clock, so that it also grows over a restart of this process.
        self._counter = max(self._counter + 1, self._clock())
        payload = encode(message.model_copy(update={"counter": self._counter}))
        try:
            self._waiting.put_nowait((address.topic(kind), payload))
        except asyncio.QueueFull:
            metrics.MQTT_DROPPED.labels("outgoing_overload").inc()
        else:
            metrics.MQTT_SENT.labels(kind).inc()
        return len(payload)

    @property
    def backlog(self) -> int:
        """How many messages wait: senders of what can wait should, while there are many."""
        return self._waiting.qsize()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as workers:
            for number in range(WORKERS):
                workers.create_task(self._deliver(), name=f"gateway_link.postman-{number}")

    async def _deliver(self) -> Never:
        while True:
            topic, payload = await self._waiting.get()
            kind = topic.rpartition("/")[2]
            reach("gateway_link.before_publish", kind)
            await self._publish(topic, payload)
            reach("gateway_link.after_publish", kind)
