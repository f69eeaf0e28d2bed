"""`roundsman doctor`: is the service there, does it know us, do the versions fit."""

from importlib.metadata import version

import typer

from roundsman._sync.client import Roundsman
from roundsman.cli.failures import Exit
from roundsman.cli.options import Command, flags_of
from roundsman.cli.output import write
from roundsman.cli.settings import read_connection
from roundsman.errors import ApiError, NotAuthenticated, NotPermitted, TransportError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(cls=Command, epilog="\b\nExample:\n  roundsman doctor --url https://roundsman.example")
def doctor(ctx: typer.Context) -> None:
    """Check address, token and versions, and say what to do."""
    found = read_connection(flags_of(ctx))
    write(f"address   {found.url} (from {found.url_from})")
    write(f"token     {'given' if found.token else 'none'} (from {found.token_from})")
    with Roundsman(found.url, found.token, timeout=5.0, retries=0) as client:
        raise typer.Exit(_look(client))


def _look(client: Roundsman) -> Exit:
    ours = version("roundsman")
    try:
        theirs = client.version()
    except (TransportError, ApiError) as error:
        write(f"service   not there: {error}")
        write("Try: start it with `roundsman cloud`, or correct the address.")
        return Exit.UNREACHABLE
    write(f"service   {theirs.product} {theirs.version}; this is {ours}")
    try:
        is_ready = client.is_ready()
        write(f"ready     {'yes' if is_ready else 'no: its database or broker is missing'}")
        next(client.gateways.list(limit=1), None)
    except (NotAuthenticated, NotPermitted) as error:
        write(f"access    no: {error}")
        write("Try: set ROUNDSMAN_TOKEN to a token the service knows.")
        return Exit.NOT_AUTHENTICATED
    except (TransportError, ApiError) as error:
        write(f"access    cannot be checked: {error}")
        return Exit.UNREACHABLE
    write("access    yes")
    if theirs.version.split(".")[:2] != ours.split(".")[:2]:
        write("Try: install the version of this client that the service has.")
    return Exit.OK if is_ready else Exit.UNREACHABLE
