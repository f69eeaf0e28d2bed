"""A job is deleted and the cloud killed at once: its runs are swept all the same, and stay gone."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from roundsman.errors import Gone
from tests.kit.rig import Rig
from tests.kit.rig_jobs import command_job
from tests.kit.rig_site import smp
from tests.kit.waiting import wait_until

TABLES = ("runs", "tasks", "attempts", "run_log", "run_counts", "deleted_jobs")


@pytest.mark.row("C5")
def test_the_rows_of_a_deleted_job_go_and_its_report_link_says_so(rig: Rig):
    rig.add_gateway("north", [smp(f"pump-{n}") for n in (1, 2)])
    run = rig.start(command_job())
    rig.finish(run, "succeeded")
    link = rig.client.runs.report_link(run).csv
    rig.client.jobs.delete("command")
    rig.restart_cloud()

    (file,) = rig.data_dir.glob("*.db")
    wait_until(lambda: not any(_left(file).values()), 60, lambda: str(_left(file)))
    with pytest.raises(Gone):
        rig.client.runs.get(run)
    with pytest.raises(HTTPError) as answer:
        urlopen(link)
    assert answer.value.code == 410
    answer.value.close()


def _left(file: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
        return {
            name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES
        }
