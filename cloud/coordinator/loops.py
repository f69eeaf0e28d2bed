"""The background loops: they start and fill runs, offer tasks, sweep, end runs, watch deadlines.

Whoever holds the lease works; the others wait for it. A loop's trouble is logged and kept from the
others, and each looks into the database anew: nothing is remembered between two rounds.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Concatenate, Final, Never, ParamSpec, TypeVar

import structlog

from cloud.coordinator import (
    acknowledgments,
    control,
    dispatch,
    holds,
    leases,
    purging,
    recovery,
    runs,
    stranded,
    triggers,
)
from cloud.coordinator.changes import Changes
from cloud.coordinator.leases import LeaseLost
from cloud.coordinator.operating import Operator
from cloud.domain.counts import next_chunk
from cloud.domain.dispatch import SILENCE_MS
from cloud.errors import CloudError
from cloud.storage import purging as stored_purging
from cloud.storage import runs as stored_runs
from cloud.storage import samples
from cloud.storage.database import Database, Session

P = ParamSpec("P")
R = TypeVar("R")
log = structlog.get_logger()

RENEW_EVERY_S: Final = leases.LASTS_MS / 1000 / 3
LOOK_EVERY_S: Final = 0.5
WATCH_EVERY_S: Final = 2.0
# After each round the next changes gather; a thousand reports are not a thousand rounds.
GATHER_S: Final = 0.02
FIRST_CHUNK: Final = 1_000
AFTER_TROUBLE_S: Final = 1.0


@dataclass(frozen=True)
class Keeping:
    """What is kept of what grows for ever. `samples` are those of each org."""

    samples_ms: int = 30 * 86_400_000
    samples: int = 10_000_000


class Loops:
    """Run by `app.py` as one task. `holder` names this process; `clock` gives milliseconds.

    `address` is ours as others reach it, for links; it is known once we listen.
    """

    def __init__(
        self,
        database: Database,
        changes: Changes,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        holder: str,
        silence: int = SILENCE_MS,
        address: Callable[[], str] = lambda: "",
        operator: Operator | None = None,
        keeping: Keeping = Keeping(),
    ) -> None:
        self._database = database
        self._keeping = keeping
        self._address = address
        self._operator = operator
        self._changes = changes
        self._clock = clock
        self._new_id = new_id
        self._holder = holder
        self._silence = silence
        self._term: int | None = None
        self._has_term = asyncio.Event()
        self._since = 0
        self._sizes: dict[str, int] = {}
        self._has_recovered = False

    async def run(self) -> Never:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lease(), name="coordinator.lease")
                group.create_task(self._woken(self.advance_runs), name="coordinator.runs")
                group.create_task(self._woken(self.offer), name="coordinator.dispatch")
                group.create_task(self._woken(self.fire_triggers), name="coordinator.triggers")
                group.create_task(self._woken(self.operate), name="coordinator.operations")
                group.create_task(self._timed(self.purge), name="coordinator.purging")
                group.create_task(self._timed(self.sweep_samples), name="coordinator.samples")
                group.create_task(self._timed(self.watch), name="coordinator.watch")
        finally:
            if self._term is not None:
                # Not awaited: this is the end of the loop that would have to wait for it.
                with contextlib.suppress(CloudError):
                    self._database.run_now(leases.release, self._holder, self._term)
        raise AssertionError("the loops never end")

    @property
    def is_coordinator(self) -> bool:
        """Whether this process holds the lease."""
        return self._term is not None

    def start_listening(self) -> None:
        """Gateways can be heard from now on: the broker was away until this moment."""
        self._since = self._clock()

    # -- one round each

    async def offer(self) -> bool:
        """Offer what may start. Returns whether there is more to do at once."""
        done = await self._do(dispatch.offer_due, self._clock(), self._silence)
        if done.offered:
            self._changes.touched(done.runs, done.gateways, ended=False)
            self._changes.to_send()
        return done.more

    async def advance_runs(self) -> bool:
        """Start what is due, create tasks, sweep and end runs, a chunk of each run."""
        now, more = self._clock(), False
        touched: set[str] = set()
        for run in await self._database.read(stored_runs.to_start, now):
            if await self._do(control.start_due, run, now):
                touched.add(run)
        for run in await self._database.read(stored_runs.to_fill, now):
            more |= await self._chunk(runs.create_tasks, run, now)
            touched.add(run)
        for run in await self._database.read(stored_runs.to_sweep):
            more |= await self._chunk(runs.sweep, run, now)
            touched.add(run)
            self._changes.to_send()
        for run in await self._database.read(stored_runs.to_settle, now):
            settled = await self._do(runs.settle_run, run, now)
            more |= settled.more
            if settled.changed:
                touched.add(run)
        self._changes.touched(touched)
        return more

    async def fire_triggers(self) -> bool:
        """Start or extend the runs of jobs that have a trigger on what has happened."""
        if not await self._database.read(triggers.has_work):
            return False
        fired = await self._do(triggers.fire, self._clock(), self._new_id, self._address())
        self._changes.touched(fired.runs)
        return fired.more

    async def operate(self) -> bool:
        """A chunk of every background operation. Returns whether there is more to do at once."""
        if self._operator is None:
            return False
        moved, more = await self._operator.advance(self._do, self._clock())
        self._changes.touched(moved)
        return more

    async def purge(self) -> None:
        """Remove what deleted jobs leave behind, chunk after chunk."""
        now = self._clock()
        while run := await self._database.read(stored_purging.next_run, now):
            await self._do(purging.purge_chunk, run, now)
            # Whoever else wants to write comes in between.
            await asyncio.sleep(GATHER_S)

    async def sweep_samples(self) -> None:
        """Remove samples of devices that are older, or more, than what is kept."""
        before, most = self._clock() - self._keeping.samples_ms, self._keeping.samples
        for org in await self._database.read(samples.to_sweep, before, most):
            more = True
            while more:
                more = await self._do(samples.sweep, org, before, most, purging.AT_ONCE)
                await asyncio.sleep(GATHER_S)

    async def watch(self) -> None:
        """Wake what is parked at gateways online, and end what is silent past its deadline."""
        now = self._clock()
        touched = await self._do(dispatch.wake_parked, now, self._silence)
        touched |= await self._do(holds.lift_expired, now)
        touched |= await self._do(stranded.come_back, now, self._silence)
        # Within the first silence period nobody was heard because nobody could be.
        if now - self._since >= self._silence:
            touched |= await self._do(dispatch.time_out, now, self._silence)
            touched |= await self._do(stranded.strand, now, self._silence)
        unacknowledged = await self._do(acknowledgments.time_out_awaiting, now)
        if unacknowledged:
            self._changes.to_send()
        touched |= unacknowledged
        self._changes.touched(touched)

    # -- how they run

    async def _chunk(
        self, sweep: Callable[[Session, str, int, int], bool], run: str, now: int
    ) -> bool:
        """One chunk of a sweep, as large as the time that the one before took allows."""
        size = self._sizes.get(sweep.__name__, FIRST_CHUNK)

        def timed(session: Session) -> tuple[bool, float]:
            began = time.perf_counter()
            more = sweep(session, run, now, size)
            session.flush()
            return more, (time.perf_counter() - began) * 1000

        more, took = await self._do(timed)
        self._sizes[sweep.__name__] = next_chunk(size, took)
        return more

    async def _do(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        holder, term = self._holder, self._term
        if term is None:
            raise LeaseLost

        def under_lease(session: Session) -> R:
            return leases.under_lease(session, holder, term, function, *args, **kwargs)

        return await self._database.run(under_lease)

    async def _lease(self) -> Never:
        while True:
            try:
                term = await self._database.run(leases.acquire, self._holder)
                if term is not None and term != self._term:
                    self._since = self._clock()
                    log.info("coordinating", term=term)
                self._set_term(term)
            except CloudError as error:
                log.warning("lease not renewed", reason=str(error))
            await asyncio.sleep(RENEW_EVERY_S)

    async def _is_recovering(self) -> bool:
        """Whether this cloud was restored and waits. A restore is made while nobody runs."""
        if not self._has_recovered:
            self._has_recovered = not await self._do(recovery.look)
        return not self._has_recovered

    def _set_term(self, term: int | None) -> None:
        if term is None and self._term is not None:
            log.warning("somebody else coordinates")
        self._term = term
        (self._has_term.clear if term is None else self._has_term.set)()

    async def _woken(self, work: Callable[[], Awaitable[bool]]) -> Never:
        with self._changes.listen(ended_only=True) as listener:
            while True:
                more = await self._round(work)
                if not more:
                    await listener.wait(LOOK_EVERY_S)
                await asyncio.sleep(GATHER_S)

    async def _timed(self, work: Callable[[], Awaitable[None]]) -> Never:
        while True:
            await self._round(work)
            await asyncio.sleep(WATCH_EVERY_S)

    async def _round(self, work: Callable[[], Awaitable[R]]) -> R | None:
        await self._has_term.wait()
        try:
            return None if await self._is_recovering() else await work()
        except LeaseLost:
            self._set_term(None)
        except CloudError as error:
            log.warning("round failed", loop=work.__name__, reason=str(error))
            await asyncio.sleep(AFTER_TROUBLE_S)
        except Exception:
            # One loop's fault must not stop the others: runs would neither start nor end.
            log.exception("round raised", loop=work.__name__)
            await asyncio.sleep(AFTER_TROUBLE_S)
        return None
