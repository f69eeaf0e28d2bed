"""Sends what is ahead of what the cloud stored, until a receipt says so: results, logs, samples.

Nothing is queued here: each message is made from the journal at the moment it is sent. What is in
flight is remembered only so that the same revision is not sent twice at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from contract.messages import MAX_BATCH, HeldProfiles, Receipt, Report, digest_of
from contract.topics import Kind
from gateway.cloud_link.wire import Connection, LinkState
from gateway.domain.backoff import backoff_ms
from gateway.domain.facts import Instant
from gateway.domain.retention import Kind as LineKind
from gateway.domain.retention import Stream
from gateway.errors import StorageFull
from gateway.journal import outbox, tasks
from gateway.journal.database import Database, Rows
from gateway.journal.tasks import Unsent
from gateway.logs import Log

COLLECT_S: Final = 0.03
RESEND_MS: Final = 10_000
LONGEST_RESEND_MS: Final = 160_000
HEAD_BYTES: Final = 4_096
LINES_A_MESSAGE: Final = 500
BACKLOG_EVERY_MS: Final = 250
DEFAULT_BACKLOG_PER_S: Final = 500
# What goes along with results is taken in one transaction with them, and must not hold them up.
ALONG_WITH_RESULTS: Final = 50
SILENCES_TO_GREET: Final = 3

log = Log()
Lines = list[tuple[int, str]]


@dataclass
class InFlight:
    """A report without its receipt."""

    sent_at: int
    items: dict[tuple[str, int], int] = field(default_factory=dict)
    places: set[tuple[Stream, LineKind]] = field(default_factory=set)


@dataclass(frozen=True)
class Batch:
    """What the next report holds; each item is JSON already."""

    items: list[Unsent]
    stream: Stream
    logs: Lines
    states: Lines
    dropped: dict[str, int]
    digest: str | None

    @property
    def is_empty(self) -> bool:
        return not (self.items or self.logs or self.states)


class Sender:
    """One loop for each connection. `mono` gives milliseconds; `health` what a heartbeat tells.

    `wall` is the clock that samples have their times by. Of those in the backlog `backlog_per_s`
    go in a second.
    """

    def __init__(
        self,
        journal: Database,
        state: LinkState,
        mono: Callable[[], int],
        health: Callable[[], dict[str, JsonValue]],
        wall: Callable[[], int] = lambda: 0,
        backlog_per_s: int = DEFAULT_BACKLOG_PER_S,
    ) -> None:
        self._wall = wall
        self._backlog_per_s = backlog_per_s
        self._backlog_ms = min(BACKLOG_EVERY_MS, LINES_A_MESSAGE * 1000 // backlog_per_s)
        self._journal = journal
        self._state = state
        self._mono = mono
        self._health = health
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._in_flight: dict[int, InFlight] = {}
        self._held_off: dict[tuple[str, int], tuple[int, int]] = {}
        self._message = 0
        self._silences = 0
        self._last_sent = 0
        self._last_backlog = 0
        self._has_backlog = False
        self._profiles: HeldProfiles | None = None
        self._must_tell = False
        self.sent = 0

    def wake(self, urgent: bool) -> None:
        """Something is to be sent; what is urgent does not wait for company."""
        self._wake.set()
        if urgent:
            self._urgent.set()

    def say_health(self) -> None:
        """Something is wrong, or right again: tell it before the next heartbeat is due."""
        self._must_tell = True
        self.wake(urgent=True)

    def say_profiles(self, held: HeldProfiles) -> None:
        """Answer a set of wanted profiles; the cloud asks again for an answer that is lost."""
        self._profiles = held
        self.wake(urgent=True)

    def forget_flights(self) -> None:
        """A new session: whatever was under way is sent again."""
        self._in_flight.clear()
        self._held_off.clear()
        self._silences = 0
        self.wake(urgent=True)

    def take_receipt(self, receipt: Receipt) -> None:
        """Free the slot. What the receipt does not name is sent again, but later."""
        flight = self._in_flight.pop(receipt.message, None)
        self._silences = 0
        if flight is not None:
            named = {(item.task, item.attempt) for item in receipt.items}
            for item, revision in flight.items.items():
                if item not in named:
                    self._held_off[item] = (revision, self._mono() + RESEND_MS)
        self.wake(urgent=True)

    async def run(self, connection: Connection) -> None:
        """Until the connection is lost (CloudUnreachable) or the caller cancels."""
        self.forget_flights()
        while True:
            await self._state.opened.wait()
            self._wake.clear()
            self._urgent.clear()
            while await self._send_one(connection):
                pass
            await self._until_something()

    async def _until_something(self) -> None:
        try:
            async with asyncio.timeout(self._next_deadline_ms() / 1000):
                await self._wake.wait()
        except TimeoutError:
            return
        if not self._urgent.is_set():
            try:
                async with asyncio.timeout(COLLECT_S):
                    await self._urgent.wait()
            except TimeoutError:
                return

    def _next_deadline_ms(self) -> int:
        now = self._mono()
        due = self._last_sent + self._state.limits.heartbeat
        for flight in self._in_flight.values():
            due = min(due, flight.sent_at + self._resend_after())
        for _, until in self._held_off.values():
            due = min(due, until)
        return min(max(due - now, 10), self._backlog_ms if self._has_backlog else 60_000)

    def _resend_after(self) -> int:
        return backoff_ms(self._silences + 1, RESEND_MS, LONGEST_RESEND_MS)

    async def _send_one(self, connection: Connection) -> bool:
        """Send one report if there is reason and room; True if there may be more."""
        if self._state.session is None:
            return False
        now = self._mono()
        if self._profiles is not None:
            said, self._profiles = self._profiles, None
            await connection.publish(Kind.REPORT, self._state.seal(Report(profiles=said)))
        self._give_up_silent(now)
        is_free = len(self._in_flight) < self._state.limits.max_unreceipted
        batch = await self._picked(now) if is_free else None
        if batch is not None and not batch.is_empty:
            await self._send_batch(connection, batch, now)
            return True
        if self._must_tell or now - self._last_sent >= self._state.limits.heartbeat:
            self._must_tell = False
            digest, dropped = (batch.digest, batch.dropped) if batch else (None, {})
            beat = Report(digest=digest, health=self._health(), dropped=dropped)
            await connection.publish(Kind.REPORT, self._state.seal(beat))
            self._last_sent = now
        return False

    async def _picked(self, now: int) -> Batch | None:
        try:
            return await self._journal.run_unsynced(self._pick, now)
        except StorageFull:
            return None  # a disk that cannot be read is told of all the same

    async def _send_batch(self, connection: Connection, batch: Batch, now: int) -> None:
        self._message += 1
        flight = InFlight(now, {(i.task, i.attempt): i.revision for i in batch.items})
        if batch.logs:
            flight.places.add((batch.stream, "logs"))
        if batch.states:
            flight.places.add((batch.stream, "states"))
        self._in_flight[self._message] = flight
        head = Report(
            message=self._message,
            time=self._wall() if batch.states else 0,
            stream=batch.stream,
            dropped=batch.dropped,
            health=self._health() if now - self._last_sent > RESEND_MS else {},
        )
        lists = {
            "tasks": [item.snapshot for item in batch.items],
            "logs": [line for _, line in batch.logs],
            "states": [line for _, line in batch.states],
        }
        self._last_sent = now
        await connection.publish(Kind.REPORT, self._state.seal_report(head, lists))
        self.sent += 1

    def _give_up_silent(self, now: int) -> None:
        late = [
            number
            for number, flight in self._in_flight.items()
            if now - flight.sent_at >= self._resend_after()
        ]
        for number in late:
            del self._in_flight[number]
        if late:
            self._silences += 1
            log.warning("no receipt: sent again", messages=late, times=self._silences)
            if self._silences % SILENCES_TO_GREET == 0:
                self._state.ask_for_hello()
        self._held_off = {k: v for k, v in self._held_off.items() if v[1] > now}

    def _pick(self, db: Rows, now: int) -> Batch:
        if self._silences:
            self._look_through(db, now)
        room = self._state.limits.max_message_bytes - HEAD_BYTES
        flying = self._flying()
        found = tasks.unacknowledged(db, MAX_BATCH + len(flying) + len(self._held_off))
        items: list[Unsent] = []
        is_settled = not found and not flying
        for item in found:
            key = (item.task, item.attempt)
            held = self._held_off.get(key)
            if flying.get(key, 0) >= item.revision or (held and held[0] >= item.revision):
                continue
            room -= len(item.snapshot.encode()) + 1
            if items and (room < 0 or len(items) >= MAX_BATCH):
                break
            items.append(item)
        busy = {place for flight in self._in_flight.values() for place in flight.places}
        stream: Stream = "live"
        logs: Lines = []
        states: Lines = []
        if items:
            logs, states = self._lines(db, stream, busy, room, ALONG_WITH_RESULTS)
        elif self._has_slot_for_lines:
            logs, states = self._lines(db, stream, busy, room)
            if not (logs or states):
                stream = "backlog"
                logs, states = self._backlog(db, busy, room, now)
        digest = None
        if is_settled and now - self._last_sent >= self._state.limits.heartbeat:
            digest = digest_of(tasks.marks(db, open_only=True))
        return Batch(items, stream, logs, states, outbox.dropped(db), digest)

    def _look_through(self, db: Rows, now: int) -> None:
        """One item that a damaged disk has changed makes a whole message unreadable."""
        changed = tasks.replace_unreadable(db, MAX_BATCH, Instant(self._wall(), now))
        gone = outbox.drop_unreadable(db, LINES_A_MESSAGE)
        if changed or gone:
            log.error("what is to be sent was damaged", tasks=changed, lines_dropped=gone)

    @property
    def _has_slot_for_lines(self) -> bool:
        """One of several slots stays free of mere lines, for results that come meanwhile."""
        of_lines = sum(not flight.items for flight in self._in_flight.values())
        return of_lines < max(self._state.limits.max_unreceipted - 1, 1)

    def _backlog(
        self, db: Rows, busy: set[tuple[Stream, LineKind]], room: int, now: int
    ) -> tuple[Lines, Lines]:
        """The next of the backlog, so many as its rate allows since the last ones."""
        self._has_backlog = self._holds_backlog(db)
        since = min(now - self._last_backlog, BACKLOG_EVERY_MS)
        if not self._has_backlog or since < self._backlog_ms:
            return [], []
        allowed = min(max(since * self._backlog_per_s // 1000, 1), LINES_A_MESSAGE)
        found = self._lines(db, "backlog", busy, room, states=allowed)
        if any(found):
            self._last_backlog = now
        return found

    def _holds_backlog(self, db: Rows) -> bool:
        return bool(
            outbox.first(db, "backlog", "logs", 1, 1) or outbox.first(db, "backlog", "states", 1, 1)
        )

    def _lines(
        self,
        db: Rows,
        stream: Stream,
        busy: set[tuple[Stream, LineKind]],
        room: int,
        most: int = LINES_A_MESSAGE,
        states: int = LINES_A_MESSAGE,
    ) -> tuple[Lines, Lines]:
        """The next log lines of a stream, and the next samples, with whatever room they leave."""
        logs: Lines = []
        samples: Lines = []
        if room > 8_192 and (stream, "logs") not in busy:
            logs = outbox.first(db, stream, "logs", most, room)
            room -= sum(len(line.encode()) + 1 for _, line in logs)
        if room > 8_192 and (stream, "states") not in busy:
            samples = outbox.first(db, stream, "states", min(most, states), room)
        return logs, samples

    def _flying(self) -> dict[tuple[str, int], int]:
        flying: dict[tuple[str, int], int] = {}
        for flight in self._in_flight.values():
            for key, revision in flight.items.items():
                flying[key] = max(revision, flying.get(key, 0))
        return flying
