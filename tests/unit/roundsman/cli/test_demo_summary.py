"""The demo's last table: versions as read back, and whether it went as it was meant to."""

from datetime import timedelta
from typing import Any

from contract.http.tasks import Attempt, Step, TaskDetail
from contract.lifecycle import RunStatus, StepStatus, TaskStatus
from roundsman.cli.demo_summary import LOSES_ITS_LINE, REFUSES, row_of, show, surprises
from tests.kit.fake_api import A_FAILURE, NOON, a_run, a_task

S = TaskStatus


def a_step(step_id: str, version: str, tries: int = 1) -> Step:
    done = StepStatus.SUCCEEDED
    return Step(id=step_id, uses="x.y", status=done, tries=tries, result={"version": version})


def detail(target: str, status: TaskStatus, *attempts: Attempt, **given: Any) -> TaskDetail:
    task = a_task(1, status, target=target, attempt=len(attempts), **given).model_dump()
    return TaskDetail.model_validate({**task, "attempts": list(attempts)})


def an_attempt(number: int, status: TaskStatus, *steps: Step, **given: Any) -> Attempt:
    return Attempt(
        attempt=number, status=status, gateway="north", steps=list(steps), started_at=NOON, **given
    )


def test_versions_are_those_read_before_the_first_and_after_the_last_attempt():
    first = an_attempt(1, S.FAILED, a_step("before", "1.8.0"), failure=A_FAILURE)
    last = an_attempt(2, S.SUCCEEDED, a_step("before", "1.9.0"), a_step("verify", "2.4.1"))
    row = row_of(
        detail("pump-1", S.SUCCEEDED, last, first, ended_at=NOON + timedelta(seconds=9)), {}
    )
    assert (row.before, row.after, row.attempts, row.seconds) == ("1.8.0", "2.4.1", 2, 9.0)
    assert row.remark == "recovered after image_refused"


def test_a_step_that_was_tried_again_is_told():
    row = row_of(
        detail("pump-9", S.SUCCEEDED, an_attempt(1, S.SUCCEEDED, a_step("upload", "", 3))), {}
    )
    assert row.remark == "recovered: `x.y` was tried 3 times"


def test_one_refusal_and_otherwise_success_is_what_is_expected():
    refused = detail(REFUSES, S.FAILED, failure=A_FAILURE)
    well = detail("pump-1", S.SUCCEEDED)
    assert surprises([refused, well], {}, 2) == []
    assert surprises([well], {}, 2) == ["there are 1 tasks, not 2"]


def test_everything_else_is_a_surprise():
    assert surprises([detail(REFUSES, S.SUCCEEDED)], {}, 1) == [
        "pump-4 was to refuse its image, and is succeeded"
    ]
    assert surprises([detail("pump-1", S.FAILED, failure=A_FAILURE)], {}, 1) == [
        "pump-1 was to succeed, and is failed (image_refused)"
    ]


def test_the_table_lines_up_where_there_is_no_terminal(capsys):
    rows = [row_of(detail("pump-10", S.SUCCEEDED), {}), row_of(detail("pump-1", S.CANCELLED), {})]
    show(rows, a_run(RunStatus.PARTIALLY_SUCCEEDED))
    lines = capsys.readouterr().out.splitlines()
    assert [line.index("c") for line in lines[2:4]] == [11, 9]
    assert "partially succeeded, 1 of 2 succeeded" in lines[-1]


def test_a_lost_line_is_told_only_when_the_device_has_seen_it():
    task = detail(LOSES_ITS_LINE, S.SUCCEEDED)
    lived = {"unplugs": 1, "resumes": 1}
    assert row_of(task, lived).remark.startswith("recovered: lost its line")
    assert row_of(task, {}).remark == ""
    assert surprises([task], {LOSES_ITS_LINE: lived}, 1) == []
    assert surprises([task], {}, 1) == ["pump-9 was to lose its line, and kept it"]
