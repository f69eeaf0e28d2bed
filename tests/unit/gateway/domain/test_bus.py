"""The arbiter: fair turns whatever comes and goes, and bad lines left alone, then tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.domain.bus import (
    FAILURES_BORNE,
    GARBAGE_BORNE_S,
    LONGEST_PAUSE_MS,
    WELL_AFTER_S,
    Ask,
    LineHealth,
    Turns,
)

pytestmark = pytest.mark.row("E8")
DEVICES = ["a", "b", "c", "d", "e"]


class FairTurns(RuleBasedStateMachine):
    """Any order of asking, ending and giving up; each wait counts whom it had to let go first."""

    def __init__(self):
        super().__init__()
        self.turns, self.tickets = Turns(), 0
        self.seen = {}  # ticket of one that waits: devices that had a turn meanwhile

    def _after(self, turns):
        before, self.turns = self.turns.holder, turns
        holder = turns.holder
        if holder is not None and holder != before:
            self.seen.pop(holder.ticket, None)
            for ticket, devices in self.seen.items():
                if self._device(ticket) != holder.device:
                    devices.append(holder.device)

    def _device(self, ticket):
        return next(ask.device for ask in self.turns.waiting if ask.ticket == ticket)

    @rule(device=st.sampled_from(DEVICES))
    def ask(self, device):
        if any(ask.device == device for ask in self.turns.waiting):
            return  # one worker a device
        self.tickets += 1
        holder = self.turns.holder
        at_work = [holder.device] if holder is not None and holder.device != device else []
        self.seen[self.tickets] = at_work
        self._after(self.turns.asked(Ask(self.tickets, device)))

    @precondition(lambda self: self.turns.holder is not None)
    @rule()
    def end(self):
        self._after(self.turns.left(self.turns.holder.ticket))

    @precondition(lambda self: self.turns.waiting)
    @rule(number=st.integers(0, 4))
    def give_up(self, number):
        ask = self.turns.waiting[number % len(self.turns.waiting)]
        self.seen.pop(ask.ticket, None)
        self._after(self.turns.left(ask.ticket))

    @invariant()
    def nobody_waits_for_a_neighbour_twice(self):
        for devices in self.seen.values():
            assert len(devices) == len(set(devices))

    @invariant()
    def a_free_line_has_nobody_waiting(self):
        assert self.turns.holder is not None or not self.turns.waiting


TestFairTurns = FairTurns.TestCase


def test_a_thousand_short_exchanges_of_an_upload_let_every_neighbour_in():
    """The upload asks again at once after each chunk; a neighbour waits for one chunk."""
    turns = Turns().asked(Ask(0, "upload"))
    for ticket in range(1, 1000):
        turns = turns.asked(Ask(ticket, "upload"))
        if ticket % 10 == 0:
            turns = turns.asked(Ask(100_000 + ticket, "short"))
            turns = turns.left(turns.holder.ticket)
            assert turns.holder.device == "short"
        turns = turns.left(turns.holder.ticket)
        assert turns.holder.device == "upload"


def test_a_ticket_that_is_unknown_changes_nothing():
    turns = Turns().asked(Ask(1, "a")).asked(Ask(2, "b"))
    assert turns.left(7) == turns
    assert Turns().left(1) == Turns()


news = st.one_of(
    st.just(("failed", 0.0)),
    st.just(("worked", 0.0)),
    st.tuples(st.just("garbage"), st.floats(0, 10)),
)


@given(st.lists(st.tuples(news, st.floats(0, 100)), max_size=60))
def test_a_line_is_never_shut_for_ever_and_never_in_silence(told):
    health, now_s = LineHealth(), 0.0
    for (kind, amount), pause_s in told:
        now_s += pause_s
        match kind:
            case "failed":
                health = health.failed(now_s, "gone")
            case "worked":
                health = health.worked(now_s)
                assert not health.is_shut(now_s)
                assert not health.is_quarantined
            case _:
                health = health.heard_garbage(now_s, amount)
        assert not health.is_shut(now_s + LONGEST_PAUSE_MS / 1000)
        assert health.why or not health.is_quarantined
        assert 0 <= health.garbage_s <= GARBAGE_BORNE_S


def test_a_port_that_fails_three_times_is_left_alone_longer_each_time():
    health, pauses, now_s = LineHealth(), [], 0.0
    for number in range(FAILURES_BORNE + 7):
        health = health.failed(now_s, "no such port")
        assert health.is_shut(now_s) == (number >= FAILURES_BORNE - 1)
        if health.shut_until_s is not None:
            pauses.append(health.shut_until_s - now_s)
            now_s = health.shut_until_s
            assert not health.is_shut(now_s)  # it may be tried
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == LONGEST_PAUSE_MS / 1000
    assert health.worked(now_s).failures == 0


def test_garbage_shuts_a_line_only_where_no_frames_come():
    health, now_s = LineHealth(), 0.0
    for _ in range(100):  # four fifths of the line are noise, and still frames come
        now_s += 1
        health = health.heard_garbage(now_s, 0.8).worked(now_s)
    assert not health.is_quarantined
    while not health.is_quarantined:
        now_s += 1
        health = health.heard_garbage(now_s, 1.0)
    assert now_s == 100 + 4
    assert "chatters" in health.why


def test_a_click_now_and_then_is_forgotten():
    health = LineHealth()
    for minute in range(1000):
        health = health.heard_garbage(minute * 60.0, 0.5)
    assert not health.is_quarantined


def test_a_line_that_is_well_for_a_minute_begins_anew():
    health = LineHealth()
    for number in range(8):
        health = health.failed(number, "gone")
    offences = health.offences
    flapping = health.worked(100.0)
    assert flapping.offences == offences
    assert flapping.worked(100.0 + WELL_AFTER_S).offences == 0
