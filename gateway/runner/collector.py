"""Collects the state of devices: asks them by their schedules, and hears what they publish.

Tasks go first: a device that an attempt is at work on is left alone, and on a shared line an item
gives way for a while before it takes its turn like any other.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from contract.messages import DeviceState
from gateway.domain.collecting import (
    GIVES_WAY_MS,
    Kept,
    Lane,
    lane,
    named,
    worth_keeping,
)
from gateway.domain.facts import Instant
from gateway.domain.plain_json import plain
from gateway.domain.retention import Stream
from gateway.drivers.base import Command, Listening, OnValues, Refused
from gateway.errors import GatewayError, SettingsInvalid, StepInvalid, StorageFull
from gateway.journal import outbox
from gateway.journal.database import Database
from gateway.logs import Log
from gateway.runner.buses import Buses
from gateway.runner.collects import Ask, Collects, Hear
from gateway.runner.devices import DeviceHandle

AT_ONCE: Final = 50
LOOK_AGAIN_MS: Final = 500
LOOK_AT_BUS_AGAIN_MS: Final = 50
FLUSH_AFTER_S: Final = 0.25
PENDING: Final = 10_000
LISTEN_AGAIN_S: Final = 5.0
# A link that is asked again within this time is not closed meanwhile.
STAYS_OPEN_MS: Final = 30_000

log = Log()


@dataclass
class _Line:
    """A lane at work: `lane.items` and `asks` go together by number."""

    lane: Lane
    asks: list[tuple[DeviceHandle, Ask]]
    gives_way_since: int | None = None


class Collector:
    """One for a gateway; `run` runs only where something is collected."""

    def __init__(
        self,
        handles: Mapping[str, DeviceHandle],
        buses: Buses,
        journal: Database,
        clock: Callable[[], Instant],
        stream: Callable[[], Stream],
        on_unsent: Callable[[bool], None],
        is_at_work: Callable[[str], bool],
    ) -> None:
        self._handles = handles
        self._buses = buses
        self._journal = journal
        self._clock = clock
        self._stream = stream
        self._on_unsent = on_unsent
        self._is_at_work = is_at_work
        self._lines: dict[str, _Line] = {}
        self._times: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._asking = 0
        self._kept: dict[tuple[str, int], dict[str, Kept]] = {}
        self._pending: list[DeviceState] = []
        self._dropped = 0
        self._has_pending = asyncio.Event()
        self._told: dict[tuple[str, int], str] = {}

    @property
    def has_work(self) -> bool:
        return any(handle.device.collects for handle in self._handles.values())

    async def run(self) -> None:
        """Collect until cancelled; what is not in the journal then is put there."""
        heard = [
            (handle, place, each)
            for handle in self._handles.values()
            for place, each in enumerate(handle.device.collects)
            if isinstance(each, Hear)
        ]
        self._plan()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._flush(), name="collector.flush")
                if self._lines:
                    group.create_task(self._ask_all(group), name="collector.ask")
                if heard:
                    group.create_task(self._listen(heard), name="collector.listen")
        finally:
            with contextlib.suppress(StorageFull):
                self._journal.run_now(outbox.add, self._stream(), self._take_pending())

    # -- asking

    def _plan(self) -> None:
        by_bus: dict[str, list[tuple[DeviceHandle, Ask]]] = {}
        for handle in self._handles.values():
            for each in handle.device.collects:
                if isinstance(each, Ask):
                    by_bus.setdefault(handle.bus, []).append((handle, each))
        now = self._clock().mono
        for bus, asks in by_bus.items():
            times = ((handle.device.id, ask.every_ms) for handle, ask in asks)
            self._lines[bus] = _Line(lane(times, now), asks)
            self._times.append((self._lines[bus].lane.next_at(), bus))
        heapq.heapify(self._times)

    async def _ask_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._changed.clear()
            now = self._clock().mono
            while self._times and self._times[0][0] <= now and self._asking < AT_ONCE:
                _, bus = heapq.heappop(self._times)
                again_at = self._begin(bus, now, group)
                if again_at is not None:
                    heapq.heappush(self._times, (again_at, bus))
            wait_s = None
            if self._times and self._asking < AT_ONCE:
                wait_s = max(self._times[0][0] - now, 1) / 1000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def _begin(self, bus: str, now: int, group: asyncio.TaskGroup) -> int | None:
        """Ask the next device of a line; when to look again, if nobody is asked."""
        line = self._lines[bus]
        number = line.lane.choose(now, self._is_free)
        if number is None:
            line.gives_way_since = None
            return max(line.lane.next_at(), now + LOOK_AGAIN_MS)
        if self._buses.is_busy(bus):
            since = line.gives_way_since = line.gives_way_since or now
            if now - since < GIVES_WAY_MS:
                return now + LOOK_AT_BUS_AGAIN_MS
        line.gives_way_since = None
        self._asking += 1
        group.create_task(self._ask(bus, line, number), name=f"collector.ask {bus}")
        return None

    def _is_free(self, device: str) -> bool:
        handle = self._handles[device]
        return not (self._is_at_work(device) or handle.is_away or handle.is_in_use)

    async def _ask(self, bus: str, line: _Line, number: int) -> None:
        handle, ask = line.asks[number]
        place = handle.device.id, handle.device.collects.index(ask)
        answered = False
        try:
            answered = await self._ask_once(handle, ask, place)
        except StorageFull:
            self._dropped += 1
        except GatewayError as error:
            log.debug("no state", device=handle.device.id, why=str(error))
        except Exception as error:  # noqa: BLE001
            # A driver's mistake must not end what is collected from all others.
            self._tell(place, f"{type(error).__name__}: {error}")
        finally:
            self._asking -= 1
            now = self._clock().mono
            line.lane = line.lane.asked(number, now, answered=answered)
            heapq.heappush(self._times, (max(line.lane.next_at(), now), bus))
            self._changed.set()
            for state in handle.take_states():
                self._keep(state)

    async def _ask_once(self, handle: DeviceHandle, ask: Ask, place: tuple[str, int]) -> bool:
        rests = ask.every_ms > STAYS_OPEN_MS
        try:
            answer = await handle.collect(ask.request, ask.timeout_s, rests=rests)
        except StepInvalid as error:
            self._tell(place, str(error))
            return False
        if isinstance(answer, Refused):
            self._tell(place, f"{answer.code}: {answer.text}")
            return True
        self._told.pop(place, None)
        result = plain(answer.result)
        otherwise = "values"
        if isinstance(ask.request, Command):
            otherwise = ask.request.name
        elif isinstance(result, dict):
            result = result.get("values", result)
        self._take(place, ask, named(result, ask.name, otherwise), "up")
        return True

    def _tell(self, place: tuple[str, int], why: str) -> None:
        """Once for each reason: it would be said again every few seconds."""
        if self._told.get(place) != why:
            self._told[place] = why
            log.warning("state cannot be read", device=place[0], item=place[1], why=why)

    # -- hearing

    async def _listen(self, heard: Sequence[tuple[DeviceHandle, int, Hear]]) -> None:
        listening: dict[tuple[str, int], Listening] = {}
        try:
            while True:
                for handle, number, hear in heard:
                    place = handle.device.id, number
                    try:
                        if place not in listening:
                            listening[place] = hear.listen(self._taker(place, hear))
                        await listening[place].keep()
                    except (GatewayError, SettingsInvalid) as error:
                        self._tell(place, str(error))
                    else:
                        self._told.pop(place, None)
                await asyncio.sleep(LISTEN_AGAIN_S)
        finally:
            for each in listening.values():
                await each.close()

    def _taker(self, place: tuple[str, int], hear: Hear) -> OnValues:
        def take(values: Mapping[str, JsonValue]) -> None:
            found = plain(dict(values))
            self._take(place, hear, named(found, hear.name, "values"), "unknown")

        return take

    # -- keeping

    def _take(
        self, place: tuple[str, int], item: Collects, values: Mapping[str, JsonValue], link: str
    ) -> None:
        last = self._kept.setdefault(place, {})
        now = self._clock()
        found = worth_keeping(item.worth, last, values, now.mono)
        if found:
            last |= found
            self._keep(
                DeviceState.model_validate(
                    {
                        "number": 0,
                        "at": max(now.wall, 0),
                        "device": place[0],
                        "link": link,
                        "values": {key: one.value for key, one in found.items()},
                    }
                )
            )

    def _keep(self, state: DeviceState) -> None:
        if len(self._pending) >= PENDING:
            self._dropped += 1
        else:
            self._pending.append(state)
        self._has_pending.set()

    def _take_pending(self) -> list[DeviceState]:
        pending, self._pending = self._pending, []
        return pending

    async def _flush(self) -> None:
        """What was collected goes into the journal a few times a second: one commit for many."""
        while True:
            await self._has_pending.wait()
            await asyncio.sleep(FLUSH_AFTER_S)
            self._has_pending.clear()
            dropped, self._dropped = self._dropped, 0
            pending = self._take_pending()
            try:
                if dropped:
                    await self._journal.run_unsynced(outbox.count_dropped, "states", dropped)
                    dropped = 0
                await self._journal.run_unsynced(outbox.add, self._stream(), pending)
            except StorageFull as error:
                log.warning("disk full: states dropped", count=len(pending), why=str(error))
                self._dropped += dropped + len(pending)
            else:
                self._on_unsent(False)
