"""Triggers: a job that starts another, once, whatever happens in between."""

from typing import Any

import pytest

from cloud.app import new_id
from cloud.coordinator import control, extensions, runs, triggers
from cloud.domain.triggers import MAX_DEPTH
from cloud.errors import Conflict, Invalid
from cloud.storage.dialect import change
from cloud.storage.views import logs, results
from contract.http.history import ExtendRun, RunItem
from contract.http.runs import RetryRun
from contract.ids import DEFAULT_ORG
from contract.lifecycle import RunStatus
from tests.integration.storage.world import World, snapshot

FAST = {"retry": {"attempts": 1}}


def fire(world: World) -> set[str]:
    touched: set[str] = set()
    while True:
        fired = world.run_now(triggers.fire, world.now, new_id, "http://here")
        touched |= fired.runs
        if not fired.more:
            return touched


def end(world: World, run: str, *statuses: str, gateway: str = "berlin") -> Any:
    """Offer what is due and report these ends, in order of the devices."""
    world.dispatch()
    tasks = [t for t in world.send().get(gateway, []) if t.run == run]
    assert len(tasks) == len(statuses), tasks
    for task, status in zip(sorted(tasks, key=lambda t: t.ordinal), statuses, strict=True):
        world.report(gateway, snapshot(task, status, 1))
    return world.settle(run)


def run_of(world: World, job: str) -> str:
    ((run,),) = world.sql(
        "SELECT id FROM runs WHERE job = :job ORDER BY created_at DESC, id DESC LIMIT 1", job=job
    )
    return str(run)


def runs_of(world: World, job: str) -> int:
    ((number,),) = world.sql("SELECT count(*) FROM runs WHERE job = :job", job=job)
    return int(number)


def log_of(world: World, run: str) -> list[str]:
    page = world.database.read_now(logs.run_log, DEFAULT_ORG, run)
    return [line.text for line in page.items]


@pytest.mark.row("B8")
def test_a_completed_run_starts_the_others_once_with_its_counts_and_a_report_link(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    world.save(name="mail", targets={"query": {"type": "none"}}, context={"to": "me", "n": 1})
    world.save(name="tidy", targets={"query": {"type": "none"}})
    job = world.save(
        context={"site": "berlin"},
        on_complete=[{"run": "mail", "context": {"n": "{{ ctx.site }}"}}, {"run": "tidy"}],
        **FAST,
    )
    run = world.start(job)
    end(world, run, "succeeded", "timed_out")
    fire(world)
    fire(world)
    assert (runs_of(world, "mail"), runs_of(world, "tidy")) == (1, 1)
    started = world.run(run_of(world, "mail"))
    assert (started.context["to"], started.context["n"]) == ("me", "berlin")
    told = started.context["trigger"]
    assert isinstance(told, dict)
    assert (told["kind"], told["again"]) == ("on_complete", False)
    about = told["run"]
    assert isinstance(about, dict)
    assert [about[k] for k in ("succeeded", "failed", "timed_out", "total")] == [1, 0, 1, 2]
    assert about["status"] == "partially_succeeded"
    assert about["context"] == {"site": "berlin"}
    report = about["report"]
    assert isinstance(report, dict)
    assert str(report["csv"]).startswith(f"http://here/reports/{run}.csv?")
    assert started.origin is not None
    assert (started.origin.kind, started.origin.run, started.depth) == ("on_complete", run, 1)
    assert "on_complete started mail" in log_of(world, run)


@pytest.mark.row("B8")
def test_a_cancelled_run_completes_for_those_alone_who_asked(world: World):
    world.join("berlin", ["pump-1"])
    for name in ("usual", "asked"):
        world.save(name=name, targets={"query": {"type": "none"}})
    job = world.save(on_complete=[{"run": "usual"}, {"run": "asked", "when": ["cancelled"]}])
    run = world.start(job)
    world.cancel(run)
    assert world.settle(run).status is RunStatus.CANCELLED
    fire(world)
    assert (runs_of(world, "usual"), runs_of(world, "asked")) == (0, 1)


@pytest.mark.row("B8", "C9")
def test_a_run_without_targets_completes_too(world: World):
    world.save(name="mail", targets={"query": {"type": "none"}})
    run = world.start_new(targets={"query": {"type": "none"}}, on_complete=[{"run": "mail"}])
    world.settle(run)
    fire(world)
    assert runs_of(world, "mail") == 1


@pytest.mark.row("B8")
def test_a_handler_that_is_busy_is_started_when_it_has_ended(world: World):
    world.join("berlin", ["pump-1"])
    mail = world.save(name="mail")
    busy = world.start(mail)
    run = world.start_new(targets={"query": {"type": "none"}}, on_complete=[{"run": "mail"}])
    world.settle(run)
    fire(world)
    assert runs_of(world, "mail") == 1
    end(world, busy, "succeeded")
    world.now += 1
    fire(world)
    assert runs_of(world, "mail") == 2
    assert world.run(run_of(world, "mail")).origin.run == run


@pytest.mark.row("B8")
def test_a_circle_of_triggers_is_stopped_and_shown(world: World):
    job = world.save(targets={"query": {"type": "none"}}, on_complete=[{"run": "greet"}])
    first = world.start(job)
    for _ in range(MAX_DEPTH + 5):
        run = run_of(world, "greet")
        while world.run_now(runs.create_tasks, run, world.now):
            pass
        world.settle(run)
        world.now += 1
        fire(world)
    assert runs_of(world, "greet") == MAX_DEPTH + 1
    last = run_of(world, "greet")
    assert world.run(last).has_errors
    assert any("circle" in line for line in log_of(world, last))
    assert not world.run(first).has_errors


@pytest.mark.row("B7")
def test_every_timeout_goes_once_into_one_handler_run_that_grows(world: World):
    world.join("berlin", [f"pump-{n}" for n in range(4)])
    world.save(name="cleanup", targets={"query": {"type": "none"}})
    job = world.save(context={"site": "b"}, on_timeout=[{"run": "cleanup"}], **FAST)
    run = world.start(job)
    world.dispatch()
    offered = sorted(world.send()["berlin"], key=lambda t: t.ordinal)
    world.report("berlin", snapshot(offered[0], "timed_out", 1))
    fire(world)
    handler = run_of(world, "cleanup")
    assert world.run(handler).counts.total == 1
    end(world, handler, "succeeded")
    waits = world.run(handler)
    assert waits.status is RunStatus.RUNNING
    assert waits.waiting_for is not None
    assert waits.waiting_for.code == "timeouts"
    world.report("berlin", snapshot(offered[1], "timed_out", 1))
    world.report("berlin", snapshot(offered[2], "failed", 1))
    world.report("berlin", snapshot(offered[3], "timed_out", 1))
    world.report("berlin", snapshot(offered[3], "timed_out", 2))
    world.settle(run)
    fire(world)
    world.dispatch()
    tasks = [t for t in world.send()["berlin"] if t.run == handler]
    assert [t.device for t in tasks] == ["pump-1", "pump-3"]
    told = tasks[0].parameters
    assert told["context"] == {"site": "b"}
    assert told["run"]["id"] == run  # type: ignore[index,call-overload]
    assert told["task"]["id"] == offered[1].task  # type: ignore[index,call-overload]
    for task in tasks:
        world.report("berlin", snapshot(task, "succeeded", 1))
    fire(world)
    assert world.settle(handler).status is RunStatus.SUCCEEDED
    assert (runs_of(world, "cleanup"), world.run(handler).counts.total) == (1, 3)
    world.check()


@pytest.mark.row("B7")
def test_a_timeout_with_tries_left_does_not_fire(world: World):
    world.join("berlin", ["pump-1"])
    world.save(name="cleanup", targets={"query": {"type": "none"}})
    run = world.start_new(on_timeout=[{"run": "cleanup"}], retry={"attempts": 2})
    end(world, run, "timed_out")
    fire(world)
    assert runs_of(world, "cleanup") == 0
    world.now += 1
    end(world, run, "timed_out")
    fire(world)
    assert runs_of(world, "cleanup") == 1


@pytest.mark.row("B7")
def test_a_target_that_was_deleted_is_skipped_and_logged(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    world.save(name="cleanup", targets={"query": {"type": "none"}})
    run = world.start_new(on_timeout=[{"run": "cleanup"}], **FAST)
    end(world, run, "timed_out", "timed_out")
    world.run_now(lambda s: change(s, "DELETE FROM devices WHERE id = 'pump-1'"))
    fire(world)
    assert world.run(run_of(world, "cleanup")).counts.total == 1
    assert any("pump-1 was deleted" in line for line in log_of(world, run))


@pytest.mark.row("B7", "C9")
def test_a_handler_that_cannot_start_is_a_failed_run_with_its_reason(world: World):
    world.join("berlin", ["pump-1"])
    world.save(name="cleanup", steps=[{"uses": "firmware.upload", "with": {"artifact": "gone"}}])
    run = world.start_new(on_timeout=[{"run": "cleanup"}, {"run": "nobody"}], **FAST)
    end(world, run, "timed_out")
    fire(world)
    failed = world.run(run_of(world, "cleanup"))
    assert failed.status is RunStatus.FAILED
    assert "gone" in failed.reason
    assert failed.ended_at is not None
    assert sum("did nothing" in line for line in log_of(world, run)) == 2
    assert world.run(run).has_errors


@pytest.mark.row("A7")
def test_a_run_is_extended_once_for_a_key_and_never_after_its_end(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    run = world.start_new(targets={"query": {"id": "pump-1"}}, **FAST)
    more = ExtendRun(items=[RunItem(target="pump-2", parameters={"a": 1})], key="k")
    for _ in range(3):
        grown = world.run_now(extensions.extend_run, world.caller, run, more, world.now)
        assert grown.counts.total == 2
    missing = ExtendRun(items=[RunItem(target="pump-2"), RunItem(target="none")])
    with pytest.raises(Invalid) as refused:
        world.run_now(extensions.extend_run, world.caller, run, missing, world.now)
    assert refused.value.items[0].key == "items[1].target"
    world.dispatch()
    tasks = world.send()["berlin"]
    assert [t.parameters for t in tasks] == [{}, {"a": 1}]
    for task in tasks:
        world.report("berlin", snapshot(task, "succeeded", 1))
    assert world.settle(run).status is RunStatus.SUCCEEDED
    late = ExtendRun(items=[RunItem(target="pump-1")])
    with pytest.raises(Conflict) as ended:
        world.run_now(extensions.extend_run, world.caller, run, late, world.now)
    assert ended.value.code == "run_ended"
    world.check()


@pytest.mark.row("A7")
def test_what_is_added_to_a_serial_run_comes_last(world: World):
    world.join("berlin", ["pump-1", "pump-2", "pump-3"])
    job = world.save(
        targets={"query": {"id": {"$in": ["pump-2", "pump-3"]}}},
        iteration={"mode": "serial"},
        **FAST,
    )
    run = world.start(job)
    more = ExtendRun(items=[RunItem(target="pump-1", parameters={"token": "t", "n": 1})])
    world.now += 5
    world.run_now(extensions.extend_run, world.caller, run, more, world.now)
    order = []
    for _ in range(3):
        world.dispatch()
        (task,) = world.send()["berlin"]
        order.append(task.device)
        world.report("berlin", snapshot(task, "succeeded", 1))
        world.settle(run)
    assert order == ["pump-2", "pump-3", "pump-1"]
    assert world.run(run).status is RunStatus.SUCCEEDED
    given = world.task(f"{run}-2").input
    assert given.parameters == {"token": "***", "n": 1}
    assert given.steps[0].parameters == {"text": "hello"}


@pytest.mark.row("B7")
def test_timeouts_of_two_runs_share_their_handler_and_a_person_s_run_is_left_alone(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    world.save(name="cleanup", targets={"query": {"type": "none"}})
    busy = world.start("cleanup", query={"id": "pump-9"}, create=False)
    on_timeout = [{"run": "cleanup"}]
    first = world.start(
        world.save(name="a", targets={"query": {"id": "pump-1"}}, on_timeout=on_timeout, **FAST)
    )
    second = world.start(
        world.save(name="b", targets={"query": {"id": "pump-2"}}, on_timeout=on_timeout, **FAST)
    )
    world.dispatch()
    for task in world.send()["berlin"]:
        world.report("berlin", snapshot(task, "timed_out", 1))
    fire(world)
    assert (runs_of(world, "cleanup"), world.run(busy).counts.total) == (1, 0)
    pages = [
        world.database.read_now(results.list_firings, DEFAULT_ORG, run) for run in (first, second)
    ]
    assert [page.items[0].status for page in pages] == ["pending", "pending"]
    world.cancel(busy)
    world.settle(busy)
    world.now += 1
    fire(world)
    handler = run_of(world, "cleanup")
    assert (runs_of(world, "cleanup"), world.run(handler).counts.total) == (2, 2)
    world.settle(first)
    fire(world)
    end(world, handler, "succeeded", "succeeded")
    assert world.run(handler).status is RunStatus.RUNNING  # the second may still send
    world.settle(second)
    fire(world)
    assert world.settle(handler).status is RunStatus.SUCCEEDED
    world.check()


@pytest.mark.row("B7")
def test_a_target_that_is_retried_and_times_out_again_fires_no_second_time(world: World):
    world.join("berlin", ["pump-1"])
    world.save(name="cleanup", targets={"query": {"type": "none"}})
    run = world.start_new(on_timeout=[{"run": "cleanup"}], **FAST)
    end(world, run, "timed_out")
    fire(world)
    end(world, run_of(world, "cleanup"), "succeeded")
    world.retry(run)
    end(world, run, "timed_out")
    fire(world)
    assert runs_of(world, "cleanup") == 1
    page = world.database.read_now(results.list_firings, DEFAULT_ORG, run)
    assert [firing.status for firing in page.items] == ["fired"]


@pytest.mark.row("B7")
def test_what_is_retried_before_its_trigger_fired_has_not_timed_out(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    world.save(name="cleanup", targets={"query": {"type": "none"}})
    busy = world.start("cleanup", create=False)  # the handler is a person's, and waits
    run = world.start_new(on_timeout=[{"run": "cleanup"}], **FAST)
    end(world, run, "timed_out", "timed_out")
    fire(world)
    world.retry(run)
    end(world, run, "succeeded", "timed_out")
    world.cancel(busy)
    world.settle(busy)
    world.now += 1
    fire(world)
    handler = run_of(world, "cleanup")
    assert (handler != busy, world.run(handler).counts.total) == (True, 1)
    page = world.database.read_now(results.list_firings, DEFAULT_ORG, run)
    assert [firing.status for firing in page.items] == ["fired"]
    world.check()


@pytest.mark.row("B8")
def test_a_retry_brings_a_second_end_that_is_marked(world: World):
    world.join("berlin", ["pump-1"])
    world.save(name="mail", targets={"query": {"type": "none"}})
    run = world.start_new(on_complete=[{"run": "mail"}], **FAST)
    end(world, run, "failed")
    fire(world)
    mail = run_of(world, "mail")
    while world.run_now(runs.create_tasks, mail, world.now):
        pass
    world.settle(mail)
    world.now += 1
    world.run_now(control.retry_run, world.caller, run, RetryRun(), world.now)
    while world.run_now(runs.sweep, run, world.now):
        pass
    end(world, run, "succeeded")
    fire(world)
    assert runs_of(world, "mail") == 2
    told = world.run(run_of(world, "mail")).context["trigger"]
    assert isinstance(told, dict)
    assert (told["number"], told["again"]) == (2, True)
