"""What a gateway needs beside aiomqtt: cancels that are kept, no queue, few SUBSCRIBEs."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import aiomqtt
import paho.mqtt.client as paho

# NATS takes 15,000 filters in 17 s by 60 a packet and in 6 s by 300, on a busy machine: what costs
# is each round trip. It looks for retained messages filter by filter, so there is a limit.
FILTERS_A_PACKET: Final = 240


T = TypeVar("T")


class Client(aiomqtt.Client):
    """aiomqtt without Python 3.11's `wait_for`, which swallows a cancel that meets an answer.

    A task in a loop would never end.
    """

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("no answer in time") from None


class DirectClient(Client):
    """Hands messages over as they are read from the socket, where aiomqtt queues them.

    A queue that is full drops what comes; without one the broker waits on TCP. It also spares each
    message a task. `on_message` must not raise.
    """

    def __init__(self, *words: Any, on_message: Callable[[str, bytes, bool], None], **options: Any):
        self._hand_over = on_message
        super().__init__(*words, **options)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._hand_over(message.topic, bytes(message.payload), bool(message.retain))


_Asked = tuple[Sequence[str], "asyncio.Future[Sequence[int]]"]


class Subscribing:
    """Gathers the filters that are asked for while a SUBSCRIBE is under way into the next one.

    `send` sends one and returns a code for each filter. A thousand devices that are opened at once
    cost a dozen packets, and a single device waits for nothing.
    """

    def __init__(self, send: Callable[[Sequence[str]], Awaitable[Sequence[int]]]) -> None:
        self.packets = 0
        self._send = send
        self._waiting: deque[_Asked] = deque()
        self._turn = asyncio.Lock()

    async def ask(self, filters: Sequence[str]) -> Sequence[int]:
        """The broker's code for each filter. Raises what `send` raises."""
        answer: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((filters, answer))
        try:
            async with self._turn:
                while not answer.done():  # else it went along with another's
                    await self._send_packet()
            return await answer
        finally:
            answer.cancel()

    async def _send_packet(self) -> None:
        packet = self._next_packet()
        self.packets += 1
        try:
            codes = list(await self._send([each for filters, _ in packet for each in filters]))
        except (aiomqtt.MqttError, ValueError) as error:
            for _, answer in packet:
                if not answer.done():
                    answer.set_exception(error)
            return
        except BaseException:
            self._waiting.extendleft(reversed(packet))  # who sends has given up, not the others
            raise
        for filters, answer in packet:
            own, codes = codes[: len(filters)], codes[len(filters) :]
            if not answer.done():
                answer.set_result(own)

    def _next_packet(self) -> list["_Asked"]:
        """Whole groups up to a packet's size, at least one; who gave up is left out."""
        packet: list[_Asked] = []
        size = 0
        while self._waiting:
            filters, answer = self._waiting[0]
            if packet and size + len(filters) > FILTERS_A_PACKET:
                break
            self._waiting.popleft()
            if not answer.done():
                packet.append((filters, answer))
                size += len(filters)
        return packet
