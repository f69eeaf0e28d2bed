"""`roundsman tables`: data tables and their rows."""

from typing import Annotated

import typer

from contract.http.targets import NewTable, Row, Table
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import (
    AllOrNothing,
    Everything,
    File,
    Query,
    To,
    read_pairs,
    read_query,
    run_file,
    show,
)

app = noun("Data tables and their rows.")
TableId = Annotated[str, typer.Argument(help="The table's id.", metavar="TABLE")]
RowId = Annotated[int, typer.Argument(help="The row's id.", metavar="ROW")]
Pairs = Annotated[
    list[str], typer.Argument(help="Values as in YAML; name= takes one away.", metavar="NAME=VALUE")
]


@verb(app, "create", "roundsman tables create sites --column site:text --column size:number")
def create(
    ctx: typer.Context,
    table: TableId,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    column: Annotated[
        list[str] | None,
        typer.Option(help="name:type, of text, number, boolean, json. None: rows hold anything."),
    ] = None,
) -> None:
    """Make a data table."""
    columns = []
    for text in column or []:
        title, _, kind = text.rpartition(":")
        if not title or kind not in ("text", "number", "boolean", "json"):
            raise Failure(f"--column {text}: write name:text, or another type", code=Exit.USAGE)
        columns.append({"name": title, "type": kind})
    new = NewTable.model_validate({"id": table, "name": name, "columns": columns})
    _show(ctx, connect(ctx).tables.create(new))


@verb(app, "list", "roundsman tables list")
def list_(ctx: typer.Context) -> None:
    """List all data tables."""
    output_of(ctx).items(connect(ctx).tables.list(), COLUMNS)


@verb(app, "get", "roundsman tables get sites")
def get(ctx: typer.Context, table: TableId) -> None:
    """Show a data table."""
    _show(ctx, connect(ctx).tables.get(table))


@verb(app, "delete", "roundsman tables delete sites")
def delete(ctx: typer.Context, table: TableId) -> None:
    """Delete a data table of at most 10,000 rows."""
    connect(ctx).tables.delete(table)
    output_of(ctx).say(f"Table {table} is deleted.")


@verb(app, "rows", "roundsman tables rows sites --query 'size>2'")
def rows(
    ctx: typer.Context,
    table: TableId,
    query: Annotated[str, typer.Option("--query", "-q", help="Short form or JSON.")] = "",
) -> None:
    """List the rows that fit."""
    output_of(ctx).items(connect(ctx).tables.rows(table, query=query), ROW_COLUMNS)


@verb(app, "add", "roundsman tables add sites site=berlin size=3")
def add(ctx: typer.Context, table: TableId, values: Pairs) -> None:
    """Add a row."""
    (row,) = connect(ctx).tables.add_rows(table, [read_pairs(values, "value")])
    _show_row(ctx, row)


@verb(app, "set", "roundsman tables set sites 7 size=4")
def set_(ctx: typer.Context, table: TableId, row: RowId, values: Pairs) -> None:
    """Set values of a row."""
    _show_row(ctx, connect(ctx).tables.edit_row(table, row, read_pairs(values, "value")))


@verb(app, "import", "roundsman tables import sites -f sites.csv")
def import_(
    ctx: typer.Context, table: TableId, file: File, all_or_nothing: AllOrNothing = False
) -> None:
    """Add the rows of a CSV file; lines that are wrong are named."""
    mode = "all_or_nothing" if all_or_nothing else "keep_good"
    run_file(ctx, file, lambda c, content: c.tables.import_file(table, content, mode=mode))  # type: ignore[arg-type]


@verb(app, "export", "roundsman tables export sites --to sites.csv")
def export(ctx: typer.Context, table: TableId, to: To, query: Query = None) -> None:
    """Write rows into a CSV file."""
    client = connect(ctx)
    ended = show(ctx, client, client.tables.export(table, query=read_query(query)))
    client.runs.download(ended.id, to)


@verb(app, "delete-rows", "roundsman tables delete-rows sites --query 'site:berlin'")
def delete_rows(
    ctx: typer.Context, table: TableId, query: Query = None, everything: Everything = False
) -> None:
    """Delete the rows that fit."""
    client = connect(ctx)
    run = client.tables.delete_rows(table, query=read_query(query), everything=everything)
    show(ctx, client, run)


def _show(ctx: typer.Context, found: Table) -> None:
    columns = {column.name: column.type for column in found.columns}
    output_of(ctx).item(
        found,
        [
            ("id", found.id),
            ("name", found.name),
            ("rows", found.rows),
            ("columns", columns),
            ("updated", found.updated_at),
        ],
    )


def _show_row(ctx: typer.Context, found: Row) -> None:
    output_of(ctx).item(found, [("id", found.id), *found.values.items()])


COLUMNS = [
    Column[Table]("ID", lambda table: table.id),
    Column[Table]("NAME", lambda table: table.name),
    Column[Table]("ROWS", lambda table: table.rows),
    Column[Table]("COLUMNS", lambda table: {c.name: c.type for c in table.columns}),
]
ROW_COLUMNS = [
    Column[Row]("ID", lambda row: row.id),
    Column[Row]("VALUES", lambda row: row.values),
]
