"""One lock for each bus: several devices on one line take turns, first come, first served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import DeviceUnreachable


class Buses:
    """Locks by bus. Held for an exchange, never over a wait; asyncio's locks are fair."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    def is_busy(self, bus: str) -> bool:
        lock = self._locks.get(bus)
        return lock is not None and lock.locked()

    @asynccontextmanager
    async def hold(self, bus: str, within_s: float) -> AsyncIterator[None]:
        """Raises DeviceUnreachable when the bus is not free in time."""
        lock = self._locks.setdefault(bus, asyncio.Lock())
        try:
            async with asyncio.timeout(within_s):
                await lock.acquire()
        except TimeoutError:
            raise DeviceUnreachable(f"the line {bus} was busy for {within_s:.0f} s") from None
        try:
            yield
        finally:
            lock.release()
