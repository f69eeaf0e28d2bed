"""A process is killed in the middle of its commits: what was promised is there, whole."""

import sys
from pathlib import Path

import pytest

from contract.lifecycle import TaskStatus
from gateway.domain.facts import Instant
from gateway.journal import meta, tasks
from gateway.journal.database import open_database
from tests.kit.attempts import RUN
from tests.kit.processes import REPOSITORY, Program
from tests.kit.waiting import wait_until


@pytest.mark.parametrize("done", [40, 150])
def test_what_was_committed_is_there_after_kill_9(tmp_path: Path, done: int):
    program = Program(
        "writer",
        [sys.executable, "-m", "tests.kit.journal_writer", tmp_path / "gw"],
        tmp_path / "writer.log",
        cwd=REPOSITORY,
    )
    for boot in (1, 2, 3):
        program.start()
        wait_until(
            lambda: program.output().count("done ") >= done or not program.is_running,
            60,
            program.tail,
        )
        program.kill_9()
        lines = [line.split() for line in program.output().splitlines() if line.startswith("done ")]
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
