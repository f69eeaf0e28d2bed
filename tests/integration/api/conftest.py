"""The API over ASGI: the whole application, a real database, no network and no broker."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.app import build_web, new_id
from cloud.artifacts.disk import DiskStore
from cloud.coordinator import gateways, instance, runs, tasks
from cloud.coordinator.changes import Changes
from cloud.coordinator.dispatch import mark_sent, offer_due, offers_to_send
from cloud.coordinator.live import RunFeeds
from cloud.coordinator.secrets import Vault, new_key
from cloud.coordinator.services import DoorLimits, Services
from cloud.coordinator.tasks import Received
from cloud.storage.database import open_database
from contract.ids import DEFAULT_ORG, GatewayId
from contract.messages import Hello, InventoryDevice, OfferedTask, Report, TaskSnapshot
from contract.topics import Address
from tests.kit.prepared import PreparedSqlite

TOKEN = "the administrator's token"
NOW = 1_800_000_000_000
JOB = """\
name: greet
steps:
  - uses: flow.log
    with: {text: hello}
"""


class Service:
    """The application and a client that has the administrator's token."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.database = services.database
        self.now = NOW
        self.web = build_web(services)
        self.client = self.client_with(TOKEN)
        self.numbers = itertools.count(1)

    def client_with(self, token: str | None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.web, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(f"/api/v1{path}", **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.post(f"/api/v1{path}", **options)

    async def save_job(self, text: str = JOB) -> str:
        answer = await self.post("/jobs", content=text)
        assert answer.status_code == 201, answer.text
        job: str = answer.json()["id"]
        return job

    async def join(self, gateway: str, devices: int) -> str:
        """A gateway with devices that has been welcomed; its token."""
        made = await self.post("/gateways", json={"id": gateway})
        hello = Hello(
            nonce="n", page=1, pages=1, journal=f"j-{gateway}", instance="i",
            verbs=["flow.log", "flow.delay"],
            devices=[InventoryDevice(id=f"{gateway}-{n}") for n in range(devices)],
        )  # fmt: skip
        address = Address(DEFAULT_ORG, GatewayId(gateway))
        await self.database.run(gateways.accept_hello, address, hello, f"s-{gateway}", self.now)
        token: str = made.json()["token"]
        return token

    async def start(self, job: str, **body: Any) -> str:
        """A run whose tasks exist."""
        answer = await self.post(f"/jobs/{job}/runs", json=body)
        assert answer.status_code == 201, answer.text
        run: str = answer.json()["id"]
        while await self.database.run(runs.create_tasks, run, self.now):
            pass
        return run

    async def offer(self) -> list[tuple[Address, OfferedTask]]:
        """What gateways are offered now; taken as sent."""
        await self.database.run(offer_due, self.now)
        offers = await self.database.read(offers_to_send, self.now)
        found = [(offering.address, task) for offering in offers for task in offering.tasks]
        await self.database.run(mark_sent, [task for _, task in found], self.now)
        return found

    async def report(self, address: Address, *snapshots: TaskSnapshot) -> None:
        """What the gateway's report would do, with what hears of it."""
        received = Received(address, Report(session="s", tasks=list(snapshots)))
        (outcome,) = await self.database.run(tasks.accept_reports, [received], self.now)
        assert all(item.outcome == "stored" for item in outcome.items), outcome
        self.services.feeds.touch_tasks([item.task for item in outcome.items])
        self.services.changes.touched(runs=outcome.runs)


@pytest.fixture
async def api(tmp_path: Path, prepared_sqlite: PreparedSqlite) -> AsyncIterator[Service]:
    database = open_database(prepared_sqlite.copy_to(tmp_path / "cloud.db"))
    await database.run(instance.first_start, NOW, TOKEN)
    store = DiskStore(tmp_path / "artifacts")
    store.prepare()
    changes = Changes()
    feeds = RunFeeds(database, changes, lambda: NOW, "epoch", max_listeners=3)
    secrets = itertools.count(1)
    service = Service(
        Services(
            database=database,
            artifacts=store,
            changes=changes,
            feeds=feeds,
            clock=lambda: NOW,
            new_id=new_id,
            new_secret=lambda: f"secret-{next(secrets)}",
            not_ready=lambda: [],
            vault=Vault(new_key(b"k" * 32)),
            limits=DoorLimits(max_artifact_bytes=100_000, max_body_bytes=50_000),
            version="1",
        )
    )
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(feeds.run())
        async with service.client:
            yield service
        feeds.close()
        loop.cancel()
    database.close()
