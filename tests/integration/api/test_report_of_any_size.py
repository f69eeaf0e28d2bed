"""A report of 200,000 targets is streamed in memory that does not grow with it."""

from collections.abc import AsyncIterator
from typing import cast

import psutil
import pytest
from fastapi.responses import StreamingResponse

from cloud.api import run_reports
from cloud.coordinator.access import Caller
from cloud.storage.database import Session
from cloud.storage.dialect import change
from contract.ids import DEFAULT_ORG
from tests.integration.api.conftest import Service

TARGETS = 200_000
NUMBERS = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {TARGETS - 1})"
# A result that a spreadsheet would run, and 600 bytes beside it.
SNAPSHOT = '{"result":"=HYPERLINK(1)' + "x" * 600 + '"}'
# A page of the database's cache is 64 MiB, whatever is read.
MAX_GROWTH = 100 * 2**20


def fill(session: Session, run: str) -> None:
    change(
        session,
        f"{NUMBERS} INSERT INTO tasks (run, ordinal, org, device, target, gateway, status, "
        "priority, attempt, tries, attempts, revision, begun, due_at, progress, stranded) "
        "SELECT :run, i, :org, 'd-' || i, 'd-' || i, 'g', 'succeeded', 1, 1, 1, 3, 1, TRUE, 0, "
        "10000, FALSE FROM n",
        run=run,
        org=DEFAULT_ORG,
    )
    change(
        session,
        "INSERT INTO attempts (run, ordinal, attempt, org, gateway, journal, status, revision, "
        "begun, offered_at, snapshot) SELECT run, ordinal, 1, org, gateway, 'j', status, 1, TRUE, "
        "0, :snapshot FROM tasks WHERE run = :run",
        run=run,
        snapshot=SNAPSHOT,
    )


@pytest.mark.row("C7")
async def test_the_report_of_a_large_run_takes_constant_memory(api: Service):
    run = await api.start(await api.save_job())
    await api.database.run(fill, run)
    caller = Caller(DEFAULT_ORG, "id", "me", "administrator")
    process = psutil.Process()
    for report in (run_reports.report_csv, run_reports.report_ndjson):
        response = cast(StreamingResponse, await report(run, api.services, caller))
        before = highest = process.memory_info().rss
        lines = size = 0
        async for chunk in cast(AsyncIterator[bytes], response.body_iterator):
            lines += chunk.count(b"\n")
            size += len(chunk)
            highest = max(highest, process.memory_info().rss)
            if report is run_reports.report_csv:
                assert b",=HYPERLINK" not in chunk
        assert lines == TARGETS + (report is run_reports.report_csv)
        assert size > 120 * 2**20
        assert highest - before < MAX_GROWTH, f"{(highest - before) / 2**20:.0f} MiB more"
