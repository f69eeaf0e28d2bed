"""`roundsman holds`: what nothing new may start on, whatever a job says."""

from typing import Annotated, get_args

import typer

from contract.durations import parse_duration
from contract.http.holds import Hold, HoldKind
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of

app = noun("What nothing new may start on.")

Kind = Annotated[str, typer.Argument(help="site, gateway or device.")]
Id = Annotated[str, typer.Argument(help="Its id; for a site the value of the tag `site`.")]


@verb(app, "list", "roundsman holds list")
def list_(ctx: typer.Context) -> None:
    """List all holds that stand."""
    output_of(ctx).items(connect(ctx).holds.list(), COLUMNS)


@verb(app, "set", "roundsman holds set gateway berlin --reason 'crane at work' --for 2h")
def set_(
    ctx: typer.Context,
    kind: Kind,
    id: Id,
    reason: Annotated[str, typer.Option(help="Why; shown with every task that waits.")] = "",
    lasts: Annotated[str | None, typer.Option("--for", help="So long: 2h; else for good.")] = None,
) -> None:
    """Let nothing new start on a site, gateway or device. Tasks that run complete."""
    try:
        duration = None if lasts is None else parse_duration(lasts)
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    found = connect(ctx).holds.set(_kind(kind), id, reason=reason, lasts=duration)
    output_of(ctx).item(found, rows(found))


@verb(app, "lift", "roundsman holds lift gateway berlin")
def lift(ctx: typer.Context, kind: Kind, id: Id) -> None:
    """Lift a hold."""
    connect(ctx).holds.lift(_kind(kind), id)
    output_of(ctx).say(f"The hold on {kind} {id} is lifted.")


def _kind(word: str) -> HoldKind:
    if word not in get_args(HoldKind):
        raise Failure(f"`{word}` is none of {', '.join(get_args(HoldKind))}", code=Exit.USAGE)
    return word  # type: ignore[return-value]


def rows(hold: Hold) -> list[tuple[str, object]]:
    return [
        ("kind", hold.kind),
        ("id", hold.id),
        ("reason", hold.reason),
        ("until", hold.until),
        ("by", hold.by),
        ("at", hold.at),
    ]


COLUMNS = [
    Column[Hold]("KIND", lambda hold: hold.kind),
    Column[Hold]("ID", lambda hold: hold.id),
    Column[Hold]("REASON", lambda hold: hold.reason),
    Column[Hold]("UNTIL", lambda hold: hold.until),
    Column[Hold]("BY", lambda hold: hold.by),
]
