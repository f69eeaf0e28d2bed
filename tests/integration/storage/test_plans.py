"""What the databases do for a page: they go by an index, however much there is."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from cloud.storage import gateway_stops, purging
from cloud.storage.database import Session
from cloud.storage.dialect import change
from cloud.storage.views import audit, logs
from contract.ids import DEFAULT_ORG
from tests.integration.storage.world import World

NUMBER = 20_000


def numbers(world: World, sql: str, **parameters: Any) -> None:
    """Insert many rows: `sql` selects from `numbers d` with a column n."""
    if world.database.is_sqlite:
        many = f"SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {NUMBER}"
        sql = f"WITH RECURSIVE numbers(n) AS ({many}) {sql}"
    else:
        sql = sql.replace("numbers d", f"generate_series(1, {NUMBER}) AS d(n)")
    world.run_now(change, sql, **parameters)
    world.run_now(change, "ANALYZE")


def plan(world: World, read: Callable[[Session], object]) -> str:
    """How the database would perform the last statement of a function."""
    seen: list[tuple[str, Any]] = []

    def keep(_c: object, _cu: object, statement: str, parameters: Any, *_: object) -> None:
        seen.append((statement, parameters))

    def explain(session: Session) -> str:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", keep)
        read(session)
        event.remove(connection, "before_cursor_execute", keep)
        statement, parameters = seen[-1]
        word = "EXPLAIN QUERY PLAN" if world.database.is_sqlite else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{word} {statement}", parameters).all()
        return "\n".join(" ".join(map(str, row)) for row in rows)

    return world.database.read_now(explain)


def reads_all(text: str) -> bool:
    return "Seq Scan" in text or any(
        line.partition("SCAN ")[2] and "USING" not in line for line in text.splitlines()
    )


@pytest.mark.row("C6")
def test_a_tasks_log_is_read_by_its_index(world: World):
    run = world.start_new()
    numbers(
        world,
        "INSERT INTO run_log (journal, stream, number, org, run, ordinal, at, level, text, data) "
        "SELECT 'j', 'live', d.n, 'default', :run, d.n % 1000, d.n, 'INFO', 'x', '{}' "
        "FROM numbers d",
        run=run,
    )
    found = plan(world, lambda session: logs.of_task(session, DEFAULT_ORG, run, 7))
    assert "run_log_by_task" in found
    assert not reads_all(found)
    assert len(world.database.read_now(logs.of_task, DEFAULT_ORG, run, 7)) == NUMBER // 1000


@pytest.mark.row("A13")
def test_the_audit_log_is_read_by_its_indexes(world: World):
    numbers(
        world,
        "INSERT INTO audit (org, at, by, by_name, action, subject, detail) "
        "SELECT 'default', d.n, 'a', 'A', 'hold.set', 'hold/device/d-' || d.n, '{}' "
        "FROM numbers d",
    )
    # Every line is of one org here, so its numbers are the primary key's as well.
    found = plan(world, lambda session: audit.list_audit(session, DEFAULT_ORG))
    assert "TEMP B-TREE" not in found and "Sort" not in found
    of_one = plan(
        world, lambda session: audit.list_audit(session, DEFAULT_ORG, subject="hold/device/d-7")
    )
    assert "audit_by_subject" in of_one


@pytest.mark.row("A11")
@pytest.mark.row("C5")
def test_what_looks_again_and_again_goes_by_indexes(world: World):
    world.join("berlin", ["pump-1"])
    run = world.start_new()
    numbers(
        world,
        "INSERT INTO tasks (run, ordinal, org, gateway, status, priority, attempt, tries, "
        "attempts, revision, due_at, begun, progress) SELECT :run, d.n + 10, 'default', 'berlin', "
        "'succeeded', 1, 1, 1, 1, 1, 1, TRUE, 0 FROM numbers d",
        run=run,
    )
    busy = plan(world, lambda session: gateway_stops.busy(session, DEFAULT_ORG, ["berlin"]))
    assert "tasks_open" in busy
    world.run_now(
        change,
        "INSERT INTO deleted_jobs (org, job, upto, at, by) VALUES ('default', 'gone', 1, 1, '')",
    )
    numbers(
        world,
        "INSERT INTO deleted_runs (run, org, job, at, swept) "
        "SELECT 'gone-' || d.n, 'default', 'gone', 1, TRUE FROM numbers d",
    )
    again = plan(world, lambda session: purging.next_run(session, world.now))
    assert "deleted_runs_to_sweep" in again
