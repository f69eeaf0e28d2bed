"""This process as its own device: which start it is, whether the cloud knows it, and its end."""

import asyncio


class OwnProcess:
    """`boot` is the journal's count of starts, which proves that a restart has happened."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.is_ending = False
        self._welcomed = asyncio.Event()
        self._ending = asyncio.Event()

    def welcomed(self) -> None:
        """The cloud has opened a session."""
        self._welcomed.set()

    async def until_welcomed(self) -> None:
        await self._welcomed.wait()

    def end(self) -> None:
        """End in good order, to be started again by whoever watches over us."""
        self.is_ending = True
        self._ending.set()

    async def until_ending(self) -> None:
        await self._ending.wait()
