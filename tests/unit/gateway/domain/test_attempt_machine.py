"""Any facts in any order: an attempt keeps its promises."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contract.lifecycle import STEP_ENDS, TASK_ENDS, StepStatus, TaskStatus
from contract.messages import OfferedAcknowledge
from gateway.domain.attempt import advance
from gateway.domain.attempt_record import from_record, snapshot_of, to_record
from gateway.domain.attempt_state import Attempt, with_changes
from gateway.domain.facts import (
    Acknowledged,
    Acknowledgment,
    Begin,
    CancelAsked,
    Denied,
    Done,
    Due,
    Effect,
    Fact,
    Held,
    Interrupt,
    LineLost,
    Perform,
    Progress,
    Started,
    Stopped,
    TimedOut,
    Unanswered,
    WaitUntil,
)
from tests.kit.attempts import AT, a_step, an_attempt, later

STEPS: st.SearchStrategy[Any] = st.lists(
    st.builds(
        dict,
        timeout=st.none() | st.integers(1, 20_000),
        retry=st.builds(dict, attempts=st.integers(1, 4), delay=st.integers(0, 3_000)),
        always=st.booleans(),
        on_failure=st.booleans(),
        when=st.sampled_from([None, None, "true", "false", "ctx.absent"]),
        expect=st.sampled_from([None, None, "result", "nonsense"]),
    ),
    min_size=1,
    max_size=6,
)
OUTCOMES = st.one_of(
    st.builds(Done, st.sampled_from([None, 1, {"a": [1]}])),
    st.builds(Denied, st.sampled_from(["device_refused", "image_invalid"]), st.just("no")),
    st.builds(Unanswered, st.just("interrupted"), st.just("?")),
    st.builds(LineLost, st.just("silent"), st.booleans()),
    st.just(TimedOut()),
    st.just(Stopped()),
)


class AttemptMachine(RuleBasedStateMachine):
    @initialize(
        steps=STEPS,
        timeout=st.integers(1, 60_000),
        start_by=st.integers(0, 30_000),
        explicit=st.booleans(),
    )
    def accept(self, steps, timeout, start_by, explicit):
        offered = [a_step(f"s{n}", **fields) for n, fields in enumerate(steps)]
        made = an_attempt(*offered, timeout=timeout, start_by=start_by)
        asked = OfferedAcknowledge() if explicit else None
        body = made.body.model_copy(update={"acknowledge": asked})
        self.attempt: Attempt = with_changes(made, body=body)
        self.now = AT
        self.boot = 1
        self.begun: list[int] = []
        self.cancelled = False
        self.ended: Attempt | None = None
        self.feed(Started(1))

    def feed(self, fact: Fact) -> list[Effect]:
        before = self.attempt
        self.attempt, effects = advance(before, fact, self.now)
        assert self.attempt.revision >= before.revision
        if snapshot_of(before).model_copy(update={"elapsed": 0}) != snapshot_of(
            self.attempt
        ).model_copy(update={"elapsed": 0}) and not isinstance(fact, Progress):
            assert self.attempt.revision > before.revision
        if self.ended is not None:
            assert (self.attempt, effects) == (self.ended, [])
        for index, (old, new) in enumerate(zip(before.steps, self.attempt.steps, strict=True)):
            if old.status is StepStatus.PENDING and new.status is StepStatus.RUNNING:
                self.begun.append(index)
                step = self.attempt.body.steps[index]
                assert not self.cancelled or step.always or before.outcome is not None
                if self.attempt.outcome is TaskStatus.CANCELLED:
                    assert step.always
            if old.status in STEP_ENDS:
                assert new == old
        if self.attempt.is_ended and self.ended is None:
            self.ended = self.attempt
        return effects

    @rule(ms=st.integers(0, 20_000))
    def time_passes(self, ms):
        self.now = later(self.now, ms)

    @rule()
    def begin(self):
        self.feed(Begin())

    @rule()
    def hold(self):
        self.feed(Held("device_asleep"))

    @rule(fact=OUTCOMES)
    def outcome(self, fact):
        self.feed(fact)

    @rule(percent=st.floats(), note=st.text(max_size=5))
    def progress(self, percent, note):
        self.feed(Progress(percent, note))

    @rule()
    def due(self):
        self.feed(Due())

    @rule(mode=st.sampled_from(["recall", "soft", "force"]))
    def cancel(self, mode):
        self.feed(CancelAsked(mode))
        self.cancelled = self.cancelled or (mode != "recall" and self.ended is None)

    @rule(success=st.booleans())
    def acknowledge(self, success):
        first = self.attempt.acknowledgment
        was_awaiting = self.attempt.is_awaiting
        self.feed(Acknowledged(Acknowledgment(success, by="somebody")))
        if first is not None:
            assert self.attempt.acknowledgment == first
        if was_awaiting:
            ending = TaskStatus.SUCCEEDED if success else TaskStatus.FAILED
            assert self.attempt.status is ending

    @invariant()
    def only_an_explicit_attempt_awaits_a_word_that_has_not_come(self):
        if self.attempt.is_awaiting:
            assert self.attempt.body.acknowledge is not None
            assert self.attempt.acknowledgment is None
            assert self.attempt.outcome is None

    @rule(is_new_process=st.booleans())
    def restart(self, is_new_process):
        kept = self.attempt
        self.attempt = from_record(to_record(kept), kept.offer, kept.body)
        if self.ended is None:
            self.boot += is_new_process
            self.feed(Started(self.boot))
        else:
            self.ended = self.attempt

    @invariant()
    def a_running_attempt_has_something_to_wait_for(self):
        attempt = self.attempt
        if attempt.begun and not attempt.is_ended and not attempt.is_awaiting:
            assert attempt.current is not None
            assert attempt.steps[attempt.current].status is StepStatus.RUNNING

    @invariant()
    def ordinary_steps_keep_their_order(self):
        flagged = {
            n for n, step in enumerate(self.attempt.body.steps) if step.on_failure or step.always
        }
        ordinary = [index for index in self.begun if index not in flagged]
        assert ordinary == sorted(set(ordinary))

    def teardown(self):
        """From anywhere, answering what it asks leads to an end."""
        if not hasattr(self, "attempt"):
            return
        effects = self.feed(Started(self.boot + 1)) or self.feed(Begin())
        for _ in range(200):
            if self.attempt.is_ended:
                break
            if self.attempt.is_awaiting:
                effects = self.feed(Acknowledged(Acknowledgment(True)))
                continue
            wanted = [e for e in effects if isinstance(e, Perform | WaitUntil | Interrupt)]
            fact: Fact = Done() if any(isinstance(e, Perform) for e in wanted) else Due()
            self.now = later(self.now, 1_000)
            effects = self.feed(fact) or self.feed(Begin())
        assert self.attempt.status in {*TASK_ENDS, TaskStatus.SCHEDULED}
        assert all(
            step.status in STEP_ENDS
            for step in self.attempt.steps
            if self.attempt.status is not TaskStatus.SCHEDULED
        )


TestAttemptMachine = AttemptMachine.TestCase
TestAttemptMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
