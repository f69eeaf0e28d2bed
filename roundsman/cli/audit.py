"""`roundsman audit`: who did what, and when."""

from itertools import islice
from typing import Annotated

import typer

from contract.http.audit import AuditLine
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of

app = noun("Who did what, and when.")


@verb(app, "list", "roundsman audit list", "roundsman audit list --subject secret/api_key")
def list_(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    last: Annotated[int, typer.Option(help="How many lines, the newest first.")] = 100,
) -> None:
    """List what people and programs did: secrets, holds, deletions, retries, forced cancels."""
    lines = connect(ctx).audit.list(subject=subject, limit=min(last, 1000))
    output_of(ctx).items(islice(lines, last), COLUMNS)


COLUMNS = [
    Column[AuditLine]("AT", lambda line: line.at),
    Column[AuditLine]("BY", lambda line: line.by.name),
    Column[AuditLine]("ACTION", lambda line: line.action),
    Column[AuditLine]("SUBJECT", lambda line: line.subject),
    Column[AuditLine]("DETAIL", lambda line: line.detail or None),
]
