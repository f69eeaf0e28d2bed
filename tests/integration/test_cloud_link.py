"""A real gateway process and a real broker: hello, offers, reports, kill -9, a broker that dies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.ids import GatewayId, OrgId
from contract.messages import Cancel as CancelMessage
from contract.messages import (
    CancelItem,
    Hello,
    Limits,
    Message,
    Offer,
    Presence,
    Receipt,
    ReceiptItem,
    Report,
    StreamReceipt,
    TaskSnapshot,
    Welcome,
    encode,
    parse,
)
from contract.topics import Address, Kind, up_filter
from contract.topics import parse as parse_topic
from tests.kit.attempts import RUN, a_body, a_step, an_offer
from tests.kit.mqtt_client import MqttClient
from tests.kit.waiting import wait_until

NORTH = Address(OrgId("default"), GatewayId("north"))
LIMITS = Limits(heartbeat=1_000)
LOG = a_step("log", "flow.log", **{"with": {"text": "hello {{ task.id }}"}})
SET = a_step("set", "flow.set", **{"with": {"values": {"n": 1}}})


def a_delay(seconds: float):
    return a_step("pause", "flow.delay", **{"with": {"for": f"{seconds}s"}})


class CloudByHand:
    """The cloud's side, moved by the test step by step."""

    def __init__(self, client: MqttClient) -> None:
        self.client = client
        self.session = ""
        self._sessions = 0
        self._receipted: set[int] = set()

    def listen(self) -> "CloudByHand":
        self.client.subscribe(up_filter(int(NORTH.shard, 16)))
        return self

    def heard(self, kind: Kind) -> list[Any]:
        return [
            parse(kind, payload)
            for topic, payload in self.client.messages
            if parse_topic(topic) == (NORTH, kind)
        ]

    def say(self, kind: Kind, message: Message) -> None:
        stamped = message.model_copy(update={"session": self.session})
        self.client.publish(NORTH.topic(kind), encode(stamped))

    def welcome(self, after: int = 0) -> Hello:
        """Answer the newest hello, once there are more than `after`."""
        hellos: list[Hello] = wait_until(
            lambda: self.heard(Kind.HELLO)[after:], message=f"hello number {after + 1}"
        )
        self._sessions += 1
        self._receipted.clear()
        self.session = f"session-{self._sessions}"
        nonce, journal = hellos[-1].nonce, hellos[-1].journal
        self.say(Kind.WELCOME, Welcome(nonce=nonce, journal=journal, limits=LIMITS))
        return hellos[-1]

    def reports(self) -> list[Report]:
        return [r for r in self.heard(Kind.REPORT) if r.session == self.session]

    def snapshots(self) -> list[TaskSnapshot]:
        return [snapshot for report in self.reports() for snapshot in report.tasks]

    def wait_for_snapshot(self, is_wanted: Callable[[TaskSnapshot], bool]) -> TaskSnapshot:
        """The first that is wanted; receipts are sent meanwhile, without them little comes."""

        def look() -> list[TaskSnapshot]:
            self.send_receipts()
            return list(filter(is_wanted, self.snapshots()))

        return wait_until(look, message=lambda: f"a snapshot among {self.snapshots()}")[0]

    def send_receipts(self) -> None:
        for report in self.reports():
            if report.counter in self._receipted:
                continue
            self._receipted.add(report.counter)
            items = [
                ReceiptItem(task=s.task, attempt=s.attempt, revision=s.revision)
                for s in report.tasks
            ]
            streams = [
                StreamReceipt(stream=report.stream, kind="logs", number=line.number)
                for line in report.logs[-1:]
            ]
            receipt = Receipt(message=report.message, items=items, streams=streams)
            self.say(Kind.RECEIPT, receipt)


@pytest.fixture
def config(tmp_path: Path, broker) -> Path:
    path = tmp_path / "gateway.yaml"
    values = {
        "gateway": "north",
        "data_dir": str(tmp_path / "gateway"),
        "cloud": {"mqtt": broker.url},
        "log": {"format": "json"},
    }
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def cloud(broker):
    with MqttClient("coordinator", broker.port, mqtt5=broker.speaks_mqtt5) as client:
        yield CloudByHand(client).listen()


def test_an_offer_is_carried_out_and_reported_until_its_receipt(cloud, config, programs):
    programs.python("gateway", config)
    hello = cloud.welcome()
    assert (hello.pages, hello.tasks) == (1, [])
    assert "flow.log" in hello.verbs
    presence = cloud.heard(Kind.PRESENCE)
    assert [(p.online, p.instance) for p in presence] == [(True, hello.instance)]
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(LOG, SET)], tasks=[an_offer(device=None)]))
    snapshot = cloud.wait_for_snapshot(lambda s: s.status == "succeeded")
    assert snapshot.result == {"n": 1}

    def log_texts() -> list[str]:
        cloud.send_receipts()
        return [line.text for report in cloud.reports() for line in report.logs]

    wait_until(lambda: f"hello {RUN}-0" in log_texts(), message=lambda: f"in {log_texts()}")
    counters = [report.counter for report in cloud.reports()]
    assert counters == sorted(set(counters))


def test_what_names_another_session_is_dropped(cloud, config, programs):
    programs.python("gateway", config)
    cloud.welcome()
    right, cloud.session = cloud.session, "of-another"
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(LOG)], tasks=[an_offer(0, device=None)]))
    cloud.session = right
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(LOG)], tasks=[an_offer(1, device=None)]))
    cloud.wait_for_snapshot(lambda s: s.task == f"{RUN}-1")
    assert all(s.task != f"{RUN}-0" for s in cloud.snapshots())


def test_kill_9_in_a_step_goes_on_where_it_was(cloud, config, programs):
    program = programs.python("gateway", config)
    first = cloud.welcome()
    offer = an_offer(device=None, timeout=60_000)
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(LOG, a_delay(1), SET)], tasks=[offer]))
    running = cloud.wait_for_snapshot(lambda s: s.current_step == "pause")
    program.kill_9()
    said = len(cloud.heard(Kind.HELLO))
    wait_until(lambda: [p for p in cloud.heard(Kind.PRESENCE) if not p.online], message="the Will")
    program.start()
    second = cloud.welcome(after=said)
    assert second.journal == first.journal
    assert second.instance != first.instance
    assert [(m.task, m.attempt) for m in second.tasks] == [(offer.task, 1)]
    done = cloud.wait_for_snapshot(lambda s: s.status == "succeeded")
    assert done.revision > running.revision
    assert [step.tries for step in done.steps] == [1, 1, 1]


def test_results_wait_for_the_broker(cloud, config, programs, broker):
    programs.python("gateway", config)
    cloud.welcome()
    offer = an_offer(device=None, timeout=60_000)
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(a_delay(0.5), SET)], tasks=[offer]))
    cloud.wait_for_snapshot(lambda s: s.current_step == "pause")
    broker.restart(wipe=True)
    with MqttClient("coordinator-2", broker.port, mqtt5=broker.speaks_mqtt5) as client:
        again = CloudByHand(client).listen()
        again.welcome()
        assert again.wait_for_snapshot(lambda s: s.status == "succeeded").attempt == 1

        def beats_with_digest() -> list[Report]:
            again.send_receipts()
            return [r for r in again.reports() if r.digest is not None]

        beats = wait_until(
            beats_with_digest,
            40,
            "a heartbeat with a digest, once everything is stored",
        )
        assert beats[0].tasks == []


def test_sigterm_ends_it_quickly_and_says_so(cloud, config, programs):
    program = programs.python("gateway", config)
    cloud.welcome()
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(a_delay(30))], tasks=[an_offer(device=None)]))
    cloud.wait_for_snapshot(lambda s: s.current_step == "pause")
    program.terminate(deadline_s=5)
    assert program.returncode == 0
    last: Presence = wait_until(lambda: [p for p in cloud.heard(Kind.PRESENCE) if not p.online])[-1]
    assert last.online is False


def test_a_forced_cancel_stops_a_step(cloud, config, programs):
    programs.python("gateway", config)
    cloud.welcome()
    offer = an_offer(device=None)
    cloud.say(Kind.OFFER, Offer(bodies=[a_body(a_delay(30), SET)], tasks=[offer]))
    cloud.wait_for_snapshot(lambda s: s.current_step == "pause")
    item = CancelItem(task=offer.task, attempt=1, mode="force")
    cloud.say(Kind.CANCEL, CancelMessage(items=[item]))
    cloud.wait_for_snapshot(lambda s: s.status == "cancelled")


def test_a_second_gateway_with_the_same_journal_is_refused(cloud, config, programs):
    programs.python("gateway", config)
    cloud.welcome()
    second = programs.python("gateway", config, name="second")
    wait_until(lambda: second.returncode is not None, message="the second to end")
    assert second.returncode == 2
    assert "another process uses the journal" in second.output()
