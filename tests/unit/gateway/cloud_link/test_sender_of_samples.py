"""Samples go live first, the backlog at its rate, and never in the way of results."""

from pathlib import Path

import pytest

from contract.messages import DeviceState, Receipt, StreamReceipt
from gateway.cloud_link.sender import Sender
from gateway.journal import outbox
from gateway.journal.database import open_database
from tests.kit.attempts import an_offer
from tests.kit.waiting import wait_until_async
from tests.unit.gateway.cloud_link.test_sender import Rig, running
from tests.unit.gateway.journal.test_tasks import finish, take

pytestmark = pytest.mark.row("E2")


@pytest.fixture
def rig(tmp_path: Path):
    database = open_database(tmp_path / "gw")
    made = Rig(database)
    made.sender = Sender(
        database, made.sender._state, lambda: made.now, dict, lambda: 77, backlog_per_s=400
    )
    yield made
    database.close()


def states(count):
    return [DeviceState(number=0, at=n, device="pump-7", values={"bar": n}) for n in range(count)]


def sent(rig):
    """What went out: the stream and how many samples, or `result`."""
    return [
        "result" if report.tasks else (report.stream, len(report.states))
        for report in rig.broker.reports
        if report.tasks or report.states
    ]


async def receipt(rig):
    report = next(r for r in reversed(rig.broker.reports) if r.states)
    number, stream = report.states[-1].number, report.stream
    await rig.journal.run(outbox.stored, stream, "states", number)
    told = StreamReceipt(stream=stream, kind="states", number=number)
    rig.sender.take_receipt(Receipt(message=report.message, streams=[told]))


async def until(rig, *expected):
    await wait_until_async(lambda: sent(rig) == list(expected), message=lambda: f"{sent(rig)}")


async def test_the_backlog_goes_behind_what_is_live_and_at_its_rate(rig):
    rig.now = 100_000
    await rig.journal.run(outbox.add, "backlog", states(1_000))
    await rig.journal.run(outbox.add, "live", states(3))
    async with running(rig):
        await until(rig, ("live", 3))
        await receipt(rig)
        await until(rig, ("live", 3), ("backlog", 100))
        await receipt(rig)  # 250 ms are not over
        await rig.journal.run(outbox.add, "live", states(2))
        rig.sender.wake(urgent=True)
        await until(rig, ("live", 3), ("backlog", 100), ("live", 2))
        await receipt(rig)
        rig.now += 250
        rig.sender.wake(urgent=True)
        await until(rig, ("live", 3), ("backlog", 100), ("live", 2), ("backlog", 100))
    report = rig.broker.reports[-1]
    assert report.time == 77
    # By their order they come before the live ones, though they were sent behind them.
    assert [one.order for one in report.states] == list(range(101, 201))


async def test_a_result_finds_a_slot_though_samples_wait_for_their_receipt(rig):
    rig.now = 100_000
    await rig.journal.run(outbox.add, "live", states(700))
    await rig.journal.run(outbox.add, "backlog", states(700))
    async with running(rig):
        await until(rig, ("live", 500))
        rig.now += 1_000
        rig.sender.wake(urgent=True)
        await rig.journal.run(lambda db: (take(db, an_offer()), finish(db)))
        rig.sender.wake(urgent=True)
        # The other samples wait; the result does not.
        await until(rig, ("live", 500), "result")
