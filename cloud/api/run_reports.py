"""The run report: a row for each task, as CSV or NDJSON, streamed in chunks of constant size."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.tables import csv_stream, ndjson_stream
from cloud.coordinator.access import Caller
from cloud.coordinator.services import Services
from cloud.storage.views import reports
from cloud.storage.views.reports import ReportRow

router = APIRouter(tags=["runs"])

HEADER: Final = (
    "task", "ordinal", "target", "gateway", "status", "attempt", "tries", "progress", "started_at",
    "ended_at", "seconds", "failure_code", "failure_step", "failure", "result",
)  # fmt: skip
Pages = AsyncIterator[Sequence[Sequence[object]]]


@router.get("/runs/{run_id}/report.csv", operation_id="report_csv", response_class=Response)
async def report_csv(run_id: str, services: ServicesOf, caller: CallerOf) -> Response:
    """A row for each task. UTF-8, RFC 4180; no cell is a formula."""
    return await _report(services, caller, run_id, "csv", "text/csv; charset=utf-8", csv_stream)


@router.get("/runs/{run_id}/report.ndjson", operation_id="report_ndjson", response_class=Response)
async def report_ndjson(run_id: str, services: ServicesOf, caller: CallerOf) -> Response:
    """A JSON object for each task, one a line."""
    media_type = "application/x-ndjson"
    return await _report(services, caller, run_id, "ndjson", media_type, ndjson_stream)


async def _report(
    services: Services,
    caller: Caller,
    run_id: str,
    ending: str,
    media_type: str,
    stream: Callable[[Sequence[str], Pages], AsyncIterator[bytes]],
) -> Response:
    # Read before the answer begins: a run that is not there is a 404, not half a file.
    first = await services.database.read(reports.rows, caller.org, run_id)
    body = stream(HEADER, _pages(services, caller.org, run_id, first))
    headers = {
        "content-disposition": f'attachment; filename="run-{run_id}.{ending}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(body, headers=headers, media_type=media_type)


async def _pages(services: Services, org: str, run: str, first: Sequence[ReportRow]) -> Pages:
    page = first
    while page:
        yield [_cells(row) for row in page]
        if len(page) < reports.CHUNK:
            return
        page = await services.database.read(reports.rows, org, run, page[-1].ordinal)


def _cells(row: ReportRow) -> list[Any]:
    why = row.failure
    text = " ".join(filter(None, (why.sentence, why.text))) if why else None
    return [
        row.task, row.ordinal, row.target, row.gateway, row.status, row.attempt, row.tries,
        row.progress, row.started_at, row.ended_at, row.seconds, why.code if why else None,
        why.step if why else None, text, row.result,
    ]  # fmt: skip
