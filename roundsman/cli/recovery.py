"""`roundsman recovery`: a cloud that was restored from a backup."""

import typer

from contract.http.fleet import Recovery
from roundsman.cli.options import noun, verb
from roundsman.cli.session import connect, output_of

app = noun("A cloud that was restored from a backup.")


@verb(app, "show", "roundsman recovery show")
def show(ctx: typer.Context) -> None:
    """Show whether it still waits, and for which gateways."""
    found = connect(ctx).recovery.get()
    output_of(ctx).item(found, _rows(found))


@verb(app, "release", "roundsman recovery release")
def release(ctx: typer.Context) -> None:
    """Fire and offer again, without the gateways that have not said hello yet."""
    found = connect(ctx).recovery.release()
    output_of(ctx).item(found, _rows(found))


def _rows(found: Recovery) -> list[tuple[str, object]]:
    return [
        ("recovering", found.recovering),
        ("waits for", ", ".join(found.awaited) or "nobody"),
        ("restored at", found.restored_at),
        ("incarnation", found.incarnation),
    ]
