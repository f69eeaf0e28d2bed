"""Turns on buses, and lines that are left alone for a while: acts on what `domain.bus` decides."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from gateway.domain.bus import Ask, LineHealth, Turns
from gateway.errors import DeviceUnreachable
from gateway.logs import Log
from gateway.transports.line_watch import check_line

log = Log()


@dataclass
class _Bus:
    turns: Turns = field(default_factory=Turns)
    health: LineHealth = field(default_factory=LineHealth)
    waits: dict[int, asyncio.Future[None]] = field(default_factory=dict)


class Buses:
    """Turns by bus. A turn is held for an exchange or a chunk, never over a wait."""

    def __init__(self) -> None:
        self._buses: dict[str, _Bus] = {}
        self._tickets = itertools.count(1)

    def is_busy(self, bus: str) -> bool:
        found = self._buses.get(bus)
        return found is not None and found.turns.holder is not None

    def shut(self, bus: str) -> str | None:
        """Why nobody may use the bus now; None where it may be used or tried."""
        found = self._buses.get(bus)
        if found is None or not found.health.is_shut(_now_s()):
            return None
        left_s = (found.health.shut_until_s or 0) - _now_s()
        return f"the line {bus} is left alone for {left_s:.0f} s: {found.health.why}"

    @asynccontextmanager
    async def hold(self, bus: str, within_s: float, device: str = "") -> AsyncIterator[None]:
        """The turn of a device. Raises DeviceUnreachable when it does not come in time.

        LineQuarantined, one of these, where the line is left alone.
        """
        found = self._of(bus)
        check_line(self, bus)
        ticket = next(self._tickets)
        found.turns = found.turns.asked(Ask(ticket, device))
        try:
            await self._wait(bus, found, ticket, within_s)
            yield
        finally:
            found.turns = found.turns.left(ticket)
            self._wake(found)

    async def _wait(self, bus: str, found: _Bus, ticket: int, within_s: float) -> None:
        holder = found.turns.holder
        if holder is not None and holder.ticket == ticket:
            return
        found.waits[ticket] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                await found.waits[ticket]
        except TimeoutError:
            raise DeviceUnreachable(f"the line {bus} was busy for {within_s:.0f} s") from None
        finally:
            del found.waits[ticket]
        check_line(self, bus)

    def _wake(self, found: _Bus) -> None:
        holder = found.turns.holder
        waiting = None if holder is None else found.waits.get(holder.ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # -- how the lines are

    def failed(self, bus: str, why: str) -> None:
        """The port could not be opened, or was lost."""
        found = self._of(bus)
        self._keep(bus, found, found.health.failed(_now_s(), why))

    def garbage(self, bus: str, line_s: float) -> None:
        """Bytes that were no frame took `line_s` seconds of the line."""
        found = self._of(bus)
        self._keep(bus, found, found.health.heard_garbage(_now_s(), line_s))

    def worked(self, bus: str) -> None:
        """Something that was meant for us came over the line."""
        found = self._buses.get(bus)
        if found is not None and not found.health.is_spotless:
            self._keep(bus, found, found.health.worked(_now_s()))

    def report(self) -> dict[str, JsonValue]:
        """The lines in quarantine, by name, with the reason of each."""
        return {
            bus: found.health.why
            for bus, found in self._buses.items()
            if found.health.is_quarantined
        }

    def _keep(self, bus: str, found: _Bus, after: LineHealth) -> None:
        before, found.health = found.health, after
        if after.shut_until_s is not None and after.shut_until_s != before.shut_until_s:
            pause_s = round(after.shut_until_s - _now_s(), 1)
            log.warning("line quarantined", line=bus, why=after.why, tried_again_in_s=pause_s)
        elif before.is_quarantined and not after.is_quarantined:
            log.info("line is back", line=bus)

    def _of(self, bus: str) -> _Bus:
        return self._buses.setdefault(bus, _Bus())


def _now_s() -> float:
    return asyncio.get_running_loop().time()
