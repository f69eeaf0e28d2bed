"""Data tables and their rows."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import BinaryIO

from pydantic import JsonValue

from contract.http.runs import Run
from contract.http.targets import EditRow, NewRows, NewTable, Row, Table
from roundsman._async import targets
from roundsman._async.transport import Transport, parse_json


class Tables:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, table: NewTable) -> Table:
        """Raises Conflict when it exists."""
        return await targets.create(self._transport, "/tables", table, Table)

    async def get(self, table: str) -> Table:
        return await self._transport.get(f"/tables/{table}", Table)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Table]:
        return self._transport.items("/tables", Table, {"limit": limit})

    async def delete(self, table: str) -> None:
        """Raises Conflict while it has more than 10,000 rows."""
        await self._transport.send("DELETE", f"/tables/{table}", repeatable=False)

    def rows(self, table: str, *, query: str = "", limit: int | None = None) -> AsyncIterator[Row]:
        """The rows that fit a query, JSON or its short form."""
        asked = {"query": query, "limit": limit}
        return self._transport.items(f"/tables/{table}/rows", Row, asked)

    async def add_rows(self, table: str, rows: Sequence[Mapping[str, JsonValue]]) -> Sequence[Row]:
        """Add up to 1000 rows: all of them, or none. Raises BadRequest with every mistake."""
        body = NewRows(rows=[dict(row) for row in rows])
        answer = await self._transport.send(
            "POST", f"/tables/{table}/rows", body=body, repeatable=False
        )
        found: Sequence[Row] = parse_json(answer.content, Sequence[Row])
        return found

    async def edit_row(self, table: str, row: int, values: Mapping[str, JsonValue]) -> Row:
        """Set values of a row; a null takes one away."""
        body = EditRow(values=dict(values))
        return await targets.edit(self._transport, f"/tables/{table}/rows/{row}", body, Row)

    async def delete_row(self, table: str, row: int) -> None:
        await self._transport.send("DELETE", f"/tables/{table}/rows/{row}", repeatable=False)

    async def import_file(
        self, table: str, content: bytes | BinaryIO, *, mode: targets.Mode = "keep_good"
    ) -> Run:
        """Add the rows of a CSV file, as a run to be waited for."""
        return await targets.import_file(self._transport, f"/tables/{table}/import", content, mode)

    async def export(self, table: str, *, query: JsonValue = None) -> Run:
        """Write the rows that fit into a file; `runs.download` fetches it."""
        return await targets.select(self._transport, f"/tables/{table}/export", query, False)

    async def delete_rows(
        self, table: str, *, query: JsonValue = None, everything: bool = False
    ) -> Run:
        return await targets.select(
            self._transport, f"/tables/{table}/delete-rows", query, everything
        )
