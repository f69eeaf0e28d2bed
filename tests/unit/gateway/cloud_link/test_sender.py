"""What the sender keeps in flight: a stream's lines go in order, one message of them at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contract.ids import GatewayId, OrgId
from contract.messages import LogLine, Receipt, Report, StreamReceipt, Welcome, parse
from contract.topics import Address, Kind
from gateway.cloud_link.sender import LONGEST_RESEND_MS, Sender
from gateway.cloud_link.wire import LinkState
from gateway.journal import outbox
from gateway.journal.database import Database, open_database
from tests.kit.waiting import wait_until_async


class Broker:
    """Takes what is published, and loses what the test says; `lines` are the numbers it took."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    async def publish(self, kind: Kind, payload: bytes) -> None:
        report = parse(kind, payload)
        assert isinstance(report, Report)
        self.reports.append(report)

    async def messages(self) -> AsyncIterator[tuple[Kind, bytes]]:
        raise AssertionError("a sender reads nothing")
        yield

    @property
    def with_lines(self) -> list[tuple[int, list[int]]]:
        return [(r.message, [line.number for line in r.logs]) for r in self.reports if r.logs]


class Rig:
    def __init__(self, journal: Database) -> None:
        self.now = 0
        self.journal = journal
        state = LinkState(Address(OrgId("default"), GatewayId("north")), "journal", "instance")
        state.nonce = "nonce"
        state.open_session(Welcome(nonce="nonce", session="session"))
        self.broker = Broker()
        self.sender = Sender(journal, state, lambda: self.now, dict)

    async def say(self, *texts: str) -> None:
        lines = [LogLine(number=0, at=1, text=text) for text in texts]
        await self.journal.run(outbox.add, "live", lines)
        self.sender.wake(urgent=True)

    async def receipt(self, message: int, number: int) -> None:
        """As the receiver takes it: first what is stored leaves the journal, then the slot is."""
        await self.journal.run(outbox.stored, "live", "logs", number)
        stored = StreamReceipt(stream="live", kind="logs", number=number)
        self.sender.take_receipt(Receipt(message=message, streams=[stored]))

    async def until(self, *flights: list[int]) -> None:
        def sent() -> bool:
            return [numbers for _, numbers in self.broker.with_lines] == list(flights)

        await wait_until_async(sent, message=lambda: f"{self.broker.with_lines}")

    def silence(self) -> None:
        self.now += LONGEST_RESEND_MS
        self.sender.wake(urgent=True)


@pytest.fixture
def journal(tmp_path: Path):
    database = open_database(tmp_path / "gw")
    yield database
    database.close()


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.sender.run(rig.broker), name="sender")
        try:
            yield
        finally:
            task.cancel()


async def test_a_lost_message_comes_again_before_any_later_line(journal):
    """A receipt names the highest number it has seen; so nothing may be in flight above a gap."""
    rig = Rig(journal)
    async with running(rig):
        await rig.say("one", "two")
        await rig.until([1, 2])
        await rig.say("three")  # what is lost is not passed by
        rig.silence()
        await rig.until([1, 2], [1, 2, 3])
        rig.silence()
        await rig.until([1, 2], [1, 2, 3], [1, 2, 3])
        message, _ = rig.broker.with_lines[-1]
        await rig.receipt(message, 3)
        await rig.say("four")
        await rig.until([1, 2], [1, 2, 3], [1, 2, 3], [4])
        # One that was given up is answered late: it frees what it held, and nothing else.
        await rig.receipt(1, 2)
        rig.silence()
        await rig.until([1, 2], [1, 2, 3], [1, 2, 3], [4], [4])
