"""A gateway that is only its messages: a test says them itself, right or wrong.

It speaks the contract over a test client, in any gateway's name, and keeps all that comes down.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from contract.ids import DEFAULT_ORG, GatewayId, OrgId
from contract.lifecycle import TaskStatus
from contract.messages import (
    Hello,
    InventoryDevice,
    Message,
    Offer,
    OfferedTask,
    Receipt,
    ReceiptItem,
    Welcome,
    encode,
    parse,
)
from contract.steps import PERFORMED
from contract.topics import Address, Kind
from contract.topics import parse as parse_topic
from tests.kit.mqtt_client import MqttClient
from tests.kit.waiting import wait_until

DEVICES_A_PAGE: Final = 500


class BareGateway:
    """In session while its block is open. `journal` and `instance` name what it claims to be."""

    def __init__(
        self,
        name: str,
        broker_port: int,
        devices: Sequence[str],
        journal: str = "journal-1",
        instance: str = "instance-1",
    ) -> None:
        self.address = Address(OrgId(DEFAULT_ORG), GatewayId(name))
        self.session: str | None = None
        self._client = MqttClient(self.address.name, broker_port)
        self._devices = [InventoryDevice(id=device, type="device") for device in devices]
        self._journal, self._instance = journal, instance
        self._said = 0
        self._parsed: list[Message] = []

    def __enter__(self) -> Self:
        self._client.connect()
        self._client.subscribe(self.address.down_filter())
        self.say_hello()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def say_hello(self) -> Welcome:
        """Say hello with an empty journal, and take the session its welcome opens."""
        self._said += 1
        nonce = f"nonce-{self._said}"
        starts = range(0, max(len(self._devices), 1), DEVICES_A_PAGE)
        for page, start in enumerate(starts, 1):
            hello = Hello(
                nonce=nonce,
                page=page,
                pages=len(starts),
                journal=self._journal,
                instance=self._instance,
                verbs=sorted(PERFORMED),
                devices=self._devices[start : start + DEVICES_A_PAGE],
            )
            self.say(Kind.HELLO, encode(hello))

        def answer() -> Welcome | None:
            return next((w for w in self.heard(Welcome) if w.nonce == nonce), None)

        welcome = wait_until(answer, message="a welcome")
        assert welcome is not None
        self.session = welcome.session
        return welcome

    def say(self, kind: Kind, payload: bytes) -> None:
        """Publish bytes as they are."""
        self._client.publish(self.address.topic(kind), payload)

    def report(self, *tasks: Any, session: str | None = None, **fields: Any) -> int:
        """Report items as they are, whatever they are; the message's number."""
        self._said += 1
        body = {
            "session": session or self.session,
            "message": self._said,
            "counter": self._said,
            "tasks": list(tasks),
            **fields,
        }
        self.say(Kind.REPORT, json.dumps(body).encode())
        return self._said

    def heard(self, kind: type[Message]) -> Iterator[Any]:
        """Everything of a kind that has come down so far, in order."""
        for topic, payload in self._client.messages[len(self._parsed) :]:
            self._parsed.append(parse(parse_topic(topic)[1], payload))
        yield from (message for message in self._parsed if isinstance(message, kind))

    def wait_for_offers(self, count: int) -> list[OfferedTask]:
        """The tasks offered, once there are `count` different ones, in their order."""

        def offered() -> dict[str, OfferedTask]:
            return {task.task: task for offer in self.heard(Offer) for task in offer.tasks}

        wait_until(lambda: len(offered()) >= count, message=f"{count} offers")
        return sorted(offered().values(), key=lambda task: task.ordinal)

    def wait_for_receipt(self, message: int) -> list[ReceiptItem]:
        """What the items of a message came to, in their order."""

        def receipt() -> Receipt | None:
            return next((r for r in self.heard(Receipt) if r.message == message), None)

        found = wait_until(receipt, message=f"a receipt for message {message}")
        assert found is not None
        return found.items


def snapshot(
    task: OfferedTask, revision: int, status: TaskStatus, **fields: Any
) -> Mapping[str, Any]:
    """One attempt of an offered task as a report carries it, its steps left out."""
    return {
        "task": task.task,
        "attempt": task.attempt,
        "revision": revision,
        "status": status.value,
        "begun": True,
        "progress": 100 if status is TaskStatus.SUCCEEDED else 50,
        **fields,
    }
