"""The run report: a row for each target, as CSV or NDJSON, streamed in chunks of constant size."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.tables import csv_stream, ndjson_stream
from cloud.coordinator import links
from cloud.coordinator.services import Services
from cloud.storage.views import reports
from cloud.storage.views.reports import ReportRow
from contract.ids import OrgId

router = APIRouter(tags=["runs"])
links_router = APIRouter(tags=["runs"])
Until = Annotated[int, Query(ge=0, le=2**53)]

HEADER: Final = (
    "task", "ordinal", "target", "gateway", "status", "attempt", "tries", "progress", "started_at",
    "ended_at", "seconds", "failure_code", "failure_step", "failure", "result",
)  # fmt: skip
Pages = AsyncIterator[Sequence[Sequence[object]]]


@router.get("/runs/{run_id}/report.csv", operation_id="report_csv", response_class=Response)
async def report_csv(run_id: str, services: ServicesOf, caller: CallerOf) -> Response:
    """A row for each target. UTF-8, RFC 4180; no cell is a formula."""
    return await _report(services, caller.org, run_id, "csv", "text/csv; charset=utf-8", csv_stream)


@router.get("/runs/{run_id}/report.ndjson", operation_id="report_ndjson", response_class=Response)
async def report_ndjson(run_id: str, services: ServicesOf, caller: CallerOf) -> Response:
    """A JSON object for each target, one a line."""
    media_type = "application/x-ndjson"
    return await _report(services, caller.org, run_id, "ndjson", media_type, ndjson_stream)


@links_router.get("/reports/{run_id}.csv", operation_id="linked_csv", response_class=Response)
async def linked_csv(run_id: str, services: ServicesOf, until: Until, signature: str) -> Response:
    """The report of a link, which needs no token; 410 when it has expired."""
    org = await _org(services, run_id, "csv", until, signature)
    return await _report(services, org, run_id, "csv", "text/csv; charset=utf-8", csv_stream)


@links_router.get("/reports/{run_id}.ndjson", operation_id="linked_ndjson", response_class=Response)
async def linked_ndjson(
    run_id: str, services: ServicesOf, until: Until, signature: str
) -> Response:
    """The same as NDJSON."""
    org = await _org(services, run_id, "ndjson", until, signature)
    media_type = "application/x-ndjson"
    return await _report(services, org, run_id, "ndjson", media_type, ndjson_stream)


async def _org(services: Services, run: str, ending: str, until: int, signature: str) -> OrgId:
    return await services.database.read(
        links.org_of_link, run, ending, until, signature, services.clock()
    )


async def _report(
    services: Services,
    org: OrgId,
    run_id: str,
    ending: str,
    media_type: str,
    stream: Callable[[Sequence[str], Pages], AsyncIterator[bytes]],
) -> Response:
    # Read before the answer begins: a run that is not there is a 404, not half a file.
    first = await services.database.read(reports.rows, org, run_id)
    body = stream(HEADER, _pages(services, org, run_id, first))
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
        after = (page[-1].ordinal, page[-1].position)
        page = await services.database.read(reports.rows, org, run, after)


def _cells(row: ReportRow) -> list[Any]:
    why = row.failure
    text = " ".join(filter(None, (why.sentence, why.text))) if why else None
    return [
        row.task, row.ordinal, row.target, row.gateway, row.status, row.attempt, row.tries,
        row.progress, row.started_at, row.ended_at, row.seconds, why.code if why else None,
        why.step if why else None, text, row.result,
    ]  # fmt: skip
