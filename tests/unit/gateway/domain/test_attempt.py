"""Stories of one attempt: what happened, and what it asks for."""

import math

import pytest

from contract.lifecycle import StepStatus, TaskStatus
from gateway.domain.attempt import advance
from gateway.domain.attempt_record import from_record, snapshot_of, to_record
from gateway.domain.attempt_state import Attempt, accept, close_by
from gateway.domain.facts import (
    AskToStop,
    Begin,
    CancelAsked,
    Denied,
    Done,
    Due,
    Held,
    Hopeless,
    Instant,
    Interrupt,
    LineLost,
    Perform,
    ProcessEnds,
    Progress,
    Started,
    Stopped,
    TimedOut,
    Unanswered,
    WaitUntil,
)
from tests.kit.attempts import AT, a_body, a_step, an_attempt, an_offer, begun, later, play

READ = a_step("read")
UPLOAD = a_step("upload", "firmware.upload", **{"with": {"artifact": "image"}})
CLEAN = a_step("clean", always=True)
ROLL_BACK = a_step("roll_back", "firmware.rollback", on_failure=True)


def restarted(attempt: Attempt) -> Attempt:
    """What the journal gives back after the process has ended."""
    return from_record(to_record(attempt), attempt.offer, attempt.body)


def statuses(attempt: Attempt) -> list[str]:
    return [str(step.status) for step in attempt.steps]


def test_steps_run_in_order_and_the_last_result_is_the_attempts():
    run = play(
        an_attempt(READ, UPLOAD),
        (Started(1), []),
        (Begin(), ["read"]),
        (Done("1.4.2"), ["upload"]),
        (Done("ok"), []),
    )
    assert run.status is TaskStatus.SUCCEEDED
    assert (run.result, run.progress, run.begun) == ("ok", 100, True)


def test_a_lost_line_costs_time_and_the_step_goes_on():
    run = play(
        begun(READ, UPLOAD),
        (LineLost("no reply", sent=True), [WaitUntil(500)]),
        (500, []),
        (Due(), ["read"]),
        (LineLost("no reply", sent=False), [WaitUntil(1000)]),
        (1000, []),
        (Due(), ["read"]),
        (Done("1.4.2"), ["upload"]),
        (Done("ok"), []),
    )
    assert run.status is TaskStatus.SUCCEEDED
    assert run.steps[0].tries == 1


def test_a_request_that_may_have_arrived_is_not_blindly_repeated():
    attempt, _ = advance(begun(READ), LineLost("no reply", sent=True), AT)
    _, effects = advance(attempt, Due(), later(AT, 500))
    (again,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert again.resumed


def test_a_line_that_stays_lost_fails_the_step_when_its_time_is_over():
    step = a_step("read", timeout=2_000)
    run = play(
        begun(step),
        (LineLost("no reply", sent=False), [WaitUntil(500)]),
        (500, []),
        (Due(), ["read"]),
        (LineLost("no reply", sent=False), [WaitUntil(1000)]),
        (1000, []),
        (Due(), ["read"]),
        (2_000, []),
        (LineLost("no reply", sent=False), []),
    )
    assert run.status is TaskStatus.FAILED
    assert run.failure is not None
    assert (run.failure.code, run.failure.step) == ("device_unreachable", "read")


def test_a_failed_try_is_repeated_after_its_delay():
    step = a_step("read", retry={"attempts": 3, "delay": 1000, "backoff": 2})
    run = play(
        begun(step),
        (Denied("device_refused", "busy"), [WaitUntil(1000)]),
        (Due(), ["read"]),
        (Unanswered("reply_garbled", "?"), [WaitUntil(2000)]),
        (Due(), ["read"]),
        (Done(7), []),
    )
    assert run.status is TaskStatus.SUCCEEDED
    assert (run.steps[0].tries, run.steps[0].failure) == (3, None)


def test_what_would_come_out_the_same_is_not_tried_again():
    step = a_step("read", retry={"attempts": 3, "delay": 1000})
    run = play(begun(step), (Denied("image_too_large", "64 KiB"), []))
    assert run.status is TaskStatus.FAILED


def test_after_a_failure_only_on_failure_and_always_steps_run():
    run = play(
        begun(READ, UPLOAD, ROLL_BACK, CLEAN),
        (Denied("device_refused", "no"), ["roll_back"]),
        (Done(), ["clean"]),
        (Done(), []),
    )
    assert run.status is TaskStatus.FAILED
    assert statuses(run) == ["failed", "skipped", "succeeded", "succeeded"]


def test_on_failure_steps_are_skipped_when_all_goes_well():
    run = play(begun(READ, ROLL_BACK, CLEAN), (Done(), ["clean"]), (Done(), []))
    assert run.status is TaskStatus.SUCCEEDED
    assert statuses(run) == ["succeeded", "skipped", "succeeded"]


def test_when_skips_and_expect_judges():
    skipped = a_step("second", when="steps.read.result.version != ctx.version")
    strict = a_step("third", expect="result.ok")
    attempt = begun(READ, skipped, strict)
    attempt = Attempt(
        **{
            **{name: getattr(attempt, name) for name in attempt.__dataclass_fields__},
            "body": a_body(READ, skipped, strict, context={"version": "2"}),
        }
    )
    run = play(attempt, (Done({"version": "2"}), ["third"]), (Done({"ok": False}), []))
    assert statuses(run) == ["succeeded", "skipped", "failed"]
    assert run.failure is not None
    assert run.failure.code == "expectation_failed"


def test_a_template_that_cannot_be_computed_names_the_expression():
    step = a_step("second", with_={"name": "{{ ctx.absent }}"})
    run = play(begun(READ, step), (Done(), []))
    assert run.failure is not None
    assert run.failure.code == "template_failed"
    assert "ctx.absent" in run.failure.text


def test_the_tasks_time_counts_over_all_steps_and_survives_a_restart():
    attempt = play(begun(READ, UPLOAD, timeout=10_000), (6_000, []), (Done(), ["upload"]))
    attempt = restarted(attempt)
    taken_up, effects = advance(attempt, Started(2), later(AT, 3_600_000))
    (perform,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert perform.resumed
    assert perform.timeout_ms == 10_000 - attempt.elapsed
    over, _ = advance(taken_up, TimedOut(), later(AT, 3_600_000 + perform.timeout_ms))
    assert over.status is TaskStatus.TIMED_OUT
    assert over.failure is not None
    assert over.failure.code == "task_timed_out"


def test_a_step_over_its_own_time_fails_and_may_be_tried_again():
    step = a_step("read", timeout=1_000, retry={"attempts": 2})
    run = play(
        begun(step), (1_000, []), (TimedOut(), [WaitUntil(0)]), (Due(), ["read"]), (TimedOut(), [])
    )
    assert run.status is TaskStatus.FAILED
    assert run.failure is not None
    assert run.failure.code == "step_timed_out"


def test_a_soft_cancel_lets_the_step_finish():
    run = play(
        begun(READ, UPLOAD, CLEAN),
        (CancelAsked("soft"), [AskToStop()]),
        (Done(), ["clean"]),
        (Done(), []),
    )
    assert run.status is TaskStatus.CANCELLED
    assert statuses(run) == ["succeeded", "skipped", "succeeded"]


def test_a_forced_cancel_interrupts_the_step():
    run = play(
        begun(READ, UPLOAD),
        (CancelAsked("force"), [Interrupt()]),
        (Stopped(), []),
    )
    assert run.status is TaskStatus.CANCELLED
    assert run.steps[0].status is StepStatus.FAILED


def test_a_cancel_ends_a_wait_for_the_next_try():
    step = a_step("read", retry={"attempts": 3, "delay": 5_000})
    run = play(
        begun(step, UPLOAD),
        (Denied("device_refused", "no"), [WaitUntil(5_000)]),
        (CancelAsked("soft"), []),
    )
    assert run.status is TaskStatus.CANCELLED


def test_a_recall_hands_back_only_what_has_not_begun():
    assert play(an_attempt(READ), (CancelAsked("recall"), [])).status is TaskStatus.SCHEDULED
    run = play(begun(READ), (CancelAsked("recall"), []), (Done(), []))
    assert run.status is TaskStatus.SUCCEEDED


def test_an_attempt_that_could_not_begin_in_time_is_handed_back():
    run = play(
        an_attempt(READ, start_by=5_000),
        (Started(1), []),
        (Held("device_asleep"), []),
        (5_000, []),
        (Due(), []),
    )
    assert run.status is TaskStatus.SCHEDULED
    assert not run.begun


def test_a_hopeless_attempt_fails_without_a_try():
    run = play(an_attempt(READ), (Started(1), []), (Hopeless("unknown_device", "no pump-7"), []))
    assert run.status is TaskStatus.FAILED
    assert not run.begun


def test_a_step_that_stops_the_process_three_times_ends_its_attempt():
    attempt = begun(READ, CLEAN)
    for boot in (2, 3):
        attempt, effects = advance(restarted(attempt), Started(boot), AT)
        assert [effect.resumed for effect in effects if isinstance(effect, Perform)] == [True]
    attempt, effects = advance(restarted(attempt), Started(4), AT)
    assert attempt.failure is not None
    assert attempt.failure.code == "crashed_gateway"
    assert [effect.step for effect in effects if isinstance(effect, Perform)] == ["clean"]


def test_ending_in_good_order_is_no_crash():
    attempt = begun(READ)
    for boot in range(2, 9):
        attempt, _ = advance(attempt, ProcessEnds(), AT)
        attempt, effects = advance(restarted(attempt), Started(boot), AT)
        assert [effect.resumed for effect in effects if isinstance(effect, Perform)] == [True]
    assert attempt.status is TaskStatus.RUNNING


def test_progress_is_clamped_and_makes_few_revisions():
    attempt = begun(READ)
    first = attempt.revision
    for ms, percent in ((500, 10), (1_000, math.nan), (1_500, -4), (2_500, 1e9), (3_000, 50)):
        attempt, _ = advance(attempt, Progress(percent, "x"), later(AT, ms))
    assert attempt.steps[0].progress == 100
    assert attempt.revision == first + 1
    assert attempt.unsynced == 1


def test_revisions_after_a_power_cut_exceed_all_that_were_reported():
    attempt = begun(READ)
    synced = attempt
    highest = 0
    for tick in range(5_000):
        attempt, _ = advance(attempt, Progress(tick / 60, str(tick)), later(AT, tick * 2_000))
        highest = max(highest, attempt.revision)
        if attempt.unsynced == 0:
            synced = attempt
        taken_up, _ = advance(restarted(synced), Started(2), AT)
        assert taken_up.revision > highest


def test_a_huge_result_is_cut_and_the_snapshot_fits():
    attempt = begun(*[a_step(f"s{n}") for n in range(40)])
    for _ in range(40):
        attempt, _ = advance(attempt, Done({"text": "ä\x01" * 30_000, "bad": "\ud800"}), AT)
    assert attempt.status is TaskStatus.SUCCEEDED
    snapshot = snapshot_of(attempt)
    assert len(snapshot.model_dump_json().encode()) <= 64 * 1024
    assert snapshot.truncated
    assert all(step.truncated for step in snapshot.steps)


def test_five_hundred_steps_fit_a_snapshot():
    attempt = begun(*[a_step(f"s{n}") for n in range(500)])
    for _ in range(499):
        attempt, _ = advance(attempt, Done("x" * 200), AT)
    attempt, _ = advance(attempt, Denied("device_refused", "y" * 5_000), AT)
    snapshot = snapshot_of(attempt)
    assert len(snapshot.model_dump_json(exclude_defaults=True).encode()) <= 64 * 1024
    assert snapshot.steps[-1].failure is not None


def test_a_later_attempt_closes_with_what_the_earlier_one_brought():
    earlier = play(begun(READ), (Done("done"), []))
    closed = close_by(an_attempt(READ, attempt=2), earlier, AT)
    assert (closed.status, closed.result, closed.from_attempt) == ("succeeded", "done", 1)


def test_an_ended_attempt_never_changes():
    ended = play(begun(READ), (Done(), []))
    for fact in (Done(), CancelAsked("force"), Started(9), Due(), Progress(3)):
        assert advance(ended, fact, AT) == (ended, [])


def test_memory_reaches_later_steps_and_survives_a_restart():
    attempt, _ = advance(begun(READ, UPLOAD), Done(memory={"image_hash": "ab"}), AT)
    _, effects = advance(restarted(attempt), Started(2), AT)
    (perform,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert perform.memory == {"image_hash": "ab"}


def test_the_scope_names_what_a_step_may_read():
    step = a_step("read", with_={"name": "{{ target.id }}-{{ task.attempt }}"})
    offer = an_offer(target={"id": "pump-7"})
    attempt, _ = advance(an_attempt(step, target=offer.target), Started(1), AT)
    _, effects = advance(attempt, Begin(), AT)
    (perform,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert perform.parameters == {"name": "pump-7-1"}


@pytest.mark.row("C6")
def test_a_step_shows_what_it_was_given_bounded_and_without_secrets():
    log = a_step("log", "flow.log", with_={"text": "hello"})
    send = a_step(
        "send",
        "http.request",
        with_={
            "url": "{{ ctx.url }}",
            "headers": {"X-Key": "{{ secrets.key }}", "token": "{{ ctx.url }}"},
            "json": "{{ [task.acknowledgment_token, secrets.key ~ '!'] }}",
        },
    )
    long = a_step("long", "flow.log", with_={"text": "{{ ctx.long }}"})
    offer = an_offer(acknowledgment_token="t0ken", timeout=60_000)
    body = a_body(
        log,
        send,
        long,
        context={"url": "https://a", "long": "ü" * 5_000},
        secrets={"key": "hunter2"},
    )
    attempt, _ = advance(accept(offer, body, 1, AT), Started(1), AT)
    for fact in (Begin(), Done("ok"), Done("ok")):
        attempt, effects = advance(attempt, fact, later(AT, 10))
    (performed,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert performed.parameters == {"text": "ü" * 5_000}
    steps = snapshot_of(restarted(attempt)).steps
    # What the job says word for word is not said again.
    assert (steps[0].input, steps[0].input_truncated) == (None, False)
    assert steps[1].input == {
        "url": "https://a",
        "headers": {"X-Key": "***", "token": "***"},
        "json": ["***", "***!"],
    }
    assert isinstance(steps[2].input, str)
    assert (len(steps[2].input.encode()) <= 4_096, steps[2].input_truncated) == (True, True)


@pytest.mark.row("E3")
def test_what_a_device_says_is_data_for_later_steps():
    said = "{{ 7 * 7 }} {% raw %} " + '{"$ne": ""}'
    use = a_step(
        "use",
        "flow.log",
        when="steps.read.result == ctx.said",
        with_={"text": "{{ steps.read.result }}"},
    )
    again = a_step("again", "flow.log", with_={"text": "<{{ steps.use.result.text }}>"})
    attempt = accept(
        an_offer(timeout=60_000), a_body(READ, use, again, context={"said": said}), 1, AT
    )
    attempt, _ = advance(attempt, Started(1), AT)
    given = []
    for fact in (Begin(), Done(said), Done({"text": said})):
        attempt, effects = advance(attempt, fact, later(AT, 10))
        given += [effect.parameters for effect in effects if isinstance(effect, Perform)]
    assert given[1:] == [{"text": said}, {"text": f"<{said}>"}]


@pytest.mark.row("B2")
def test_waiting_for_the_line_costs_nothing_of_the_timeout():
    attempt = accept(an_offer(timeout=2_000, start_by=3_600_000), a_body(READ), 1, AT)
    attempt, _ = advance(attempt, Started(1), AT)
    for passed in range(0, 600_000, 60_000):
        attempt, _ = advance(attempt, Held("bus_busy"), later(AT, passed))
    attempt, effects = advance(attempt, Begin(), later(AT, 600_000))
    (performed,) = [effect for effect in effects if isinstance(effect, Perform)]
    assert (performed.timeout_ms, attempt.elapsed) == (2_000, 0)
    attempt, _ = advance(attempt, TimedOut(), later(AT, 602_001))
    assert (attempt.status, attempt.elapsed) == (TaskStatus.TIMED_OUT, 2_001)


@pytest.mark.row("E1")
@pytest.mark.parametrize("jump", [-(10**12), 10**12])
def test_a_clock_that_jumps_hands_nothing_back_early_or_late(jump):
    waiting, _ = advance(an_attempt(a_step("read"), start_by=60_000), Started(1), AT)
    early = Instant(AT.wall + jump, AT.mono + 59_999)
    assert not advance(waiting, Due(), early)[0].is_ended
    late = Instant(AT.wall + jump, AT.mono + 60_000)
    assert advance(waiting, Due(), late)[0].status is TaskStatus.SCHEDULED


@pytest.mark.row("E1")
def test_after_a_restart_with_its_clock_in_1970_it_waits_no_longer_than_at_first():
    waiting = an_attempt(a_step("read"), start_by=60_000)
    start = Instant(0, 40)
    again, _ = advance(waiting, Started(2), start)
    assert not advance(again, Due(), Instant(0, 59_000))[0].is_ended
    assert advance(again, Due(), Instant(0, 60_040))[0].status is TaskStatus.SCHEDULED


def test_a_cancel_that_was_asked_meanwhile_is_obeyed_before_anything_is_done_again():
    run = restarted(begun(READ, UPLOAD, CLEAN))
    run, effects = advance(run, Started(2, cancel=CancelAsked("soft", "enough")), later(AT, 50))
    assert [effect.step for effect in effects if isinstance(effect, Perform)] == ["clean"]
    run, _ = advance(run, Done(), later(AT, 60))
    assert run.status is TaskStatus.CANCELLED
    waiting, _ = advance(an_attempt(READ), Started(2, cancel=CancelAsked("soft", "")), AT)
    assert waiting.cancel is None  # one that has not begun is cancelled in the journal


def test_a_cancel_during_the_last_step_leaves_nothing_awaiting():
    body = a_body(READ, acknowledge={"topic": "acks"})
    run = play(
        accept(an_offer(timeout=60_000), body, 1, AT),
        (Started(1), []),
        (Begin(), ["read"]),
        (CancelAsked("soft", "enough"), [AskToStop()]),
        (Done("1.4.2"), []),
    )
    assert run.status is TaskStatus.CANCELLED
    assert run.steps[0].status is StepStatus.SUCCEEDED
