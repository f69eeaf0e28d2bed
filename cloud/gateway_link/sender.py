"""Rows to messages: offers and cancels go out, again and again, until a report says otherwise.

Nothing is remembered here: after a restart the rows say the same.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Never

import structlog

from cloud import metrics
from cloud.coordinator import batches, dispatch
from cloud.coordinator.dispatch import Cancelling, Offering, SecretsOf
from cloud.errors import StorageFull, StorageUnavailable
from cloud.gateway_link.postman import Clock, Postman
from cloud.storage import admissions
from cloud.storage.database import Database
from contract.ids import GatewayId, OrgId
from contract.messages import (
    MAX_BATCH,
    MAX_MESSAGE_BYTES,
    Cancel,
    CancelItem,
    JobBody,
    Offer,
    OfferedTask,
    Welcome,
)
from contract.topics import Address, Kind

log = structlog.get_logger()

LOOK_EVERY_S: Final = 0.5
# While this many messages wait for the broker, what can wait does.
MAX_BACKLOG: Final = 500
_ENVELOPE: Final = 1_024


class Sender:
    """Looks when woken and on a timer, and only while the broker session is open."""

    def __init__(
        self,
        database: Database,
        postman: Postman,
        clock: Clock,
        is_open: Callable[[], bool],
        on_offered: Callable[[Sequence[str]], None] = lambda tasks: None,
        secrets: SecretsOf | None = None,
    ) -> None:
        self._secrets = secrets
        self._database = database
        self._postman = postman
        self._clock = clock
        self._is_open = is_open
        self._on_offered = on_offered
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once: something was offered or is to be cancelled."""
        self._wake.set()

    async def run(self) -> Never:
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if not self._is_open() or self._postman.backlog > MAX_BACKLOG:
                continue
            try:
                if await self.send_due():
                    self._wake.set()
            except (StorageFull, StorageUnavailable) as error:
                log.warning("cannot look for what to send", reason=str(error))

    async def send_due(self) -> bool:
        """Send what is due. Returns whether there may be more."""
        now = self._clock()
        await self._end_sessions(now)
        cancels = await self._database.read(dispatch.cancels_to_send, now)
        offers = await self._database.read(dispatch.offers_to_send, now, secrets=self._secrets)
        if not cancels and not offers:
            return False
        sent: list[OfferedTask | CancelItem] = []
        for cancelling in cancels:
            sent.extend(self._send_cancels(cancelling))
        too_large: list[OfferedTask] = []
        for offering in offers:
            sent.extend(self._send_offers(offering))
            too_large.extend(offering.too_large)
        if too_large:
            await self._database.run(batches.fail_too_large, too_large, now)
        # Marked after they went to the broker: a crash in between sends them once more.
        await self._database.run(dispatch.mark_sent, sent, now)
        self._on_offered([item.task for item in sent])
        return len(sent) >= 1_000

    async def _end_sessions(self, now: int) -> None:
        """Tell gateways that were retired, once; what does not hear it is refused at its hello."""
        ended = await self._database.read(admissions.sessions_to_end)
        for row in ended:
            address = Address(OrgId(row.org), GatewayId(row.gateway))
            over = Welcome(session=row.ended_session, time=now, refused="gateway_retired")
            self._postman.post(address, Kind.WELCOME, over)
        if ended:
            told = [(row.org, row.gateway, row.ended_session) for row in ended]
            await self._database.run(admissions.told_of_end, told)

    def _send_cancels(self, cancelling: Cancelling) -> Iterator[CancelItem]:
        for start in range(0, len(cancelling.items), MAX_BATCH):
            items = cancelling.items[start : start + MAX_BATCH]
            self._postman.post(
                cancelling.address, Kind.CANCEL, Cancel(session=cancelling.session, items=items)
            )
            metrics.CANCELS_SENT.inc(len(items))
            yield from items

    def _send_offers(self, offering: Offering) -> Iterator[OfferedTask]:
        for batch in offer_batches(offering.tasks, offering.bodies):
            bodies = {task.body: offering.bodies[task.body] for task in batch}
            self._postman.post(
                offering.address,
                Kind.OFFER,
                Offer(session=offering.session, bodies=list(bodies.values()), tasks=batch),
            )
            metrics.TASKS_OFFERED.inc(len(batch))
            yield from batch


def offer_batches(
    tasks: Sequence[OfferedTask],
    bodies: dict[str, JobBody],
    max_tasks: int = MAX_BATCH,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> Iterator[list[OfferedTask]]:
    """Cut offers into messages: each holds a number of tasks, and every body they name once.

    A task that is too large with its body even alone still goes alone.
    """
    body_sizes = {
        name: len(body.model_dump_json(by_alias=True, exclude_defaults=True).encode()) + 1
        for name, body in bodies.items()
    }
    batch: list[OfferedTask] = []
    named: set[str] = set()
    size = _ENVELOPE
    for task in tasks:
        task_size = len(task.model_dump_json(exclude_defaults=True).encode()) + 1
        added = task_size + (0 if task.body in named else body_sizes[task.body])
        if batch and (len(batch) >= max_tasks or size + added > max_bytes):
            yield batch
            batch, named, size = [], set(), _ENVELOPE
            added = task_size + body_sizes[task.body]
        batch.append(task)
        named.add(task.body)
        size += added
    if batch:
        yield batch
