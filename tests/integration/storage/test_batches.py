"""Batch iteration: one task for several targets, on both databases."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from cloud.coordinator import batches, dispatch, extensions, previews, runs
from cloud.errors import Conflict, Invalid
from cloud.storage.database import Session
from cloud.storage.dialect import change
from cloud.storage.views import reports, results
from contract.http.history import ExtendRun, RunItem, TaskResult
from contract.http.targets import PreviewAsked
from contract.ids import CENTRAL, DEFAULT_ORG
from contract.lifecycle import RunStatus, TaskStatus
from contract.messages import Failure, OfferedTask
from tests.integration.storage.test_other_targets import make_group, make_table, make_user
from tests.integration.storage.test_triggers import fire, run_of
from tests.integration.storage.world import World, snapshot

pytestmark = pytest.mark.row("B13")
PUMPS = [f"pump-{n:02}" for n in range(7)]


def offered(world: World, run: str) -> list[OfferedTask]:
    world.dispatch()
    return [task for task in world.send().get(CENTRAL, []) if task.run == run]


def ids(task: OfferedTask) -> list[Any]:
    return [target["id"] for target in task.targets]


def results_of(world: World, run: str, page: int = 3) -> list[TaskResult]:
    found, cursor = [], None
    while True:
        read = world.database.read_now(
            results.list_results, DEFAULT_ORG, run, cursor=cursor, limit=page
        )
        found += read.items
        cursor = read.next_cursor
        if cursor is None:
            return found


@pytest.fixture
def fleet(world: World) -> World:
    world.join("berlin", PUMPS)
    world.join(CENTRAL)
    return world


def test_targets_are_gathered_into_tasks_for_the_central_gateway(fleet: World):
    run = fleet.start_new(iteration={"batch": 3})
    found = fleet.run(run)
    assert (found.counts.total, found.targets) == (3, 7)
    tasks = offered(fleet, run)
    assert [ids(task) for task in tasks] == [PUMPS[:3], PUMPS[3:6], PUMPS[6:]]
    first = tasks[0]
    assert (first.device, first.target) == (None, {})
    assert first.targets[0]["gateway"] == "berlin"
    assert fleet.sql("SELECT count(*) FROM devices WHERE held_by IS NOT NULL") == [(0,)]
    for task in tasks:
        fleet.report(CENTRAL, snapshot(task, "succeeded", 1, result={"done": True}))
    fleet.check()
    assert fleet.settle(run).status is RunStatus.SUCCEEDED
    detail = fleet.task(first.task)
    assert (detail.target, detail.targets, detail.gateway) == ("", 3, CENTRAL)
    assert [(r.target, r.ok, r.response) for r in results_of(fleet, run)] == [
        (pump, True, {"done": True}) for pump in PUMPS
    ]


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_small_chunks_make_the_same_tasks(fleet: World, chunk: int):
    run = fleet.start(fleet.save(iteration={"batch": 3}), create=False)
    while fleet.run_now(runs.create_tasks, run, fleet.now, chunk):
        fleet.check()
    assert fleet.run(run).counts.total == 3
    assert fleet.sql("SELECT ordinal, targets FROM tasks ORDER BY ordinal") == [
        (0, 3), (1, 3), (2, 1),
    ]  # fmt: skip
    assert [ids(task) for task in offered(fleet, run)] == [PUMPS[:3], PUMPS[3:6], PUMPS[6:]]


@pytest.mark.parametrize("resource", ["device", "gateway", "group", "user", "row"])
def test_all_targets_of_any_kind_in_one_task(fleet: World, resource: str):
    make_group(fleet, "lab", members=PUMPS[:2])
    make_group(fleet, "line", members=PUMPS[2:3])
    make_user(fleet, "ada", email="ada@example.org")
    make_user(fleet, "bob")
    make_table(fleet, "sites", [{"site": "spree"}, {"site": "seine"}], site="text")
    targets = {"resource": resource} | ({"table": "sites"} if resource == "row" else {})
    run = fleet.start_new(targets=targets, iteration={"batch": "all"})
    (task,) = offered(fleet, run)
    expected: dict[str, list[Any]] = {
        "device": list(PUMPS), "gateway": ["berlin", CENTRAL], "group": ["lab", "line"],
        "user": ["ada", "bob"], "row": [1, 2],
    }  # fmt: skip
    assert ids(task) == expected[resource]
    if resource == "group":
        assert "members" not in task.targets[0]
    fleet.report(CENTRAL, snapshot(task, "succeeded", 1, result=[1] * len(task.targets)))
    ended = fleet.settle(run)
    assert (ended.status, ended.counts.total) == (RunStatus.SUCCEEDED, 1)


def test_an_array_of_results_is_given_out_by_target(fleet: World):
    run = fleet.start_new(iteration={"batch": 4}, retry={"attempts": 1})
    first, second = offered(fleet, run)
    error = {"error": {"code": "http_failed", "text": "503"}}
    strange = {"error": {"code": "E-17", "message": "no"}}
    fleet.report(CENTRAL, snapshot(first, "succeeded", 1, result=[{"v": 1}, error, None, strange]))
    why = Failure(code="http_failed", text="element 1: 503")
    kept = [{"v": 2}, error, None]
    fleet.report(CENTRAL, snapshot(second, "failed", 1, result=kept, failure=why))
    found = results_of(fleet, run)
    assert [(one.target, one.ok, one.code) for one in found] == [
        ("pump-00", True, None),
        ("pump-01", False, "http_failed"),
        ("pump-02", True, None),
        ("pump-03", False, "target_failed"),
        ("pump-04", False, "http_failed"),
        ("pump-05", False, "http_failed"),
        ("pump-06", False, "http_failed"),
    ]
    assert (found[5].message.endswith("503"), found[5].status) == (True, TaskStatus.FAILED)
    assert found[0].response == {"v": 1}
    assert "E-17: no" in found[3].message
    rows = fleet.database.read_now(reports.rows, DEFAULT_ORG, run)
    assert [(row.target, row.status) for row in rows[:4]] == [
        ("pump-00", "succeeded"), ("pump-01", "failed"), ("pump-02", "succeeded"),
        ("pump-03", "failed"),
    ]  # fmt: skip
    assert rows[1].failure is not None and rows[1].failure.text == "503"
    again = fleet.database.read_now(reports.rows, DEFAULT_ORG, run, (0, 2), 2)
    assert [row.target for row in again] == ["pump-03", "pump-04"]


def test_a_loop_over_the_targets_gives_results_though_other_steps_follow(fleet: World):
    loop = {
        "id": "each", "uses": "flow.for_each",
        "with": {"items": "{{ targets }}", "on_error": "keep",
                 "step": {"uses": "flow.set", "with": {"values": {"id": "{{ item.id }}"}}}},
    }  # fmt: skip
    fleet.hello(CENTRAL, verbs=["flow.for_each", "flow.set", "flow.log"])
    run = fleet.start_new(
        steps=[loop, {"uses": "flow.log", "with": {"text": "done"}}],
        iteration={"batch": "all"},
    )
    (task,) = offered(fleet, run)
    each = [{"id": pump} for pump in PUMPS]
    steps = [{"id": "each", "uses": "flow.for_each", "status": "succeeded", "result": each}]
    fleet.report(CENTRAL, snapshot(task, "succeeded", 1, steps=steps, result=None))
    assert [one.response for one in results_of(fleet, run)] == each


def test_what_was_cut_is_not_taken_for_a_result_of_everybody(fleet: World):
    run = fleet.start_new(iteration={"batch": "all"})
    (task,) = offered(fleet, run)
    cut = json.dumps([{"text": "x" * 100}] * 7)[:400]
    steps = [{"id": "log", "uses": "flow.log", "status": "succeeded", "truncated": True}]
    fleet.report(CENTRAL, snapshot(task, "succeeded", 1, steps=steps, result=cut))
    found = results_of(fleet, run)
    assert {one.ok for one in found} == {None}
    assert {one.response for one in found} == {None}
    assert "smaller `iteration.batch`" in found[0].message


def test_a_deleted_target_is_shown_and_does_not_fail_the_others(fleet: World):
    run = fleet.start_new(iteration={"batch": 3})
    fleet.run_now(_delete, ["pump-01", "pump-06"])
    tasks = offered(fleet, run)
    assert [len(task.targets) for task in tasks] == [3, 3]
    assert tasks[0].targets[1] == {"id": "pump-01", "deleted": True}
    assert fleet.task(f"{run}-2").failure.code == "target_deleted"
    for task in tasks:
        fleet.report(CENTRAL, snapshot(task, "succeeded", 1, result=[1, 2, 3]))
    fleet.check()
    assert fleet.settle(run).status is RunStatus.PARTIALLY_SUCCEEDED
    found = results_of(fleet, run)
    assert [one.code for one in found if not one.ok] == ["target_deleted", "target_deleted"]
    assert [one.target for one in found if not one.ok] == ["pump-01", "pump-06"]


def _change(session: Session, sql: str) -> None:
    change(session, sql)


def _delete(session: Session, devices: list[str]) -> None:
    for device in devices:
        change(session, "DELETE FROM devices WHERE id = :id", id=device)


def test_more_than_one_task_can_hold_fails_the_run_and_names_the_bound(fleet: World):
    make_table(fleet, "many", [{"n": n} for n in range(1_000)], n="number")
    job = fleet.save(targets={"resource": "row", "table": "many"}, iteration={"batch": "all"})
    run = fleet.start(job)
    assert fleet.run(run).targets == 1_000
    fleet.cancel(run)
    fleet.settle(run)
    make_table(fleet, "more", [{"n": n} for n in range(1_000)], n="number")
    fleet.run_now(_change, "UPDATE data_rows SET of_table = 'many', key = key + 1000 "
                           "WHERE of_table = 'more'")  # fmt: skip
    run = fleet.start(job)
    ended = fleet.run(run)
    assert (ended.status, ended.counts.total, ended.has_errors) == (RunStatus.FAILED, 0, True)
    assert "1,000 targets" in ended.reason
    assert fleet.sql("SELECT count(*) FROM task_targets WHERE run = :r", r=run) == [(0,)]
    preview = fleet.database.read_now(
        previews.preview_job, DEFAULT_ORG, job, PreviewAsked(), fleet.now
    )
    assert (preview.count, preview.tasks) == (2_000, 1)
    assert "1,000 targets" in preview.warnings[0]


def test_targets_that_no_message_can_hold_end_their_task_at_once(fleet: World):
    text = "x" * 30_000
    make_table(fleet, "large", [{"text": text} for _ in range(6)], text="text")
    run = fleet.start_new(
        targets={"resource": "row", "table": "large"}, iteration={"batch": 5},
        retry={"attempts": 3},
    )  # fmt: skip
    fleet.dispatch()
    (offering,) = fleet.database.read_now(dispatch.offers_to_send, fleet.now)
    assert [len(task.targets) for task in offering.tasks] == [1]
    (large,) = offering.too_large
    assert fleet.run_now(batches.fail_too_large, [large], fleet.now) == {run}
    assert fleet.run_now(batches.fail_too_large, [large], fleet.now) == set()
    fleet.check()
    task = fleet.task(large.task)
    assert (task.status, task.failure.code) == (TaskStatus.FAILED, "batch_too_large")
    assert "128 KiB" in task.failure.text
    assert fleet.play(run).status is RunStatus.PARTIALLY_SUCCEEDED


def test_serial_batches_hand_on_and_are_retried_whole(fleet: World):
    run = fleet.start_new(
        iteration={"mode": "serial", "batch": 3},
        retry={"attempts": 2},
        accumulator="{{ (accumulator or 0) + (targets | length) }}",
    )
    (first,) = offered(fleet, run)
    fleet.report(CENTRAL, snapshot(first, "failed", 1))
    (again,) = offered(fleet, run)
    assert (again.task, again.attempt, ids(again)) == (first.task, 2, ids(first))
    assert again.accumulator is None
    fleet.report(CENTRAL, snapshot(again, "succeeded", 1))
    (second,) = offered(fleet, run)
    assert (second.ordinal, second.accumulator) == (1, 3)
    fleet.report(CENTRAL, snapshot(second, "timed_out", 1))
    (second,) = offered(fleet, run)
    fleet.report(CENTRAL, snapshot(second, "timed_out", 1))
    ended = fleet.play(run)
    assert (ended.status, ended.accumulator) == (RunStatus.PARTIALLY_SUCCEEDED, 4)
    fleet.retry(run)
    (retried,) = offered(fleet, run)
    assert (retried.ordinal, ids(retried)) == (1, PUMPS[3:6])
    fleet.report(CENTRAL, snapshot(retried, "succeeded", 1))
    assert fleet.settle(run).status is RunStatus.SUCCEEDED


def test_a_preview_says_how_many_tasks_and_that_the_central_gateway_has_to_be_there(world: World):
    world.join("berlin", PUMPS)
    job = world.save(iteration={"batch": 3})

    def look() -> Any:
        return world.database.read_now(
            previews.preview_job, DEFAULT_ORG, job, PreviewAsked(), world.now
        )

    found = look()
    assert (found.count, found.tasks) == (7, 3)
    assert [(one.reason, one.count) for one in found.excluded] == [("gateway_unknown", 7)]
    world.join(CENTRAL)
    assert look().excluded == []


def test_a_batch_run_is_not_extended(fleet: World):
    run = fleet.start_new(iteration={"batch": 3})
    more = ExtendRun(items=[RunItem(target="pump-00")])
    with pytest.raises(Conflict, match="batch"):
        fleet.run_now(extensions.extend_run, fleet.caller, run, more, fleet.now)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"iteration": {"batch": 2, "per_gateway": 3}}, "iteration.per_gateway"),
        ({"iteration": {"batch": 2, "per_bus": 3}}, "iteration.per_bus"),
        ({"iteration": {"batch": "all", "per_site": 3}}, "iteration.per_site"),
        ({"targets": {"items": [{"target": "pump-00"}]}}, "targets.items"),
        ({"targets": {"continuous": True}}, "targets.continuous"),
        ({"retry": {"when": "online"}}, "retry.when"),
        ({"steps": [{"uses": "device.command", "with": {"name": "x"}}]}, "steps[0].uses"),
        ({"steps": [{"uses": "firmware.confirm"}]}, "steps[0].uses"),
        (
            {"steps": [{"uses": "flow.for_each", "with": {
                "items": "{{ targets }}", "step": {"uses": "device.command", "with": {"name": "x"}},
            }}]},
            "steps[0].with.step.uses",
        ),
        ({"steps": [{"uses": "flow.log", "with": {"text": "{{ target.id }}"}}]},
         "steps[0].with.text"),
        ({"steps": [{"uses": "flow.check", "with": {"that": "target.id"}}]}, "steps[0].with.that"),
    ],
)  # fmt: skip
def test_what_a_batch_cannot_do_is_refused_when_it_is_saved(
    world: World, changes: dict[str, Any], place: str
):
    with pytest.raises(Invalid) as refused:
        world.save(**{"iteration": {"batch": 2}, **changes})
    assert [item.key for item in refused.value.items] == [place]


def test_a_batch_that_timed_out_hands_its_targets_to_the_trigger(fleet: World):
    fleet.save(name="cleanup")
    run = fleet.start_new(
        name="slow", iteration={"batch": 3}, retry={"attempts": 1}, on_timeout=[{"run": "cleanup"}]
    )
    for task in offered(fleet, run):
        fleet.report(CENTRAL, snapshot(task, "timed_out", 1))
    fleet.run_now(_delete, ["pump-01"])
    fire(fleet)
    handler = fleet.run(run_of(fleet, "cleanup"))
    assert handler.counts.total == 6
    fleet.dispatch()
    given = [t for t in fleet.send()["berlin"] if t.run == handler.id]
    assert {t.device for t in given} < set(PUMPS)
    assert {t.parameters["task"]["id"] for t in given} <= {f"{run}-{n}" for n in range(3)}  # type: ignore[index, call-overload]


def test_a_job_that_batches_does_not_handle_timeouts_one_by_one(fleet: World):
    fleet.save(name="cleanup", iteration={"batch": "all"})
    run = fleet.start_new(name="slow", targets={"query": {"id": "pump-00"}},
                          retry={"attempts": 1}, on_timeout=[{"run": "cleanup"}])  # fmt: skip
    fleet.dispatch()
    (task,) = fleet.send()["berlin"]
    fleet.report("berlin", snapshot(task, "timed_out", 1))
    fire(fleet)
    assert fleet.settle(run).has_errors
    assert fleet.sql("SELECT status, handler FROM trigger_firings") == [("refused", None)]


def test_one_look_reads_a_bounded_number_of_targets():
    rows = [SimpleNamespace(batch=0 if n % 2 else 1, targets=900 if n % 2 else 1) for n in range(9)]
    kept = batches.within_reach(rows)
    assert [row.targets for row in kept] == [1, 900, 1, 900, 1, 1, 1]
