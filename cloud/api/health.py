"""Is it there, can it work, what is it, how is it doing."""

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from cloud import metrics
from cloud.api.access import ServicesOf
from cloud.coordinator import instance
from cloud.errors import CloudError
from contract.http.fleet import Version

router = APIRouter(tags=["health"])
DATABASE_TIMEOUT_S = 5


@router.get("/healthz", operation_id="healthz", response_class=Response)
async def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", operation_id="readyz", response_class=JSONResponse)
async def readyz(services: ServicesOf) -> Response:
    """Database and broker are there; 503 with what is missing otherwise."""
    missing = services.not_ready()
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S):
            await services.database.read(instance.incarnation)
    except (CloudError, TimeoutError):
        missing.append("the database does not answer")
    return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)


@router.get("/version", operation_id="version")
async def version(services: ServicesOf) -> Version:
    incarnation = await services.database.read(instance.incarnation)
    return Version(version=services.version, incarnation=incarnation)


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def prometheus() -> Response:
    """Metrics in the text format of Prometheus. They name no tenant, device or job."""
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
