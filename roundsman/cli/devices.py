"""`roundsman devices`: what is updated and commanded."""

from typing import Annotated

import typer

from contract.http.certificates import Certificate
from contract.http.fleet import Device
from contract.http.targets import EditDevice
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import (
    AllOrNothing,
    File,
    Query,
    Tags,
    To,
    read_pairs,
    read_query,
    run_file,
    show,
)

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


@verb(app, "certificates", "roundsman devices certificates pump-7")
def certificates(
    ctx: typer.Context, device: Annotated[str, typer.Argument(help="The device's id.")]
) -> None:
    """List the certificates a device was given, the newest first."""
    output_of(ctx).items(connect(ctx).devices.certificates(device), CERTIFICATE_COLUMNS)


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


@verb(app, "edit", "roundsman devices edit pump-7 --tag site=berlin --tag old=")
def edit(
    ctx: typer.Context,
    device: Annotated[str, typer.Argument(help="The device's id.")],
    tag: Tags = None,
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
) -> None:
    """Set tags and attributes over those its gateway gives."""
    change = EditDevice(
        tags=read_pairs(tag, "--tag") or None,
        attributes=read_pairs(attribute, "--attribute") or None,
    )
    found = connect(ctx).devices.edit(device, change)
    output_of(ctx).item(found, _rows(found))


@verb(app, "import", "roundsman devices import -f tags.csv")
def import_(ctx: typer.Context, file: File, all_or_nothing: AllOrNothing = False) -> None:
    """Set tags and attributes from CSV: columns id, tags.NAME, attributes.NAME."""
    mode = "all_or_nothing" if all_or_nothing else "keep_good"
    run_file(ctx, file, lambda c, content: c.devices.import_file(content, mode=mode))  # type: ignore[arg-type]


@verb(app, "export", "roundsman devices export --to devices.csv --query 'type:pump'")
def export(ctx: typer.Context, to: To, query: Query = None) -> None:
    """Write devices with their tags and attributes into a CSV file."""
    client = connect(ctx)
    ended = show(ctx, client, client.devices.export(query=read_query(query)))
    client.runs.download(ended.id, to)


CERTIFICATE_COLUMNS = [
    Column[Certificate]("SERIAL", lambda one: one.serial),
    Column[Certificate]("NOT AFTER", lambda one: one.not_after),
    Column[Certificate]("ISSUED", lambda one: one.issued_at),
    Column[Certificate]("COMMITTED", lambda one: one.committed_at),
    Column[Certificate]("RETIRED", lambda one: one.retired_at),
    Column[Certificate]("FINGERPRINT", lambda one: one.fingerprint),
    Column[Certificate]("TASK", lambda one: one.task),
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
