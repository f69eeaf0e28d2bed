"""The life of the link: connect, say hello until welcomed, receive and send; when lost, again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from contract.admission import key_of, proof_of
from contract.messages import HeldProfile, Hello, InventoryDevice, digest_of
from contract.topics import Kind
from gateway.cloud_link.calls import Calls
from gateway.cloud_link.hello import pages
from gateway.cloud_link.receiver import Receiver
from gateway.cloud_link.sender import Sender
from gateway.cloud_link.wire import Connection, Connector, LinkState
from gateway.domain.backoff import backoff_ms, jittered_ms
from gateway.domain.facts import Instant
from gateway.errors import CloudRefused, CloudUnreachable, StorageFull
from gateway.journal import meta, tasks
from gateway.journal.database import Database
from gateway.journal.meta import Marks
from gateway.logs import Log

FIRST_DELAY_MS: Final = 500
LONGEST_DELAY_MS: Final = 30_000
REFUSED_DELAY_MS: Final = 60_000
HELLO_FIRST_MS: Final = 2_000
HELLO_LONGEST_MS: Final = 30_000

log = Log()


class CloudLink:
    """Runs until cancelled. `chance` gives numbers from 0 to 1, `new_nonce` words never used.

    `token` is proven with every hello, and never sent.
    """

    def __init__(
        self,
        connector: Connector,
        journal: Database,
        state: LinkState,
        receiver: Receiver,
        sender: Sender,
        calls: Calls,
        inventory: Callable[[], Sequence[InventoryDevice]],
        version: str,
        verbs: Sequence[str],
        clock: Callable[[], Instant],
        chance: Callable[[], float],
        new_nonce: Callable[[], str],
        profiles: Callable[[], list[HeldProfile]] | None = None,
        token: str | None = None,
    ) -> None:
        self._profiles = profiles
        self._connector = connector
        self._journal = journal
        self._state = state
        self._receiver = receiver
        self._sender = sender
        self._calls = calls
        self._inventory = inventory
        self._version = version
        self._verbs = sorted(verbs)
        self._clock = clock
        self._chance = chance
        self._new_nonce = new_nonce
        self._key = None if token is None else key_of(token)
        self._was_connected = False

    async def run(self) -> None:
        """Raises CloudRefused only if the broker refuses us before it ever let us in."""
        failures = 0
        while True:
            base, refused = FIRST_DELAY_MS, ""
            try:
                await self._connect_once()
            except* CloudUnreachable as lost:
                log.info("cloud link lost", why=str(_first(lost)))
            except* CloudRefused as refusal:
                refused = str(_first(refusal))
                base = REFUSED_DELAY_MS
            except* StorageFull as failed:
                log.error("cloud link waits for the disk", why=str(_first(failed)))
            if refused:
                self._state.alarm = refused
                if not self._was_connected:
                    raise CloudRefused(refused)
                log.error("cloud link refused", why=refused)
            failures = 0 if self._state.session is not None else failures + 1
            self._state.go_offline()
            delay = backoff_ms(max(failures, 1), base, max(base, LONGEST_DELAY_MS))
            await asyncio.sleep(jittered_ms(delay, self._chance()) / 1000)

    async def _connect_once(self) -> None:
        async with self._connector.connect() as connection:
            self._was_connected = True
            self._state.status = "greeting"
            log.info("broker connected")
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._receive(connection), name="cloud_link.receiver")
                loops.create_task(self._greet(connection), name="cloud_link.hello")
                loops.create_task(self._sender.run(connection), name="cloud_link.sender")
                loops.create_task(self._calls.run(connection), name="cloud_link.calls")

    async def _receive(self, connection: Connection) -> None:
        async for kind, payload in connection.messages():
            await self._receiver.take(kind, payload)
            if self._state.refused is not None:
                raise CloudRefused(self._state.alarm or self._state.refused)
        raise CloudUnreachable("the connection has ended")

    async def _greet(self, connection: Connection) -> None:
        while True:
            await self._say_hello(connection)
            # Whoever asked before the welcome has been answered by this hello.
            self._forget_requests()
            within = await self._state.hello_within.get()
            log.info("cloud asks for a hello", within_ms=within)
            self._state.close_session()
            await asyncio.sleep(within * self._chance() / 1000)
            self._forget_requests()

    def _forget_requests(self) -> None:
        while not self._state.hello_within.empty():
            self._state.hello_within.get_nowait()

    async def _say_hello(self, connection: Connection) -> None:
        """Repeat one hello until its welcome has come."""
        nonce = self._new_nonce()
        said = await self._pages(nonce)
        self._state.close_session()
        self._state.status = "greeting"
        self._state.nonce = nonce
        tries = 0
        while not self._state.opened.is_set():
            self._state.asked_at = self._clock().mono
            for page in said:
                await connection.publish(Kind.HELLO, self._state.seal(page))
            tries += 1
            delay = backoff_ms(tries, HELLO_FIRST_MS, HELLO_LONGEST_MS)
            try:
                async with asyncio.timeout(jittered_ms(delay, 0.5 + self._chance() / 2) / 1000):
                    await self._state.opened.wait()
            except TimeoutError:
                log.info("no welcome yet", tries=tries)

    async def _pages(self, nonce: str) -> list[Hello]:
        marks = await self._journal.run_unsynced(tasks.marks)
        open_marks = await self._journal.run_unsynced(tasks.marks, True)
        kept = await self._marks()
        journal, instance = self._state.journal, self._state.instance
        head = Hello(
            nonce=nonce,
            page=1,
            pages=1,
            journal=journal,
            instance=instance,
            mark=kept.mark,
            last_mark=kept.last,
            proof=proof_of(self._key, nonce, journal, instance) if self._key else "",
            digest=digest_of(open_marks),
            version=self._version,
            verbs=self._verbs,
            time=self._clock().wall,
            profiles=None if self._profiles is None else self._profiles(),
        )
        return pages(head, list(self._inventory()), marks)

    async def _marks(self) -> Marks:
        try:
            return await self._journal.run(meta.next_mark, self._new_nonce())
        except StorageFull:
            # Nothing could be kept, so nothing is said that a copy would not know.
            return Marks("", "")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
