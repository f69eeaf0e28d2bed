"""Statements of steps, on a real PostgreSQL server and on SQLite files."""

import asyncio
import sqlite3
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from gateway.__main__ import main
from gateway.domain.sql_values import Statement
from gateway.errors import SettingsInvalid, StepInvalid
from gateway.transports.databases import DatabaseOptions, Databases

SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT sum(i) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


def statement(text, *parameters, max_rows=1000, timeout_s=20.0):
    return Statement(text, parameters, max_rows, timeout_s)


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request):
    return request.param


@pytest.fixture
def databases(kind, request, tmp_path):
    """`plant` may be read, `shop` written too: one database under two names, with 3,000 rows."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'plant.db'}"
        with closing(sqlite3.connect(tmp_path / "plant.db")) as file, file:
            _fill(file.execute)
    else:
        url = request.getfixturevalue("postgres_url").replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url) as made:
            _fill(made.execute)
    return Databases.of(
        {"plant": DatabaseOptions(url=url), "shop": DatabaseOptions(url=url, read_only=False)}
    )


def _fill(execute):
    execute("CREATE TABLE tanks (id INTEGER PRIMARY KEY, site TEXT, level NUMERIC(10, 2))")
    execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "INSERT INTO tanks SELECT i, 'site-' || (i % 3), i * 0.5 FROM n"
    )


@pytest.mark.row("A12")
async def test_values_are_bound_and_rows_are_objects(databases):
    found = await databases.query(
        "plant",
        statement("SELECT id, site, level FROM tanks WHERE site = $1 AND id < $2 ORDER BY id",
                  "site-1", 5),
    )  # fmt: skip
    assert found == {
        "columns": ["id", "site", "level"],
        "rows": [
            {"id": 1, "site": "site-1", "level": 0.5},
            {"id": 4, "site": "site-1", "level": 2},
        ],
        "row_count": 2,
        "truncated": False,
    }
    smuggled = "site-1' OR '1'='1"
    none = await databases.query(
        "plant", statement("SELECT id FROM tanks WHERE site = $1", smuggled)
    )
    assert (none["columns"], none["rows"], none["row_count"]) == (["id"], [], 0)


@pytest.mark.row("A12")
async def test_rows_are_bounded_by_number_and_by_size(databases):
    few = await databases.query("plant", statement("SELECT id FROM tanks", max_rows=7))
    assert (len(few["rows"]), few["row_count"], few["truncated"]) == (7, 7, True)
    just = await databases.query(
        "plant", statement("SELECT id FROM tanks WHERE id <= 7", max_rows=7)
    )
    assert (just["row_count"], just["truncated"]) == (7, False)
    large = await databases.query("plant", statement("SELECT * FROM tanks", max_rows=10_000))
    assert 300 < len(large["rows"]) < 3000
    assert large["truncated"]


@pytest.mark.row("A12")
async def test_a_read_only_database_is_not_changed(databases, kind):
    for text in (
        "DELETE FROM tanks",
        "UPDATE tanks SET level = 0 RETURNING id",
        "CREATE TABLE more (id INTEGER)",
        "SELECT 1; DELETE FROM tanks",
    ):
        with pytest.raises(StepInvalid) as refused:
            await databases.query("plant", statement(text))
        assert refused.value.code == "sql_failed", text
    number = await databases.query("plant", statement("SELECT count(*) AS n FROM tanks"))
    assert number["rows"] == [{"n": 3000}]


@pytest.mark.row("A12")
async def test_a_writing_statement_says_how_many_rows_it_touched(databases):
    changed = await databases.query(
        "shop", statement("UPDATE tanks SET level = $1 WHERE id <= $2", 1.25, 10)
    )
    assert (changed["rows"], changed["row_count"]) == ([], 10)
    told = await databases.query(
        "shop", statement("UPDATE tanks SET level = 3 WHERE id <= 20 RETURNING id", max_rows=2)
    )
    assert (len(told["rows"]), told["row_count"], told["truncated"]) == (2, 20, True)
    found = await databases.query(
        "plant", statement("SELECT count(*) AS n FROM tanks WHERE level = 3 AND id <= 20")
    )
    assert found["rows"] == [{"n": 20}]
    with pytest.raises(StepInvalid) as refused:
        await databases.query("shop", statement("SELECT 1; DELETE FROM tanks"))
    assert refused.value.code == "sql_failed"
    with pytest.raises(StepInvalid):
        await databases.query("shop", statement("INSERT INTO tanks (id) VALUES (1)"))


@pytest.mark.row("A12")
@pytest.mark.parametrize("name", ["plant", "shop"])
async def test_what_takes_too_long_is_cancelled_where_it_runs(databases, kind, name):
    with pytest.raises(StepInvalid) as late:
        await databases.query(name, statement(SLOW[kind], timeout_s=0.3))
    assert late.value.code == "sql_failed"
    assert "0.3 s" in str(late.value)
    await _until_nothing_runs(databases, kind)


@pytest.mark.row("A12")
async def test_a_step_that_is_cancelled_cancels_its_statement(databases, kind):
    asking = asyncio.ensure_future(databases.query("plant", statement(SLOW[kind])))
    await _until(lambda: _running(databases, kind) > 0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await _until_nothing_runs(databases, kind)


async def _until_nothing_runs(databases, kind):
    await _until(lambda: _running(databases, kind) == 0)


async def _until(is_so):
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


def _running(databases, kind):
    if kind == "sqlite":
        return sum(_busy_threads(databases))
    with psycopg.connect(databases.configured["plant"].url, autocommit=True) as looking:
        ((number,),) = looking.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'roundsman' "
            "AND state = 'active' AND datname = current_database()"
        ).fetchall()
        return number


def _busy_threads(databases):
    names = {thread.ident for thread in databases._pool._threads}
    for ident, frame in sys._current_frames().items():
        inside = {found.f_code.co_name for found, _ in traceback.walk_stack(frame)}
        yield ident in names and "_ask" in inside


@pytest.mark.row("A12")
async def test_a_statement_reaches_no_other_file_and_fills_no_memory(tmp_path):
    for name in ("plant.db", "other.db"):
        with closing(sqlite3.connect(tmp_path / name)) as made, made:
            made.execute("CREATE TABLE t (n INTEGER)")
    url = f"sqlite:///{tmp_path / 'plant.db'}"
    databases = Databases.of({"plant": DatabaseOptions(url=url, read_only=False)})
    for text in (
        f"ATTACH DATABASE '{tmp_path / 'other.db'}' AS other",
        f"VACUUM INTO '{tmp_path / 'copy.db'}'",
        "PRAGMA writable_schema = ON",
        "SELECT randomblob(900000000)",
        "SELECT load_extension('x')",
        "SELECT $1, $2",
    ):
        with pytest.raises(StepInvalid) as refused:
            await databases.query("plant", statement(text, 1))
        assert refused.value.code == "sql_failed", text
    assert not (tmp_path / "copy.db").exists()
    gone = Databases.of({"plant": DatabaseOptions(url=f"sqlite:///{tmp_path / 'none.db'}")})
    with pytest.raises(StepInvalid):
        await gone.query("plant", statement("SELECT 1"))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.row("A12")
async def test_postgresql_knows_more_kinds_of_values(postgres_url):
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    databases = Databases.of({"plant": DatabaseOptions(url=url, read_only=False)})
    found = await databases.query(
        "plant",
        statement(
            "SELECT $1::jsonb -> 'a' AS a, 3 = ANY($2::int[]) AS listed, sum(n) AS total, "
            "DATE '2026-01-02' AS day, INTERVAL '90 seconds' AS lasts, 'ab'::bytea AS raw, "
            "'7'::numeric AS seven, 1 AS x, 2 AS x, ARRAY[1.5, 2] AS many, $3::text AS none "
            "FROM generate_series(1::bigint, 10) AS n",
            {"a": {"b": 1}}, [1, 2, 3], None,
        ),
    )  # fmt: skip
    assert found["rows"] == [
        {"a": {"b": 1}, "listed": True, "total": 55, "day": "2026-01-02", "lasts": 90.0,
         "raw": "YWI=", "seven": 7, "x": 1, "x_2": 2, "many": [1.5, 2], "none": None}
    ]  # fmt: skip


@pytest.mark.row("A12")
def test_a_driver_that_is_not_installed_is_said_when_the_settings_are_checked(
    tmp_path, monkeypatch, capsys
):
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "gateway: north\ndata_dir: data\n"
        "databases:\n  plant: {url: 'postgresql://reader@db/plant'}\n"
    )
    assert main([str(config), "--check"]) == 0
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert main([str(config), "--check"]) == 2
    said = capsys.readouterr().err
    assert "databases.plant" in said
    assert "roundsman[sql]" in said


async def test_a_server_that_is_not_there_and_a_name_that_nobody_knows():
    databases = Databases.of({"plant": DatabaseOptions(url="postgresql://me@127.0.0.1:1/x")})
    with pytest.raises(StepInvalid) as refused:
        await databases.query("plant", statement("SELECT 1"))
    assert refused.value.code == "sql_failed"
    with pytest.raises(StepInvalid) as refused:
        await databases.query("plan", statement("SELECT 1"))
    assert refused.value.code == "database_unknown"
    with pytest.raises(SettingsInvalid, match=r"databases\.plant"):
        Databases.of(
            {"plant": DatabaseOptions(url="postgresql://x/y", password_file=Path("/nowhere/pw"))}
        )
