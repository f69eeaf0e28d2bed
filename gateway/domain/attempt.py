"""One attempt of a task: facts in, effects out. It decides; the worker saves, then acts.

The steps run in order. After a failure only `on_failure` and `always` steps are left, after a
cancel only `always` ones. Time is measured from the first step on, and survives a restart.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, assert_never

from pydantic import JsonValue

from contract.lifecycle import STEP_ENDS, StepStatus, TaskStatus
from contract.masking import masked
from contract.messages import Failure, OfferedStep
from contract.template_dialect import TemplateError, is_true, render
from gateway.domain.attempt_state import Attempt, StepState, progress_of, scope_of, with_changes
from gateway.domain.backoff import backoff_ms
from gateway.domain.facts import (
    Acknowledged,
    Acknowledgment,
    AskToStop,
    Begin,
    CancelAsked,
    CancelMode,
    Denied,
    Done,
    Due,
    Effect,
    Fact,
    Held,
    Hopeless,
    Instant,
    Interrupt,
    Level,
    LineLost,
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
from gateway.domain.masking import mask, mask_fields
from gateway.domain.parameters import rendered
from gateway.domain.plain_json import MAX_RESULT_BYTES, cut, plain, plain_text

CRASHES_ALLOWED: Final = 3
CLEANUP_MS: Final = 60_000  # for an `always` or `on_failure` step without a timeout of its own
LONGEST_RETRY_MS: Final = 3_600_000
MAX_INPUT_BYTES: Final = 4 * 1024
LINE_FIRST_MS: Final = 500
LINE_LONGEST_MS: Final = 10_000
PROGRESS_EVERY_MS: Final = 2_000
# Revisions for progress are saved without a sync, so a power cut may forget them after they were
# reported. At most so many come between two synced ones, and a restart skips as many.
UNSYNCED_REVISIONS: Final = 1_000
# A second try would come out the same.
NEVER_RETRIED: Final = frozenset(
    {
        "step_invalid",
        "template_failed",
        "verb_unknown",
        "verb_unsupported",
        "image_invalid",
        "image_too_large",
        "unknown_device",
        "crashed_gateway",
        "address_refused",
    }
)


def advance(attempt: Attempt, fact: Fact, now: Instant) -> tuple[Attempt, list[Effect]]:
    """The attempt after a fact, and what to do, in order, once it is saved.

    A fact that changes nothing visible leaves the revision as it is. An ended attempt never
    changes.
    """
    if attempt.is_ended:
        return attempt, []
    turn = _Turn(attempt, now)
    # Whatever a device or a service echoes: no secret goes on from here.
    turn.take(mask_fields(fact, attempt.body.secrets))
    return turn.close(), turn.effects


class _Turn:
    """The bookkeeping of one fact; gone when `advance` returns."""

    def __init__(self, attempt: Attempt, now: Instant) -> None:
        self.effects: list[Effect] = []
        self._before = attempt
        self._now = now
        self._touched = False
        # Copies of its own, changed in place: a new attempt for each change cost half a task.
        self._attempt = with_changes(attempt)
        self._copied: set[int] = set()
        self._measure()

    # -- facts

    def take(self, fact: Fact) -> None:
        attempt = self._attempt
        match fact:
            case Started():
                self._started(fact)
            case Held(code):
                if not attempt.begun and not self._hand_back_if_late():
                    self._set(waiting_for=code)
            case Begin():
                if not attempt.begun and not self._hand_back_if_late():
                    self._proceed()
            case Hopeless(code, text):
                if not attempt.begun:
                    self._set(outcome=TaskStatus.FAILED, failure=_failure(code, text))
                    self._end()
            case Progress(percent, note):
                self._came_forward(percent, note)
            case CancelAsked(mode, reason):
                self._cancel(mode, reason)
            case Acknowledged(acknowledgment):
                self._acknowledged(acknowledgment)
            case Due():
                if not attempt.begun:
                    self._hand_back_if_late()
                elif attempt.current is not None and not attempt.performing:
                    self._go_on()
            case ProcessEnds(sent):
                if attempt.performing:
                    step = self._current
                    self._step(begins=max(step.begins - 1, 0), sent=step.sent or sent)
            case _:
                if attempt.performing:
                    self._outcome(fact)

    def _started(self, fact: Started) -> None:
        attempt, booted = self._attempt, self._attempt.boot
        self._note(
            boot=fact.boot,
            device=fact.device,
            gateway=fact.gateway,
            measured_to=self._now.mono,
            performing=False,
        )
        if booted != fact.boot:
            skipped = attempt.revision + UNSYNCED_REVISIONS
            self._set(revision=skipped)
            # Between two starts only the wall clock tells; it may be wrong, but not for longer.
            left = min(max(attempt.start_by_at - self._now.wall, 0), attempt.offer.start_by)
            self._note(start_by_mono=self._now.mono + left)
        if fact.cancel is not None and attempt.begun:
            self._note_cancel(fact.cancel.mode, fact.cancel.reason)
        if attempt.current is None:
            if attempt.begun and not attempt.is_awaiting:  # stopped between two steps
                self._proceed()
            return
        step = self._current
        if step.retrying:
            self._go_on()
        elif step.begins >= CRASHES_ALLOWED:
            self._step_failed("crashed_gateway", f"the process ended {step.begins} times in it")
            self._proceed()
        elif self._must_stop():
            self._step_failed("interrupted", "cancelled while the gateway was down")
            self._proceed()
        else:
            self._say("WARNING", "step taken up again", {"tries": step.tries})
            self._perform(resumed=step.begins > 0 or step.sent)
            if not self._attempt.performing:
                self._proceed()

    def _outcome(self, fact: Done | Denied | Unanswered | LineLost | TimedOut | Stopped) -> None:
        self._note(performing=False)
        match fact:
            case Done():
                self._done(fact)
            case Denied(code, text, result):
                self._keep_result(result)
                self._try_failed(code, text)
            case Unanswered(code, text):
                # What the line did explains more than that the step cannot tell.
                lost = self._current.losses and self._current.failure
                self._try_failed(*(lost.code, lost.text) if lost else (code, text))
            case LineLost(text, sent):
                self._line_lost(text, sent)
            case TimedOut(result):
                if result is not None:
                    self._keep_result(result)
                self._time_is_over()
            case Stopped(result):
                if result is not None:
                    self._keep_result(result)
                self._step_failed("interrupted", "stopped by a forced cancel")
                self._proceed()
            case _:
                assert_never(fact)

    def _done(self, done: Done) -> None:
        self._keep_result(done.result)
        if done.memory:
            self._note(memory={**self._attempt.memory, **_plain_object(done.memory)})
        expect = self._offered.expect
        if expect is not None:
            try:
                scope = {**self._scope(), "result": self._current.result}
                fulfilled = is_true(expect, scope)
            except TemplateError as error:
                self._try_failed("template_failed", str(error))
                return
            if not fulfilled:
                self._try_failed("expectation_failed", f"`{expect}` is not true")
                return
        self._say("INFO", "step succeeded")
        if done.acknowledgment is not None:
            self._acknowledged(done.acknowledgment)
        self._end_step(StepStatus.SUCCEEDED, note=plain_text(done.note) or self._current.note)
        self._proceed()

    def _line_lost(self, text: str, sent: bool) -> None:
        step = self._current
        losses = step.losses + 1
        failure = _failure("device_unreachable", text, self._offered.id)
        self._step(losses=losses, sent=step.sent or sent, failure=failure, begins=0)
        left = self._time_left()
        if left <= 0 or self._must_stop():
            self._try_failed("device_unreachable", text)
            return
        if losses == 1:
            self._say("WARNING", "line lost", {"text": plain_text(text, 500)})
        delay = backoff_ms(losses, LINE_FIRST_MS, LINE_LONGEST_MS)
        self.effects.append(WaitUntil(min(delay, left)))

    def _time_is_over(self) -> None:
        lost = self._current.failure if self._current.losses else None
        if lost is not None:
            self._try_failed(lost.code, lost.text)
        elif self._is_overdue():
            step = self._offered.id
            self._step_failed("step_timed_out", "the task's time was over")
            self._set_timed_out(step)
            self._proceed()
        else:
            self._try_failed("step_timed_out", f"not done within {self._offered.timeout} ms")

    def _came_forward(self, percent: float, note: str) -> None:
        if self._attempt.performing and math.isfinite(percent):
            percent = min(max(percent, self._current.progress), 100)
            _change(self._own_step(), {"progress": percent, "note": plain_text(note)})

    def _cancel(self, mode: CancelMode, reason: str) -> None:
        attempt = self._attempt
        if not attempt.begun:
            if mode == "recall":
                self._hand_back("recalled")
            else:
                self._set(outcome=TaskStatus.CANCELLED, cancel=mode)
                self._end()
            return
        if not self._note_cancel(mode, reason):
            return
        if attempt.is_awaiting:
            self._set(outcome=TaskStatus.CANCELLED)
            self._end()
            return
        if attempt.current is None or self._is_cleanup_step():
            return
        if not attempt.performing:
            failure = self._current.failure or _failure("interrupted", "cancelled")
            self._step_failed(failure.code, failure.text)
            self._proceed()
        else:
            self.effects.append(Interrupt() if mode == "force" else AskToStop())

    def _note_cancel(self, mode: CancelMode, reason: str) -> bool:
        """Whether that is news."""
        known = self._attempt.cancel
        if mode == "recall" or known in (mode, "force"):
            return False
        self._set(cancel=mode)
        self._say("WARNING", "cancel asked for", {"mode": mode, "reason": plain_text(reason, 500)})
        return True

    # -- going on

    def _proceed(self) -> None:
        """Begin the next step, or end the attempt when none is left."""
        while True:
            index = self._next_step()
            if index is None:
                if self._is_acknowledged_as_failed():
                    continue
                self._end()
                return
            if self._attempt.outcome is None and self._must_stop():
                self._set(outcome=TaskStatus.CANCELLED)
                continue
            if self._attempt.outcome is None and self._is_overdue():
                self._set_timed_out(None)
                continue
            self._set(current=index)
            if self._is_skipped():
                continue
            self._begin_try()
            if self._attempt.performing:
                return

    def _next_step(self) -> int | None:
        outcome = self._attempt.outcome
        for index, (step, state) in enumerate(
            zip(self._attempt.body.steps, self._attempt.steps, strict=True)
        ):
            if state.status is not StepStatus.PENDING:
                continue
            if outcome is None:
                due = not step.on_failure
            elif outcome is TaskStatus.CANCELLED:
                due = step.always
            else:
                due = step.always or step.on_failure
            if due:
                return index
        return None

    def _is_acknowledged_as_failed(self) -> bool:
        """Whether a bad acknowledgment has just become the outcome: clean-up steps are due."""
        word = self._attempt.acknowledgment
        if self._attempt.outcome is not None or word is None or word.success:
            return False
        failure = _failure("acknowledged_as_failed", word.text or f"by {word.by}")
        self._set(outcome=TaskStatus.FAILED, failure=failure)
        return True

    def _is_skipped(self) -> bool:
        when = self._offered.when
        if when is None:
            return False
        try:
            if is_true(when, self._scope()):
                return False
        except TemplateError as error:
            self._mark_begun()
            self._step_failed("template_failed", str(error))
            return True
        self._say("INFO", "step skipped")
        self._end_step(StepStatus.SKIPPED)
        return True

    def _begin_try(self) -> None:
        self._mark_begun()
        step = self._current
        if step.tries == 0:
            self._say("INFO", "step started")
        self._step(
            status=StepStatus.RUNNING,
            started_at=step.started_at or self._now.wall,
            tries=step.tries + 1,
            try_elapsed=0,
            begins=0,
            losses=0,
            sent=False,
            retrying=False,
            progress=0,
            failure=None,
        )
        self._perform(resumed=False)

    def _go_on(self) -> None:
        """After a wait: the next try, or the same one again now that the line may be back."""
        if self._current.retrying:
            self._begin_try()
        elif self._time_left() <= 0:
            self._time_is_over()
            return
        else:
            self._perform(resumed=self._current.sent)
        if self._attempt.current is None and not self._attempt.is_ended:
            self._proceed()

    def _perform(self, resumed: bool) -> None:
        offered, scope = self._offered, self._scope()
        try:
            parameters = rendered(offered.uses, offered.with_, scope)
            key = None if offered.key is None else str(render(offered.key, scope))
        except TemplateError as error:
            self._step_failed("template_failed", str(error))
            return
        self._step(begins=self._current.begins + 1, **self._shown_input(parameters))
        self._note(performing=True)
        self.effects.append(
            Perform(
                step=offered.id,
                uses=offered.uses,
                parameters=parameters,
                timeout_ms=max(self._time_left(), 1),
                resumed=resumed,
                scope=scope,
                memory=self._attempt.memory,
                key=key,
            )
        )

    def _shown_input(self, parameters: Mapping[str, JsonValue]) -> dict[str, Any]:
        """What the step was given, as people may see it; nothing if it is what the job says."""
        if parameters == self._offered.with_:
            return {}
        offer, secrets = self._attempt.offer, self._attempt.body.secrets
        if offer.acknowledgment_token:
            secrets = {**secrets, "": offer.acknowledgment_token}
        shown = masked(mask(plain(parameters), secrets), is_written=False)
        value, truncated = cut(shown, MAX_INPUT_BYTES)
        return {"input": value, "input_truncated": truncated}

    def _try_failed(self, code: str, text: str) -> None:
        step, policy = self._current, self._offered.retry
        delay = backoff_ms(step.tries, policy.delay, LONGEST_RETRY_MS, policy.backoff)
        has_tries = step.tries < policy.attempts and code not in NEVER_RETRIED
        left = self._attempt.offer.timeout - self._attempt.elapsed
        has_time = self._is_cleanup_step() or delay < left
        if has_tries and has_time and not self._must_stop():
            failure = _failure(code, text, self._offered.id)
            self._step(retrying=True, failure=failure)
            self._say("WARNING", "step will be tried again", {"code": code, "after_ms": delay})
            self.effects.append(WaitUntil(delay))
            return
        self._step_failed(code, text)
        self._proceed()

    def _step_failed(self, code: str, text: str) -> None:
        step_id = self._offered.id
        failure = _failure(code, text, step_id)
        self._end_step(StepStatus.FAILED, failure=failure)
        data: dict[str, JsonValue] = {"code": failure.code, "text": failure.text[:500]}
        self._say("ERROR", "step failed", data, step_id)
        if self._attempt.outcome is None:
            is_cancelled = self._attempt.cancel in ("soft", "force")
            outcome = TaskStatus.CANCELLED if is_cancelled else TaskStatus.FAILED
            self._set(outcome=outcome, failure=failure)

    def _set_timed_out(self, step: str | None) -> None:
        if self._attempt.cancel is not None:
            self._set(outcome=TaskStatus.CANCELLED)
            return
        text = f"not done within {self._attempt.offer.timeout} ms"
        failure = _failure("task_timed_out", text, step)
        self._set(outcome=TaskStatus.TIMED_OUT, failure=failure)

    # -- endings

    def _end_step(self, status: StepStatus, **changes: Any) -> None:
        if status is StepStatus.SKIPPED:
            changes["skipped_at"] = self._now.wall
        else:
            changes["completed_at"] = self._now.wall
            if self._current.started_at is None:
                changes["started_at"] = self._now.wall
        if status is StepStatus.SUCCEEDED:
            changes.update(progress=100, failure=None)
        self._step(status=status, begins=0, retrying=False, **changes)
        self._set(current=None)
        self._note(performing=False)

    def _acknowledged(self, word: Acknowledgment) -> None:
        """The first word counts; later ones are only noted."""
        if self._attempt.acknowledgment is not None:
            self._say("WARNING", "acknowledged again: nothing changes", {"by": word.by[:200]})
            return
        result, _ = cut(plain(word.result), MAX_RESULT_BYTES)
        accumulator, _ = cut(plain(word.accumulator), MAX_RESULT_BYTES)
        kept = Acknowledgment(
            word.success,
            result,
            accumulator,
            plain_text(word.text, 1_000),
            plain_text(word.by, 200),
        )
        self._set(acknowledgment=kept)
        self._say("INFO", "acknowledged", {"success": kept.success, "by": kept.by})
        if self._attempt.is_awaiting:
            # The slot is long given away: a rollback would need a task of its own.
            self._is_acknowledged_as_failed()
            self._end()

    def _end(self) -> None:
        word = self._attempt.acknowledgment
        if self._attempt.outcome is None and word is None and self._attempt.body.acknowledge:
            if self._attempt.cancel is None:
                self._set(status=TaskStatus.AWAITING, waiting_for=None)
                self._say("INFO", "awaiting acknowledgment")
                return
            self._set(outcome=TaskStatus.CANCELLED)
        if word is not None and self._attempt.outcome in (None, TaskStatus.FAILED):
            given = {} if word.result is None else {"result": word.result}
            self._set(accumulator=word.accumulator, **given)
        skipped = with_changes(StepState(), status=StepStatus.SKIPPED, skipped_at=self._now.wall)
        steps = tuple(
            state if state.status in STEP_ENDS else skipped for state in self._attempt.steps
        )
        status = self._attempt.outcome or TaskStatus.SUCCEEDED
        self._set(status=status, steps=steps, ended_at=self._now.wall, waiting_for=None)
        level: Level = "INFO" if status is TaskStatus.SUCCEEDED else "ERROR"
        if status is TaskStatus.CANCELLED:
            level = "WARNING"
        code = self._attempt.failure.code if self._attempt.failure else None
        self._say(level, f"attempt {status}", {"code": code} if code else {})

    def _hand_back_if_late(self) -> bool:
        if self._attempt.late_in(self._now) > 0:
            return False
        self._hand_back("start_by has passed")
        return True

    def _hand_back(self, why: str) -> None:
        self._set(status=TaskStatus.SCHEDULED, ended_at=self._now.wall, waiting_for=None)
        self._say("INFO", "attempt handed back", {"why": why})

    # -- small parts

    @property
    def _current(self) -> StepState:
        assert self._attempt.current is not None
        return self._attempt.steps[self._attempt.current]

    @property
    def _offered(self) -> OfferedStep:
        assert self._attempt.current is not None
        return self._attempt.body.steps[self._attempt.current]

    def _set(self, **changes: Any) -> None:
        self._touched |= _change(self._attempt, changes)

    def _note(self, **changes: Any) -> None:
        """What makes no revision of its own."""
        _change(self._attempt, changes)

    def _step(self, **changes: Any) -> None:
        self._touched |= _change(self._own_step(), changes)

    def _own_step(self) -> StepState:
        index = self._attempt.current
        assert index is not None
        if index not in self._copied:
            self._copied.add(index)
            steps = list(self._attempt.steps)
            steps[index] = with_changes(steps[index])
            self._attempt.__dict__["steps"] = tuple(steps)
        return self._current

    def _mark_begun(self) -> None:
        if not self._attempt.begun:
            self._set(
                begun=True,
                status=TaskStatus.RUNNING,
                started_at=self._now.wall,
                waiting_for=None,
                measured_to=self._now.mono,
            )

    def _measure(self) -> None:
        attempt = self._attempt
        if not attempt.begun or attempt.measured_to is None:
            return
        passed = max(self._now.mono - attempt.measured_to, 0)
        self._note(elapsed=attempt.elapsed + passed, measured_to=self._now.mono)
        if passed and attempt.current is not None and not self._current.retrying:
            step = self._own_step()
            _change(step, {"try_elapsed": step.try_elapsed + passed})

    def _is_cleanup_step(self) -> bool:
        return self._attempt.outcome is not None or self._offered.always

    def _is_overdue(self) -> bool:
        overdue = self._attempt.elapsed >= self._attempt.offer.timeout
        return overdue and self._attempt.outcome is None

    def _must_stop(self) -> bool:
        """A cancel was asked for, and what would come next is no cleaning up."""
        if self._attempt.cancel not in ("soft", "force") or self._attempt.outcome is not None:
            return False
        index = self._attempt.current
        if index is not None:
            return not self._attempt.body.steps[index].always
        following = self._next_step()
        return following is not None and not self._attempt.body.steps[following].always

    def _time_left(self) -> int:
        """What the running try may still take, in ms."""
        own = self._offered.timeout
        if self._attempt.outcome is not None:
            own = own or CLEANUP_MS
            return own - self._current.try_elapsed
        left = self._attempt.offer.timeout - self._attempt.elapsed
        return left if own is None else min(left, own - self._current.try_elapsed)

    def _keep_result(self, result: JsonValue) -> None:
        value, truncated = cut(plain(result), MAX_RESULT_BYTES)
        self._step(result=value, truncated=truncated)
        if self._attempt.outcome is None:
            self._set(result=value)

    def _say(
        self,
        level: Level,
        text: str,
        data: Mapping[str, JsonValue] | None = None,
        step: str | None = None,
    ) -> None:
        if step is None and self._attempt.current is not None:
            step = self._offered.id
        self.effects.append(Say(level, text, {**({"step": step} if step else {}), **(data or {})}))

    def _scope(self) -> dict[str, JsonValue]:
        return scope_of(self._attempt)

    def close(self) -> Attempt:
        attempt = self._attempt
        if self._touched:
            return with_changes(
                attempt,
                progress=max(attempt.progress, progress_of(attempt)),
                revision=attempt.revision + 1,
                unsynced=0,
                progress_told=self._now.mono,
            )
        if attempt.steps == self._before.steps or not attempt.performing:
            return attempt
        told = attempt.progress_told
        if told is not None and self._now.mono - told < PROGRESS_EVERY_MS:
            return attempt
        if not _has_come_forward(self._before, attempt):
            return attempt
        unsynced = (attempt.unsynced + 1) % UNSYNCED_REVISIONS
        return with_changes(
            attempt,
            progress=max(attempt.progress, progress_of(attempt)),
            revision=attempt.revision + 1,
            unsynced=unsynced,
            progress_told=self._now.mono,
        )


def _change(value: Attempt | StepState, changes: Mapping[str, Any]) -> bool:
    """Change a copy of our own in place; whether anything has become different."""
    held, is_different = value.__dict__, False
    for name, new in changes.items():
        if held[name] is not new and held[name] != new:
            held[name], is_different = new, True
    return is_different


def _has_come_forward(before: Attempt, after: Attempt) -> bool:
    if before.current is None or before.current != after.current:
        return True
    old, new = before.steps[before.current], after.steps[before.current]
    return (old.progress, old.note) != (new.progress, new.note)


def _plain_object(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    kept = plain(dict(values))
    assert isinstance(kept, dict)
    return kept


def _failure(code: str, text: str, step: str | None = None) -> Failure:
    return Failure(code=plain_text(code, 128), text=plain_text(text), step=step)
