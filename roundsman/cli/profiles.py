"""`roundsman profiles`: what gateways know of device families, deployed and withdrawn."""

from pathlib import Path
from typing import Annotated

import typer

from contract.http.fleet import GatewayProfile
from contract.http.runs import Run
from roundsman._sync.client import Roundsman
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import Everything, Query, read_query, show

app = noun("What gateways know of device families.")

Gateways = Annotated[
    list[str] | None,
    typer.Option("--gateway", "-g", help="Its id; repeatable. Or --query, or --all."),
]
Reason = Annotated[str, typer.Option(help="Why; shown with the run.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]


@verb(
    app,
    "deploy",
    "roundsman profiles deploy pump_v2.yaml --gateway berlin-1",
    "roundsman profiles deploy pump.yaml --name pump_v2 -q tags.site:berlin",
)
def deploy(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The profile, as YAML.")],
    name: Annotated[
        str | None, typer.Option(help="Its name, as devices give it; the file's if not given.")
    ] = None,
    gateways: Gateways = None,
    query: Query = None,
    everything: Everything = False,
    reason: Reason = "",
    no_wait: NoWait = False,
) -> None:
    """Have gateways use a profile, and wait until each has agreed or refused."""
    client = connect(ctx)
    run = client.profiles.deploy(
        name or file.stem,
        file.read_bytes(),
        gateways=gateways or [],
        query=read_query(query),
        everything=everything,
        reason=reason,
    )
    _follow(ctx, client, run, no_wait)


@verb(app, "withdraw", "roundsman profiles withdraw pump_v2 --gateway berlin-1")
def withdraw(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The profile's name.")],
    gateways: Gateways = None,
    query: Query = None,
    everything: Everything = False,
    reason: Reason = "",
    no_wait: NoWait = False,
) -> None:
    """Have gateways go back to their own profile of a name."""
    client = connect(ctx)
    run = client.profiles.withdraw(
        name,
        gateways=gateways or [],
        query=read_query(query),
        everything=everything,
        reason=reason,
    )
    _follow(ctx, client, run, no_wait)


@verb(app, "list", "roundsman profiles list", "roundsman profiles list --name pump_v2")
def list_(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only of that name.")] = None,
    gateway: Annotated[str | None, typer.Option(help="Only at that gateway.")] = None,
) -> None:
    """List what is deployed where, and which gateway refuses it."""
    output_of(ctx).items(connect(ctx).profiles.list(name=name, gateway=gateway), COLUMNS)


def _follow(ctx: typer.Context, client: Roundsman, run: Run, no_wait: bool) -> None:
    if no_wait:
        output_of(ctx).item(run, [("id", run.id), ("status", run.status)])
    else:
        show(ctx, client, run)


COLUMNS = [
    Column[GatewayProfile]("GATEWAY", lambda one: one.gateway),
    Column[GatewayProfile]("NAME", lambda one: one.name),
    Column[GatewayProfile]("STATE", lambda one: one.state),
    Column[GatewayProfile]("SHA256", lambda one: (one.sha256 or "")[:12] or None),
    Column[GatewayProfile]("SINCE", lambda one: one.wanted_at),
    Column[GatewayProfile]("PROBLEM", lambda one: one.problem or None),
]
