"""Nothing is left of a deleted job's runs but a tombstone each; on both databases."""

from typing import Any

import pytest
from sqlmodel import SQLModel

from cloud.coordinator import deletions, links, purging, runs
from cloud.coordinator.access import Caller
from cloud.errors import Gone, NotFound
from cloud.storage import purging as stored
from cloud.storage.dialect import change
from contract.ids import DEFAULT_ORG, OrgId
from contract.lifecycle import TaskStatus
from contract.messages import LogLine, TaskMark
from tests.integration.storage.world import World, snapshot

pytestmark = pytest.mark.row("C5")
STRANGER = Caller(OrgId("others"), "x", "x", "administrator")


def purge(world: World, limit: int = purging.AT_ONCE) -> int:
    """Everything that can be removed now; in how many chunks."""
    chunks = 0
    while run := world.database.read_now(stored.next_run, world.now):
        while world.run_now(purging.purge_chunk, run, world.now, limit):
            chunks += 1
    return chunks


def delete(world: World, job: str) -> None:
    world.run_now(deletions.delete_job, world.caller, job, world.now)


def left_of(world: World, run: str) -> dict[str, int]:
    """In which tables something still names the run, and how often; the tombstone apart."""
    found = {}
    for table in SQLModel.metadata.sorted_tables:
        if table.name in ("deleted_runs", "audit"):
            continue
        texts = [c.name for c in table.c if str(c.type) in ("VARCHAR", "TEXT")]
        where = " OR ".join(f"{name} LIKE :like" for name in texts)
        if where:
            ((number,),) = world.sql(
                f"SELECT count(*) FROM {table.name} WHERE {where}", like=f"%{run}%"
            )
            if number:
                found[table.name] = number
    return found


def played(world: World, **changes: Any) -> str:
    """A run with tasks, attempts, logs, a refused item, an acknowledgment and a trigger."""
    world.join("berlin", [f"pump-{n}" for n in range(6)])
    job = world.save(on_complete=[{"run": "other"}], retry={"attempts": 2}, **changes)
    run = world.start(job)
    world.dispatch()
    (first, *others) = world.send()["berlin"]
    line = LogLine(number=1, task=first.task, at=world.now, level="INFO", text="hello")
    world.report("berlin", snapshot(first, "succeeded", 5), backlog=[line])
    world.report("berlin", snapshot(first.model_copy(update={"attempt": 9}), "running", 1))
    for task in others:
        world.report("berlin", snapshot(task, "succeeded", 5))
    world.play(run)
    for table in ("calls", "acknowledgments", "untold_ends"):
        row = {
            "calls": "(run, key, org, ordinal, attempt, step, verb, result, at) "
            "VALUES (:r, 'k', 'default', 0, 1, 's', 'v', '1', 1)",
            "acknowledgments": "(run, ordinal, attempt, org, success, result, accumulator, text, "
            "by, at) VALUES (:r, 0, 1, 'default', TRUE, '1', '1', '', '', 1)",
            "untold_ends": "(run, ordinal, attempt, org, gateway, journal) "
            "VALUES (:r, 0, 1, 'default', 'berlin', 'x')",
        }[table]
        world.run_now(change, f"INSERT INTO {table} {row}", r=run)
    return run


def test_nothing_is_left_of_a_deleted_jobs_runs(world: World):
    run = played(world)
    other = world.start_new(name="other")
    before = left_of(world, other)
    assert {"tasks", "attempts", "run_log", "runs", "refused"} <= left_of(world, run).keys()
    delete(world, "greet")
    # A gateway is still to be told of an end; after a day it is forgotten.
    assert purge(world) == 0
    world.now += stored.UNTOLD_MS + 1
    assert purge(world, limit=3) > 5
    assert left_of(world, run) == {}
    assert left_of(world, other) == before
    assert world.sql("SELECT run, org, job, swept FROM deleted_runs") == [
        (run, DEFAULT_ORG, "greet", False)
    ]
    assert world.sql("SELECT * FROM deleted_jobs") == []
    # What was being written while it was swept goes a minute later, and then it is done.
    sql = "INSERT INTO slot_rests (run, ordinal, attempt, until) VALUES (:r, 0, 1, 1)"
    world.run_now(change, sql, r=run)
    world.now += stored.AGAIN_AFTER_MS + 1
    purge(world)
    assert left_of(world, run) == {}
    assert world.sql("SELECT swept FROM deleted_runs") in ([(True,)], [(1,)])
    assert world.database.read_now(stored.next_run, world.now) is None
    world.check()


@pytest.mark.row("C6")
def test_who_asks_for_it_learns_that_it_is_gone(world: World):
    run = world.start_new(targets={"query": {"type": "none"}})
    world.settle(run)
    link = world.run_now(links.make_report_link, world.caller, run, world.now, "")
    until, signature = int(link.expires_at.timestamp() * 1000), link.csv.rpartition("=")[2]
    delete(world, "greet")
    purge(world)
    assert world.sql("SELECT id FROM runs") == []
    with pytest.raises(Gone):
        world.run(run)
    with pytest.raises(Gone):
        world.task(f"{run}-0")
    with pytest.raises(Gone):
        world.database.read_now(links.org_of_link, run, "csv", until, signature, world.now)
    with pytest.raises(NotFound) as missing:
        world.run_now(links.make_report_link, STRANGER, run, world.now, "")
    assert not isinstance(missing.value, Gone)


def test_a_gateway_that_still_speaks_of_it_may_forget_it(world: World):
    world.join("berlin", ["pump-1", "pump-2"])
    run = world.start_new()
    world.dispatch()
    tasks = world.send()["berlin"]
    for task in tasks:
        world.report("berlin", snapshot(task, "running", 1))
    world.hello("berlin", ["pump-1", "pump-2"], journal="another")
    world.play(run)
    delete(world, "greet")
    purge(world)
    # One ended while nobody listened, the other still runs.
    outcome = world.report("berlin", snapshot(tasks[0], "succeeded", 7))
    assert [item.outcome for item in outcome.items] == ["stored"]
    marks = [
        TaskMark(task=tasks[0].task, attempt=1, revision=7, status=TaskStatus.SUCCEEDED),
        TaskMark(task=tasks[1].task, attempt=1, revision=3, status=TaskStatus.RUNNING),
    ]
    welcome = world.hello("berlin", ["pump-1", "pump-2"], marks=marks, journal="another")
    assert [item.task for item in welcome.cancel] == [tasks[1].task]
    assert world.sql("SELECT * FROM refused") == []
    assert left_of(world, run) == {}


def test_what_is_in_flight_completes_first(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    world.dispatch()
    (task,) = world.send()["berlin"]
    world.report("berlin", snapshot(task, "running", 1))
    delete(world, "greet")
    purge(world)
    assert world.sql("SELECT status FROM tasks") == [("running",)]
    world.report("berlin", snapshot(task, "succeeded", 2))
    world.sweep(run)
    while world.run_now(runs.settle_run, run, world.now):
        pass
    purge(world)
    assert left_of(world, run) == {}


def test_a_large_run_goes_in_many_small_transactions(world: World):
    number = 20_000
    sql = (
        "INSERT INTO attempts (run, ordinal, attempt, org, gateway, journal, status, revision, "
        "begun, offered_at, snapshot) SELECT r.id, d.n, 1, 'default', 'g', 'j', 'succeeded', 1, "
        "TRUE, 1, 'some text' FROM runs r, numbers d"
    )
    run = world.start_new(targets={"query": {"type": "none"}})
    world.settle(run)
    world.run_now(
        change,
        f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n < {number}) {sql}" if world.database.is_sqlite else
        sql.replace("numbers d", f"generate_series(1, {number}) AS d(n)"),
    )  # fmt: skip
    delete(world, "greet")
    assert purge(world) >= number // purging.AT_ONCE
    assert left_of(world, run) == {}
