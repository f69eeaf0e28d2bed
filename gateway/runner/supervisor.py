"""A worker for each lane that has work, started on demand; shields them from each other."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from contract.ids import THIS_GATEWAY
from gateway.domain.attempt_state import Attempt
from gateway.domain.backoff import backoff_ms
from gateway.domain.facts import Acknowledgment
from gateway.errors import StorageFull
from gateway.journal import tasks
from gateway.journal.tasks import Cancelling
from gateway.logs import Log
from gateway.runner.devices import DeviceHandle
from gateway.runner.worker import DISK_FULL_RETRY_S, Shop, Worker, holder_of

FIRST_DELAY_MS: Final = 1_000
LONGEST_DELAY_MS: Final = 60_000
AT_ONCE_WITHOUT_DEVICE: Final = 50

log = Log()


class Supervisor:
    """Runs until cancelled; `stop` first lets every worker note where it is."""

    def __init__(self, shop: Shop, devices: Mapping[str, DeviceHandle]) -> None:
        self._shop = shop
        self._devices = devices
        self._workers: dict[str, Worker] = {}
        self._wanted: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        self._without_device = asyncio.Semaphore(AT_ONCE_WITHOUT_DEVICE)
        self._idle = asyncio.Event()
        self._is_stopping = False

    async def run(self) -> None:
        """Take up what the journal holds, then whatever `wake` names."""
        lanes, awaiting = await self._held()
        await self._restore_claims()
        for attempt in awaiting:
            problem = await self._shop.replies.watch(attempt)
            if problem is not None:
                log.error("cannot be acknowledged by MQTT", task=attempt.offer.task, why=problem[1])
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._shop.replies.run(self._acknowledge), name="runner.replies")
            self.wake([*lanes, *self._wanted])
            await asyncio.get_running_loop().create_future()  # until cancelled

    async def _held(self) -> tuple[list[str], list[Attempt]]:
        """Open lanes, and attempts that await their acknowledgment."""
        journal = self._shop.journal
        while True:
            try:
                lanes = await journal.run_unsynced(tasks.open_lanes)
                return lanes, await journal.run_unsynced(tasks.awaiting, self._shop.clock())
            except StorageFull as error:
                log.error("the disk fails: the journal cannot be read", why=str(error))
                await asyncio.sleep(DISK_FULL_RETRY_S)

    async def _restore_claims(self) -> None:
        """Devices that an attempt of several had when the process ended are its still."""
        for attempt in await self._shop.journal.run_unsynced(
            tasks.with_members, self._shop.clock()
        ):
            members = attempt.memory.get("together")
            if isinstance(members, Mapping):
                self._shop.claims.restore(members, holder_of(attempt))
            if "image_hash" in attempt.memory:
                self._shop.claims.restore([THIS_GATEWAY], holder_of(attempt))

    def wake(self, lanes: Iterable[str]) -> None:
        """These lanes have work."""
        for lane in lanes:
            self._wanted.add(lane)
            worker = self._workers.get(lane)
            if worker is not None:
                worker.wake()
            elif self._group is not None and not self._is_stopping:
                self._workers[lane] = Worker(lane, self._shop, self._devices.get(lane))
                self._group.create_task(self._shield(lane), name=f"runner.worker {lane}")

    def renew(self, devices: Iterable[str]) -> None:
        """The drivers of these are made anew: at once where they rest, else after their attempt."""
        for device in devices:
            handle = self._devices.get(device)
            if handle is not None:
                handle.make_stale()
                if handle.has_link:
                    self.wake([device])

    def is_at_work(self, lane: str) -> bool:
        """Whether an attempt is being carried there."""
        worker = self._workers.get(lane)
        is_claimed = not self._shop.claims.is_free_for(lane, "")
        return is_claimed or (worker is not None and worker.is_at_work)

    def cancel(self, items: Iterable[Cancelling]) -> None:
        """Cancels that the journal has: who carries the attempt hears of it, who will reads it."""
        for lane, item, is_ended in items:
            worker = self._workers.get(lane)
            if worker is not None and worker.cancel(item):
                continue
            if is_ended:
                self._shop.replies.forget(item.task, item.attempt)
            else:
                self.wake([lane])

    async def _acknowledge(self, task: str, attempt: int, word: Acknowledgment) -> None:
        """A reply on an attempt's topic: for the worker that has it, else for the journal."""
        if any(worker.acknowledge(task, attempt, word) for worker in self._workers.values()):
            return
        try:
            ended = await self._shop.journal.run(
                tasks.acknowledge, task, attempt, word, self._shop.clock(), self._shop.stream()
            )
        except StorageFull as error:
            log.error("disk full: acknowledgment not kept", task=task, why=str(error))
            return
        if ended:
            self._shop.replies.forget(task, attempt)
        self._shop.on_unsent(True)

    async def quiet(self, within_s: float) -> None:
        """Begin no step any more, and let end what may not be cut, but for who asks for this."""
        asks = self._shop.claims.holder_of(THIS_GATEWAY)
        if not await self._shop.under_way.quiet(asks, within_s):
            log.warning("steps are cut that may or may not have happened", within_s=within_s)

    async def stop(self, within_s: float) -> None:
        """Let the workers note where they are; returns when they have, or when time is up."""
        self._is_stopping = True
        self._shop.under_way.close()
        for worker in self._workers.values():
            worker.stop()
        self._idle.clear()
        if not self._workers:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("workers did not end in time", lanes=sorted(self._workers)[:10])

    async def _shield(self, lane: str) -> None:
        """One lane's trouble is its own: it is logged, and the lane tried again, ever later."""
        failures = 0
        try:
            while lane in self._wanted and not self._is_stopping:
                self._wanted.discard(lane)
                try:
                    if self._devices.get(lane) is None:
                        async with self._without_device:
                            await self._workers[lane].run()
                    else:
                        await self._workers[lane].run()
                    failures = 0
                except StorageFull as error:
                    log.error("the disk takes nothing: work waits", lane=lane, why=str(error))
                    self._wanted.add(lane)
                    await asyncio.sleep(DISK_FULL_RETRY_S)
                except Exception:
                    failures += 1
                    log.exception("worker failed", lane=lane, failures=failures)
                    self._wanted.add(lane)
                    delay_ms = backoff_ms(failures, FIRST_DELAY_MS, LONGEST_DELAY_MS)
                    await asyncio.sleep(delay_ms / 1000)
        finally:
            self._workers.pop(lane, None)
            if not self._workers:
                self._idle.set()
