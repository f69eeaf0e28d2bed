"""What a gateway holds against what we hold."""

from cloud.domain.handshake import Corrections, Ended, Ours, compare
from contract.lifecycle import TaskStatus
from contract.messages import TaskMark

T = TaskStatus


def mark(status: TaskStatus, revision: int = 1, attempt: int = 1) -> TaskMark:
    return TaskMark(task="run-1", attempt=attempt, revision=revision, status=status)


def ours(status: TaskStatus, revision: int = 1) -> Ours:
    return Ours("run-1", 1, revision, status)


def test_the_same_needs_nothing():
    assert compare([ours(T.RUNNING)], {}, [mark(T.RUNNING)]) == Corrections()


def test_what_differs_is_asked_for():
    found = compare([ours(T.RUNNING)], {}, [mark(T.SUCCEEDED, 4)])
    assert found == Corrections(report=[("run-1", 1)])


def test_what_is_not_there_is_offered_again_or_missing():
    assert compare([ours(T.OFFERED)], {}, []).offer == [("run-1", 1)]
    assert compare([ours(T.RUNNING)], {}, []).missing == [("run-1", 1)]


def test_what_has_ended_here_is_forgotten_or_stopped():
    ended = {("run-1", 1): Ended(3)}
    assert compare([], ended, [mark(T.ACCEPTED)]).forget == [("run-1", 1)]
    assert compare([], ended, [mark(T.RUNNING)]).cancel == [(("run-1", 1), False)]
    forced = {("run-1", 1): Ended(3, forced=True)}
    assert compare([], forced, [mark(T.RUNNING)]).cancel == [(("run-1", 1), True)]
    assert compare([], ended, [mark(T.SUCCEEDED, 3)]) == Corrections()
    assert compare([], ended, [mark(T.SUCCEEDED, 4)]).report == [("run-1", 1)]


def test_what_nobody_here_has_heard_of_is_orphaned():
    assert compare([ours(T.RUNNING)], {}, [mark(T.RUNNING, attempt=2)]).orphaned
