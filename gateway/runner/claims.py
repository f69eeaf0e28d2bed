"""Which attempt has which device: its own lane's, or one that updates several together.

One device, one attempt, also where the attempt's target is the gateway. Whoever waits for several
gets all of them or none, and nobody who comes later overtakes them.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class _Waiter:
    holder: str
    devices: frozenset[str]
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Claims:
    """Holders by device; a holder names an attempt. Used in one event loop."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self._waiters: list[_Waiter] = []

    def is_free_for(self, device: str, holder: str) -> bool:
        """Nobody else has the device, or waits for it."""
        held = self._holders.get(device)
        if held is not None:
            return held == holder
        return all(device not in w.devices or w.holder == holder for w in self._waiters)

    def try_take(self, device: str, holder: str) -> bool:
        if not self.is_free_for(device, holder):
            return False
        self._holders[device] = holder
        return True

    def holder_of(self, device: str) -> str:
        """Who has it; empty for nobody."""
        return self._holders.get(device, "")

    def held_by(self, holder: str) -> set[str]:
        return {device for device, held in self._holders.items() if held == holder}

    def restore(self, devices: Iterable[str], holder: str) -> None:
        """What an attempt had when the process ended is its again."""
        for device in devices:
            self._holders.setdefault(device, holder)

    async def take(self, devices: Iterable[str], holder: str) -> None:
        """All of them, once all are free."""
        waiter = _Waiter(holder, frozenset(devices))
        self._waiters.append(waiter)
        try:
            self._settle()
            await waiter.ready.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._settle()

    def release(self, holder: str) -> None:
        """The attempt has ended; unknown holders are fine."""
        for device in self.held_by(holder):
            del self._holders[device]
        self._settle()

    def _settle(self) -> None:
        """Give to those who wait, in their order; who goes on waiting keeps later ones out."""
        spoken_for: set[str] = set()
        for waiter in list(self._waiters):
            is_free = all(
                self._holders.get(d, waiter.holder) == waiter.holder for d in waiter.devices
            )
            # What it has already it does not wait for, whoever else does.
            if is_free and not (waiter.devices - self.held_by(waiter.holder)) & spoken_for:
                self._holders.update(dict.fromkeys(waiter.devices, waiter.holder))
                self._waiters.remove(waiter)
                waiter.ready.set()
            else:
                spoken_for |= waiter.devices
