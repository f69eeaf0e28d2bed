"""Serves `$aws/things/{thing}/jobs/...` on the local broker, for all things of this gateway.

What changes is kept before it is said, so no version number is ever seen that a restart forgets.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from pydantic import JsonValue

from gateway.domain import aws_job_messages as messages
from gateway.domain import aws_jobs as jobs
from gateway.domain.aws_job_messages import Asked, Outgoing, Rejection
from gateway.domain.aws_jobs import Execution, Key, Status, Thing, Turn
from gateway.domain.facts import Instant
from gateway.errors import DeviceUnreachable, StorageFull
from gateway.logs import Log
from gateway.transports.base import Message, MessageLink

SUBSCRIBE_WITHIN_S: Final = 10.0
PUBLISH_WITHIN_S: Final = 10.0
RETRY_S: Final = 1.0
LOOK_EVERY_S: Final = 2.0
ANNOUNCE_EVERY_S: Final = 15.0
WAITING: Final = 2_000
AT_ONCE: Final = 100
# A device may ask so often in a burst, and so often a second for long.
BURST: Final = 100.0
PER_SECOND: Final = 20.0

log = Log()


class Store(Protocol):
    """Where executions are kept. Raises StorageFull."""

    async def load(self, things: Iterable[str]) -> list[tuple[str, Execution]]: ...

    async def save(
        self, changed: Sequence[tuple[str, Execution]], gone: Sequence[tuple[str, Key]]
    ) -> None: ...

    async def owners_gone(self, owners: Iterable[tuple[str, int]]) -> set[tuple[str, int]]: ...


@dataclass
class Allowance:
    """How many requests a thing may make now."""

    left: float = BURST
    at: int = 0

    def take(self, now: int) -> bool:
        self.left = min(self.left + (now - self.at) / 1000 * PER_SECOND, BURST)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class Counters:
    requests: int = 0
    rejected: int = 0
    throttled: int = 0
    dropped: int = 0


@dataclass
class _Desk:
    """One thing: its state, and who wants to know when that changes."""

    thing: Thing
    allowance: Allowance = field(default_factory=Allowance)
    heard: bool = False
    watchers: set[Callable[[], None]] = field(default_factory=set)


class AwsJobsService:
    """`add` the things, then `run` for as long as the gateway does."""

    def __init__(self, link: MessageLink, store: Store, clock: Callable[[], Instant]) -> None:
        self.counters = Counters()
        self._link = link
        self._store = store
        self._clock = clock
        self._desks: dict[str, _Desk] = {}
        self._asked: asyncio.Queue[Asked] = asyncio.Queue(WAITING)
        self._said: asyncio.Queue[Outgoing] = asyncio.Queue(WAITING)
        self._lock = asyncio.Lock()
        self._loaded = asyncio.Event()

    def add(self, thing: str) -> None:
        self._desks.setdefault(thing, _Desk(Thing(thing)))

    def thing(self, name: str) -> Thing:
        """The thing as it is now."""
        return self._desks[name].thing

    def has_heard(self, thing: str) -> bool:
        """Whether the device has asked for anything since the gateway started."""
        return self._desks[thing].heard

    def watch(self, thing: str, on_change: Callable[[], None]) -> Callable[[], None]:
        """Be told of each change of the thing; call what this returns to end it."""
        watchers = self._desks[thing].watchers
        watchers.add(on_change)
        return lambda: watchers.discard(on_change)

    async def run(self) -> None:
        await self._load()
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._serve(), name="aws_jobs.requests")
            loops.create_task(self._speak(), name="aws_jobs.answers")
            loops.create_task(self._look_after(), name="aws_jobs.times")
            await self._subscribe()

    # -- for steps

    async def find(self, thing: str, job: str) -> Execution | None:
        """The newest execution of a job."""
        await self._loaded.wait()
        return self._desks[thing].thing.find(job)

    async def queue(
        self,
        thing: str,
        job: str,
        document: Mapping[str, JsonValue],
        owner: tuple[str, int],
        work_ms: int | None,
    ) -> Execution:
        """A new execution of the job, kept and told to the device. Raises StorageFull."""
        await self._loaded.wait()
        async with self._lock:
            desk = self._desks[thing]
            await self._tidy([desk])  # what is left of an attempt before comes first
            turn = jobs.queue(desk.thing, job, document, owner, self._clock(), work_ms)
            await self._keep([(desk, turn)])
            found = turn.thing.find(job)
            assert found is not None
            return found

    async def end(self, thing: str, key: Key, status: Status, force: bool = True) -> None:
        """End an execution, where it may be; the device is told. Raises StorageFull."""
        await self._loaded.wait()
        async with self._lock:
            desk = self._desks[thing]
            turn = jobs.end(desk.thing, key, status, self._clock(), force)
            await self._keep([(desk, turn)])

    # -- for devices

    async def _load(self) -> None:
        found: dict[str, list[Execution]] = {}
        for thing, execution in await self._store.load(self._desks):
            found.setdefault(thing, []).append(execution)
        for thing, executions in found.items():
            in_order = sorted(executions, key=lambda e: e.order)
            self._desks[thing].thing = Thing(thing, tuple(in_order))
        self._loaded.set()

    async def _subscribe(self) -> None:
        while True:
            try:
                await self._link.subscribe(
                    [messages.ALL_REQUESTS], self._hear, timeout_s=SUBSCRIBE_WITHIN_S
                )
                break
            except DeviceUnreachable as error:
                log.warning("jobs of devices cannot be served", why=str(error))
                await asyncio.sleep(RETRY_S)
        self._announce()

    def _hear(self, message: Message) -> None:
        desk = self._desks.get(messages.thing_in(message.topic) or "")
        if desk is None or message.is_retained:
            return
        asked = messages.read(message.topic, message.payload)
        if asked is None:
            return  # our own words, come back
        desk.heard = True
        self.counters.requests += 1
        if self._asked.full():
            self.counters.dropped += 1
            return
        if not desk.allowance.take(self._clock().mono):
            self.counters.throttled += 1
            self._reject(asked, "RequestThrottled", "too many requests: slow down")
            return
        self._asked.put_nowait(asked)

    async def _serve(self) -> None:
        while True:
            batch = [await self._asked.get()]
            while not self._asked.empty() and len(batch) < AT_ONCE:
                batch.append(self._asked.get_nowait())
            async with self._lock:
                await self._answer(batch)

    async def _answer(self, batch: Sequence[Asked]) -> None:
        """All of a batch in one commit."""
        now = self._clock()
        newest: dict[str, Thing] = {}
        turns: list[tuple[_Desk, Turn]] = []
        for asked in batch:
            desk = self._desks[asked.thing]
            turn = jobs.answer(newest.get(asked.thing, desk.thing), asked, now)
            newest[asked.thing] = turn.thing
            self.counters.rejected += turn.said[0].topic.endswith("/rejected")
            turns.append((desk, turn))
        try:
            await self._keep(turns)
        except StorageFull as error:
            for asked in batch:
                self._reject(asked, "InternalError", str(error))

    async def _keep(self, turns: Sequence[tuple[_Desk, Turn]]) -> None:
        """Keep, then believe, then say."""
        changed = {(d.thing.name, e.key): e for d, turn in turns for e in turn.changed}
        gone = [(d.thing.name, key) for d, turn in turns for key in turn.gone]
        if changed or gone:
            await self._store.save([(thing, e) for (thing, _), e in changed.items()], gone)
        for desk, turn in turns:
            desk.thing = turn.thing
            for outgoing in turn.said:
                self._say(outgoing)
        for desk in {id(d): d for d, turn in turns if turn.changed}.values():
            for told in list(desk.watchers):
                told()

    def _reject(self, asked: Asked, code: str, text: str) -> None:
        rejection = Rejection(code, text, asked.request.token)
        body = messages.rejected(self._clock().wall // 1000, rejection)
        self._say(Outgoing(f"{asked.topic}/rejected", body))

    def _say(self, outgoing: Outgoing) -> None:
        if self._said.full():
            self.counters.dropped += 1  # a device asks again; its queue is kept
            return
        self._said.put_nowait(outgoing)

    async def _speak(self) -> None:
        while True:
            outgoing = await self._said.get()
            data = messages.encode(outgoing.body)
            try:
                await self._link.publish(outgoing.topic, data, timeout_s=PUBLISH_WITHIN_S)
            except DeviceUnreachable as error:
                log.warning("answer to a device lost", topic=outgoing.topic, why=str(error))

    # -- time

    async def _look_after(self) -> None:
        """End what is out of time or nobody's any more; say again what no device has begun."""
        loop = asyncio.get_running_loop()
        announced_s = loop.time()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            waiting = [d for d in self._desks.values() if d.thing.head is not None]
            if not waiting:
                continue
            try:
                async with self._lock:
                    await self._tidy(waiting)
            except StorageFull as error:
                log.error("disk full: executions wait", why=str(error))
            if loop.time() - announced_s >= ANNOUNCE_EVERY_S:
                announced_s = loop.time()
                self._announce()

    async def _tidy(self, desks: Sequence[_Desk]) -> None:
        now = self._clock()
        owners = {(e.task, e.attempt) for d in desks for e in d.thing.pending}
        orphans = await self._store.owners_gone(owners)
        for desk in desks:
            turn = jobs.expire(desk.thing, now)
            if turn.changed:
                await self._keep([(desk, turn)])
            for execution in desk.thing.pending:
                if (execution.task, execution.attempt) in orphans:
                    ended = jobs.end(desk.thing, execution.key, Status.CANCELED, now)
                    await self._keep([(desk, ended)])

    def _announce(self) -> None:
        """A device may have come before we listened, or while the broker was away."""
        now = self._clock()
        for desk in self._desks.values():
            for outgoing in jobs.announcement(desk.thing, now):
                self._say(outgoing)
