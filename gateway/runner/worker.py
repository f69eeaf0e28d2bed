"""Carries the attempts of one lane: feeds facts to the attempt, saves it, then acts."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

from pydantic import JsonValue

from contract.ids import THIS_GATEWAY
from contract.messages import CancelItem, LogLine, OfferedTask
from contract.steps import AfterRestart
from gateway import crash_points
from gateway.actions.base import (
    Action,
    AtOnce,
    Call,
    StepDone,
    StepOutcome,
    StepRefused,
    StepUnanswered,
)
from gateway.domain.attempt import advance
from gateway.domain.attempt_state import Attempt
from gateway.domain.facts import (
    Acknowledged,
    Acknowledgment,
    AskToStop,
    Begin,
    CancelAsked,
    Denied,
    Done,
    Due,
    Effect,
    Fact,
    Held,
    Hopeless,
    Instant,
    Interrupt,
    LineLost,
    Outcome,
    Perform,
    ProcessEnds,
    Progress,
    Say,
    Started,
    Stopped,
    TimedOut,
    Unanswered,
    WaitUntil,
)
from gateway.domain.masking import mask, mask_text
from gateway.domain.plain_json import plain_text
from gateway.domain.retention import Stream
from gateway.drivers.base import StopWord
from gateway.errors import (
    ArtifactUnavailable,
    CallRefused,
    CloudRefused,
    CloudUnreachable,
    DeviceUnreachable,
    LineQuarantined,
    ReplyGarbled,
    StepInvalid,
    StorageFull,
)
from gateway.journal import outbox, tasks
from gateway.journal.database import Database
from gateway.logs import Log
from gateway.runner.buses import Buses
from gateway.runner.claims import Claims
from gateway.runner.devices import OPEN_WITHIN_S, DeviceHandle
from gateway.runner.reach import Artifacts, Outside, Place, StepReach
from gateway.runner.replies import Replies
from gateway.runner.under_way import UnderWay

DISK_FULL_RETRY_S: Final = 2.0
BUS_PATIENCE_S: Final = 1.0
IDLE_S: Final = 30.0
AT_ONCE_IN_A_ROW: Final = 50
LINES_EVERY_S: Final = 1.0
PROBATION_S: Final = 10.0
LINES_KEPT: Final = 200
ON_DEVICES: Final = ("device.", "firmware.", "certificate.")
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

log = Log()


class Overtaken(Exception):
    """Somebody else has changed the attempt in the journal: load it again."""


@dataclass(frozen=True)
class Shop:
    """What all workers share."""

    journal: Database
    actions: Mapping[str, Action]
    artifacts: Artifacts
    buses: Buses
    clock: Callable[[], Instant]
    gateway: Mapping[str, JsonValue]
    boot: int
    may_begin: Callable[[], bool]
    stream: Callable[[], Stream]
    on_unsent: Callable[[bool], None]
    outside: Outside
    replies: Replies
    probation: asyncio.Lock = field(default_factory=asyncio.Lock)
    claims: Claims = field(default_factory=Claims)
    devices: Mapping[str, DeviceHandle] = field(default_factory=dict)
    under_way: UnderWay = field(default_factory=UnderWay)


class Worker:
    """One lane, at most one attempt at a time. `device` is None where the lane has none."""

    def __init__(self, lane: str, shop: Shop, device: DeviceHandle | None) -> None:
        self.lane = lane
        self._shop = shop
        self._device = device
        self._inbox: asyncio.Queue[Fact] = asyncio.Queue()
        self._more = asyncio.Event()
        self._attempt: Attempt | None = None
        self._performing: asyncio.Task[None] | None = None
        self._due_at: int | None = None
        self._lines: list[outbox.Line] = []
        self._lines_dropped = 0
        self._is_stopping = False
        self._is_interrupting = False
        # Whether the step that is journaled as under way may have done something, and whether
        # it is journaled that the process leaves it.
        self._is_entered = False
        self._is_left = False
        self._stop_word = StopWord()
        self._outcome_known = asyncio.Event()

    def wake(self) -> None:
        """There may be more work."""
        self._more.set()

    @property
    def is_at_work(self) -> bool:
        """An attempt is being carried, or about to be."""
        return self._attempt is not None

    def cancel(self, item: CancelItem) -> bool:
        """Obey a cancel, if it is about the attempt that is being carried; says whether it is."""
        attempt = self._attempt
        if attempt is not None and (attempt.offer.task, attempt.offer.attempt) == (
            item.task,
            item.attempt,
        ):
            self._inbox.put_nowait(CancelAsked(item.mode, item.reason))
            return True
        return False

    def acknowledge(self, task: str, attempt: int, word: Acknowledgment) -> bool:
        """Somebody acknowledges an attempt; False when it is not the one being carried."""
        carried = self._attempt
        if carried is None or (carried.offer.task, carried.offer.attempt) != (task, attempt):
            return False
        if carried.is_awaiting:
            return False
        self._inbox.put_nowait(Acknowledged(word))
        return True

    def stop(self) -> None:
        """The process ends: note where we are, and let go."""
        self._is_stopping = True
        self._more.set()
        self._inbox.put_nowait(ProcessEnds(self._is_entered))

    async def run(self) -> None:
        """Carry attempts until there have been none for a while."""
        try:
            while not self._is_stopping:
                self._more.clear()
                if self._device is not None and self._shop.claims.is_free_for(self.lane, ""):
                    await self._device.freshen()
                attempt = await self._shop.journal.run_unsynced(
                    tasks.next_of, self.lane, self._shop.clock()
                )
                if attempt is not None:
                    await self._carry(attempt)
                elif self._device is None or not await self._hear_of_more():
                    return
        finally:
            if self._device is not None:
                await self._device.rest()

    async def _hear_of_more(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._more.wait()
                return True
        return False

    async def _carry(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._due_at = None
        while not self._inbox.empty():
            self._inbox.get_nowait()
        if self._is_stopping:
            return
        try:
            async with asyncio.TaskGroup() as steps:
                try:
                    await self._carry_within(steps)
                finally:
                    self._outcome_known.set()
                    if self._performing is not None:
                        self._performing.cancel()
                        self._performing = None
        except* Overtaken:
            log.info("attempt overtaken", task=attempt.offer.task, attempt=attempt.offer.attempt)
        finally:
            self._attempt = None
            holder = holder_of(attempt)
            self._shop.artifacts.release(holder)
            for device in self._shop.claims.held_by(holder) - {self.lane}:
                await self._shop.devices[device].rest()
            self._shop.claims.release(holder)

    async def _carry_within(self, steps: asyncio.TaskGroup) -> None:
        device = self._device.scope() if self._device else {}
        assert self._attempt is not None
        problem = await self._shop.replies.watch(self._attempt)
        if problem is not None and not self._attempt.begun:
            await self._take(Hopeless(*problem), steps)
            return
        if self._attempt.is_suspect and not self._is_stopping:
            await self._begin_probation(steps)
        if self._device is not None and self._attempt.begun:
            await self._shop.claims.take([self.lane], holder_of(self._attempt))
        # Read once the attempt is ours: what is asked from now on comes to the inbox.
        offer = self._attempt.offer
        asked = await self._shop.journal.run_unsynced(tasks.cancel_asked, offer.task, offer.attempt)
        await self._take(Started(self._shop.boot, device, self._shop.gateway, asked), steps)
        await self._until_begun(steps)
        while self._open and not self._is_stopping:
            await self._take(await self._next_fact(), steps)
        while self._is_stopping and self._open and not self._inbox.empty():
            await self._take(self._inbox.get_nowait(), steps)
        if self._is_stopping and self._open and not self._is_left:
            await self._take(ProcessEnds(self._is_entered), steps)
        await self._keep_lines()
        await self._take_last_words()

    async def _begin_probation(self, steps: asyncio.TaskGroup) -> None:
        """Steps in whose middle the process has ended before are taken up one after the other.

        So a further end is blamed on one of them alone, not on all that were under way.
        """
        probation = self._shop.probation
        await probation.acquire()
        self._outcome_known.clear()
        ending = steps.create_task(self._end_probation(), name="probation")
        ending.add_done_callback(lambda _: probation.release())

    async def _end_probation(self) -> None:
        with suppress(TimeoutError):  # whoever ends the process does so sooner
            async with asyncio.timeout(PROBATION_S):
                await self._outcome_known.wait()

    async def _take_last_words(self) -> None:
        """An acknowledgment may have come between the last step and now, when we let go."""
        attempt = self._attempt
        while attempt is not None and attempt.is_awaiting and not self._inbox.empty():
            fact = self._inbox.get_nowait()
            if isinstance(fact, Acknowledged | CancelAsked):
                after, _ = advance(attempt, fact, self._shop.clock())
                await self._save(after, attempt.revision)
                attempt = self._attempt = after

    @property
    def _open(self) -> bool:
        attempt = self._attempt
        return attempt is not None and not attempt.is_ended and not attempt.is_awaiting

    # -- before the first step

    async def _until_begun(self, steps: asyncio.TaskGroup) -> None:
        """Wait for whatever is in the way, saying what it is, until it begins or is handed back."""
        waiting_since = self._shop.clock().mono
        while self._open and self._attempt is not None and not self._attempt.begun:
            if self._is_stopping:
                return
            if self._device is None and not self.lane.startswith("task:"):
                await self._take(
                    Hopeless("unknown_device", f"there is no device `{self.lane}` here"), steps
                )
                return
            obstacle = None
            if not self._is_free:
                looking = steps.create_task(self._obstacle(waiting_since), name="obstacle")
                heard = await self._heard_before(looking, steps)
                if heard is not None:
                    await self._take(heard, steps)
                    continue
                obstacle = looking.result()
            if obstacle is None and not self._has_device():
                obstacle = "device_held"
            if obstacle is None:
                await self._take(Begin(), steps)
                return
            fact: Fact = Due() if obstacle == self._attempt.waiting_for else Held(obstacle)
            await self._take(fact, steps)
            if not self._open:
                return
            late_in = max(self._attempt.late_in(self._shop.clock()), 1)
            pause = self._device.link.next_try_ms if self._device else 0
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(pause, 500), late_in) / 1000):
                    heard = await self._inbox.get()
            if heard is not None:
                await self._take(heard, steps)

    def _has_device(self) -> bool:
        """The device is this attempt's from now on; False where another attempt has it."""
        if self._device is None or self._attempt is None:
            return True
        return self._shop.claims.try_take(self.lane, holder_of(self._attempt))

    @property
    def _is_free(self) -> bool:
        """Nothing is in the way, as can be seen without waiting: the link is open."""
        handle = self._device
        if handle is None or not handle.is_open:
            return False
        if not handle.device.takes_turns and self._shop.buses.is_busy(handle.bus):
            return False
        return self._shop.may_begin() and self._inbox.empty()

    async def _heard_before(
        self, looking: asyncio.Task[str | None], steps: asyncio.TaskGroup
    ) -> Fact | None:
        """The fact that comes before a look is done, which then ends: a cancel does not wait."""
        hearing = steps.create_task(self._inbox.get(), name="inbox")
        await asyncio.wait({looking, hearing}, return_when=asyncio.FIRST_COMPLETED)
        late = looking if hearing.done() else hearing
        late.cancel()
        await asyncio.wait({late})
        # What came while the waiting for it ended stays in the inbox.
        return None if hearing.cancelled() else hearing.result()

    async def _obstacle(self, waiting_since: int) -> str | None:
        """What is in the way; a silent device is asked no longer than there is patience for."""
        if not self._shop.may_begin():
            return "in_conflict"
        handle = self._device
        assert self._attempt is not None
        if not self._shop.claims.is_free_for(self.lane, holder_of(self._attempt)):
            return "device_held"
        first = self._attempt.first_step
        if handle is None or first is None or not first.uses.startswith(ON_DEVICES):
            return None
        if first.uses == "device.wait":
            return None
        buses = self._shop.buses
        shut = buses.shut(handle.bus)
        if shut is None and not handle.device.takes_turns:
            try:
                async with buses.hold(handle.bus, BUS_PATIENCE_S, handle.device.id):
                    pass
            except DeviceUnreachable:
                return "bus_busy"
        within_s, patience_ms = OPEN_WITHIN_S, handle.device.patience_ms
        if patience_ms is not None:
            left_ms = waiting_since + patience_ms - self._shop.clock().mono
            if left_ms <= 0:
                return None
            within_s = min(within_s, left_ms / 1000)
        if shut is not None:
            return "line_quarantined"
        try:
            await handle.open(within_s)
        except LineQuarantined:
            return "line_quarantined"
        except DeviceUnreachable:
            return "device_asleep"
        return None

    # -- facts

    async def _next_fact(self) -> Fact:
        while True:
            self._collect_device_lines()
            wait_s = self._wait_s()
            try:
                async with asyncio.timeout(wait_s):
                    return await self._inbox.get()
            except TimeoutError:
                if self._due_at is not None and self._shop.clock().mono >= self._due_at:
                    self._due_at = None
                    return Due()
                await self._keep_lines()

    def _wait_s(self) -> float | None:
        if self._due_at is None:
            return LINES_EVERY_S if self._lines or self._device else None
        until_due = max(self._due_at - self._shop.clock().mono, 1) / 1000
        return min(until_due, LINES_EVERY_S) if self._lines else until_due

    async def _take(self, fact: Fact, steps: asyncio.TaskGroup) -> None:
        before = self._attempt
        assert before is not None
        self._is_left |= isinstance(fact, ProcessEnds)
        after, effects = self._advance(before, fact)
        if isinstance(fact, Outcome):
            # Never first, so that a step which ends the process is counted in the one before it.
            for _ in range(AT_ONCE_IN_A_ROW):
                perform = self._at_once(effects)
                if perform is None:
                    break
                try:
                    fact = await self._outcome(perform, self._reach(after, perform.step))
                except Exception:
                    await self._save(after, before.revision)
                    raise
                after, effects = self._advance(after, fact)
        if after.revision != before.revision:
            await self._save(after, before.revision)
        if isinstance(fact, Outcome):
            self._outcome_known.set()
        self._attempt = after
        for effect in effects:
            self._act(effect, steps)

    def _advance(self, attempt: Attempt, fact: Fact) -> tuple[Attempt, list[Effect]]:
        after, effects = advance(attempt, fact, self._shop.clock())
        for effect in effects:
            if isinstance(effect, Say):
                self._say(after, effect)
        return after, effects

    def _at_once(self, effects: list[Effect]) -> Perform | None:
        last = effects[-1] if effects else None
        if isinstance(last, Perform) and isinstance(self._shop.actions.get(last.uses), AtOnce):
            return last
        return None

    async def _save(self, attempt: Attempt, expected: int) -> None:
        self._collect_device_lines()
        lines, self._lines = self._lines, []
        run = self._shop.journal.run_unsynced if attempt.unsynced else self._shop.journal.run
        told = False
        while True:
            try:
                stream = self._shop.stream()
                kept = await run(tasks.save, attempt, expected, self._shop.clock(), lines, stream)
                break
            except StorageFull as error:
                if not told:
                    log.error(
                        "the disk takes nothing: result waits",
                        task=attempt.offer.task,
                        why=str(error),
                    )
                self._lines_dropped += len(lines)
                told, lines = True, []
                await asyncio.sleep(DISK_FULL_RETRY_S)
        if not kept:
            raise Overtaken
        if attempt.is_ended:
            self._shop.replies.forget(attempt.offer.task, attempt.offer.attempt)
        self._shop.on_unsent(attempt.is_ended or attempt.is_awaiting)

    async def _keep_lines(self) -> None:
        self._collect_device_lines()
        lines, self._lines = self._lines, []
        dropped, self._lines_dropped = self._lines_dropped, 0
        if not lines and not dropped:
            return
        journal = self._shop.journal
        try:
            if dropped:
                await journal.run_unsynced(outbox.count_dropped, "logs", dropped)
                dropped = 0
            await journal.run_unsynced(outbox.add, self._shop.stream(), lines)
            self._shop.on_unsent(False)
        except StorageFull:  # log lines go before results
            self._lines_dropped += dropped + len(lines)

    # -- effects

    def _act(self, effect: Effect, steps: asyncio.TaskGroup) -> None:
        match effect:
            case Perform():
                self._is_interrupting = self._is_entered = self._is_left = False
                self._performing = steps.create_task(
                    self._perform(effect), name=f"step {effect.step}"
                )
            case WaitUntil(delay_ms):
                self._due_at = self._shop.clock().mono + delay_ms
            case AskToStop():
                self._stop_word.ask()
            case Interrupt():
                if self._performing is not None:
                    self._is_interrupting = True
                    self._stop_word.force()
                    self._performing.cancel()
            case Say():
                pass  # saved with the attempt

    async def _perform(self, effect: Perform) -> None:
        attempt = self._attempt
        assert attempt is not None
        reach = self._reach(attempt, effect.step)
        self._stop_word = reach.stop
        action = self._shop.actions.get(effect.uses)
        is_fragile = action is not None and action.after_restart is AfterRestart.ASK
        try:
            async with self._shop.under_way.step(holder_of(attempt), is_fragile):
                self._is_entered = True
                fact = await self._outcome(effect, reach)
        except asyncio.CancelledError:
            if not self._is_interrupting:
                raise
            self._is_interrupting = False
            fact = Stopped(reach.kept)
        self._inbox.put_nowait(fact)

    def _reach(self, attempt: Attempt, step: str) -> StepReach:
        offer = attempt.offer
        return StepReach(
            outside=self._shop.outside,
            place=Place(offer.run, offer.task, offer.attempt),
            perform_inner=self._perform_inner,
            device=self._device or self._own_device(offer),
            artifacts=self._shop.artifacts,
            refs=attempt.body.artifacts,
            on_progress=lambda percent, note: self._inbox.put_nowait(Progress(percent, note)),
            on_log=lambda level, text: self._log_line(attempt, level, text, {"step": step}),
            clock_ms=lambda: self._shop.clock().wall,
            holder=holder_of(attempt),
            claims=self._shop.claims,
            devices=self._shop.devices,
        )

    def _own_device(self, offer: OfferedTask) -> DeviceHandle | None:
        """This gateway itself, where the task is about it."""
        ours = self._shop.gateway.get("id")
        if offer.device is not None or offer.target.get("gateway") != ours:
            return None
        return self._shop.devices.get(THIS_GATEWAY)

    async def _outcome(self, effect: Perform, reach: StepReach) -> Fact:
        action = self._shop.actions.get(effect.uses)
        if action is None:
            return Denied("verb_unknown", f"this gateway knows no `{effect.uses}`")
        timeout_s = effect.timeout_ms / 1000
        call = Call(
            step=effect.step,
            uses=effect.uses,
            parameters=effect.parameters,
            timeout_s=timeout_s,
            resumed=effect.resumed,
            scope=effect.scope,
            memory=effect.memory,
            key=effect.key,
        )
        try:
            async with asyncio.timeout(timeout_s):
                crash_points.reach("step.before_perform", self.lane)
                outcome = await action.perform(call, reach)
                crash_points.reach("step.after_perform", self.lane)
                return _fact_of(outcome)
        except TimeoutError:
            if self._device is not None and self._device.link.status == "down":
                return LineLost("the device did not answer", reach.sent)
            return TimedOut(reach.kept)
        except DeviceUnreachable as error:
            return LineLost(str(error), reach.sent)
        except ReplyGarbled as error:
            return Unanswered("reply_garbled", str(error))
        except CallRefused as error:
            return Denied(error.code, str(error), error.result)
        except (ArtifactUnavailable, StepInvalid) as error:
            return Denied(error.code, str(error))
        except (CloudUnreachable, CloudRefused) as error:
            return Denied("artifact_unavailable", str(error))
        except StorageFull as error:
            return Denied("storage_full", str(error))

    async def _perform_inner(self, call: Call, reach: StepReach) -> StepOutcome:
        """A step inside a step: what it raises becomes its outcome."""
        action = self._shop.actions.get(call.uses)
        if action is None:
            return StepRefused("verb_unknown", f"this gateway knows no `{call.uses}`")
        inner = replace(reach, on_progress=lambda *_: None, sent=False)
        try:
            return await action.perform(call, inner)
        except DeviceUnreachable as error:
            text = str(error)
            if inner.sent:
                return StepUnanswered("device_unreachable", text)
            return StepRefused("device_unreachable", text)
        except ReplyGarbled as error:
            return StepUnanswered("reply_garbled", str(error))
        except (ArtifactUnavailable, StepInvalid, CallRefused) as error:
            return StepRefused(error.code, str(error))
        finally:
            reach.sent |= inner.sent

    # -- log lines

    def _say(self, attempt: Attempt, effect: Say) -> None:
        self._log_line(attempt, effect.level, effect.text, effect.data)
        name = {"task": attempt.offer.task, "attempt": attempt.offer.attempt, "lane": self.lane}
        # The steps of a task stand in the task's own log.
        is_dull = effect.level == "INFO" and "step" in effect.data
        tell = log.debug if is_dull else log.info
        tell(effect.text, **name, **effect.data)

    def _log_line(
        self, attempt: Attempt, level: str, text: str, data: Mapping[str, JsonValue]
    ) -> None:
        if len(self._lines) >= LINES_KEPT:
            self._lines_dropped += 1
            return
        secrets = attempt.body.secrets
        shown = mask(dict(data), secrets)
        known = level if level in ("DEBUG", "INFO", "WARNING", "ERROR") else "INFO"
        self._lines.append(
            LogLine(
                number=0,
                at=max(self._shop.clock().wall, 0),
                level=cast("Level", known),
                text=plain_text(mask_text(text, secrets)),
                task=attempt.offer.task,
                attempt=attempt.offer.attempt,
                device=attempt.offer.device,
                data=shown if isinstance(shown, dict) else {},
            )
        )

    def _collect_device_lines(self) -> None:
        if self._device is None or self._attempt is None:
            return
        self._lines_dropped += self._device.lines_dropped
        self._device.lines_dropped = 0
        for text in self._device.take_lines():
            self._log_line(self._attempt, "DEBUG", text, {"from": "device"})
        self._lines.extend(self._device.take_states())


def holder_of(attempt: Attempt) -> str:
    """The name under which an attempt has files and devices."""
    return f"{attempt.offer.task}:{attempt.offer.attempt}"


def _fact_of(outcome: StepOutcome) -> Fact:
    if isinstance(outcome, StepDone):
        return Done(outcome.result, outcome.memory, outcome.note, outcome.acknowledgment)
    if isinstance(outcome, StepRefused):
        return Denied(outcome.code, outcome.text, outcome.result)
    return Unanswered(outcome.code, outcome.text)
