"""Numbers that are told to the cloud are never given to anything else, whatever is forgotten."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.messages import LogLine
from gateway.errors import StorageFull
from gateway.journal import meta, outbox
from gateway.journal.database import Database, migrate, open_database

KEY = "number.live.logs"


class Disk:
    """A journal's numbers, and what of them a power cut leaves: the last state that was synced."""

    def __init__(self) -> None:
        self.live = self._connect(sqlite3.connect(":memory:"))
        self.synced = sqlite3.connect(":memory:")
        self.sync()

    def sync(self) -> None:
        self.live.commit()
        self.live.backup(self.synced)

    def cut(self) -> None:
        self.synced.backup(self.live)

    def _connect(self, db: sqlite3.Connection) -> sqlite3.Connection:
        db.create_function("sync_before_answering", 0, self._owe)
        db.isolation_level = None
        migrate(db)
        self.owes = False
        return db

    def _owe(self) -> None:
        self.owes = True

    def begin(self) -> None:
        meta.begin(self.live, "journal")
        self.sync()

    def draw(self, count: int) -> range:
        last = meta.draw(self.live, KEY, count)
        if self.owes:
            self.owes = False
            self.sync()
        return range(last - count + 1, last + 1)

    def close(self) -> None:
        self.live.close()
        self.synced.close()


@pytest.mark.row("E1")
@given(
    st.lists(
        st.one_of(st.integers(1, 3 * meta.BLOCK), st.sampled_from(["cut", "die", "sync"])),
        max_size=12,
    )
)
def test_no_number_is_drawn_twice_however_often_the_power_goes(story):
    disk = Disk()
    disk.begin()
    highest = 0
    for word in story:
        if isinstance(word, int):
            drawn = disk.draw(word)
            assert drawn[0] > highest
            highest = drawn[-1]
        elif word == "sync":
            disk.sync()
        else:
            if word == "cut":
                disk.cut()
            disk.begin()
    disk.close()


@pytest.fixture
def journal(tmp_path: Path):
    database = open_database(tmp_path / "gw", inline=True)
    yield database
    database.close()


def line() -> LogLine:
    return LogLine(number=0, at=1, text="a line")


def test_a_start_leaves_a_gap_that_no_bound_counts(journal: Database):
    for _ in range(5):
        journal.run_now(meta.begin, "journal")
        journal.run_now(outbox.limit, 100, 10**9)
        journal.run_now(outbox.add, "live", [line() for _ in range(30)])
    journal.run_now(outbox.add, "live", [line()], bound=120)
    kept = [n for n, _ in journal.run_now(outbox.first, "live", "logs", 1_000, 10**9)]
    assert len(kept) in (100, 120)
    assert kept == sorted(set(kept))
    assert journal.run_now(outbox.dropped) == {"logs": 151 - len(kept)}
    journal.run_now(outbox.stored, "live", "logs", kept[49])
    journal.run_now(outbox.add, "live", [line()], bound=1_000)
    assert journal.run_now(outbox.count) == len(kept) - 50 + 1


async def test_what_was_drawn_is_not_told_while_it_cannot_be_synced(tmp_path: Path):
    journal = open_database(tmp_path / "gw")
    await journal.run(meta.begin, "journal")
    pays = journal._pay_sync

    def fails() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        error.sqlite_errorname = "SQLITE_IOERR"
        raise error

    journal._pay_sync = fails  # type: ignore[method-assign]
    with pytest.raises(StorageFull):
        await journal.run_unsynced(outbox.add, "live", [line()])
    with pytest.raises(StorageFull):
        await journal.run_unsynced(outbox.first, "live", "logs", 9, 10**6)
    journal._pay_sync = pays  # type: ignore[method-assign]
    ((number, _),) = await journal.run_unsynced(outbox.first, "live", "logs", 9, 10**6)
    assert number == 1
    journal.close()
