"""A cloud in a few lines, and a link to it that loses, doubles, delays and cuts.

It keeps the promises of the contract and nothing else: offers again until reported, takes newer
revisions of open attempts, and sends receipts.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from contract.lifecycle import REPORTABLE, TASK_ENDS, TaskStatus, report_may_move
from contract.messages import (
    AnyMessage,
    Cancel,
    CancelItem,
    Hello,
    JobBody,
    Limits,
    Message,
    Offer,
    OfferedTask,
    Presence,
    Receipt,
    ReceiptItem,
    Report,
    StreamReceipt,
    TaskRef,
    TaskSnapshot,
    Welcome,
    encode,
    parse,
)
from contract.topics import Kind
from gateway.errors import CloudUnreachable


@dataclass(frozen=True)
class Weather:
    """How bad the link is: chances from 0 to 1, delays in seconds."""

    lost: float = 0.0
    doubled: float = 0.0
    longest_delay_s: float = 0.0
    cut_every_s: float = 0.0


@dataclass
class CloudTask:
    """What the cloud knows of one task."""

    offer: OfferedTask
    status: TaskStatus = TaskStatus.OFFERED
    revision: int = 0
    snapshot: TaskSnapshot | None = None
    reported: list[tuple[int, int, str]] = field(default_factory=list)
    cancel: str | None = None


class FakeConnection:
    def __init__(self, cloud: "FakeCloud") -> None:
        self._cloud = cloud
        self.inbox: asyncio.Queue[tuple[Kind, bytes] | None] = asyncio.Queue()
        self.is_open = True

    async def publish(self, kind: Kind, payload: bytes) -> None:
        await asyncio.sleep(0.001)
        if not self.is_open:
            raise CloudUnreachable("cut")
        self._cloud.carry(lambda: self._cloud.take(kind, payload))

    async def messages(self) -> AsyncIterator[tuple[Kind, bytes]]:
        while (message := await self.inbox.get()) is not None:
            yield message
        raise CloudUnreachable("cut")

    def cut(self) -> None:
        self.is_open = False
        self.inbox.put_nowait(None)


class FakeCloud:
    """One cloud for one gateway. `chance` makes its weather; run `run` beside the gateway."""

    def __init__(self, body: JobBody, chance: random.Random, weather: Weather = Weather()) -> None:
        self.body = body
        self.tasks: dict[str, CloudTask] = {}
        self.limits = Limits(heartbeat=5_000)
        self.is_up = True
        self.speaks = True
        self.conflict = False
        self.clock: Callable[[], int] = lambda: 0
        self.hellos: list[Hello] = []
        self.reports: list[Report] = []
        self.logs: dict[tuple[str, int], str] = {}
        self.refuse: set[str] = set()
        self._chance = chance
        self.weather = weather
        self.session: str | None = None
        self._sessions = 0
        self._pages: dict[str, dict[int, Hello]] = defaultdict(dict)
        self._connection: FakeConnection | None = None
        self._counter = 0

    def offer(self, offer: OfferedTask) -> CloudTask:
        task = self.tasks[offer.task] = CloudTask(offer)
        return task

    @property
    def all_ended(self) -> bool:
        return all(task.status in TASK_ENDS for task in self.tasks.values())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FakeConnection]:
        await asyncio.sleep(0.01)
        if not self.is_up:
            raise CloudUnreachable("no route")
        connection = self._connection = FakeConnection(self)
        self.session = None
        try:
            yield connection
        finally:
            connection.is_open = False

    async def run(self) -> None:
        """Offer and cancel, again and again; cut the line now and then."""
        loop = asyncio.get_running_loop()
        cut_at = loop.time() + self.weather.cut_every_s
        while True:
            await asyncio.sleep(1)
            if self.weather.cut_every_s and loop.time() >= cut_at:
                cut_at = loop.time() + self.weather.cut_every_s * (0.5 + self._chance.random())
                self.cut()
            if self.session is None or not self.speaks:
                continue
            open_tasks = [t for t in self.tasks.values() if t.status is TaskStatus.OFFERED]
            if open_tasks and not self.conflict:
                offers = [task.offer for task in open_tasks[:50]]
                self.send(Kind.OFFER, Offer(bodies=[self.body], tasks=offers))
            cancels = [
                CancelItem.model_validate(
                    {"task": t.offer.task, "attempt": t.offer.attempt, "mode": t.cancel}
                )
                for t in self.tasks.values()
                if t.cancel and t.status not in TASK_ENDS
            ]
            if cancels:
                self.send(Kind.CANCEL, Cancel(items=cancels))

    def cut(self) -> None:
        self.session = None
        if self._connection is not None:
            self._connection.cut()

    def send(self, kind: Kind, message: Message) -> None:
        self._counter += 1
        stamp = {"session": self.session, "counter": self._counter}
        payload = encode(message.model_copy(update=stamp))
        connection = self._connection
        if connection is not None and connection.is_open:
            self.carry(lambda: connection.inbox.put_nowait((kind, payload)))

    def carry(self, deliver: Callable[[], None]) -> None:
        """Deliver a message as the weather has it."""
        if self._chance.random() < self.weather.lost:
            return
        copies = 2 if self._chance.random() < self.weather.doubled else 1
        for _ in range(copies):
            delay = self._chance.random() * self.weather.longest_delay_s
            asyncio.get_running_loop().call_later(delay, deliver)

    def take(self, kind: Kind, payload: bytes) -> None:
        message: AnyMessage = parse(kind, payload)
        if not self.speaks:
            return
        match message:
            case Presence():
                pass
            case Hello():
                self._hello(message)
            case Report():
                if message.session == self.session and self.session is not None:
                    self._report(message)
            case _:
                raise AssertionError(f"a gateway said {kind}")

    def _hello(self, hello: Hello) -> None:
        self.hellos.append(hello)
        pages = self._pages[hello.nonce]
        pages[hello.page] = hello
        if len(pages) < hello.pages:
            return
        self._sessions += 1
        self.session = f"session-{self._sessions}"
        held = {(m.task, m.attempt) for page in pages.values() for m in page.tasks}
        known = {(t.offer.task, t.offer.attempt) for t in self.tasks.values()}
        again = [TaskRef(task=task, attempt=attempt) for task, attempt in sorted(held & known)]
        self.send(
            Kind.WELCOME,
            Welcome(
                nonce=hello.nonce,
                journal=hello.journal,
                time=self.clock(),
                limits=self.limits,
                conflict=self.conflict,
                report=again[:50],
            ),
        )

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        items = [self._store(snapshot) for snapshot in report.tasks]
        streams = []
        if report.logs:
            for line in report.logs:
                self.logs[(report.stream, line.number)] = line.text
            last = report.logs[-1].number
            streams.append(StreamReceipt(stream=report.stream, kind="logs", number=last))
        if report.states:
            last = report.states[-1].number
            streams.append(StreamReceipt(stream=report.stream, kind="states", number=last))
        if items or streams:
            receipt = Receipt(message=report.message, items=items, streams=streams)
            self.send(Kind.RECEIPT, receipt)

    def _store(self, snapshot: TaskSnapshot) -> ReceiptItem:
        name = {
            "task": snapshot.task,
            "attempt": snapshot.attempt,
            "revision": snapshot.revision,
        }
        task = self.tasks.get(snapshot.task)
        if task is None or snapshot.task in self.refuse:
            return ReceiptItem.model_validate(
                {**name, "outcome": "refused", "code": "foreign_task"}
            )
        assert snapshot.status in REPORTABLE
        if snapshot.attempt == task.offer.attempt and snapshot.revision > task.revision:
            if task.status in TASK_ENDS:
                raise AssertionError(f"{snapshot.task} changed after its end: {snapshot}")
            assert report_may_move(task.status, snapshot.status), (task.status, snapshot)
            task.status, task.revision, task.snapshot = snapshot.status, snapshot.revision, snapshot
            task.reported.append((snapshot.attempt, snapshot.revision, snapshot.status))
            if snapshot.status is TaskStatus.SCHEDULED:  # handed back: offered anew
                attempt = task.offer.attempt + 1
                task.offer = task.offer.model_copy(update={"attempt": attempt})
                task.status, task.revision = TaskStatus.OFFERED, 0
        return ReceiptItem.model_validate(name)
