"""`roundsman devices`: what is updated and commanded."""

from typing import Annotated

import typer

from contract.http.fleet import Device
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of

app = noun("What is updated and commanded.")


@verb(app, "list", "roundsman devices list", "roundsman devices list -o ndjson")
def list_(ctx: typer.Context) -> None:
    """List all devices."""
    output_of(ctx).items(connect(ctx).devices.list(), COLUMNS)


@verb(app, "get", "roundsman devices get pump-7")
def get(
    ctx: typer.Context, device: Annotated[str, typer.Argument(help="The device's id.")]
) -> None:
    """Show a device as its gateway last described it."""
    found = connect(ctx).devices.get(device)
    output_of(ctx).item(found, _rows(found))


@verb(app, "free", "roundsman devices free pump-7")
def free(
    ctx: typer.Context, device: Annotated[str, typer.Argument(help="The device's id.")]
) -> None:
    """Free a device that an attempt still holds whose gateway will not speak of it again."""
    found = connect(ctx).devices.free(device)
    output_of(ctx).item(found, _rows(found))


def _rows(found: Device) -> list[tuple[str, object]]:
    return [
        ("id", found.id),
        ("name", found.name),
        ("type", found.type),
        ("gateway", found.gateway),
        ("driver", found.driver),
        ("address", found.address),
        ("link", found.link),
        ("held by", found.held_by),
        ("last heard", found.last_heard_at),
        ("tags", found.tags),
        ("state", found.state),
    ]


COLUMNS = [
    Column[Device]("ID", lambda device: device.id),
    Column[Device]("TYPE", lambda device: device.type),
    Column[Device]("GATEWAY", lambda device: device.gateway),
    Column[Device]("DRIVER", lambda device: device.driver),
    Column[Device]("LINK", lambda device: device.link),
    Column[Device]("VERSION", lambda device: device.state.get("version")),
    Column[Device]("HELD BY", lambda device: device.held_by),
    Column[Device]("LAST HEARD", lambda device: device.last_heard_at),
]
