"""The journal's database: groups, savepoints, a full disk, one process at a time."""

import asyncio
import sqlite3

import pytest

from gateway.errors import SettingsInvalid, StorageFull
from gateway.journal import meta
from gateway.journal.database import migrate, open_database


@pytest.fixture
def journal(tmp_path):
    database = open_database(tmp_path / "gw")
    yield database
    database.close()


async def test_the_error_of_one_does_not_hurt_its_group(journal):
    def fail(db):
        meta.put(db, "mine", "gone")
        raise LookupError("mine alone")

    outcomes = await asyncio.gather(
        journal.run(meta.put, "a", "1"),
        journal.run(fail),
        journal.run(lambda db: db.execute("INSERT INTO nothing VALUES (1)")),
        journal.run(meta.put, "b", "2"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], LookupError)
    assert isinstance(outcomes[2], sqlite3.OperationalError)
    kept = [await journal.run(meta.get, key) for key in ("a", "mine", "b")]
    assert kept == ["1", None, "2"]


async def test_many_at_once_share_commits(journal):
    await asyncio.gather(*[journal.run(meta.add, "n", 1) for _ in range(500)])
    assert await journal.run(meta.get, "n") == "500"
    assert journal.commits < 250


async def test_a_full_disk_is_told_and_recovers_by_itself(journal):
    def pages(db, count):
        db.execute(f"PRAGMA max_page_count={count}").close()

    (now,) = await journal.run(lambda db: db.execute("PRAGMA page_count").fetchone())
    await journal.run(pages, now + 2)
    with pytest.raises(StorageFull):
        await journal.run(meta.put, "big", "x" * 1_000_000)
    assert journal.trouble is not None
    assert journal.trouble.code == "full"
    await journal.run(pages, 1_000_000)
    await journal.run(meta.put, "big", "x" * 1_000_000)
    assert journal.trouble is None


def test_the_journal_keeps_its_id_and_counts_its_starts(tmp_path):
    for boot in (1, 2, 3):
        database = open_database(tmp_path)
        identity = database.run_now(meta.begin, f"new-{boot}")
        assert identity == meta.Identity("new-1", boot)
        database.close()


def test_a_second_process_is_refused(tmp_path, journal):
    with pytest.raises(SettingsInvalid, match="another process"):
        open_database(tmp_path / "gw")


def test_migrating_again_changes_nothing(tmp_path):
    connection = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    first = migrate(connection)
    assert migrate(connection) == first
    connection.execute(f"PRAGMA user_version={first + 7}")
    assert migrate(connection) == first + 7  # a newer release was here: left as it is
    connection.close()
