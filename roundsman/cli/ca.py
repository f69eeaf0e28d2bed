"""`roundsman ca`: who signs the certificates of devices."""

from typing import Annotated

import typer

from roundsman.cli.options import noun, verb
from roundsman.cli.session import connect, output_of

app = noun("Who signs the certificates of devices.")


@verb(app, "show", "roundsman ca show", "roundsman ca show --pem > ca.pem")
def show(
    ctx: typer.Context,
    pem: Annotated[bool, typer.Option("--pem", help="Only the certificate, as PEM.")] = False,
) -> None:
    """Show the CA's certificate, which servers of devices have to trust."""
    found = connect(ctx).ca.show()
    if pem:
        typer.echo(found.certificate, nl=False)
        return
    rows = [
        ("subject", found.subject),
        ("fingerprint", found.fingerprint),
        ("not after", found.not_after),
        ("certificate", found.certificate),
    ]
    output_of(ctx).item(found, rows)
