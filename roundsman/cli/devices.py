"""`roundsman devices`: what is updated and commanded."""

from itertools import islice
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from contract.http.certificates import Certificate
from contract.http.fleet import Device
from contract.http.operations import Action
from contract.http.state import Sample
from contract.http.targets import EditDevice
from roundsman.cli.courses import courses, local_zone
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.options import Format, noun, verb
from roundsman.cli.output import Column, write
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import (
    AllOrNothing,
    Everything,
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


@verb(app, "move", "roundsman devices move pump-7 --to berlin-2")
def move(
    ctx: typer.Context,
    device: Annotated[str, typer.Argument(help="The device's id.")],
    to: Annotated[str, typer.Option(help="A gateway that has it in its configuration.")],
    force: Annotated[
        bool, typer.Option("--force", help="End an attempt that is open on the gateway before.")
    ] = False,
) -> None:
    """Decide which of several gateways that have a device is to own it."""
    found = connect(ctx).devices.move(device, to, force=force)
    output_of(ctx).item(found, _rows(found))


@verb(app, "certificates", "roundsman devices certificates pump-7")
def certificates(
    ctx: typer.Context, device: Annotated[str, typer.Argument(help="The device's id.")]
) -> None:
    """List the certificates a device was given, the newest first."""
    output_of(ctx).items(connect(ctx).devices.certificates(device), CERTIFICATE_COLUMNS)


@verb(
    app,
    "state",
    "roundsman devices state pump-7 --since 2h",
    "roundsman devices state pump-7 --key temperature --period today -o ndjson",
)
def state(
    ctx: typer.Context,
    device: Annotated[str, typer.Argument(help="The device's id.")],
    since: Annotated[str | None, typer.Option(help="So long until now: 2h 30m.")] = None,
    period: Annotated[str | None, typer.Option(help="today, yesterday, or as --since.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", "-k", help="Only this value; repeatable.")
    ] = None,
    newest: Annotated[
        int, typer.Option(help="On a terminal, only so many samples, the last ones.", min=1)
    ] = 50,
) -> None:
    """Show what a device was like over time; on a terminal with a line of each number's course."""
    if since and period:
        raise Failure("Give --since or --period, not both.", code=Exit.USAGE)
    client, output = connect(ctx), output_of(ctx)
    wanted: dict[str, Any] = {"keys": key or (), "period": since or period, "zone": local_zone()}
    if output.format is not Format.TABLE or not output.is_terminal:
        output.items(client.devices.state(device, limit=1000, **wanted), SAMPLE_COLUMNS)
        return
    found = client.devices.state(device, newest_first=True, limit=min(newest, 1000), **wanted)
    samples = list(reversed(list(islice(found, newest))))
    output.items(samples, SAMPLE_COLUMNS)
    for line in courses(samples):
        write(line)


def _rows(found: Device) -> list[tuple[str, object]]:
    return [
        ("id", found.id),
        ("name", found.name),
        ("type", found.type),
        ("gateway", found.gateway),
        ("claimed by", ", ".join(found.claimed_by) or "nobody else"),
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


SAMPLE_COLUMNS = [
    Column[Sample]("AT", lambda one: one.at),
    Column[Sample]("LINK", lambda one: one.link),
    Column[Sample]("VALUES", lambda one: one.values),
]
CERTIFICATE_COLUMNS = [
    Column[Certificate]("SERIAL", lambda one: one.serial),
    Column[Certificate]("NOT AFTER", lambda one: one.not_after),
    Column[Certificate]("ISSUED", lambda one: one.issued_at),
    Column[Certificate]("COMMITTED", lambda one: one.committed_at),
    Column[Certificate]("RETIRED", lambda one: one.retired_at),
    Column[Certificate]("FINGERPRINT", lambda one: one.fingerprint),
    Column[Certificate]("TASK", lambda one: one.task),
]


@verb(
    app,
    "act",
    "roundsman devices act -q type:pump --tag site=berlin",
    "roundsman devices act -d pump-7 -d pump-8 --hold --reason 'crane at work' --for 2h",
    "roundsman devices act -q tags.site:berlin --run rotate-certificates",
)
def act(
    ctx: typer.Context,
    query: Query = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", "-d", help="A device's id; repeatable.")
    ] = None,
    everything: Everything = False,
    tag: Tags = None,
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Let nothing new start on them.")] = False,
    reason: Annotated[str, typer.Option(help="Why they are held.")] = "",
    lasts: Annotated[str | None, typer.Option("--for", help="Hold so long: 2h.")] = None,
    lift_hold: Annotated[bool, typer.Option("--lift-hold", help="Lift their holds.")] = False,
    run: Annotated[str | None, typer.Option(help="Start one run of this job on them.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete those that no gateway owns.")
    ] = False,
) -> None:
    """Do one thing to many devices, and wait for the run that does it."""
    asked: dict[str, dict[str, Any]] = {}
    if tag or attribute:
        tags, attributes = read_pairs(tag, "--tag"), read_pairs(attribute, "--attribute")
        asked["edit"] = {"tags": tags, "attributes": attributes}
    if hold:
        asked["hold"] = {"reason": reason, "lasts": lasts}
    if lift_hold:
        asked["lift_hold"] = {}
    if run is not None:
        asked["start_job"] = {"job": run}
    if delete:
        asked["delete"] = {}
    if len(asked) != 1:
        text = "say one of --tag/--attribute, --hold, --lift-hold, --run, --delete"
        raise Failure(text, code=Exit.USAGE)
    ((do, fields),) = asked.items()
    try:
        action: Action = TypeAdapter(Action).validate_python({"do": do, **fields})
    except ValidationError as error:
        raise Failure(error.errors()[0]["msg"], code=Exit.USAGE) from None
    client = connect(ctx)
    begun = client.devices.act(
        action, query=read_query(query), devices=device or (), everything=everything
    )
    show(ctx, client, begun)


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
