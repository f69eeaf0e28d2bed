"""What a command works with: the client and the output its flags ask for."""

import typer

from roundsman._sync.client import Roundsman
from roundsman.cli.options import flags_of
from roundsman.cli.output import Output
from roundsman.cli.settings import read_connection


def connect(ctx: typer.Context) -> Roundsman:
    """A client, closed when the command ends."""
    found = read_connection(flags_of(ctx))
    return ctx.with_resource(Roundsman(found.url, found.token))


def output_of(ctx: typer.Context) -> Output:
    return Output(flags_of(ctx).output)
