"""`roundsman gateways`: the edge processes."""

from typing import Annotated

import typer

from contract.http.fleet import Gateway
from roundsman.cli.options import Format, noun, verb
from roundsman.cli.output import Column, write
from roundsman.cli.session import connect, output_of

app = noun("The edge processes.")


@verb(app, "list", "roundsman gateways list")
def list_(ctx: typer.Context) -> None:
    """List all gateways."""
    output_of(ctx).items(connect(ctx).gateways.list(), COLUMNS)


@verb(app, "create", "roundsman gateways create berlin-1 > berlin-1.token")
def create(
    ctx: typer.Context,
    gateway: Annotated[str, typer.Argument(help="Its id: a-z, 0-9 and hyphens.")],
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
) -> None:
    """Make a gateway known and print its token, once."""
    created = connect(ctx).gateways.create(gateway, name=name)
    output = output_of(ctx)
    if output.format is Format.TABLE:
        write(created.token)
        output.say(f"Gateway {created.id} is known. Its token is shown here and never again.")
    else:
        output.item(created, [])


COLUMNS = [
    Column[Gateway]("ID", lambda gateway: gateway.id),
    Column[Gateway]("NAME", lambda gateway: gateway.name),
    Column[Gateway]("ONLINE", lambda gateway: gateway.online),
    Column[Gateway]("CONFLICT", lambda gateway: gateway.in_conflict),
    Column[Gateway]("VERSION", lambda gateway: gateway.version),
    Column[Gateway]("DEVICES", lambda gateway: gateway.devices),
    Column[Gateway]("OPEN TASKS", lambda gateway: gateway.open_tasks),
    Column[Gateway]("LAST HEARD", lambda gateway: gateway.last_heard_at),
]
