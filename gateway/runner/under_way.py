"""Which steps are under way that may not be cut: an end of the process that is no hurry waits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class UnderWay:
    """Steps that may or may not have happened when they are cut, by the attempt they are of."""

    def __init__(self) -> None:
        self._fragile: Counter[str] = Counter()
        self._is_closed = False
        self._fewer = asyncio.Event()

    @asynccontextmanager
    async def step(self, holder: str, is_fragile: bool) -> AsyncIterator[None]:
        """Perform a step within; once closed no step begins, and this waits to be cancelled."""
        if self._is_closed:
            await asyncio.get_running_loop().create_future()
        self._fragile[holder] += is_fragile
        try:
            yield
        finally:
            self._fragile[holder] -= is_fragile
            self._fewer.set()

    def close(self) -> None:
        """No step begins any more."""
        self._is_closed = True

    async def quiet(self, but: str, within_s: float) -> bool:
        """Close, and wait for the fragile steps of attempts other than `but`; False at the end."""
        self.close()
        try:
            async with asyncio.timeout(within_s):
                while any(count for holder, count in self._fragile.items() if holder != but):
                    self._fewer.clear()
                    await self._fewer.wait()
        except TimeoutError:
            return False
        return True
