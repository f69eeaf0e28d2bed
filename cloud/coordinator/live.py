"""What event streams see of a run: one reader for each run, shared by all who watch it.

Changes are gathered for a fifth of a second, read once, encoded once, and handed to every listener
as the same bytes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Never

import structlog
from pydantic import TypeAdapter

from cloud import metrics
from cloud.coordinator.access import Caller
from cloud.coordinator.changes import Changes, Listener
from cloud.errors import CloudError, Invalid, NotFound
from cloud.storage.database import Database, Session
from cloud.storage.views import run_changes
from cloud.storage.views import runs as run_views
from cloud.storage.views import tasks as task_views
from contract.http.runs import Run
from contract.http.tasks import Task
from contract.ids import run_of

log = structlog.get_logger()

GATHER_S: Final = 0.2
# What changes by itself, such as why a run waits, and what other replicas did.
LOOK_EVERY_S: Final = 2.0
HEARTBEAT_S: Final = 15.0
# A listener that is so many events behind is cut off; it comes again and reads the whole.
MAX_BEHIND: Final = 200
# Up to here every task is compared at each change; in larger runs those that are known to move.
MAX_COMPARED: Final = 2_000
MAX_HINTS: Final = 1_000
REMEMBERED: Final = 256

_HEARTBEAT: Final = b": still here\n\n"
_OPENING: Final = b"retry: 2000\n\n"
_RESET: Final = b"event: reset\ndata: {}\n\n"
_TASKS: Final = TypeAdapter(list[Task])

Marks = Mapping[int, tuple[Any, ...]]


@dataclass(eq=False)
class _Feed:
    """One run that somebody watches."""

    org: str
    run: str
    changed: Listener
    leave: ExitStack
    last_run: Run | None = None
    marks: Marks = field(default_factory=dict)
    hints: set[str] = field(default_factory=set)
    listeners: set["asyncio.Queue[bytes | None]"] = field(default_factory=set)
    sent: "deque[tuple[int, bytes]]" = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def push(self, number: int, event: bytes) -> None:
        self.sent.append((number, event))
        for listener in list(self.listeners):
            try:
                listener.put_nowait(event)
            except asyncio.QueueFull:
                self.listeners.discard(listener)
                _end(listener)


class RunFeeds:
    """Event streams of runs. `run` is the loop that tells; close ends them all."""

    def __init__(
        self,
        database: Database,
        changes: Changes,
        clock: Callable[[], int],
        epoch: str,
        max_listeners: int = 500,
    ) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._epoch = epoch
        self._max_listeners = max_listeners
        self._feeds: dict[str, _Feed] = {}
        self._number = 0
        self._listening = 0
        self._is_closed = False

    def touch_tasks(self, tasks: Iterable[str]) -> None:
        """These tasks changed: in a large run nobody could look for them."""
        if not self._feeds:
            return
        for task in tasks:
            feed = self._feeds.get(run_of(task))
            if feed is not None and len(feed.hints) < MAX_HINTS:
                feed.hints.add(task)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._is_closed = True
        for feed in self._feeds.values():
            for listener in feed.listeners:
                _end(listener)

    async def run(self) -> Never:
        """Tell listeners what changed, at most five times a second."""
        with self._changes.listen() as anything:
            while True:
                is_change = await anything.wait(LOOK_EVERY_S)
                for feed in list(self._feeds.values()):
                    if is_change and not feed.changed.event.is_set():
                        continue
                    feed.changed.event.clear()
                    try:
                        await self._tell(feed)
                    except CloudError as error:
                        log.warning("changes could not be read", run=feed.run, reason=str(error))
                        feed.changed.wake()
                await asyncio.sleep(GATHER_S)

    async def follow(
        self, caller: Caller, run: str, last_event: str | None = None
    ) -> AsyncIterator[bytes]:
        """The stream of one run, ready to send: `run` and `tasks` events, and heartbeats.

        It begins with the run as it is, and with `reset` when `last_event` is too old to go on
        from: read everything again. Raises NotFound, and Invalid when there are too many.
        """
        if self._is_closed or self._listening >= self._max_listeners:
            raise Invalid(
                "unavailable", f"{self._listening} event streams are open, or we are stopping"
            )
        now = await self._database.read(run_views.get_run, caller.org, run, self._clock())
        return self._events(caller.org, now, last_event)

    async def _events(self, org: str, now: Run, last_event: str | None) -> AsyncIterator[bytes]:
        listener: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_BEHIND)
        with self._joined(org, now.id, listener) as feed:
            if feed.last_run is None:
                await self._begin(feed)
            missed = self._missed(feed, last_event)
            yield _OPENING + missed + self._event("run", now.model_dump_json())[1]
            while not self._is_closed:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        event = await listener.get()
                except TimeoutError:
                    event = _HEARTBEAT
                if event is None:
                    return
                yield event

    @contextmanager
    def _joined(
        self, org: str, run: str, listener: "asyncio.Queue[bytes | None]"
    ) -> Iterator[_Feed]:
        """The run's feed, with one listener more while the block lasts."""
        self._listening += 1
        metrics.LISTENERS.inc()
        feed = self._feeds.get(run)
        if feed is None:
            leave = ExitStack()
            feed = _Feed(org, run, leave.enter_context(self._changes.listen(run)), leave)
            self._feeds[run] = feed
        feed.listeners.add(listener)
        try:
            yield feed
        finally:
            feed.listeners.discard(listener)
            self._listening -= 1
            metrics.LISTENERS.dec()
            if not feed.listeners and self._feeds.get(run) is feed:
                del self._feeds[run]
                feed.leave.close()

    def _missed(self, feed: _Feed, last_event: str | None) -> bytes:
        """What happened after an event that a listener names; `reset` when that is not known."""
        if last_event is None:
            return b""
        epoch, _, number = last_event.rpartition("-")
        if epoch != self._epoch or not number.isdecimal() or not feed.sent:
            return _RESET
        if int(number[:15]) < feed.sent[0][0] - 1:
            return _RESET
        return b"".join(event for sent, event in feed.sent if sent > int(number[:15]))

    async def _begin(self, feed: _Feed) -> None:
        """Know where the run stands, so that only what changes from here on is told."""
        run, marks = await self._database.read(_state, feed.org, feed.run, self._clock())
        if feed.last_run is None:
            feed.last_run, feed.marks = _timeless(run), marks

    async def _tell(self, feed: _Feed) -> None:
        hints, feed.hints = feed.hints, set()
        try:
            run, marks = await self._database.read(_state, feed.org, feed.run, self._clock())
        except NotFound:
            return
        changed = {number for number, mark in marks.items() if feed.marks.get(number) != mark}
        changed |= {int(task.rpartition("-")[2]) for task in hints if not marks}
        if changed:
            tasks = await self._database.read(
                task_views.tasks_changed_since, feed.org, feed.run, sorted(changed), self._clock()
            )
            feed.push(*self._event("tasks", _TASKS.dump_json(tasks).decode()))
        if _timeless(run) != feed.last_run:
            feed.push(*self._event("run", run.model_dump_json()))
        feed.last_run, feed.marks = _timeless(run), marks

    def _event(self, name: str, data: str) -> tuple[int, bytes]:
        self._number += 1
        text = f"id: {self._epoch}-{self._number}\nevent: {name}\ndata: {data}\n\n"
        return self._number, text.encode()


def _state(session: Session, org: str, run: str, now: int) -> tuple[Run, Marks]:
    found = run_views.get_run(session, org, run, now)
    if found.counts.total > MAX_COMPARED:
        return found, {}
    return found, run_changes.marks_of(session, run)


def _timeless(run: Run) -> Run:
    """The run without what changes by the clock alone."""
    return run.model_copy(update={"waiting_ms": 0, "duration_ms": 0})


def _end(listener: "asyncio.Queue[bytes | None]") -> None:
    """Have a listener stop, even one whose queue is full."""
    while True:
        try:
            listener.put_nowait(None)
        except asyncio.QueueFull:
            listener.get_nowait()
        else:
            return
