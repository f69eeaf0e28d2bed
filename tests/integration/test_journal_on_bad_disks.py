"""A journal whose disk cannot be read, or is read-only from the start: named, never begun anew."""

import os
from pathlib import Path

import pytest

from gateway.errors import JournalDamaged, StorageFailed, StorageFull
from gateway.journal import meta
from gateway.journal.database import FILE_NAME, Database, open_database
from gateway.journal.in_hand import InHand
from gateway.journal.opening import set_aside
from tests.kit.disks import failing_disk
from tests.kit.processes import Programs


def a_journal(folder: Path) -> None:
    journal = open_database(folder)
    journal.run_now(meta.begin, "the-first")
    journal.run_now(meta.put, "much", "x" * 200_000)
    journal.close()


def forget_what_was_read(journal: Database, file: Path) -> None:
    """Neither sqlite nor the kernel has its pages any more."""
    journal.run_now(lambda db: db.execute("PRAGMA shrink_memory").close())
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@pytest.mark.row("E1")
def test_a_journal_that_cannot_be_read_is_neither_empty_nor_damaged(
    tmp_path: Path, programs: Programs
):
    a_journal(tmp_path / "image" / "gw")
    with failing_disk(tmp_path / "mounted", programs, tmp_path / "image") as disk:
        disk.break_reads(FILE_NAME)
        with pytest.raises(StorageFailed, match=r"The disk fails: .*/gw: "):
            open_database(disk.path / "gw")
        disk.break_reads("")
        journal = open_database(disk.path / "gw")
        forget_what_was_read(journal, disk.path / "gw" / FILE_NAME)
        disk.break_reads(FILE_NAME)
        with pytest.raises(StorageFailed):
            journal.run_now(meta.get, "much")
        assert journal.trouble is not None
        assert journal.trouble.code == "failing"
        disk.break_reads("")
        assert journal.run_now(meta.get, "much") == "x" * 200_000
        assert journal.run_now(meta.begin, "another").journal == "the-first"
        assert journal.trouble is None
        journal.close()


@pytest.mark.row("E1")
def test_a_journal_on_a_read_only_disk_says_so(tmp_path: Path, programs: Programs):
    a_journal(tmp_path / "image" / "gw")
    with failing_disk(tmp_path / "mounted", programs, tmp_path / "image") as disk:
        disk.set_read_only(True)
        with pytest.raises(StorageFull, match="The disk is read-only"):
            open_database(disk.path / "gw")
        disk.set_read_only(False)
        open_database(disk.path / "gw").close()


@pytest.mark.row("E1")
def test_what_is_in_hand_needs_no_disk_that_works(tmp_path: Path, programs: Programs):
    (tmp_path / "image").mkdir()
    with failing_disk(tmp_path / "mounted", programs, tmp_path / "image") as disk:
        for fault in (lambda: disk.set_read_only(True), disk.fill):
            fault()
            in_hand = InHand(disk.path)
            assert in_hand.take("an offer")
            in_hand.put_down("an offer")
            in_hand.close()
            disk.set_read_only(False)


@pytest.mark.row("E1")
def test_a_damaged_page_found_at_work_ends_all_writing(tmp_path: Path):
    a_journal(tmp_path / "gw")
    journal = open_database(tmp_path / "gw")
    journal.run_now(lambda db: db.execute("PRAGMA cache_size=1").close())
    file = tmp_path / "gw" / FILE_NAME
    with file.open("r+b") as pages:
        size = pages.seek(0, 2)
        for at in range(4096, size, 4096):
            pages.seek(at)
            pages.write(b"\xff" * 4096)
    with pytest.raises(JournalDamaged, match=f"The journal {file} is damaged"):
        journal.run_now(lambda db: db.execute("SELECT count(value) FROM meta").fetchall())
    with pytest.raises(JournalDamaged, match="--new-journal"):
        journal.run_now(lambda db: None)
    journal.close()
    with pytest.raises(JournalDamaged):
        open_database(tmp_path / "gw")
    assert set_aside(file).name == f"{FILE_NAME}.damaged-1"
    fresh = open_database(tmp_path / "gw")
    assert fresh.run_now(meta.begin, "the-second").journal == "the-second"
    fresh.close()
