"""After the service has ended over a report: items one by one, the culprit left out and named."""

from pathlib import Path

import pytest

from cloud.coordinator.tasks import Outcome, Received
from cloud.gateway_link.careful import sift, vouch_for_lines
from cloud.gateway_link.in_hand import InHand
from contract.ids import GatewayId, OrgId
from contract.lifecycle import TaskStatus
from contract.messages import LogLine, Report, TaskSnapshot
from contract.topics import Address

NORTH = Address(OrgId("default"), GatewayId("north"))


def item(ordinal: int) -> TaskSnapshot:
    return TaskSnapshot(task=f"run-{ordinal}", attempt=1, revision=3, status=TaskStatus.RUNNING)


def line(number: int) -> LogLine:
    return LogLine(number=number, at=1, text="x")


class Ended(BaseException):
    """The process is gone."""


async def take(folder: Path, received: Received, poison: object) -> Received:
    """One life of the service: it ends where it takes `poison`, and leaves its page behind."""

    async def store(one: Received) -> None:
        if poison in [*one.report.tasks, *one.report.logs]:
            raise Ended

    return await sift(received, InHand(folder), store)


@pytest.mark.row("E1")
@pytest.mark.parametrize("poison", [item(2), line(8)])
async def test_what_ended_the_service_twice_alone_is_left_out(tmp_path: Path, poison):
    report = Report(tasks=[item(1), item(2), item(3)], logs=[line(7), line(8)])
    received = Received(NORTH, report)
    for _ in range(2):
        with pytest.raises(Ended):
            await take(tmp_path, received, poison)
    rest = (await take(tmp_path, received, poison)).report

    kept = [*rest.tasks, *rest.logs]
    assert poison not in kept
    assert [one.number for one in rest.logs] == [7, 8]  # so that no line comes again
    refused = [(one.task, one.attempt, one.revision) for one in rest.undecodable]
    assert refused == ([("run-2", 1, 3)] if poison == item(2) else [])


def test_a_receipt_covers_lines_that_were_left_out():
    outcome = Outcome(NORTH, 1)
    vouch_for_lines(Report(logs=[line(7), line(8)]), outcome)
    assert [(one.kind, one.number) for one in outcome.streams] == [("logs", 8)]
