"""The bars: as many as fit, what matters first."""

from datetime import timedelta

from rich.console import Console

from contract.http.tasks import Task
from contract.lifecycle import RunStatus, TaskStatus
from roundsman.cli.watch_view import Watched, chosen, draw, note
from tests.kit.fake_api import A_FAILURE, NOON, a_run, a_task

S = TaskStatus


def drawn(tasks: list[Task], height: int) -> str:
    watched = Watched()
    watched.take(a_run(progress=41))
    watched.take(tasks)
    console = Console(width=120, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(draw(watched, height, NOON + timedelta(seconds=75)))
    return captured.get()


def test_a_task_in_flight_shows_its_step_its_progress_and_its_time():
    text = drawn([a_task(1, progress=62, current_step="upload")], 24)
    assert "pump-1" in text
    assert " 62 %" in text
    assert "1:15" in text
    assert "upload" in text


def test_what_does_not_fit_is_counted():
    tasks = [a_task(n, S.SUCCEEDED) for n in range(30)] + [a_task(30), a_task(31, S.SCHEDULED)]
    text = drawn(tasks, 10)
    assert len(text.splitlines()) <= 10
    assert "pump-30" in text
    assert "and 27 more: 1 scheduled, 26 succeeded" in text


def test_flight_comes_before_failure_and_failure_before_success():
    ended = [a_task(n, S.SUCCEEDED, ended_at=NOON + timedelta(seconds=n)) for n in range(5)]
    tasks = [*ended, a_task(5, S.FAILED), a_task(6)]
    assert [task.ordinal for task in chosen(tasks, 1)] == [6]
    assert [task.ordinal for task in chosen(tasks, 2)] == [5, 6]
    assert [task.ordinal for task in chosen(tasks, 4)] == [3, 4, 5, 6]


def test_only_what_differs_is_news():
    watched = Watched()
    assert watched.take([a_task(0)]) == [a_task(0)]
    assert watched.take([a_task(0), a_task(1)]) == [a_task(1)]
    assert watched.take(a_run(RunStatus.FAILED)) == []


def test_a_note_says_the_attempt_and_the_failure():
    assert note(a_task(0, S.FAILED, attempt=2, failure=A_FAILURE)) == "attempt 2, image_refused"
    assert note(a_task(0, current_step="up\x1bload")) == "up load"


def test_a_gateways_clock_ahead_of_ours_is_no_negative_time():
    text = drawn([a_task(1, started_at=NOON + timedelta(hours=2))], 24)
    assert "0:00" in text
