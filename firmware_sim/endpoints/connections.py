"""What the MQTT devices of one process share: the way in to the broker, and a timer."""

import asyncio
from typing import Final

import paho.mqtt.client as paho

AT_ONCE: Final = 50
LOOK_EVERY_S: Final = 2.0


class Connections:
    """So many devices connect at a time, each until the broker has granted what it listens to.

    Thousands that all come at once are more than a broker takes; here its own pace sets theirs.
    `run` looks after the keepalive of all of them.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.place = asyncio.Semaphore(at_once)
        self._clients: set[paho.Client] = set()

    def add(self, client: paho.Client) -> None:
        self._clients.add(client)

    def remove(self, client: paho.Client) -> None:
        self._clients.discard(client)

    async def run(self) -> None:
        """Serve timers until cancelled: one for all, where each of 10,000 would wake the loop."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for client in list(self._clients):
                client.loop_misc()
