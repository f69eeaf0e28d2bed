"""Attempts in the journal: accepted once, sent until stored, answered from what is known."""

import json
import sqlite3

import pytest

from contract.lifecycle import TaskStatus
from contract.messages import CancelItem, LogLine, TaskRef, TaskSnapshot
from gateway.domain.attempt import advance
from gateway.domain.facts import Begin, CancelAsked, Done, Instant, Perform, Started
from gateway.domain.retention import Keeping
from gateway.journal import keeping, outbox, tasks
from gateway.journal.database import migrate
from tests.kit.attempts import AT, RUN, a_body, a_step, an_offer, later

BODY = a_body(a_step("read"))
TASK = f"{RUN}-0"


@pytest.fixture
def db():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.create_function("sync_before_answering", 0, lambda: None)
    migrate(connection)
    yield connection
    connection.close()


def take(db, *offers, now=AT):
    return tasks.take_offers(db, [BODY], list(offers), 1, now)


def finish(db, lane="pump-7", now=AT):
    """Carry the lane's next attempt to its end."""
    attempt = tasks.next_of(db, lane, now)
    assert attempt is not None
    for fact in (Started(1), Begin(), Done("ok")):
        after, _ = advance(attempt, fact, now)
        assert tasks.save(db, after, attempt.revision, now) or after == attempt
        attempt = after
    return attempt


def unsent(db):
    return [TaskSnapshot.model_validate_json(row.snapshot) for row in tasks.unacknowledged(db, 100)]


def test_an_offer_is_kept_once_and_reported_as_accepted(db):
    assert take(db, an_offer()).lanes == {"pump-7"}
    again = take(db, an_offer())
    assert (again.taken, again.known, again.lanes) == (0, 1, frozenset())
    assert [(s.task, s.status) for s in unsent(db)] == [(TASK, TaskStatus.ACCEPTED)]


def test_an_offer_without_its_body_is_not_taken(db):
    taken = tasks.take_offers(db, [], [an_offer()], 1, AT)
    assert taken.without_body == (TASK,)
    take(db, an_offer())
    assert tasks.take_offers(db, [], [an_offer(1, device="pump-8")], 1, AT).taken == 1


def test_a_stored_revision_is_not_sent_again_and_a_newer_one_is(db):
    take(db, an_offer())
    tasks.stored(db, [(TASK, 1, 1)], AT)
    assert unsent(db) == []
    attempt = finish(db)
    assert [s.revision for s in unsent(db)] == [attempt.revision]
    tasks.stored(db, [(TASK, 1, 999_999)], AT)
    tasks.stored(db, [(TASK, 1, 2)], AT)
    assert unsent(db) == []


def test_a_finished_task_is_answered_from_the_journal(db):
    take(db, an_offer())
    attempt = finish(db)
    tasks.stored(db, [(TASK, 1, attempt.revision)], AT)
    assert take(db, an_offer()).known == 1
    assert [s.status for s in unsent(db)] == [TaskStatus.SUCCEEDED]
    assert tasks.next_of(db, "pump-7", AT) is None


def test_a_tombstone_answers_too(db):
    take(db, an_offer())
    attempt = finish(db)
    tasks.stored(db, [(TASK, 1, attempt.revision)], AT)
    week = later(AT, 8 * 86_400_000)
    assert keeping.prune(db, Keeping(), week.wall).buried == 1
    assert db.execute("SELECT count(*) FROM bodies").fetchone() == (0,)
    assert take(db, an_offer(), now=week).known == 1
    (snapshot,) = unsent(db)
    assert (snapshot.status, snapshot.revision) == (TaskStatus.SUCCEEDED, attempt.revision)
    year = later(week, 200 * 86_400_000)
    assert keeping.prune(db, Keeping(), year.wall).gone == 1


def test_what_was_stamped_by_a_clock_years_ahead_has_its_time_from_now_on(db):
    take(db, an_offer())
    ended = finish(db)
    years = later(AT, 20 * 365 * 86_400_000)
    tasks.stored(db, [(TASK, 1, ended.revision)], years)
    assert keeping.prune(db, Keeping(), AT.wall).buried == 0
    assert keeping.prune(db, Keeping(), later(AT, 6 * 86_400_000).wall).buried == 0
    assert keeping.prune(db, Keeping(), later(AT, 7 * 86_400_000).wall).buried == 1


def test_results_that_were_never_stored_are_never_buried(db):
    take(db, an_offer())
    finish(db)
    assert keeping.prune(db, Keeping(), later(AT, 10**12).wall).buried == 0


def test_the_next_attempt_waits_for_the_one_before_and_closes_with_its_success(db):
    take(db, an_offer())
    first = tasks.next_of(db, "pump-7", AT)
    take(db, an_offer(attempt=2, priority=9))
    assert tasks.next_of(db, "pump-7", AT) == first
    finish(db)
    assert tasks.next_of(db, "pump-7", AT) is None
    closed = {s.attempt: s for s in unsent(db)}[2]
    assert (closed.status, closed.from_attempt, closed.result) == ("succeeded", 1, "ok")


def test_a_refused_revision_is_kept_and_not_sent_until_asked_for(db):
    take(db, an_offer())
    tasks.refused(db, [(TASK, 1, 1, "unknown_task")])
    assert unsent(db) == []
    assert tasks.count_refused(db) == {"unknown_task": 1}
    tasks.report_again(db, [TaskRef(task=TASK, attempt=1)])
    assert len(unsent(db)) == 1


def test_a_cancel_before_its_offer_is_kept(db):
    assert tasks.cancel(db, [CancelItem(task=TASK, attempt=1)], AT) == []
    assert take(db, an_offer()).known == 1
    assert [s.status for s in unsent(db)] == [TaskStatus.CANCELLED]


def test_a_recall_hands_back_what_waits_and_the_worker_learns_of_it(db):
    take(db, an_offer())
    attempt = tasks.next_of(db, "pump-7", AT)
    assert attempt is not None
    held = tasks.cancel(db, [CancelItem(task=TASK, attempt=1, mode="recall")], AT)
    assert [(one.lane, one.is_ended) for one in held] == [("pump-7", True)]
    assert [s.status for s in unsent(db)] == [TaskStatus.SCHEDULED]
    begun, _ = advance(advance(attempt, Started(1), AT)[0], Begin(), AT)
    assert not tasks.save(db, begun, attempt.revision, AT)


def begin(db, body=BODY, boot=1, now=AT):
    tasks.take_offers(db, [body], [an_offer()], boot, now)
    attempt = tasks.next_of(db, "pump-7", now)
    assert attempt is not None
    begun, _ = advance(advance(attempt, Started(boot), now)[0], Begin(), now)
    assert tasks.save(db, begun, attempt.revision, now)
    return begun


@pytest.mark.row("E1")
def test_a_cancel_of_what_has_begun_is_kept_until_somebody_carries_it(db):
    begin(db)
    asked = CancelItem(task=TASK, attempt=1, mode="soft", reason="stop it")
    assert [one.is_ended for one in tasks.cancel(db, [asked], AT)] == [False]
    recall = asked.model_copy(update={"mode": "recall"})
    tasks.cancel(db, [recall], AT)
    assert tasks.cancel_asked(db, TASK, 1) == CancelAsked("soft", "stop it")
    tasks.cancel(db, [asked.model_copy(update={"mode": "force"})], AT)
    tasks.cancel(db, [asked], AT)

    # After a restart: the worker reads it with the attempt.
    attempt = tasks.next_of(db, "pump-7", AT)
    assert attempt is not None
    kept = tasks.cancel_asked(db, TASK, 1)
    assert kept == CancelAsked("force", "stop it")
    after, effects = advance(attempt, Started(2, cancel=kept), AT)
    assert after.status is TaskStatus.CANCELLED
    assert not [effect for effect in effects if isinstance(effect, Perform)]
    assert tasks.save(db, after, attempt.revision, AT)


@pytest.mark.row("E1")
def test_a_cancel_that_comes_while_the_last_step_ends_leaves_nothing_awaiting(db):
    body = a_body(a_step("read"), acknowledge={"topic": "acks"})
    begun = begin(db, body)
    tasks.cancel(db, [CancelItem(task=TASK, attempt=1)], AT)
    # The worker has not heard of it, and will carry the attempt no more.
    done, _ = advance(begun, Done("ok"), AT)
    assert done.is_awaiting
    assert tasks.save(db, done, begun.revision, AT)
    assert [s.status for s in unsent(db)] == [TaskStatus.CANCELLED]


def test_a_recall_of_what_awaits_its_acknowledgment_ends_nothing(db):
    begun = begin(db, a_body(a_step("read"), acknowledge={"topic": "acks"}))
    assert tasks.save(db, advance(begun, Done("ok"), AT)[0], begun.revision, AT)
    (held,) = tasks.cancel(db, [CancelItem(task=TASK, attempt=1, mode="recall")], AT)
    assert not held.is_ended
    assert [s.status for s in unsent(db)] == [TaskStatus.AWAITING]


def test_what_the_cloud_forgets_is_stopped_and_not_sent(db):
    take(db, an_offer(), an_offer(1, device="pump-8"))
    running = tasks.next_of(db, "pump-8", AT)
    assert running is not None
    begun, _ = advance(advance(running, Started(1), AT)[0], Begin(), AT)
    assert tasks.save(db, begun, running.revision, AT)
    refs = [TaskRef(task=f"{RUN}-{n}", attempt=1) for n in (0, 1)]
    tasks.forget(db, refs, AT)
    assert unsent(db) == []
    assert tasks.open_lanes(db) == ["pump-8"]


def test_ended_attempts_go_first(db):
    take(db, an_offer(0, device="a"), an_offer(1, device="b"))
    finish(db, "b", later(AT, 5))
    assert [s.status for s in unsent(db)] == ["succeeded", "accepted"]


def test_unsent_rows_are_found_by_index(db):
    plan = db.execute(
        "EXPLAIN QUERY PLAN SELECT task FROM tasks WHERE revision > stored_revision"
        " AND revision > refused_revision AND forgotten = 0"
        " ORDER BY ended_at IS NULL, changed LIMIT 5"
    ).fetchall()
    assert "tasks_unsent" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_a_record_that_cannot_be_read_ends_its_attempt_alone(db):
    take(db, an_offer(0), an_offer(1))
    db.execute("UPDATE tasks SET record = '{' WHERE task = ?", (TASK,))
    attempt = tasks.next_of(db, "pump-7", AT)
    assert attempt is not None
    assert attempt.offer.task == f"{RUN}-1"
    assert {s.status for s in unsent(db)} == {"failed", "accepted"}


def test_log_lines_are_numbered_by_stream_and_bounded(db):
    lines = [LogLine(number=0, at=1, text=f"line {n}") for n in range(5)]
    outbox.add(db, "live", lines)
    outbox.add(db, "backlog", lines)
    assert [n for n, _ in outbox.first(db, "live", "logs", 10, 10_000)] == [1, 2, 3, 4, 5]
    outbox.stored(db, "live", "logs", 2)
    outbox.add(db, "live", lines, bound=6)
    assert outbox.first(db, "backlog", "logs", 10, 10_000) == []
    kept = outbox.first(db, "live", "logs", 10, 10_000)
    assert [n for n, _ in kept] == [5, 6, 7, 8, 9, 10]
    assert json.loads(kept[-1][1])["number"] == 10
    assert outbox.dropped(db) == {"logs": 7}


def test_numbers_go_on_after_everything_was_stored(db):
    outbox.add(db, "live", [LogLine(number=0, at=1, text="a")])
    outbox.stored(db, "live", "logs", 1)
    outbox.add(db, "live", [LogLine(number=0, at=1, text="b")])
    assert [n for n, _ in outbox.first(db, "live", "logs", 10, 10_000)] == [2]


def test_marks_name_what_is_open_and_what_has_ended(db):
    take(db, an_offer(0), an_offer(1, device="b"))
    finish(db, "b", Instant(AT.wall + 9, 9))
    assert {m.status for m in tasks.marks(db)} == {"accepted", "succeeded"}
    assert [m.status for m in tasks.marks(db, open_only=True)] == ["accepted"]


@pytest.mark.row("E1")
def test_what_a_disk_has_changed_is_replaced_and_the_rest_is_sent(db):
    take(db, an_offer(), an_offer(1, device="b"), an_offer(2, device="c"))
    finish(db)
    db.execute("UPDATE tasks SET snapshot = '{\"task\": \ufffd' WHERE lane <> 'c'")
    assert tasks.replace_unreadable(db, 100, AT) == 2
    told = {snapshot.task: snapshot.status for snapshot in unsent(db)}
    assert told == {TASK: "succeeded", f"{RUN}-1": "failed", f"{RUN}-2": "accepted"}
    outbox.add(db, "live", [LogLine(number=0, at=1, text=f"{n}") for n in range(3)])
    db.execute("UPDATE outbox SET line = substr(line, 3) WHERE number = 2")
    assert outbox.drop_unreadable(db, 100) == 1
    assert [n for n, _ in outbox.first(db, "live", "logs", 9, 10**6)] == [1, 3]
