"""`roundsman emergency`: one word that stops everything new in the org."""

from typing import Annotated

import typer

from roundsman.cli.holds import rows
from roundsman.cli.options import noun, verb
from roundsman.cli.session import connect, output_of

app = noun("Stop everything new in the whole org, and release it.")


@verb(app, "stop", "roundsman emergency stop --reason 'smoke in hall 3'")
def stop(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(help="Why; shown with every task that waits.")] = "",
) -> None:
    """Let nothing new start in the whole org. Tasks that run complete; cancel runs to stop them."""
    found = connect(ctx).holds.stop_everything(reason=reason)
    output_of(ctx).item(found, rows(found))


@verb(app, "release", "roundsman emergency release")
def release(ctx: typer.Context) -> None:
    """Release the emergency stop: what is due starts again."""
    connect(ctx).holds.release()
    output_of(ctx).say("The emergency stop is released.")
