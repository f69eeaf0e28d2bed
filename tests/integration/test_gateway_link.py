"""The gateway link whole: a gateway made of bytes, a real broker, and the cloud behind it."""

import asyncio
import itertools
import json
from contextlib import asynccontextmanager, suppress

import aiomqtt
import pytest

from cloud.app import clock, new_id
from cloud.coordinator import access, gateways, instance, jobs, runs, tasks
from cloud.coordinator.changes import Changes
from cloud.coordinator.dispatch import offer_due
from cloud.gateway_link.postman import Postman
from cloud.gateway_link.receiver import Receiver
from cloud.gateway_link.sender import Sender
from cloud.gateway_link.session import BrokerAddress, BrokerSession
from cloud.storage.database import open_database
from cloud.storage.dialect import fetch
from cloud.storage.views import tasks as task_views
from contract import messages
from contract.http.fleet import NewGateway
from contract.http.runs import CancelRun, StartRun
from contract.ids import DEFAULT_ORG, GatewayId
from contract.job_document import JobDocument
from contract.messages import (
    Call,
    Hello,
    InventoryDevice,
    Report,
    TaskSnapshot,
    encode,
)
from contract.topics import Address, Kind, parse
from tests.kit.waiting import wait_until_async

TOKEN = "the administrator's"
JOB = {"name": "greet", "steps": [{"uses": "flow.log", "with": {"text": "x"}}]}


class Cloud:
    """The cloud's end: storage, receiver, sender, session. Dispatch happens when a test says so."""

    def __init__(self, database, broker):
        self.database = database
        self.changes = Changes()
        self.session = BrokerSession(
            BrokerAddress(broker.host, broker.port), "coordinator", self._deliver
        )
        self.postman = Postman(self.session.publish, clock)
        self.sender = Sender(database, self.postman, clock, lambda: self.session.is_open)
        self.changes.on_sending(self.sender.wake)
        self.receiver = Receiver(database, self.postman, self.changes, clock, new_id)

    def _deliver(self, topic, payload):
        self.receiver.deliver(topic, payload)

    async def caller(self):
        return await self.database.read(access.authenticate, TOKEN, clock())

    async def start_run(self):
        caller = await self.caller()
        document = JobDocument.model_validate(JOB)
        job = await self.database.run(jobs.save_job, caller, document, clock(), create=True)
        run = await self.database.run(runs.start_run, caller, job.id, StartRun(), new_id(), clock())
        while await self.database.run(runs.create_tasks, run.id, clock()):
            pass
        await self.database.run(offer_due, clock())
        self.changes.to_send()
        return run.id

    async def sql(self, text, **parameters):
        return [tuple(row) for row in await self.database.read(fetch, text, **parameters)]

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(part.run())
                for part in (self.session, self.postman, self.sender, self.receiver)
            ]
            loops.append(group.create_task(self.receiver.serve_calls()))
            await wait_until_async(lambda: self.session.is_open)
            yield
            for loop in loops:
                loop.cancel()


class Gateway:
    """A gateway as bytes: it sends what a test tells it to, and keeps what it hears."""

    def __init__(self, client, name):
        self.client = client
        self.address = Address(DEFAULT_ORG, GatewayId(name))
        self.heard = []
        self.session = None
        self.numbers = itertools.count(1)

    async def listen(self):
        with suppress(aiomqtt.MqttError):  # the broker died
            async for message in self.client.messages:
                address, kind = parse(str(message.topic))
                assert address == self.address
                self.heard.append((kind, messages.parse(kind, message.payload)))

    async def next(self, kind, accept=lambda message: True):
        """The next message of that kind; what came before it is forgotten."""
        found = []

        def look():
            for position, (each, message) in enumerate(self.heard):
                if each is kind and accept(message):
                    found.append(message)
                    del self.heard[: position + 1]
                    return True
            return False

        await wait_until_async(look, message=lambda: f"{kind}; heard {self.heard}")
        return found[0]

    async def send(self, kind, message):
        payload = message if isinstance(message, bytes) else encode(message)
        await self.client.publish(self.address.topic(kind), payload, qos=1)

    async def say_hello(self, devices=1, nonce="n1"):
        hello = Hello(
            nonce=nonce, page=1, pages=1, journal="j", instance="i", verbs=["flow.log"],
            devices=[InventoryDevice(id=f"{self.address.gateway}-{n}") for n in range(devices)],
        )  # fmt: skip
        await self.send(Kind.HELLO, hello)
        welcome = await self.next(Kind.WELCOME, lambda found: found.nonce == nonce)
        self.session = welcome.session
        return welcome

    async def report(self, *snapshots, **fields):
        number = next(self.numbers)
        await self.send(
            Kind.REPORT,
            Report(session=self.session, message=number, tasks=list(snapshots), **fields),
        )
        return await self.next(Kind.RECEIPT, lambda found: found.message == number)


def snapshot(offered, revision=1, status="succeeded", **fields):
    return TaskSnapshot(
        task=offered.task, attempt=offered.attempt, revision=revision, status=status,
        begun=True, **fields,
    )  # fmt: skip


@pytest.fixture
async def cloud(broker, tmp_path, prepared_sqlite):
    database = open_database(prepared_sqlite.copy_to(tmp_path / "cloud.db"))
    await database.run(instance.first_start, clock(), TOKEN)
    made = Cloud(database, broker)
    async with made.running():
        yield made
    database.close()


@asynccontextmanager
async def gateway_on(cloud, broker, name, create=True):
    if create:
        caller = await cloud.caller()
        await cloud.database.run(
            gateways.create_gateway, caller, NewGateway(id=name), f"{name}'s", clock()
        )
    client = aiomqtt.Client(broker.host, broker.port, identifier=f"default/{name}")
    async with client:
        gateway = Gateway(client, name)
        await client.subscribe(gateway.address.down_filter(), qos=1)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(gateway.listen())
            yield gateway
            listening.cancel()


@pytest.fixture
async def gateway(cloud, broker):
    async with gateway_on(cloud, broker, "north") as made:
        yield made


async def test_a_task_is_offered_reported_and_receipted(cloud, gateway):
    welcome = await gateway.say_hello(devices=3)
    assert welcome.limits.heartbeat == 10_000
    run = await cloud.start_run()
    offer = await gateway.next(Kind.OFFER)
    assert offer.session == welcome.session
    assert offer.counter > welcome.counter
    assert sorted(task.ordinal for task in offer.tasks) == [0, 1, 2]
    assert [body.run for body in offer.bodies] == [run]
    receipt = await gateway.report(*(snapshot(task) for task in offer.tasks))
    assert receipt.session == welcome.session
    assert [item.outcome for item in receipt.items] == ["stored"] * 3
    rows = await cloud.sql("SELECT status FROM tasks ORDER BY ordinal")
    assert rows == [("succeeded",)] * 3


async def test_a_report_that_comes_twice_is_receipted_twice_and_stored_once(cloud, gateway):
    await gateway.say_hello()
    await cloud.start_run()
    (task,) = (await gateway.next(Kind.OFFER)).tasks
    for _ in range(2):
        receipt = await gateway.report(snapshot(task))
        assert receipt.items[0].outcome == "stored"
    late = await gateway.report(snapshot(task, revision=0, status="running"))
    assert late.items[0].outcome == "stored"
    assert await cloud.sql("SELECT status, revision FROM tasks") == [("succeeded", 1)]


async def test_one_bad_item_is_refused_and_the_others_stored(cloud, gateway):
    await gateway.say_hello(devices=2)
    await cloud.start_run()
    first, second = (await gateway.next(Kind.OFFER)).tasks
    good = json.loads(snapshot(first).model_dump_json(exclude_defaults=True))
    bad = {"task": second.task, "attempt": 1, "revision": 1, "status": "exploded"}
    raw = {"session": gateway.session, "message": 7, "tasks": [good, bad]}
    await gateway.send(Kind.REPORT, json.dumps(raw).encode())
    receipt = await gateway.next(Kind.RECEIPT)
    outcomes = {item.task: (item.outcome, item.code) for item in receipt.items}
    assert outcomes == {first.task: ("stored", None), second.task: ("refused", "undecodable")}
    ((kept,),) = await cloud.sql("SELECT raw FROM refused")
    assert json.loads(kept) == bad


async def test_an_item_that_breaks_the_database_is_isolated(cloud, gateway, monkeypatch):
    """Whatever we did not think of: the items around it are stored, it is kept and shown."""
    await gateway.say_hello(devices=4)
    await cloud.start_run()
    offered = (await gateway.next(Kind.OFFER)).tasks
    poison = offered[2].task
    accept = tasks.accept_reports

    def fragile(session, batch, now):
        if any(item.task == poison for one in batch for item in one.report.tasks):
            raise ZeroDivisionError("nobody thought of this")
        return accept(session, batch, now)

    monkeypatch.setattr(tasks, "accept_reports", fragile)
    receipt = await gateway.report(*(snapshot(task) for task in offered))
    outcomes = {item.task: item.outcome for item in receipt.items}
    assert outcomes == {
        task.task: "refused" if task.task == poison else "stored" for task in offered
    }
    assert (await cloud.sql("SELECT task, code FROM refused")) == [(poison, "undecodable")]


async def test_who_names_another_session_is_asked_to_say_hello(cloud, gateway):
    await gateway.say_hello()
    await gateway.send(Kind.REPORT, Report(session="yesterday's", message=1))
    asked = await gateway.next(Kind.WELCOME)
    assert asked.nonce is None
    assert asked.session is None
    assert asked.hello_within
    await gateway.send(Kind.REPORT, Report(session="yesterday's", message=2))
    welcome = await gateway.say_hello(nonce="n2")  # and not asked a second time before it
    assert welcome.session
    assert not [kind for kind, _ in gateway.heard if kind is Kind.WELCOME]


async def test_a_gateway_nobody_has_made_gets_no_answer(cloud, broker, gateway):
    async with gateway_on(cloud, broker, "stranger", create=False) as stranger:
        hello = Hello(nonce="n", page=1, pages=1, journal="j", instance="i")
        await stranger.send(Kind.HELLO, hello)
        await gateway.say_hello()  # was behind it, in the same line
        assert stranger.heard == []


async def test_what_cannot_be_read_stops_nothing(cloud, broker, gateway):
    for junk in (b"", b"\xff\xfe", b"[]", b'{"tasks": 3}', b"{" * 1000):
        for kind in (Kind.HELLO, Kind.REPORT, Kind.PRESENCE, Kind.CALL):
            await gateway.send(kind, junk)
    wrong = f"roundsman/v1/{'00' if gateway.address.shard != '00' else '01'}/default/north/up/hello"
    await gateway.client.publish(wrong, encode(Hello(nonce="x", page=1, pages=1, journal="j",
                                                     instance="i")), qos=1)  # fmt: skip
    assert (await gateway.say_hello()).nonce == "n1"


async def test_a_call_about_a_task_nobody_knows_is_refused(cloud, gateway):
    await gateway.say_hello()
    call = Call(session=gateway.session, key="k", task="run-1", attempt=1, step="s", verb="sign")
    await gateway.send(Kind.CALL, call)
    reply = await gateway.next(Kind.REPLY)
    assert (reply.key, reply.failure.code) == ("k", "call_refused")
    assert "there is no task run-1" in reply.failure.text


async def test_a_cancel_reaches_the_gateway(cloud, gateway):
    await gateway.say_hello()
    run = await cloud.start_run()
    (task,) = (await gateway.next(Kind.OFFER)).tasks
    await gateway.report(snapshot(task, status="running"))
    caller = await cloud.caller()
    await cloud.database.run(
        runs.cancel_run, caller, run, CancelRun(force=True, reason="enough"), clock()
    )
    while await cloud.database.run(runs.sweep, run, clock()):
        pass
    cloud.changes.to_send()
    cancel = await gateway.next(Kind.CANCEL)
    assert [(item.task, item.mode) for item in cancel.items] == [(task.task, "force")]


async def test_pages_of_a_hello_make_one_welcome(cloud, gateway):
    for number in (2, 1):
        hello = Hello(
            nonce="paged", page=number, pages=2, journal="j", instance="i",
            devices=[InventoryDevice(id=f"device-{number}")],
        )  # fmt: skip
        await gateway.send(Kind.HELLO, hello)
    await gateway.next(Kind.WELCOME, lambda found: found.nonce == "paged")
    assert await cloud.sql("SELECT id FROM devices ORDER BY id") == [("device-1",), ("device-2",)]


async def test_a_broker_that_dies_and_forgets_costs_nothing(cloud, broker, gateway):
    await gateway.say_hello(devices=2)
    broker.kill_9()
    await wait_until_async(lambda: not cloud.session.is_open)
    run = await cloud.start_run()  # offered while nobody can hear it
    broker.restart(wipe=True)
    await wait_until_async(lambda: cloud.session.is_open)
    async with gateway_on(cloud, broker, "north", create=False) as back:
        await back.say_hello(devices=2, nonce="n2")
        offer = await back.next(Kind.OFFER)
        assert {task.run for task in offer.tasks} == {run}
        receipt = await back.report(*(snapshot(task) for task in offer.tasks))
        assert {item.outcome for item in receipt.items} == {"stored"}
    task = await cloud.database.read(task_views.get_task, DEFAULT_ORG, f"{run}-0", clock())
    assert task.attempt == 1
