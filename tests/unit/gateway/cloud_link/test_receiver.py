"""Whatever the cloud says: a bad item is refused, good ones are taken, nothing ends the link."""

import json
from pathlib import Path

import pytest

from contract.ids import GatewayId, OrgId
from contract.lifecycle import TaskStatus
from contract.messages import Cancel, CancelItem, Offer, TaskRef, TaskSnapshot, Welcome, encode
from contract.topics import Address, Kind
from gateway.cloud_link.receiver import Listeners, Receiver
from gateway.cloud_link.wire import LinkState
from gateway.journal import tasks
from gateway.journal.database import open_database
from tests.kit.attempts import AT, a_body, a_step, an_offer

STEP = a_step("read")


class Desk:
    """A receiver on a journal of its own, in session."""

    def __init__(self, folder: Path) -> None:
        self.journal = open_database(folder, inline=True)
        self.state = LinkState(
            Address(OrgId("default"), GatewayId("north")), "journal-1", "instance-1"
        )
        self.state.nonce = "n"
        self.state.open_session(Welcome(session="s", nonce="n"))
        self.woken: list[str] = []
        listeners = Listeners(
            on_work=self.woken.extend,
            on_cancel=lambda items: None,
            on_receipt=lambda receipt: None,
            on_unsent=lambda urgent: None,
            on_session=lambda: None,
            on_reply=lambda reply: True,
        )
        self.receiver = Receiver(self.journal, self.state, listeners, 1, lambda: AT)

    async def offer(self, *items, spoil=lambda raw: None):
        raw = json.loads(encode(Offer(session="s", bodies=[a_body(STEP)], tasks=list(items))))
        spoil(raw)
        await self.receiver.take(Kind.OFFER, json.dumps(raw).encode())

    def kept(self):
        """Status and failure code of each attempt in the journal."""
        unsent = self.journal.run_now(tasks.unacknowledged, 100)
        found = [TaskSnapshot.model_validate_json(one.snapshot) for one in unsent]
        return {one.task: (str(one.status), one.failure and one.failure.code) for one in found}


@pytest.fixture
def desk(tmp_path: Path):
    made = Desk(tmp_path)
    yield made
    made.journal.close()


GOOD, BAD = an_offer(1, device="pump-1"), an_offer(2, device="pump-2")
TAKEN, REFUSED = ("accepted", None), ("failed", "offer_refused")


@pytest.mark.row("E1")
async def test_an_offer_that_cannot_be_read_is_refused_and_its_neighbours_are_taken(desk):
    await desk.offer(GOOD, BAD, spoil=lambda raw: raw["tasks"][1].update(timeout="soon"))
    assert desk.kept() == {GOOD.task: TAKEN, BAD.task: REFUSED}
    assert desk.woken == ["pump-1"]


async def test_offers_of_a_job_that_cannot_be_read_are_refused(desk):
    await desk.offer(GOOD, spoil=lambda raw: raw["bodies"][0].update(steps="many"))
    assert desk.kept() == {GOOD.task: REFUSED}


@pytest.mark.row("E1")
async def test_an_offer_that_raises_is_refused_and_its_neighbours_are_taken(desk, monkeypatch):
    take_offers = tasks.take_offers

    def raises(db, bodies, offers, boot, now):
        if any(offer.task == BAD.task for offer in offers):
            raise ZeroDivisionError("a mistake of ours")
        return take_offers(db, bodies, offers, boot, now)

    monkeypatch.setattr(tasks, "take_offers", raises)
    await desk.offer(GOOD, BAD)
    assert desk.kept() == {GOOD.task: TAKEN, BAD.task: REFUSED}
    assert desk.state.dropped["offer raised"] == 1


async def test_what_cannot_even_be_kept_as_refused_is_counted(desk):
    endless = BAD.model_copy(update={"attempt": 2**70})
    await desk.offer(GOOD, endless)
    assert desk.kept() == {GOOD.task: TAKEN}
    assert desk.state.dropped["offer raised"] == 2


async def test_cancels_and_corrections_that_raise_hold_up_no_others(desk, monkeypatch):
    await desk.offer(GOOD)
    spoil(monkeypatch, "cancel")
    items = [CancelItem(task=BAD.task, attempt=1), CancelItem(task=GOOD.task, attempt=1)]
    await desk.receiver.take(Kind.CANCEL, encode(Cancel(session="s", items=items)))
    assert desk.kept()[GOOD.task] == (TaskStatus.CANCELLED, None)

    spoil(monkeypatch, "report_again")
    refs = [TaskRef(task=BAD.task, attempt=1), TaskRef(task=GOOD.task, attempt=1)]
    await desk.receiver.take(Kind.WELCOME, encode(Welcome(session="s2", nonce="n", report=refs)))
    assert desk.state.session == "s2"
    assert desk.state.dropped == {"cancel raised": 1, "welcome raised": 1}


def spoil(monkeypatch, name):
    """A function of the journal that raises for the bad task."""
    good = getattr(tasks, name)

    def raises(db, items, *more):
        if any(item.task == BAD.task for item in items):
            raise ZeroDivisionError("a mistake of ours")
        return good(db, items, *more)

    monkeypatch.setattr(tasks, name, raises)


@pytest.mark.row("E1")
async def test_after_a_death_each_item_is_taken_alone_and_left_out_when_it_was_the_end(tmp_path):
    """The process is told apart from its death by the page it leaves behind."""
    for _ in range(2):
        desk = Desk(tmp_path)
        assert desk.journal.in_hand.take(f"offer {BAD.task}/{BAD.attempt}")
        page = desk.journal.in_hand._page[:]
        desk.journal.close()
        (tmp_path / "in_hand").write_bytes(page)
    desk = Desk(tmp_path)
    await desk.offer(GOOD, BAD)
    assert desk.kept() == {GOOD.task: TAKEN, BAD.task: ("failed", "crashed_gateway")}
    desk.journal.close()
