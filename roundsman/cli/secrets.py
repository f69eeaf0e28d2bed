"""`roundsman secrets`: named secrets that steps use; their values are never read back."""

import sys
from typing import Annotated

import typer

from contract.http.targets import Secret
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of

app = noun("Named secrets that steps use.")
Name = Annotated[str, typer.Argument(help="The secret's name, as in {{ secrets.NAME }}.")]


@verb(app, "set", "roundsman secrets set api_key < key.txt", "roundsman secrets set api_key")
def set_(ctx: typer.Context, name: Name) -> None:
    """Set a secret: its value is asked for on a terminal, and read from standard input else."""
    if sys.stdin.isatty():
        value = typer.prompt("Value", hide_input=True)
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise Failure("standard input holds no value", code=Exit.USAGE)
    found = connect(ctx).secrets.set(name, value)
    output_of(ctx).item(found, [("name", found.name), ("updated", found.updated_at)])


@verb(app, "list", "roundsman secrets list")
def list_(ctx: typer.Context) -> None:
    """List the names of all secrets."""
    output_of(ctx).items(connect(ctx).secrets.list(), COLUMNS)


@verb(app, "delete", "roundsman secrets delete api_key")
def delete(ctx: typer.Context, name: Name) -> None:
    """Delete a secret. Jobs that name it no longer start."""
    connect(ctx).secrets.delete(name)
    output_of(ctx).say(f"Secret {name} is deleted.")


COLUMNS = [
    Column[Secret]("NAME", lambda secret: secret.name),
    Column[Secret]("UPDATED", lambda secret: secret.updated_at),
    Column[Secret]("BY", lambda secret: secret.updated_by),
]
