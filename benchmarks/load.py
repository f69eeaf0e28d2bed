"""Gateways that are only their messages: they take offers, and report as fast as receipts come.

Many share one connection; on a broker without names that is allowed, and it costs the machine as
little as can be, since what is measured runs beside it.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from contract.ids import DEFAULT_ORG, GatewayId
from contract.lifecycle import StepStatus, TaskStatus
from contract.messages import (
    MAX_BATCH,
    Hello,
    InventoryDevice,
    Offer,
    Receipt,
    Report,
    StepSnapshot,
    TaskSnapshot,
    Welcome,
    encode,
    parse,
)
from contract.steps import PERFORMED
from contract.topics import Address, Kind
from contract.topics import parse as parse_topic

STEPS: Final = ("before", "set", "echo", "check", "after")
SPEAKING: Final = 2


@dataclass
class LoadGateway:
    """One gateway: its devices, its session, the attempts it holds, and what is unreceipted."""

    address: Address
    devices: Sequence[str]
    session: str | None = None
    journal: str = ""
    offered: dict[str, int] = field(default_factory=dict)
    waiting: list[TaskSnapshot] = field(default_factory=list)
    unreceipted: int = 0
    messages: int = 0
    stored: int = 0
    refused: int = 0


def snapshot(task: str, attempt: int, revision: int, last: int) -> TaskSnapshot:
    """A snapshot of five steps, as far along as its revision of `last` is."""
    done = len(STEPS) * revision // last
    now = 1_700_000_000_000 + revision
    ended = revision == last
    return TaskSnapshot(
        task=task,
        attempt=attempt,
        revision=revision,
        status=TaskStatus.SUCCEEDED if ended else TaskStatus.RUNNING,
        begun=True,
        started_at=now,
        ended_at=now if ended else None,
        progress=100 * revision / last,
        current_step=None if ended else STEPS[min(done, len(STEPS) - 1)],
        steps=[
            StepSnapshot(
                id=name,
                uses="device.command",
                status=StepStatus.SUCCEEDED if number < done else StepStatus.PENDING,
                started_at=now if number < done else None,
                completed_at=now if number < done else None,
                progress=100 if number < done else 0,
                result={"version": "2.4.1"} if number < done else None,
            )
            for number, name in enumerate(STEPS)
        ],
        result={"version": "2.4.1"} if ended else None,
    )


class Load:
    """All gateways of a benchmark over one connection."""

    def __init__(self, port: int, gateways: Sequence[LoadGateway]) -> None:
        self._by_address = {gateway.address: gateway for gateway in gateways}
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="load")
        self._client.max_inflight_messages_set(1000)
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        for gateway in gateways:
            self._client.subscribe(gateway.address.down_filter(), qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def hello(self) -> None:
        """Have every gateway in session, with its devices known."""
        for gateway in self._by_address.values():
            pages = [gateway.devices[i : i + 200] for i in range(0, len(gateway.devices), 200)]
            for number, page in enumerate(pages, 1):
                self._say(
                    gateway,
                    Kind.HELLO,
                    Hello(
                        nonce="n",
                        page=number,
                        pages=len(pages),
                        journal=gateway.journal or f"journal-{gateway.address.gateway}",
                        instance="load",
                        verbs=sorted(PERFORMED),
                        devices=[InventoryDevice(id=each, type="load") for each in page],
                    ),
                )

    def send(self, snapshots_by_gateway: dict[Address, list[TaskSnapshot]]) -> None:
        """Begin to report these, two messages ahead of the receipts."""
        with self._lock:
            for address, snapshots in snapshots_by_gateway.items():
                gateway = self._by_address[address]
                gateway.waiting.extend(snapshots)
                for _ in range(SPEAKING - gateway.unreceipted):
                    self._report(gateway)

    @property
    def stored(self) -> int:
        return sum(gateway.stored for gateway in self._by_address.values())

    @property
    def refused(self) -> int:
        return sum(gateway.refused for gateway in self._by_address.values())

    def wait(self, what: str, is_so: "object", deadline_s: float = 120) -> None:
        until = time.monotonic() + deadline_s
        while not is_so():  # type: ignore[operator]
            if time.monotonic() > until:
                raise TimeoutError(f"waited {deadline_s:.0f} s for {what}")
            time.sleep(0.005)

    def _report(self, gateway: LoadGateway) -> None:
        if not gateway.waiting:
            return
        batch = gateway.waiting[:MAX_BATCH]
        del gateway.waiting[:MAX_BATCH]
        gateway.messages += 1
        gateway.unreceipted += 1
        report = Report(session=gateway.session, message=gateway.messages, tasks=batch)
        self._say(gateway, Kind.REPORT, report)

    def _say(self, gateway: LoadGateway, kind: Kind, message: Hello | Report) -> None:
        self._client.publish(gateway.address.topic(kind), encode(message), qos=1)

    def _heard(self, _: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        address, kind = parse_topic(message.topic)
        gateway = self._by_address[address]
        match parse(kind, bytes(message.payload)):
            case Welcome(session=session) if session is not None:
                gateway.session = session
            case Offer(tasks=tasks):
                gateway.offered.update((task.task, task.attempt) for task in tasks)
            case Receipt(items=items):
                with self._lock:
                    gateway.unreceipted -= 1
                    gateway.stored += sum(item.outcome == "stored" for item in items)
                    gateway.refused += sum(item.outcome == "refused" for item in items)
                    self._report(gateway)


def gateways(count: int, devices: int) -> list[LoadGateway]:
    """`count` gateways with `devices` devices in all."""
    each = -(-devices // count)
    return [
        LoadGateway(
            Address(DEFAULT_ORG, GatewayId(f"load-{number}")),
            [f"device-{n}" for n in range(number * each, min((number + 1) * each, devices))],
        )
        for number in range(count)
    ]
