"""Reports taken item by item, once something has ended this process: the culprit is refused.

As long as nothing did, whole batches are taken at once, and none of this is used.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from cloud.coordinator.tasks import Outcome, Received
from cloud.gateway_link.in_hand import InHand
from contract.messages import DeviceState, LogLine, Report, StreamReceipt, TaskSnapshot, Undecodable

L = TypeVar("L", LogLine, DeviceState)
Store = Callable[[Received], Awaitable[object]]


async def sift(received: Received, in_hand: InHand, store: Store) -> Received:
    """Store each item alone; the same report, with what must not be taken as undecodable.

    What is in it then has been stored: to store it again changes nothing, and gives its receipt.
    """
    report, gateway = received.report, received.address.name
    bad, good = list(report.undecodable), []
    for item in report.tasks:
        # Not by revision: progress alone makes a new one every other second.
        name = f"{gateway} {item.task} {item.attempt} {item.status} {item.current_step}"
        if not in_hand.take(name):
            bad.append(undecodable(item, "the service ended each time it was taken"))
            continue
        await store(alone(received, tasks=[item]))
        in_hand.put_down(name)
        good.append(item)
    logs, states = report.logs, report.states
    lines: list[LogLine | DeviceState] = [*logs, *states]
    for line in lines:
        name = f"{gateway} {report.stream} {type(line).__name__} {line.number}"
        if not in_hand.take(name):
            logs = [_harmless(one) if one is line else one for one in logs]
            states = [_harmless(one) if one is line else one for one in states]
            continue
        part = {"logs": [line]} if isinstance(line, LogLine) else {"states": [line]}
        await store(alone(received, **part))
        in_hand.put_down(name)
    in_hand.take_many()
    parts = {"tasks": good, "logs": logs, "states": states, "undecodable": tuple(bad)}
    return Received(received.address, report.model_copy(update=parts))


def alone(received: Received, **parts: object) -> Received:
    """The report with these items and nothing else."""
    nothing: dict[str, object] = {
        "tasks": [], "logs": [], "states": [], "undecodable": (), "digest": None, "health": {},
        "dropped": {},
    }  # fmt: skip
    report = received.report.model_copy(update={**nothing, **parts})
    return Received(received.address, report)


def undecodable(item: TaskSnapshot, reason: str) -> Undecodable:
    return Undecodable(
        task=item.task,
        attempt=item.attempt,
        revision=item.revision,
        raw=item.model_dump_json(exclude_defaults=True),
        reason=reason[:500],
    )


def vouch_for_lines(report: Report, outcome: Outcome) -> None:
    """Lines that were left out are not to come again: the receipt covers all there were."""
    for kind, lines in (("logs", report.logs), ("states", report.states)):
        if not lines:
            continue
        last = max(line.number for line in lines)
        others = [one for one in outcome.streams if one.kind != kind]
        told = StreamReceipt.model_validate({"stream": report.stream, "kind": kind, "number": last})
        outcome.streams[:] = [*others, told]


def _harmless(line: L) -> L:
    """Its number has to come to the receipt, or the line would come again for ever."""
    if isinstance(line, LogLine):
        return line.model_copy(update={"text": "left out: it ended the service", "data": {}})
    return line.model_copy(update={"values": {}})
