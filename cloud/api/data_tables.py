"""Data tables and their rows."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import JsonValue

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import data_tables
from cloud.errors import Invalid
from cloud.storage.views import targets as views
from contract.http import Page
from contract.http.targets import EditRow, NewRows, NewTable, Row, Table

router = APIRouter(tags=["tables"])
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post(
    "/tables", status_code=201, operation_id="create_table", openapi_extra=body_schema(NewTable)
)
async def create_table(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Table:
    """Make a data table; without columns its rows may hold anything."""
    new = await read_body(request, NewTable)
    made = await services.database.run(data_tables.create_table, caller, new, services.clock())
    response.headers["location"] = f"/api/v1/tables/{made.id}"
    return made


@router.get("/tables", operation_id="list_tables")
async def list_tables(
    services: ServicesOf, caller: CallerOf, cursor: str | None = None, limit: Limit = 50
) -> Page[Table]:
    return await services.database.read(views.list_tables, caller.org, cursor=cursor, limit=limit)


@router.get("/tables/{table}", operation_id="get_table")
async def get_table(table: str, services: ServicesOf, caller: CallerOf) -> Table:
    return await services.database.read(views.get_table, caller.org, table)


@router.delete("/tables/{table}", status_code=204, operation_id="delete_table")
async def delete_table(table: str, services: ServicesOf, caller: CallerOf) -> None:
    """Delete a table that has at most 10,000 rows; more are deleted by a run first."""
    await services.database.run(data_tables.delete_table, caller, table)


@router.get("/tables/{table}/rows", operation_id="list_rows")
async def list_rows(
    table: str,
    services: ServicesOf,
    caller: CallerOf,
    query: Annotated[str, Query(description="As JSON, or in its short form.")] = "",
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Row]:
    """The rows that fit the query, by key."""
    return await services.database.read(
        data_tables.find_rows, caller.org, table, query_from(query), cursor, limit
    )


def query_from(text: str) -> JsonValue:
    """A query of a URL: JSON where it begins like an object, else its short form."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        found: JsonValue = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("invalid", f"query: not JSON: {error}") from None
    return found


@router.post(
    "/tables/{table}/rows",
    status_code=201,
    operation_id="create_rows",
    openapi_extra=body_schema(NewRows),
)
async def create_rows(
    table: str, request: Request, services: ServicesOf, caller: CallerOf
) -> list[Row]:
    """Add up to 1000 rows: all of them, or none and every mistake named."""
    new = await read_body(request, NewRows)
    return await services.database.run(
        data_tables.create_rows, caller, table, new.rows, services.clock()
    )


@router.get("/tables/{table}/rows/{row}", operation_id="get_row")
async def get_row(table: str, row: int, services: ServicesOf, caller: CallerOf) -> Row:
    return await services.database.read(views.get_row, caller.org, table, row)


@router.patch(
    "/tables/{table}/rows/{row}", operation_id="edit_row", openapi_extra=body_schema(EditRow)
)
async def edit_row(
    table: str, row: int, request: Request, services: ServicesOf, caller: CallerOf
) -> Row:
    """Set values of a row; a null takes one away."""
    edit = await read_body(request, EditRow)
    return await services.database.run(
        data_tables.edit_row, caller.org, table, row, edit.values, services.clock()
    )


@router.delete("/tables/{table}/rows/{row}", status_code=204, operation_id="delete_row")
async def delete_row(table: str, row: int, services: ServicesOf, caller: CallerOf) -> None:
    await services.database.run(data_tables.delete_row, caller, table, row)
