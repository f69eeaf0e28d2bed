"""What devices were like over time: pages, and whole periods as CSV or NDJSON, streamed."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.filters import period_of
from cloud.api.tables import csv_stream, ndjson_stream
from cloud.coordinator.access import Caller
from cloud.coordinator.services import Services
from cloud.storage.views import samples
from cloud.storage.views.samples import Order, Place, Wanted
from contract.http import Page
from contract.http.state import Sample

router = APIRouter(tags=["devices"])

HEADER: Final = ("at", "key", "value")
Pages = AsyncIterator[Sequence[Sequence[object]]]


def wanted_samples(
    device: str,
    services: ServicesOf,
    start: Annotated[
        str | None, Query(alias="from", description="From then on: ms, or RFC 3339.")
    ] = None,
    to: Annotated[str | None, Query(description="Until before then.")] = None,
    period: Annotated[
        str | None, Query(description="today, yesterday, or so long until now: 2h 30m.")
    ] = None,
    zone: Annotated[str, Query(description="Whose days they are.")] = "UTC",
    keys: Annotated[
        list[str] | None, Query(description="Only these; several, also with commas.")
    ] = None,
) -> Wanted:
    """What the address asks for. Raises Invalid."""
    names = [word.strip() for word in ",".join(keys or ()).split(",")]
    found = period_of(period, start, to, zone, services.clock())
    words = (period, start, to, zone)
    return Wanted(device, found, frozenset(filter(None, names)), words)


WantedSamples = Annotated[Wanted, Depends(wanted_samples)]


@router.get("/devices/{device}/state", operation_id="list_samples")
async def list_samples(
    services: ServicesOf,
    caller: CallerOf,
    wanted: WantedSamples,
    order: Annotated[Order, Query(description="Which comes first.")] = "oldest",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[Sample]:
    """A device's samples. A page may hold fewer than `limit` and yet have a next one."""
    return await services.database.read(
        samples.list_samples, caller.org, wanted, order=order, cursor=cursor, limit=limit
    )


@router.get("/devices/{device}/state.csv", operation_id="samples_csv", response_class=Response)
async def samples_csv(services: ServicesOf, caller: CallerOf, wanted: WantedSamples) -> Response:
    """A row for each value, the oldest first: at, key, value. No cell is a formula."""
    return await _export(services, caller, wanted, "csv", "text/csv; charset=utf-8", csv_stream)


@router.get(
    "/devices/{device}/state.ndjson", operation_id="samples_ndjson", response_class=Response
)
async def samples_ndjson(services: ServicesOf, caller: CallerOf, wanted: WantedSamples) -> Response:
    """A JSON object for each value, one a line."""
    return await _export(services, caller, wanted, "ndjson", "application/x-ndjson", ndjson_stream)


async def _export(
    services: Services,
    caller: Caller,
    wanted: Wanted,
    ending: str,
    media_type: str,
    stream: Callable[[Sequence[str], Pages], AsyncIterator[bytes]],
) -> Response:
    # Read before the answer begins: a device that is not there is a 404, not half a file.
    first = await services.database.read(samples.values_after, caller.org, wanted)
    body = stream(HEADER, _pages(services, caller.org, wanted, *first))
    headers = {
        "content-disposition": f'attachment; filename="state-{wanted.device}.{ending}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(body, headers=headers, media_type=media_type)


async def _pages(
    services: Services,
    org: str,
    wanted: Wanted,
    values: Sequence[Sequence[object]],
    after: Place | None,
) -> Pages:
    yield values
    while after is not None:
        values, after = await services.database.read(samples.values_after, org, wanted, after)
        yield values
