"""Takes what the cloud says into the journal: offers, cancels, receipts, corrections."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from contract.admission import REFUSALS
from contract.messages import (
    AnyMessage,
    Cancel,
    CancelItem,
    Offer,
    Receipt,
    Reply,
    WantedProfiles,
    Welcome,
)
from contract.topics import Kind
from gateway.cloud_link.parts import name_of, parts_of
from gateway.cloud_link.wire import LinkState
from gateway.crash_points import reach
from gateway.domain.facts import Instant
from gateway.errors import StorageFull
from gateway.journal import meta, outbox, tasks
from gateway.journal.database import Database, Rows
from gateway.journal.refusals import Refusal, refuse_offers
from gateway.logs import Log

log = Log()


@dataclass(frozen=True)
class Listeners:
    """Who hears of what was received, once it is in the journal.

    `on_work`: lanes that have new work; `on_cancel`: cancels of attempts that may be in a worker's
    hands; `on_receipt`: the receipt, for the sender; `on_unsent`: something is to be sent;
    `on_session`: a session has opened; `on_reply`: the answer to a call, wanted or not;
    `on_time`: the cloud's time, and when it was asked for, in ms; returns what may be kept as the
    last time known, 0 for none;
    `on_profiles`: the profiles that are wanted here, and whether a session opens with them.
    """

    on_work: Callable[[Iterable[str]], None]
    on_cancel: Callable[[list[tasks.Cancelling]], None]
    on_receipt: Callable[[Receipt], None]
    on_unsent: Callable[[bool], None]
    on_session: Callable[[], None]
    on_reply: Callable[[Reply], bool]
    on_profiles: Callable[[WantedProfiles, bool], None] = lambda wanted, opens: None
    on_time: Callable[[int, int], int] = lambda time, asked: time


class Receiver:
    """Handles one message at a time; whatever arrives twice changes nothing the second time."""

    def __init__(
        self,
        journal: Database,
        state: LinkState,
        listeners: Listeners,
        boot: int,
        clock: Callable[[], Instant],
    ) -> None:
        self._journal = journal
        self._state = state
        self._listeners = listeners
        self._boot = boot
        self._clock = clock

    async def take(self, kind: Kind, payload: bytes) -> None:
        """One message; what is not for us is dropped and counted.

        A message may end neither the link nor the process for ever: the cloud says it again. Of
        one that raises the bad items are refused and the others taken. Once something has ended
        the process, each item is taken alone, and left out when it was the end too often.
        """
        reach("cloud_link.before_take", kind)
        in_hand = self._journal.in_hand
        message: AnyMessage | None = None
        try:
            message = self._state.open(kind, payload)
            if message is None:
                log.info("message dropped", kind=kind, dropped=dict(self._state.dropped))
            elif in_hand.is_careful:
                await self._take_part_by_part(kind, message)
            else:
                in_hand.take_many()
                await self._take(message)
        except StorageFull as error:
            # Nothing was taken, so the cloud will say it again.
            self._state.dropped["disk full"] += 1
            log.error("the disk takes nothing: message not taken", kind=kind, why=str(error))
        except Exception as error:  # noqa: BLE001 (taken part by part, and told there)
            if message is None:
                self._raised(kind, error)
            else:
                await self._take_part_by_part(kind, message)
        finally:
            in_hand.put_down()
        reach("cloud_link.after_take", kind)

    async def _take(self, message: AnyMessage) -> None:
        match message:
            case Welcome():
                await self._welcome(message)
            case Offer():
                await self._offer(message)
            case Cancel():
                await self._cancel(message.items)
            case Receipt():
                await self._receipt(message)
            case Reply():
                if not self._listeners.on_reply(message):
                    self._state.dropped["reply to no call"] += 1
            case _:
                self._state.dropped[f"{type(message).__name__} is not for gateways"] += 1

    async def _take_part_by_part(self, kind: Kind, message: AnyMessage) -> None:
        for part in parts_of(message):
            name = name_of(kind, part)
            if not self._journal.in_hand.take(name):
                self._state.dropped[f"{kind} ended the process"] += 1
                log.error("message left out: it ended the process", kind=kind, what=name[:200])
                await self._refuse(part, "crashed_gateway", "it ended the process when it came")
                continue
            try:
                await self._take(part)
            except StorageFull:
                raise
            except Exception as error:  # noqa: BLE001 (one bad item may not hold up the others)
                self._raised(kind, error)
                text = f"{type(error).__name__}: {error}"
                await self._refuse(part, "offer_refused", text)
            self._journal.in_hand.put_down(name)

    def _raised(self, kind: Kind, error: Exception) -> None:
        self._state.dropped[f"{kind} raised"] += 1
        log.error("message raised", kind=kind, exc_info=error)

    async def _refuse(self, part: AnyMessage, code: str, text: str) -> None:
        """Offers are answered, so that the cloud knows; all else is merely left out."""
        if isinstance(part, Offer):
            items = [Refusal(task.task, task.attempt, code, text) for task in part.tasks]
            try:
                await self._journal.run(refuse_offers, items, self._clock())
            except StorageFull:
                raise
            except Exception as error:  # noqa: BLE001 (not even its name can be kept)
                self._raised(Kind.OFFER, error)
            else:
                self._listeners.on_unsent(True)

    async def _welcome(self, welcome: Welcome) -> None:
        if welcome.refused is not None:
            await self._refused(welcome)
            return
        if welcome.nonce is None:
            if welcome.conflict:
                self._state.conflict = True
            if welcome.hello_within is not None:
                self._state.hello_within.put_nowait(welcome.hello_within)
            if welcome.profiles is not None and welcome.session == self._state.session:
                self._listeners.on_profiles(welcome.profiles, False)
            return
        is_new = self._state.open_session(welcome)
        if self._state.session != welcome.session or self._state.nonce != welcome.nonce:
            return
        if is_new:
            self._log_session(welcome)
            known = self._listeners.on_time(welcome.time, self._state.asked_at)
            # Not synced: what a power cut forgets is said once more.
            await self._journal.run_unsynced(meta.mark_welcomed, known)
        await self._journal.run(self._correct, welcome, self._clock())
        await self._cancel(welcome.cancel)
        if is_new:
            self._listeners.on_session()
        if welcome.profiles is not None:
            self._listeners.on_profiles(welcome.profiles, is_new)
        self._listeners.on_unsent(True)

    async def _refused(self, welcome: Welcome) -> None:
        """Stop what runs: the cloud has given up on it, and on us."""
        code = welcome.refused or ""
        if not self._state.is_refused(welcome):
            self._state.dropped["refusal of another"] += 1
            return
        self._state.alarm = f"the cloud lets us in no more: {REFUSALS.get(code, code)}"
        log.error("refused by the cloud", code=code, why=REFUSALS.get(code, ""))
        marks = await self._journal.run_unsynced(tasks.marks, True)
        await self._cancel(
            [
                CancelItem(task=mark.task, attempt=mark.attempt, mode="force", reason=code)
                for mark in marks
            ]
        )

    def _log_session(self, welcome: Welcome) -> None:
        facts: dict[str, Any] = {"session": welcome.session, "conflict": welcome.conflict}
        if welcome.conflict:
            self._state.alarm = "another process uses this gateway's name"
            log.error("session opened in conflict: no new work is begun", **facts)
            return
        self._state.alarm = None
        log.info("session opened", **facts, forget=len(welcome.forget), report=len(welcome.report))

    @staticmethod
    def _correct(db: Rows, welcome: Welcome, now: Instant) -> None:
        tasks.forget(db, welcome.forget, now)
        tasks.report_again(db, welcome.report)

    async def _offer(self, offer: Offer) -> None:
        taken = await self._journal.run(
            tasks.take_offers, offer.bodies, offer.tasks, self._boot, self._clock()
        )
        if taken.without_body:
            self._state.dropped["offer without its body"] += len(taken.without_body)
            log.warning("offers without their body dropped", tasks=taken.without_body[:10])
        refused = 0
        if offer.undecodable:
            items = [
                Refusal(one.task, one.attempt, "offer_refused", f"cannot be read: {one.reason}")
                for one in offer.undecodable
            ]
            refused = await self._journal.run(refuse_offers, items, self._clock())
        log.info("offers taken", taken=taken.taken, known=taken.known, refused=refused)
        self._listeners.on_work(taken.lanes)
        self._listeners.on_unsent(taken.known > 0 or refused > 0)

    async def _cancel(self, items: list[CancelItem]) -> None:
        if not items:
            return
        held = await self._journal.run(tasks.cancel, items, self._clock())
        log.info("cancels taken", count=len(items), held=len(held))
        self._listeners.on_cancel(held)
        self._listeners.on_unsent(True)

    async def _receipt(self, receipt: Receipt) -> None:
        refused = [item for item in receipt.items if item.outcome == "refused"]
        for item in refused:
            log.warning(
                "report refused",
                task=item.task,
                attempt=item.attempt,
                code=item.code,
                why=item.text,
            )
        # Not synced: a receipt that a power cut forgets costs one report that comes twice.
        await self._journal.run_unsynced(_keep_receipt, receipt, self._clock())
        self._listeners.on_receipt(receipt)


def _keep_receipt(db: Rows, receipt: Receipt, now: Instant) -> None:
    tasks.stored(
        db,
        [(i.task, i.attempt, i.revision) for i in receipt.items if i.outcome == "stored"],
        now,
    )
    tasks.refused(
        db,
        [
            (i.task, i.attempt, i.revision, i.code or "refused")
            for i in receipt.items
            if i.outcome == "refused"
        ],
    )
    for stream in receipt.streams:
        outbox.stored(db, stream.stream, stream.kind, stream.number)
