"""What gateways say: parsed, collected for a few milliseconds, stored as one batch, receipted.

A receipt goes out after the commit, so a stop at any moment costs one repetition. What does not
fit (another shard, an unknown gateway, a foreign session) is dropped and counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import Final, Never, assert_never

import structlog
from pydantic import JsonValue

from cloud import metrics
from cloud.coordinator import calls, gateways, tasks
from cloud.coordinator.calls import CallRefused
from cloud.coordinator.changes import Changes
from cloud.coordinator.secrets import Vault
from cloud.coordinator.tasks import Outcome, Received
from cloud.crash_points import IS_ARMED, reach
from cloud.errors import NotFound, StorageFull, StorageUnavailable
from cloud.gateway_link.careful import alone, sift, undecodable, vouch_for_lines
from cloud.gateway_link.hello_pages import HelloPages
from cloud.gateway_link.in_hand import InHand
from cloud.gateway_link.postman import Clock, Postman
from cloud.storage import sessions
from cloud.storage.database import Database, Session
from contract import messages, topics
from contract.ids import SHARDS, GatewayId, OrgId
from contract.messages import (
    MAX_MESSAGE_BYTES,
    Call,
    Cancel,
    Failure,
    Hello,
    Limits,
    MessageInvalid,
    Offer,
    Presence,
    Receipt,
    Reply,
    Report,
    Welcome,
)
from contract.topics import Address, Kind, TopicInvalid

log = structlog.get_logger()

COLLECT_S: Final = 0.004
MAX_MESSAGES: Final = 500
# Bounds how long one transaction lasts: others want to write, too.
MAX_ITEMS: Final = 500
# A gateway that is told a larger limit by a later cloud may come back to this one.
MAX_PAYLOAD: Final = 4 * MAX_MESSAGE_BYTES
MAX_WAITING: Final = 20_000
# So much of what may wait is taken in one round, some 500 samples.
PATIENT_BYTES: Final = 64 * 1024
MAX_CALLS: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
ASK_AGAIN_AFTER_MS: Final = 5_000
HELLO_WITHIN_MS: Final = 3_000
# When all are asked at once: spread over so long for each of them, and a second at least.
SPREAD_MS: Final = 5
STORAGE_PAUSE_S: Final = 0.5

# Reports of gateways in session, who else sent some, and what became of each of the first.
Stored = tuple[list[Received], set[Address], list[Outcome]]


class Receiver:
    """`deliver` takes messages on the loop's thread; `run` stores them."""

    def __init__(
        self,
        database: Database,
        postman: Postman,
        changes: Changes,
        clock: Clock,
        new_id: Callable[[], str],
        limits: Limits | None = None,
        shards: Collection[int] = range(SHARDS),
        on_stored: Callable[[Sequence[str]], None] = lambda tasks: None,
        in_hand: InHand | None = None,
        vault: Vault | None = None,
    ) -> None:
        self._database = database
        self._postman = postman
        self._changes = changes
        self._clock = clock
        self._new_id = new_id
        self._limits = limits
        self._shards = frozenset(f"{shard:02x}" for shard in shards)
        self._on_stored = on_stored
        self._in_hand = in_hand
        self._vault = vault
        self._pages = HelloPages()
        self._waiting: deque[tuple[Address, Kind, bytes]] = deque()
        # Samples of devices may wait for what tasks came to.
        self._patient: deque[tuple[Address, Kind, bytes]] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._asked: dict[Address, int] = {}
        self._asks_everybody = False
        self._calls: asyncio.Queue[tuple[Address, Call]] = asyncio.Queue(MAX_CALLS)

    def deliver(self, topic: str, payload: bytes) -> None:
        """Take one message, or drop it at once when it cannot be ours or there are too many."""
        try:
            address, kind = _parse_topic(topic)
        except TopicInvalid as error:
            self._drop("topic", reason=str(error))
            return
        if address.shard not in self._shards or kind not in topics.UP:
            self._drop("foreign_shard", topic=topic)
        elif len(payload) > MAX_PAYLOAD:
            self._drop("too_large", topic=topic, size=len(payload))
        elif (
            len(self._waiting) + len(self._patient) >= MAX_WAITING
            or self._waiting_bytes + len(payload) > MAX_WAITING_BYTES
        ):
            self._drop("overload", topic=topic)
        else:
            metrics.MQTT_RECEIVED.labels(kind).inc()
            is_patient = kind is Kind.REPORT and _is_patient(payload)
            (self._patient if is_patient else self._waiting).append((address, kind, payload))
            self._waiting_bytes += len(payload)
            self._arrived.set()

    def broker_opened(self) -> None:
        """Ask whoever is in session for a hello soon: what they said meanwhile is lost.

        They would say it again by themselves, but only when their patience for a receipt is over.
        """
        self._asks_everybody = True
        self._arrived.set()

    async def run(self) -> Never:
        while True:
            await self._arrived.wait()
            if self._asks_everybody:
                await self._ask_everybody()
            # While one batch is stored the next one gathers; the first waits a little for company.
            await asyncio.sleep(COLLECT_S)
            reach("gateway_link.before_store")
            self._hold()
            await self._store(self._take())
            self._let_go()
            reach("gateway_link.after_store")

    def _hold(self) -> None:
        if self._in_hand is not None:
            self._in_hand.take_many()

    def _let_go(self) -> None:
        if self._in_hand is not None:
            self._in_hand.put_down()

    def _take(self) -> list[tuple[Address, Kind, bytes]]:
        taken: list[tuple[Address, Kind, bytes]] = []
        while self._waiting and len(taken) < MAX_MESSAGES:
            item = self._waiting.popleft()
            self._waiting_bytes -= len(item[2])
            taken.append(item)
        size = 0
        while self._patient and size < PATIENT_BYTES:
            item = self._patient.popleft()
            size += len(item[2])
            taken.append(item)
        self._waiting_bytes -= size
        if not (self._waiting or self._patient):
            self._arrived.clear()
        return taken

    async def _store(self, batch: Sequence[tuple[Address, Kind, bytes]]) -> None:
        reports: list[Received] = []
        hellos: list[tuple[Address, Hello]] = []
        for address, kind, payload in batch:
            try:
                message = messages.parse(kind, payload)
            except MessageInvalid as error:
                self._drop("undecodable", gateway=address.name, reason=str(error))
                continue
            except Exception as error:  # noqa: BLE001 (one bad message may not end all others)
                self._raised("message", address, error)
                continue
            match message:
                case Report():
                    reports.append(Received(address, message))
                case Hello():
                    whole = self._pages.add(address, message)
                    if whole is not None:
                        hellos.append((address, whole))
                case Call():
                    self._queue_call(address, message)
                case Presence():
                    log.debug("presence", gateway=address.name, online=message.online)
                case Welcome() | Offer() | Cancel() | Receipt() | Reply():
                    self._drop("direction", gateway=address.name)
                case unknown:
                    assert_never(unknown)
        try:
            if self._in_hand is not None and self._in_hand.is_careful:
                reports = [await self._sifted(one) for one in reports]
            for chunk in _chunks(reports):
                await self._store_reports(chunk)
            for address, hello in hellos:
                await self._welcome(address, hello)
        except (StorageFull, StorageUnavailable) as error:
            # No receipt and no welcome: gateways keep it all and send it again.
            self._drop("storage", reason=str(error))
            await asyncio.sleep(STORAGE_PAUSE_S)

    async def _sifted(self, received: Received) -> Received:
        assert self._in_hand is not None
        return await sift(received, self._in_hand, self._store_alone)

    async def _store_alone(self, received: Received) -> None:
        """What raises here is told when it is stored with the rest."""
        try:
            await self._database.run(_accept, [received], self._clock())
        except (StorageFull, StorageUnavailable):
            raise
        except Exception as error:  # noqa: BLE001
            log.debug("item raised", gateway=received.address.name, why=str(error))

    async def _store_reports(self, batch: Sequence[Received]) -> None:
        now = self._clock()
        with metrics.REPORT_BATCH_SECONDS.time():
            known, strangers, outcomes = await self._store_isolating(batch, now)
        for received, outcome in zip(known, outcomes, strict=True):
            self._receipt(received, outcome)
        for address in strangers:
            self._drop("session", gateway=address.name)
            self._ask_for_hello(address)
        runs = {run for outcome in outcomes for run in outcome.runs}
        self._on_stored([item.task for outcome in outcomes for item in outcome.items])
        self._changes.touched(
            runs=runs,
            gateways={one.address for one in known},
            ended=any(outcome.ended for outcome in outcomes),
        )

    async def _store_isolating(self, batch: Sequence[Received], now: int) -> Stored:
        """Store a batch; halve it until what cannot be stored stands alone, as refused."""
        try:
            return await self._database.run(_accept, batch, now)
        except (StorageFull, StorageUnavailable):
            raise
        except Exception as error:  # one bad item may not hold up the others
            if len(batch) == 1:
                log.error("report raised", gateway=batch[0].address.name, exc_info=error)
                return await self._store_item_by_item(batch[0], now)
        half = len(batch) // 2
        first = await self._store_isolating(batch[:half], now)
        second = await self._store_isolating(batch[half:], now)
        return [*first[0], *second[0]], first[1] | second[1], [*first[2], *second[2]]

    async def _store_item_by_item(self, received: Received, now: int) -> Stored:
        """Store a report that raises: its good items, and as refused the others."""
        report, bad = received.report, list(received.report.undecodable)
        for item in report.tasks:
            try:
                await self._database.run(_accept, [alone(received, tasks=[item])], now)
            except (StorageFull, StorageUnavailable):
                raise
            except Exception as error:  # noqa: BLE001 (this is the bad one)
                bad.append(undecodable(item, f"{type(error).__name__}: {error}"))
        lost = {(item.task, item.attempt, item.revision) for item in bad}
        good = [one for one in report.tasks if (one.task, one.attempt, one.revision) not in lost]
        parts = {"tasks": good, "undecodable": tuple(bad)}
        try:
            rest = Received(received.address, report.model_copy(update=parts))
            return await self._database.run(_accept, [rest], now)
        except (StorageFull, StorageUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 (then it is its log lines or states)
            self._drop("lines", gateway=received.address.name, reason=str(error))
        try:
            stored = await self._database.run(_accept, [alone(received, **parts)], now)
        except (StorageFull, StorageUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
            self._raised("report", received.address, error)
            return [], set(), []
        for outcome in stored[2]:
            vouch_for_lines(report, outcome)
        return stored

    def _receipt(self, received: Received, outcome: Outcome) -> None:
        refused = [item for item in outcome.items if item.outcome == "refused"]
        metrics.REPORTS_STORED.inc(len(outcome.items) - len(refused))
        for item in refused:
            metrics.REPORTS_REFUSED.labels(item.code or "unknown").inc()
        self._postman.post(
            received.address,
            Kind.RECEIPT,
            Receipt(
                session=received.report.session,
                message=outcome.message,
                items=outcome.items,
                streams=outcome.streams,
            ),
        )
        if outcome.ask_hello:
            self._ask_for_hello(received.address)

    async def _welcome(self, address: Address, hello: Hello) -> None:
        try:
            welcomed = await self._database.run(
                gateways.accept_hello,
                address,
                hello,
                self._new_id(),
                self._clock(),
                self._limits,
            )
        except NotFound:
            self._drop("unknown_gateway", gateway=address.name)
            return
        except (StorageFull, StorageUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 (a gateway that cannot be welcomed is one)
            self._raised("hello", address, error)
            return
        if welcomed[0].refused is not None:
            self._drop("refused_hello", gateway=address.name, reason=welcomed[0].refused)
            self._postman.post(address, Kind.WELCOME, welcomed[0])
            return
        log.info(
            "gateway welcomed", gateway=address.name, version=hello.version,
            devices=len(hello.devices), tasks=len(hello.tasks),
        )  # fmt: skip
        for page in welcomed:
            self._postman.post(address, Kind.WELCOME, page)
        self._changes.touched(gateways={address})
        self._changes.to_send()

    async def _ask_everybody(self) -> None:
        try:
            names = await self._database.read(sessions.everybody)
        except StorageUnavailable as error:
            log.warning("cannot look whom to ask for a hello", why=str(error))
            await asyncio.sleep(STORAGE_PAUSE_S)
            return
        self._asks_everybody = False
        addresses = [Address(OrgId(org), GatewayId(gateway)) for org, gateway in names]
        ours = [address for address in addresses if address.shard in self._shards]
        for address in ours:
            self._ask_for_hello(address, within=max(1_000, SPREAD_MS * len(ours)))

    def _ask_for_hello(self, address: Address, within: int = HELLO_WITHIN_MS) -> None:
        now = self._clock()
        if now - self._asked.get(address, 0) < ASK_AGAIN_AFTER_MS:
            return
        if len(self._asked) > MAX_WAITING:
            self._asked.clear()
        self._asked[address] = now
        self._postman.post(address, Kind.WELCOME, Welcome(time=now, hello_within=within))

    def _queue_call(self, address: Address, call: Call) -> None:
        try:
            self._calls.put_nowait((address, call))
        except asyncio.QueueFull:  # it is asked again
            self._drop("calls_overload", gateway=address.name)

    async def serve_calls(self) -> Never:
        """Answer what steps ask, beside the reports: neither waits for the other."""
        while True:
            address, call = await self._calls.get()
            try:
                await self._serve(address, call)
            except (StorageFull, StorageUnavailable) as error:
                # No answer: it is asked again, with the same key.
                self._drop("storage", reason=str(error))
            except Exception as error:  # one bad call may not hold up the others
                log.error("call raised", gateway=address.name, verb=call.verb, exc_info=error)
                self._reply(address, call, failure=_mistake(error))

    async def _serve(self, address: Address, call: Call) -> None:
        try:
            served = await self._database.run(
                calls.serve, address, call, self._clock(), self._new_id, self._vault
            )
        except CallRefused as refusal:
            failure = Failure(code=refusal.code, text=str(refusal)[:4096], step=call.step)
            self._reply(address, call, refusal.result, failure)
            return
        if served is None:
            self._drop("session", gateway=address.name)
            self._ask_for_hello(address)
            return
        self._reply(address, call, served.result)
        if served.fresh:
            self._changes.touched(runs=served.runs)
            self._changes.to_send()

    def _reply(
        self,
        address: Address,
        call: Call,
        result: JsonValue = None,
        failure: Failure | None = None,
    ) -> None:
        reply = Reply(session=call.session, key=call.key, result=result, failure=failure)
        self._postman.post(address, Kind.REPLY, reply)

    def _raised(self, what: str, address: Address, error: Exception) -> None:
        metrics.MQTT_DROPPED.labels("raised").inc()
        log.error("message raised", what=what, gateway=address.name, exc_info=error)

    def _drop(self, why: str, **about: object) -> None:
        metrics.MQTT_DROPPED.labels(why).inc()
        log.warning("message dropped", why=why, **about)


def _is_patient(payload: bytes) -> bool:
    """Whether a report holds nothing but samples.

    Read from its bytes: in a JSON text these quotes are escaped, so nothing can look like it.
    """
    return b'"states":[' in payload and b'"tasks":[' not in payload and b'"logs":[' not in payload


def _chunks(reports: Sequence[Received]) -> Iterator[list[Received]]:
    """Reports in their order, so many at a time that they hold about `MAX_ITEMS` items."""
    chunk: list[Received] = []
    items = 0
    for received in reports:
        report = received.report
        size = 1 + len(report.tasks) + len(report.logs) + len(report.states)
        if chunk and items + size > MAX_ITEMS:
            yield chunk
            chunk, items = [], 0
        chunk.append(received)
        items += size
    if chunk:
        yield chunk


def _accept(session: Session, batch: Sequence[Received], now: int) -> Stored:
    """One transaction: who is in session, then what they report."""
    current = sessions.current(session, {_name(one.address) for one in batch})
    known = [one for one in batch if current.get(_name(one.address)) == one.report.session]
    strangers = {one.address for one in batch} - {one.address for one in known}
    if IS_ARMED:
        for one in known:
            for item in one.report.tasks:
                reach("gateway_link.in_item", item.current_step or "")
    gateways.heard(session, {(one.address, one.report.session or "") for one in known}, now)
    return known, strangers, tasks.accept_reports(session, known, now)


def _name(address: Address) -> tuple[str, str]:
    return address.org, address.gateway


def _mistake(error: Exception) -> Failure:
    return Failure(code="call_refused", text=f"the cloud made a mistake: {type(error).__name__}")


@lru_cache(maxsize=10_000)
def _parse_topic(topic: str) -> tuple[Address, Kind]:
    return topics.parse(topic)
