"""What just changed, told within this process: wakes pages, waits and loops.

A hint and never the truth: whoever is woken looks into the database, and looks now and then anyway.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from contract.topics import Address


class Listener:
    """One who waits. Woken by changes of one run, or of anything; many changes are one waking."""

    def __init__(self, run: str | None, ended_only: bool) -> None:
        self.run = run
        self.ended_only = ended_only
        self.event = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a change since the last call; False when there was none in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.event.wait()
        except TimeoutError:
            return False
        finally:
            self.event.clear()
        return True

    def wake(self) -> None:
        self.event.set()


class Changes:
    """To be used on the event loop's thread."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._on_sending: list[Callable[[], None]] = []

    def touched(
        self,
        runs: Iterable[str] = (),
        gateways: Collection[Address] = (),
        *,
        ended: bool = True,
    ) -> None:
        """Something about these has changed. `ended`: something may start or settle now."""
        names = set(runs)
        if not names and not gateways:
            return
        for listener in self._listeners:
            if listener.ended_only:
                if ended:
                    listener.wake()
            elif listener.run is None or listener.run in names:
                listener.wake()

    @contextmanager
    def listen(self, run: str | None = None, *, ended_only: bool = False) -> Iterator[Listener]:
        """A listener for changes of a run, or of anything.

        `ended_only` is for the loops: they need not look when a task only makes progress.
        """
        listener = Listener(run, ended_only)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def on_sending(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever there is something to send to gateways."""
        self._on_sending.append(wake)

    def to_send(self) -> None:
        """Something was offered, or is to be cancelled."""
        for wake in self._on_sending:
            wake()
