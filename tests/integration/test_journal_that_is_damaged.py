"""Bytes of the journal's file are changed: it says that it is damaged, or goes on; nothing else."""

import random
import shutil
from pathlib import Path

import pytest

from contract.messages import CancelItem, LogLine
from gateway.domain.facts import Instant
from gateway.errors import JournalDamaged, StorageFull
from gateway.journal import meta, outbox, tasks
from gateway.journal.database import FILE_NAME, open_database
from tests.kit.attempts import AT, RUN, a_body, a_step, an_offer
from tests.unit.gateway.journal.test_tasks import finish

PAGE = 4_096
LATER = Instant(AT.wall + 60_000, AT.mono + 60_000)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with attempts open and ended, lines and samples, all in its main file."""
    folder = tmp_path_factory.mktemp("sound")
    journal = open_database(folder, inline=True)
    journal.run_now(meta.begin, "journal")
    journal.run_now(outbox.limit, 1_000, 10**8)
    body = a_body(a_step("read"), a_step("write"))
    offers = [an_offer(number, device=f"d{number % 5}") for number in range(20)]
    journal.run_now(tasks.take_offers, [body], offers, 1, AT)
    for lane in ("d0", "d1"):
        journal.run_now(finish, lane)
    lines = [LogLine(number=0, at=1, text="a line") for _ in range(50)]
    journal.run_now(outbox.add, "live", lines)
    journal.close()
    return folder / FILE_NAME


def use(folder: Path) -> None:
    """What a gateway does with its journal, from its start on."""
    journal = open_database(folder, inline=True)
    try:
        journal.run_now(meta.begin, "another")
        journal.run_now(outbox.limit, 1_000, 10**8)
        for lane in journal.run_now(tasks.open_lanes):
            journal.run_now(tasks.next_of, lane, LATER)
        journal.run_now(tasks.awaiting, LATER)
        journal.run_now(tasks.marks)
        journal.run_now(tasks.unacknowledged, 100)
        journal.run_now(outbox.first, "live", "logs", 100, 10**6)
        journal.run_now(outbox.add, "live", [LogLine(number=0, at=1, text="one more")])
        journal.run_now(tasks.take_offers, [a_body(a_step("read"))], [an_offer(90)], 2, LATER)
        journal.run_now(tasks.cancel, [CancelItem(task=f"{RUN}-3", attempt=1)], LATER)
        journal.run_now(tasks.stored, [(f"{RUN}-3", 1, 9)], LATER)
    finally:
        journal.close()


@pytest.mark.row("E1")
@pytest.mark.parametrize("seed", [*range(40), 214, 221])
def test_changed_bytes_are_damage_or_no_matter(sound: Path, tmp_path: Path, seed: int):
    chance = random.Random(seed)
    data = bytearray(sound.read_bytes())
    for _ in range(chance.choice((1, 3, 30))):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + 16] = chance.randbytes(len(data[at : at + 16]))
            case 2:
                page = at // PAGE * PAGE
                data[page : page + PAGE] = bytes(PAGE)
            case _:
                data[at] = chance.randrange(256)
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    (tmp_path / FILE_NAME).write_bytes(data)
    try:
        use(tmp_path)
    except (JournalDamaged, StorageFull):
        return


@pytest.mark.row("E1")
def test_a_body_that_cannot_be_read_fails_its_attempts_and_no_others(sound: Path, tmp_path: Path):
    shutil.copy(sound, tmp_path / FILE_NAME)
    journal = open_database(tmp_path, inline=True)
    other = an_offer(40, device="d9", run="0198c0de-0000-7000-8000-000000000002")
    body = a_body(a_step("read"), run=other.run)
    journal.run_now(tasks.take_offers, [body], [other], 1, AT)
    journal.run_now(lambda db: db.execute("UPDATE bodies SET body = '{' WHERE run = ?", (RUN,)))
    tasks._parsed_body.cache_clear()
    assert journal.run_now(tasks.next_of, "d3", LATER) is None
    found = journal.run_now(tasks.next_of, "d9", LATER)
    assert found is not None
    assert found.offer == other
    journal.close()
