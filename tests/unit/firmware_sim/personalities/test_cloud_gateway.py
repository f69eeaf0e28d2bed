"""A simulated gateway keeps the rules of the contract, whatever comes down to it."""

import pytest

from contract.ids import DEFAULT_ORG, GatewayId
from contract.lifecycle import TaskStatus
from contract.messages import (
    Cancel,
    CancelItem,
    JobBody,
    Limits,
    Offer,
    OfferedStep,
    OfferedTask,
    Receipt,
    ReceiptItem,
    Welcome,
    encode,
    parse,
)
from contract.topics import Address, Kind
from contract.topics import parse as parse_topic
from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.faults import Faults
from firmware_sim.images import build_image
from firmware_sim.messages import Later, Publish
from firmware_sim.personalities.cloud_gateway import (
    HELLO_AGAIN_S,
    RESEND_S,
    STRANGERS,
    CloudGatewayPersonality,
    CloudGatewaySettings,
)

pytestmark = pytest.mark.row("E9")

ADDRESS = Address(DEFAULT_ORG, GatewayId("load-1"))
BODY = JobBody(
    run="run-1",
    hash="h",
    job="job",
    steps=[OfferedStep(id="one", uses="device.command"), OfferedStep(id="two", uses="flow.log")],
)


class Play:
    """A gateway, its clock, and everything it has said."""

    def __init__(self, devices=3, **settings):
        factory = flash.fresh(build_image("1.0.0", 2048, "seed"), 8192)
        device = Device(Identity("load-1", "gateway"), factory, Faults(seed="1/load-1"))
        chosen = CloudGatewaySettings(ADDRESS, devices, **settings)
        self.gateway = CloudGatewayPersonality(device, chosen, lambda: int(self.now_s * 1000))
        self.now_s = 0.0
        self.said = []
        self._later = []
        self.gateway.boot(0.0)
        self.do(self.gateway.connected())

    def do(self, actions):
        for action in actions:
            if isinstance(action, Publish):
                kind = parse_topic(action.topic)[1]
                self.said.append((kind, parse(kind, action.payload)))
            elif isinstance(action, Later):
                self._later.append((self.now_s + action.after_s, action.then))

    def hear(self, kind, message):
        self.do(self.gateway.received(ADDRESS.topic(kind), encode(message), self.now_s))

    def pass_time(self, seconds):
        until = self.now_s + seconds
        while due := sorted((x for x in self._later if x[0] <= until), key=lambda x: x[0]):
            self._later.remove(due[0])
            self.now_s = due[0][0]
            self.do(due[0][1](self.now_s))
        self.now_s = until

    def welcome(self, **fields):
        limits = Limits(heartbeat=1_000_000)
        nonce = self.of(Kind.HELLO)[-1].nonce
        self.hear(Kind.WELCOME, Welcome(nonce=nonce, session="s1", limits=limits, **fields))

    def offer(self, *tasks):
        offered = [
            OfferedTask(task=t, attempt=a, run="run-1", body="h", ordinal=1) for t, a in tasks
        ]
        self.hear(Kind.OFFER, Offer(session="s1", bodies=[BODY], tasks=offered))

    def of(self, kind):
        return [message for said, message in self.said if said is kind]

    def reports(self):
        return [each for each in self.of(Kind.REPORT) if each.tasks]

    def receipt(self, report, outcome="stored"):
        items = [
            ReceiptItem(task=t.task, attempt=t.attempt, revision=t.revision, outcome=outcome)
            for t in report.tasks
        ]
        self.hear(Kind.RECEIPT, Receipt(session="s1", message=report.message, items=items))


@pytest.fixture
def play():
    played = Play()
    played.welcome()
    return played


def test_it_says_hello_with_all_its_devices_in_pages():
    play = Play(devices=450)
    hellos = play.of(Kind.HELLO)
    assert [(each.page, each.pages, len(each.devices)) for each in hellos] == [
        (1, 3, 200),
        (2, 3, 200),
        (3, 3, 50),
    ]
    assert play.of(Kind.PRESENCE)[0].online


def test_it_says_hello_again_until_it_is_welcomed():
    play = Play()
    play.pass_time(25)
    hellos = play.of(Kind.HELLO)
    assert len(hellos) == 3
    assert len({each.nonce for each in hellos}) == 1  # whichever is answered, it is this one
    play.welcome()
    play.pass_time(60)
    assert len(play.of(Kind.HELLO)) == 3


def test_asked_for_a_hello_twice_it_greets_once_and_until_it_is_welcomed(play):
    for _ in range(2):
        play.hear(Kind.WELCOME, Welcome(hello_within=1000))
    play.pass_time(2)
    assert len(play.of(Kind.HELLO)) == 2
    play.pass_time(30)  # the welcome is lost
    hellos = play.of(Kind.HELLO)[1:]
    assert len(hellos) > 2
    assert len({each.nonce for each in hellos}) == 1


def test_a_gateway_and_a_cloud_that_lost_each_other_find_each_other(play):
    for _ in range(STRANGERS):
        play.hear(Kind.OFFER, Offer(session="other", bodies=[BODY], tasks=[]))
    play.pass_time(HELLO_AGAIN_S + 1)
    assert len({each.nonce for each in play.of(Kind.HELLO)}) == 2


def test_an_offer_is_accepted_and_ends_after_its_seeded_time(play):
    play.offer(("t1", 1))
    play.pass_time(0.1)
    (accepted,) = play.reports()
    assert accepted.tasks[0].status is TaskStatus.RUNNING
    play.receipt(accepted)
    play.pass_time(2)
    ended = play.reports()[-1].tasks[0]
    assert ended.status is TaskStatus.SUCCEEDED
    assert ended.revision == 2
    assert [step.id for step in ended.steps] == ["one", "two"]
    assert 500 <= ended.elapsed <= 1500


def test_what_has_no_receipt_is_said_again_and_what_has_one_is_not(play):
    play.offer(("t1", 1))
    play.pass_time(0.1)
    play.pass_time(RESEND_S + 2)
    assert len(play.reports()) >= 2
    for report in play.reports():
        play.receipt(report)
    said = len(play.reports())
    play.pass_time(5 * RESEND_S)
    assert len(play.reports()) == said


def test_an_offer_that_comes_twice_is_done_once(play):
    play.offer(("t1", 1))
    play.pass_time(3)
    for report in play.reports():
        play.receipt(report)
    play.offer(("t1", 1))
    play.pass_time(3)
    assert play.gateway.device.counters.done == 1
    play.offer(("t1", 2))
    play.pass_time(3)
    assert play.gateway.device.counters.done == 2


def test_a_cancel_ends_a_task_and_a_recall_does_not(play):
    play.offer(("t1", 1), ("t2", 1))
    items = [
        CancelItem(task="t1", attempt=1, mode="soft"),
        CancelItem(task="t2", attempt=1, mode="recall"),
    ]
    play.hear(Kind.CANCEL, Cancel(session="s1", items=items))
    play.pass_time(3)
    for report in play.reports():
        play.receipt(report)
    last = {t.task: t.status for each in play.reports() for t in each.tasks}
    assert last == {"t1": TaskStatus.CANCELLED, "t2": TaskStatus.SUCCEEDED}


def test_messages_of_another_session_are_dropped(play):
    play.hear(Kind.OFFER, Offer(session="other", bodies=[BODY], tasks=[]))
    assert play.gateway.device.counters.dropped == 1


def test_after_a_boot_it_ends_what_it_had_begun():
    play = Play()
    play.welcome()
    play.offer(("t1", 1))
    play.gateway.boot(play.now_s)
    play._later.clear()
    play.do(play.gateway.connected())
    assert [mark.task for mark in play.of(Kind.HELLO)[-1].tasks + play.of(Kind.HELLO)[-2].tasks]
    play.welcome()
    play.pass_time(3)
    assert play.reports()[-1].tasks[0].status is TaskStatus.SUCCEEDED


def test_never_more_messages_than_may_be_without_a_receipt(play):
    play.offer(*[(f"t{number}", 1) for number in range(400)])
    play.pass_time(0.1)
    assert len(play.reports()) == Limits().max_unreceipted
