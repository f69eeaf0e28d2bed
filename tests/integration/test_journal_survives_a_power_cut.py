"""The power goes in the middle of commits: what was synced is there, and no promise is broken.

The journal lies on a file system that drops what was not synced: all of it, or seeded parts in
sectors of 512 bytes, in no order.
"""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from contract.ids import Sha256
from gateway.artifacts.cache import ArtifactCache
from gateway.artifacts.profile_files import ProfileFiles
from gateway.domain.attempt import advance
from gateway.domain.facts import Instant, Started
from gateway.journal import meta, tasks
from gateway.journal.database import Database, open_database
from tests.kit.attempts import RUN
from tests.kit.disks import FailingDisk, failing_disk
from tests.kit.processes import Program, Programs
from tests.kit.waiting import wait_until

SEEDS = (None, 1, 2, 3, 4, 5)


def cut_after(
    disk: FailingDisk, programs: Programs, folder: Path, done: int, *sync: str
) -> tuple[Program, list[Path]]:
    """A writer whose power goes once it has told of so many results; the disks it may leave."""
    writer = programs.python("tests.kit.journal_writer", disk.path / "gw", *sync, name="writer")
    wait_until(
        lambda: writer.output().count("done ") >= done or not writer.is_running, 60, writer.tail
    )
    images = [folder / f"after-{seed}" for seed in SEEDS]
    disk.cut_to(images, SEEDS)
    writer.close()
    return writer, images


def promised(writer: Program, word: str) -> dict[str, int]:
    """The highest revision that was told of each task."""
    found: dict[str, int] = {}
    for ordinal, revision in re.findall(rf"^{word} (\d+) (\d+)$", writer.output(), re.MULTILINE):
        task = f"{RUN}-{ordinal}"
        found[task] = max(found.get(task, 0), int(revision))
    return found


def keeps_every_promise(journal: Database, done: dict[str, int], told: dict[str, int]) -> None:
    (state,) = journal.run_now(lambda db: db.execute("PRAGMA integrity_check").fetchone())
    assert state == "ok"
    assert journal.run_now(meta.get, "boot") == "1"
    found = {(row.task, row.revision): row for row in journal.run_now(tasks.unacknowledged, 10**6)}
    for task, revision in done.items():
        assert found[(task, revision)].is_ended
    now = Instant(1, 1)
    for mark in journal.run_now(tasks.marks, True):
        attempt = journal.run_now(tasks.load, mark.task, mark.attempt, now)
        assert attempt is not None
        after, _ = advance(attempt, Started(boot=2), now)
        assert after.revision > told.get(mark.task, 0)


@pytest.mark.row("E1")
@pytest.mark.parametrize("count", [5, 60])
def test_what_was_committed_is_there_after_a_power_cut(
    tmp_path: Path, programs: Programs, count: int
):
    with failing_disk(tmp_path / "mounted", programs) as disk:
        writer, images = cut_after(disk, programs, tmp_path, count)
    done, told = promised(writer, "done"), promised(writer, "told")
    assert len(done) >= count
    for image in images:
        journal = open_database(image / "gw")
        try:
            keeps_every_promise(journal, done, told)
        finally:
            journal.close()


@pytest.mark.row("E1")
@pytest.mark.parametrize("sync", ["NORMAL", "OFF"])
def test_the_harness_does_lose_what_was_not_synced(tmp_path: Path, programs: Programs, sync: str):
    with failing_disk(tmp_path / "mounted", programs) as disk:
        writer, images = cut_after(disk, programs, tmp_path, 20, sync)
    done = promised(writer, "done")
    assert len(done) >= 20
    journal = open_database(images[0] / "gw")
    try:
        kept = {row.task for row in journal.run_now(tasks.unacknowledged, 10**6)}
    finally:
        journal.close()
    assert not kept >= done.keys()


def drawn_next(journal: Database) -> dict[str, int]:
    """The numbers of what is added now."""
    journal.run_now(meta.begin, "another")
    found = {}
    for stream in ("live", "backlog"):
        found[f"{stream} logs"] = journal.run_now(meta.draw, f"number.{stream}.logs", 1)
        found[f"{stream} states"] = journal.run_now(meta.draw, f"number.{stream}.states", 1)
    return {**found, "order": journal.run_now(meta.draw, "order.states", 1)}


@pytest.mark.row("E1", "E2")
@pytest.mark.parametrize("count", [1, 60])
def test_no_number_that_was_told_is_given_to_another_line(
    tmp_path: Path, programs: Programs, count: int
):
    # 60 rounds are 42,000 lines: several reservations.
    with failing_disk(tmp_path / "mounted", programs) as disk:
        writer = programs.python("tests.kit.outbox_writer", disk.path / "gw", name="writer")
        wait_until(lambda: writer.output().count("sample") >= count, 60, writer.tail)
        images = [tmp_path / f"after-{seed}" for seed in SEEDS]
        disk.cut_to(images, SEEDS)
        writer.close()
    told: dict[str, int] = {}
    for stream, number in re.findall(r"^line (\w+) (\d+)$", writer.output(), re.MULTILINE):
        told[f"{stream} logs"] = int(number)
    samples = re.findall(r"^sample (\w+) (\d+) (\d+)$", writer.output(), re.MULTILINE)
    for stream, number, order in samples:
        told[f"{stream} states"], told["order"] = int(number), int(order)
    for image in images:
        journal = open_database(image / "gw")
        try:
            drawn = drawn_next(journal)
        finally:
            journal.close()
        assert {name: drawn[name] > number for name, number in told.items()} == dict.fromkeys(
            told, True
        )


class Shelf:
    """Where artifacts come from; `fetched` are those asked for. It syncs nothing."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fetched: list[str] = []

    async def fetch(self, sha256: str, size: int, target: Path, on_bytes: object) -> None:
        self.fetched.append(sha256)
        target.write_bytes(self.data)


@pytest.mark.row("E1")
async def test_an_artifact_that_was_torn_is_found_out_and_fetched_again(
    tmp_path: Path, programs: Programs
):
    data = bytes(range(256)) * 200
    digest = Sha256(sha256(data).hexdigest())
    images = [tmp_path / f"after-{seed}" for seed in SEEDS]
    with failing_disk(tmp_path / "mounted", programs) as disk:
        cache = ArtifactCache(disk.path / "artifacts", Shelf(data), 1 << 30)
        await cache.fetch(digest, len(data), lambda *_: None)
        disk.cut_to(images, SEEDS)
    for image in images:
        left = image / "artifacts" / digest
        was_whole = left.exists() and left.read_bytes() == data
        shelf = Shelf(data)
        path = await ArtifactCache(image / "artifacts", shelf, 1 << 30).fetch(
            digest, len(data), lambda *_: None
        )
        assert path.read_bytes() == data
        assert bool(shelf.fetched) is not was_whole


@pytest.mark.row("E1")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_profile_that_was_deployed_is_there_whole(
    tmp_path: Path, programs: Programs, seed: int | None
):
    with failing_disk(tmp_path / "mounted", programs) as disk:
        files = ProfileFiles(disk.path / "gw" / "profiles")
        for number in range(3):
            files.write("meter", f"version: {number}\n".encode() * 100)
        files.write("pump", b"name: pump\n")
        files.remove("pump")
        disk.cut_to([tmp_path / "after"], [seed])
    left = ProfileFiles(tmp_path / "after" / "gw" / "profiles")
    assert list(left.list()) == ["meter"]
    assert left.read("meter") == b"version: 2\n" * 100
