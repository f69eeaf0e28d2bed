"""A process is killed in the middle of its commits: what was promised is there, whole."""

import sys
from pathlib import Path

import pytest

from contract.lifecycle import TaskStatus
from gateway.domain.facts import Instant
from gateway.journal import meta, tasks
from gateway.journal.database import open_database
from tests.kit.attempts import RUN
from tests.kit.processes import Program
from tests.kit.waiting import wait_until

# Takes offers and finishes them as fast as it can, printing each result once it is committed.
WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.domain.attempt import advance
from gateway.domain.facts import Begin, Done, Started
from gateway.journal import meta, tasks
from gateway.journal.database import open_database
from tests.kit.attempts import AT, a_body, a_step, an_offer

async def carry(journal, boot, lane, first):
    for ordinal in range(first, 10**6, 8):
        offer = an_offer(ordinal, device=lane)
        await journal.run(tasks.take_offers, [BODY], [offer], boot, AT)
        attempt = await journal.run_unsynced(tasks.next_of, lane, AT)
        if attempt is None:
            continue
        for fact in (Started(boot), Begin(), Done({"n": ordinal})):
            after, _ = advance(attempt, fact, AT)
            if after.revision != attempt.revision:
                assert await journal.run(tasks.save, after, attempt.revision, AT)
            attempt = after
        print("done", attempt.offer.ordinal, attempt.revision, flush=True)

async def main():
    journal = open_database(Path(sys.argv[1]))
    identity = await journal.run(meta.begin, "first")
    async with asyncio.TaskGroup() as group:
        for lane in range(8):
            group.create_task(carry(journal, identity.boot, f"d{lane}", lane))

BODY = a_body(a_step("read"))
asyncio.run(main())
"""


@pytest.mark.parametrize("done", [40, 150])
def test_what_was_committed_is_there_after_kill_9(tmp_path: Path, done: int):
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    repository = Path(__file__).resolve().parents[2]
    program = Program(
        "writer",
        [sys.executable, script, tmp_path / "gw"],
        tmp_path / "writer.log",
        env={"PYTHONPATH": str(repository)},
    )
    for boot in (1, 2, 3):
        program.start()
        wait_until(
            lambda: program.output().count("done ") >= done or not program.is_running,
            60,
            program.tail,
        )
        program.kill_9()
        lines = [line.split() for line in program.output().splitlines() if "done" in line]
        assert len(lines) >= done, program.tail()
        journal = open_database(tmp_path / "gw")
        try:
            (state,) = journal.run_now(lambda db: db.execute("PRAGMA integrity_check").fetchone())
            assert state == "ok"
            assert journal.run_now(meta.get, "boot") == str(boot)
            found = {
                (row.task, row.revision): row
                for row in journal.run_now(tasks.unacknowledged, 100_000)
            }
            for words in lines:
                if len(words) == 3:
                    assert found[(f"{RUN}-{words[1]}", int(words[2]))].is_ended
            for mark in journal.run_now(tasks.marks, True):
                attempt = journal.run_now(tasks.load, mark.task, mark.attempt, Instant(1, 1))
                assert attempt is not None
                assert attempt.status in (TaskStatus.ACCEPTED, TaskStatus.RUNNING)
        finally:
            journal.close()
