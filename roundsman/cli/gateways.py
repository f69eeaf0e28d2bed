"""`roundsman gateways`: the edge processes."""

from datetime import timedelta
from typing import Annotated, Final

import typer

from contract.http.fleet import Gateway, GatewayWithToken, Orphan
from contract.http.runs import Run
from roundsman._sync.client import Roundsman
from roundsman.cli.options import Format, noun, verb
from roundsman.cli.output import Column, write
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import Everything, Query, read_query, show

app = noun("The edge processes.")
CLOCK_OFF_MS: Final = 5_000


@verb(app, "list", "roundsman gateways list")
def list_(ctx: typer.Context) -> None:
    """List all gateways."""
    output_of(ctx).items(connect(ctx).gateways.list(), COLUMNS)


@verb(app, "get", "roundsman gateways get berlin-1")
def get(ctx: typer.Context, gateway: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Show a gateway: how it stands, what it lost and why it complains."""
    found = connect(ctx).gateways.get(gateway)
    output_of(ctx).item(found, [*((c.title, c.value(found)) for c in COLUMNS), *_trouble(found)])


@verb(app, "orphans", "roundsman gateways orphans berlin-1")
def orphans(ctx: typer.Context, gateway: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """List what a gateway holds of tasks that the cloud has never heard of."""
    output_of(ctx).items(connect(ctx).gateways.orphans(gateway), ORPHANS)


def _trouble(gateway: Gateway) -> list[tuple[str, object]]:
    """What is not as it should be, each class by its name."""
    lost = ", ".join(f"{count} {name}" for name, count in sorted(gateway.dropped.items()))
    told = gateway.health
    return [
        ("DROPPED LINES", lost or "none"),
        ("REFUSED ITEMS", gateway.refused_items),
        ("ORPHANED TASKS", gateway.orphaned_tasks),
        ("FOREIGN DEVICES", ", ".join(gateway.claims) or "none"),
        ("TURNED AWAY", _turned_away(gateway)),
        ("ALARM", told.get("alarm") or "none"),
        ("STORAGE", told.get("storage") or "fine"),
        ("CLOCK", _clock(told.get("clock_off_ms"))),
        ("CLOUD'S CLOCK", _doubt(told.get("cloud_clock_ahead_ms"))),
    ]


def _doubt(ahead_ms: object) -> str:
    """By how much a gateway finds the cloud's clock ahead of all it knows, and deletes nothing."""
    if not isinstance(ahead_ms, int) or ahead_ms <= 0:
        return "believed"
    return f"doubted: {timedelta(seconds=ahead_ms // 1000)} ahead of all it knows"


def _clock(off_ms: object) -> str:
    """How far a gateway's own clock is from the right time, which its reports use all the same."""
    if not isinstance(off_ms, int) or abs(off_ms) < CLOCK_OFF_MS:
        return "fine"
    off = timedelta(seconds=abs(off_ms) // 1000)
    return f"{off} {'ahead' if off_ms > 0 else 'behind'}"


def _turned_away(gateway: Gateway) -> str:
    last = gateway.turned_away
    return f"{last.code} at {last.at:%Y-%m-%d %H:%M:%S}: {last.why}" if last else "nobody"


@verb(app, "create", "roundsman gateways create berlin-1 > berlin-1.token")
def create(
    ctx: typer.Context,
    gateway: Annotated[str, typer.Argument(help="Its id: a-z, 0-9 and hyphens.")],
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
) -> None:
    """Make a gateway known and print its token, once."""
    created = connect(ctx).gateways.create(gateway, name=name)
    _show_token(ctx, created, f"Gateway {created.id} is known.")


@verb(app, "replace", "roundsman gateways replace berlin-1 > berlin-1.token")
def replace(ctx: typer.Context, gateway: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Print a token for hardware that takes a gateway's place, once."""
    text = f"What runs as {gateway} now works on until the new hardware says hello."
    _show_token(ctx, connect(ctx).gateways.replace(gateway), text)


def _show_token(ctx: typer.Context, made: GatewayWithToken, text: str) -> None:
    output = output_of(ctx)
    if output.format is Format.TABLE:
        write(made.token)
        output.say(f"{text} The token is shown here and never again.")
    else:
        output.item(made, [])


@verb(app, "retire", "roundsman gateways retire berlin-1 --reason 'the site is closed'")
def retire(
    ctx: typer.Context,
    gateway: Annotated[str, typer.Argument(help="Its id.")],
    delete_devices: Annotated[
        bool, typer.Option("--delete-devices", help="Delete its devices, too.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; shown in the audit log.")] = "",
) -> None:
    """End a gateway for good: its token is void, and what it has in hand is lost."""
    client = connect(ctx)
    found = client.gateways.retire(gateway, delete_devices=delete_devices, reason=reason)
    output_of(ctx).item(found, [("id", found.id), ("state", found.state)])


Ids = Annotated[list[str] | None, typer.Argument(help="Their ids; or --query, or --all.")]
Reason = Annotated[str, typer.Option(help="Why; shown with the run.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]


@verb(
    app, "stop", "roundsman gateways stop berlin-1", "roundsman gateways stop -q tags.site:berlin"
)
def stop(
    ctx: typer.Context,
    gateways: Ids = None,
    query: Query = None,
    everything: Everything = False,
    reason: Reason = "",
    no_wait: NoWait = False,
) -> None:
    """Offer nothing more to gateways, and wait until what has begun there has ended."""
    client = connect(ctx)
    run = client.gateways.stop(
        gateways or [], query=read_query(query), everything=everything, reason=reason
    )
    _follow(ctx, client, run, no_wait)


@verb(app, "start", "roundsman gateways start berlin-1", "roundsman gateways start --all")
def start(
    ctx: typer.Context,
    gateways: Ids = None,
    query: Query = None,
    everything: Everything = False,
    reason: Reason = "",
    no_wait: NoWait = False,
) -> None:
    """Let stopped gateways work again."""
    client = connect(ctx)
    run = client.gateways.start(
        gateways or [], query=read_query(query), everything=everything, reason=reason
    )
    _follow(ctx, client, run, no_wait)


def _follow(ctx: typer.Context, client: Roundsman, run: Run, no_wait: bool) -> None:
    if no_wait:
        output_of(ctx).item(run, [("id", run.id), ("status", run.status)])
    else:
        show(ctx, client, run)


COLUMNS = [
    Column[Gateway]("ID", lambda gateway: gateway.id),
    Column[Gateway]("NAME", lambda gateway: gateway.name),
    Column[Gateway]("ONLINE", lambda gateway: gateway.online),
    Column[Gateway]("STATE", lambda gateway: gateway.state),
    Column[Gateway]("CONFLICT", lambda gateway: gateway.in_conflict),
    Column[Gateway]("VERSION", lambda gateway: gateway.version),
    Column[Gateway]("DEVICES", lambda gateway: gateway.devices),
    Column[Gateway]("OPEN TASKS", lambda gateway: gateway.open_tasks),
    Column[Gateway]("LAST HEARD", lambda gateway: gateway.last_heard_at),
]

ORPHANS = [
    Column[Orphan]("TASK", lambda orphan: orphan.task),
    Column[Orphan]("ATTEMPT", lambda orphan: orphan.attempt),
    Column[Orphan]("STATUS", lambda orphan: orphan.status),
    Column[Orphan]("TOLD", lambda orphan: orphan.outcome is not None),
    Column[Orphan]("AT", lambda orphan: orphan.at),
]
