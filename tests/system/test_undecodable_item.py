"""One item of a report cannot be read: it is refused by name, and all others are stored."""

import pytest

from contract.lifecycle import TaskStatus
from contract.topics import Kind
from tests.kit.rig_bare_gateway import BareGateway, snapshot
from tests.kit.rig_jobs import command_job
from tests.kit.waiting import wait_until

S = TaskStatus.SUCCEEDED


@pytest.mark.row("E1")
def test_a_bad_item_is_refused_and_holds_up_nobody(rig):
    rig.client.gateways.create("bare")
    with BareGateway("bare", rig.broker_port, ["one", "two", "three"]) as gateway:
        run = rig.start(command_job())
        first, second, third = gateway.wait_for_offers(3)

        bad = {**snapshot(second, 3, S), "progress": "most of it"}
        number = gateway.report(snapshot(first, 3, S), bad, 17, snapshot(third, 3, S))
        items = {item.task: item for item in gateway.wait_for_receipt(number)}

        assert items[first.task].outcome == items[third.task].outcome == "stored"
        assert (items[second.task].outcome, items[second.task].code) == ("refused", "undecodable")
        assert items[second.task].revision == 3
        shown = rig.client.gateways.get("bare")
        assert shown.refused_items == 2
        counts = rig.client.runs.get(run).counts
        assert (counts.succeeded, counts.in_flight) == (2, 1)

        # What was refused may still be said in a way that can be read.
        gateway.wait_for_receipt(gateway.report(snapshot(second, 4, S)))
        rig.finish(run)


@pytest.mark.row("E1")
def test_what_is_no_message_at_all_is_dropped_and_the_next_one_is_taken(rig):
    rig.client.gateways.create("bare")
    with BareGateway("bare", rig.broker_port, ["one"]) as gateway:
        run = rig.start(command_job())
        (one,) = gateway.wait_for_offers(1)
        for payload in (b"", b"\xff\xfe", b"[]", b"{", b'{"tasks": 5}', b"[" * 50_000):
            for kind in (Kind.REPORT, Kind.HELLO, Kind.PRESENCE, Kind.CALL):
                gateway.say(kind, payload)
        stranger = {**snapshot(one, 2, S), "task": "01890000-0000-7000-8000-000000000000-0"}
        number = gateway.report(stranger, snapshot(one, 3, S))

        codes = [(item.outcome, item.code) for item in gateway.wait_for_receipt(number)]
        assert sorted(codes, key=str) == [("refused", "unknown_task"), ("stored", None)]
        rig.finish(run)
        wait_until(lambda: rig.client.gateways.get("bare").orphaned_tasks == 1)
