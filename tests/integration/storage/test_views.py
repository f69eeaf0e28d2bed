"""Lists in pages, reports in chunks, logs; and nothing of another org."""

from typing import Any

import pytest

from cloud.coordinator import access, deletions
from cloud.coordinator import jobs as job_rules
from cloud.errors import Conflict, Invalid, NotFound, NotPermitted
from cloud.storage.views import devices, jobs, logs, reports, runs, tasks
from contract.ids import DEFAULT_ORG
from contract.job_document import JobDocument
from contract.lifecycle import RunStatus, TaskStatus
from tests.integration.storage.world import JOB, World, snapshot


def test_pages_follow_each_other_and_are_bound_to_their_list(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(7)])
    read = world.database.read_now
    found: list[str] = []
    cursor = None
    while True:
        page = read(devices.list_devices, DEFAULT_ORG, cursor=cursor, limit=3)
        found += [device.id for device in page.items]
        cursor = page.next_cursor or cursor
        if page.next_cursor is None:
            break
    assert found == [f"pump-{n}" for n in range(7)]
    for wrong in ("nonsense", "é", cursor):
        with pytest.raises(Invalid):
            read(devices.list_devices, DEFAULT_ORG, gateway="berlin", cursor=wrong)


def test_runs_and_tasks_are_filtered_and_paged(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    started = []
    for number in range(3):
        started.append(world.start_new(name=f"job {number}"))
        world.now += 1
    read = world.database.read_now
    first = read(runs.list_runs, DEFAULT_ORG, world.now, limit=2)
    rest = read(runs.list_runs, DEFAULT_ORG, world.now, limit=2, cursor=first.next_cursor)
    assert [run.id for run in (*first.items, *rest.items)] == started[::-1]
    assert rest.next_cursor is None
    page = read(jobs.list_jobs, DEFAULT_ORG, world.now, run_statuses=[RunStatus.RUNNING], limit=2)
    assert [job.id for job in page.items] == ["job-0", "job-1"]
    assert page.next_cursor
    none = read(jobs.list_jobs, DEFAULT_ORG, world.now, run_statuses=[RunStatus.FAILED])
    assert none.items == []
    kept: dict[str, Any] = {"statuses": [TaskStatus.SCHEDULED], "limit": 1}
    one = read(tasks.list_tasks, DEFAULT_ORG, started[0], world.now, **kept)
    two = read(tasks.list_tasks, DEFAULT_ORG, started[0], world.now, cursor=one.next_cursor, **kept)
    assert [task.ordinal for task in (*one.items, *two.items)] == [0, 1]


def test_a_task_shows_its_steps_with_what_the_author_wrote(world: World):
    world.join("berlin", ["pump-1"])
    steps = [
        {"id": "say", "uses": "flow.log", "with": {"text": "x"}, "name": "Greet", "help": "Wave."},
        {"uses": "flow.delay", "with": {"for": "1s"}},
    ]
    world.start_new(steps=steps)
    world.dispatch()
    (task,) = world.send()["berlin"]
    (attempt,) = world.task(task.task).attempts
    assert [(step.id, step.name, step.help) for step in attempt.steps] == [
        ("say", "Greet", "Wave."),
        ("delay", "", ""),
    ]


def test_the_report_has_a_row_for_each_target_in_chunks(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(5)])
    run = world.start_new()
    world.dispatch()
    for task in world.send()["berlin"]:
        world.report("berlin", snapshot(task, "running", 1, started_at=world.now))
        world.now += 1_500
        world.report("berlin", snapshot(task, "succeeded", 2, result={"n": task.ordinal}))
    read = world.database.read_now
    first = read(reports.rows, DEFAULT_ORG, run, limit=3)
    rest = read(reports.rows, DEFAULT_ORG, run, (first[-1].ordinal, 0), 3)
    assert [row.target for row in (*first, *rest)] == [f"pump-{n}" for n in range(5)]
    assert (rest[-1].result, rest[-1].seconds) == ({"n": 4}, 1.5)
    lines = read(logs.run_log, DEFAULT_ORG, run, limit=1)
    assert lines.items[0].text == "run started"
    assert read(logs.run_log, DEFAULT_ORG, run, cursor=lines.next_cursor).items


def test_another_org_sees_nothing(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    read = world.database.read_now
    assert read(devices.list_devices, "other").items == []
    assert read(runs.list_runs, "other", world.now).items == []
    for view, key in ((runs.get_run, run), (tasks.get_task, f"{run}-0"), (jobs.get_job, "greet")):
        with pytest.raises(NotFound):
            read(view, "other", key, world.now)
    with pytest.raises(NotPermitted):
        read(access.authenticate, "no token", world.now)


def test_jobs_are_saved_by_revision(world: World):
    document = JobDocument.model_validate(JOB)
    world.save()
    with pytest.raises(Conflict):
        world.run_now(job_rules.save_job, world.caller, document, world.now, create=True)
    saved = world.run_now(job_rules.save_job, world.caller, document, world.now, revision=1)
    assert saved.revision == 2
    with pytest.raises(Conflict) as changed:
        world.run_now(job_rules.save_job, world.caller, document, world.now, revision=1)
    assert changed.value.code == "changed"
    world.run_now(deletions.delete_job, world.caller, "greet", world.now)
    with pytest.raises(NotFound):
        world.database.read_now(jobs.get_job, DEFAULT_ORG, "greet", world.now)


@pytest.mark.parametrize(
    ("changes", "code", "key"),
    [
        ({"steps": [{"uses": "flow.nothing"}]}, "document_invalid", "steps[0].uses"),
        (
            {"targets": {"query": {"type": {"$gr": 1}}}},
            "document_invalid",
            "targets.query.type.$gr",
        ),
        ({"targets": {"query": {"type": "{{ device.x }}"}}}, "document_invalid", "targets.query"),
        ({"rollout": {"rate": "5/min"}}, "not_performed", "rollout.rate"),
    ],
)
def test_a_job_that_cannot_be_performed_is_not_saved(
    world: World, changes: dict[str, object], code: str, key: str
):
    with pytest.raises(Invalid) as refused:
        world.save(**changes)
    assert (refused.value.code, refused.value.items[0].key) == (code, key)
    assert world.sql("SELECT count(*) FROM jobs") == [(0,)]
