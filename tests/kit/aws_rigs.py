"""The jobs service of a gateway on a real broker, with a journal of its own, in one loop."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from gateway.domain.facts import Instant
from gateway.drivers.aws_jobs import KIND as AWS_JOBS
from gateway.drivers.aws_jobs import SERVICE, AwsJobsOptions
from gateway.drivers.base import Answered, Delegate, DeviceRequest, Refused, StopWord, Surroundings
from gateway.journal.database import Database, open_database
from gateway.runner.buses import Buses
from gateway.transports.aws_jobs_service import AwsJobsService
from gateway.transports.mqtt import MqttTransport
from tests.kit.brokers import Broker
from tests.kit.device_rigs import running
from tests.kit.waiting import wait_until_async


def now() -> Instant:
    return Instant(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)


@dataclass
class AwsRig:
    """Drivers of things, by name, and what they have said."""

    journal: Database
    service: AwsJobsService
    surroundings: Surroundings
    drivers: dict[str, Any]
    progress: list[tuple[float, str]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    @property
    def driver(self) -> Any:
        return next(iter(self.drivers.values()))

    def own(self, task: str, attempt: int = 1, *, ended: bool = False) -> None:
        """Have the journal know of an attempt, as it does while a step of it is performed."""
        self.journal.run_now(own, task, attempt, ended)

    async def ask(self, request: DeviceRequest, timeout_s: float = 30.0) -> Answered | Refused:
        answer: Answered | Refused = await self.driver.perform(
            request, timeout_s, lambda percent, note: self.progress.append((percent, note))
        )
        return answer

    async def delegate(
        self,
        document: Mapping[str, JsonValue],
        thing: str = "thing-1",
        task: str = "run-1-1",
        within_s: float = 60.0,
        **request: Any,
    ) -> Answered | Refused:
        """What a step does with a document, the attempt's row and all."""
        self.own(task)
        asked = delegation(document, task, within_s, **request)
        answer: Answered | Refused = await self.drivers[thing].perform(
            asked, within_s, lambda percent, note: self.progress.append((percent, note))
        )
        return answer


def own(db: Any, task: str, attempt: int, ended: bool) -> None:
    db.execute(
        "INSERT OR REPLACE INTO tasks (task, attempt, lane, snapshot, status, revision,"
        " accepted_at, changed, ended_at) VALUES (?, ?, '', '{}', 'running', 1, 0, 0, ?)",
        (task, attempt, 1 if ended else None),
    )


def delegation(
    document: Mapping[str, JsonValue], task: str = "run-1-1", within_s: float = 60.0, **fields: Any
) -> Delegate:
    until_s = asyncio.get_running_loop().time() + within_s
    own: dict[str, Any] = {"attempt": 1, "step": "install", "stop": StopWord(), **fields}
    return Delegate(task=task, document=document, until_s=until_s, **own)


@contextlib.asynccontextmanager
async def aws_rig(
    folder: Path, broker: Broker, *things: str, client_id: str = "gateway-1"
) -> AsyncIterator[AwsRig]:
    """Opened again on the same folder, it goes on where it was."""
    journal = open_database(folder / "journal")
    link = MqttTransport("127.0.0.1", broker.port, client_id, chance=random.random)
    around = Surroundings(link, {}, lambda: 7, lambda: "id", Buses(), journal=journal, clock=now)
    logs: list[str] = []
    drivers = {
        thing: AWS_JOBS.make(f"device-{n}", AwsJobsOptions(thing=thing), around, logs.append)
        for n, thing in enumerate(things or ("thing-1",))
    }
    service: AwsJobsService = around.shared[SERVICE]
    rig = AwsRig(journal, service, around, drivers, logs=logs)
    try:
        async with running(link.run), running(service.run):
            await wait_until_async(lambda: link.is_connected, message="the broker")
            yield rig
    finally:
        journal.close()
