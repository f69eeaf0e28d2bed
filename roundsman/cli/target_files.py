"""What the nouns of targets share: queries in either form, pairs, CSV files that become runs."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from pydantic import JsonValue

from contract.documents import load_value
from contract.http.runs import Run
from contract.query_text import QueryTextInvalid, parse_text
from roundsman._sync.client import Roundsman
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.session import connect, output_of

Query = Annotated[
    str | None,
    typer.Option("--query", "-q", help="As in `type:pump AND tags.site:berlin`, or JSON."),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="name=value; name= takes it away. Repeatable.")
]
File = Annotated[Path, typer.Option("--file", "-f", help="A CSV file with a line of names.")]
AllOrNothing = Annotated[
    bool, typer.Option("--all-or-nothing", help="Store nothing when any line is wrong.")
]
To = Annotated[Path, typer.Option("--to", help="Where to write the CSV file.")]
Everything = Annotated[bool, typer.Option("--all", help="Really all of them.")]


def read_query(text: str | None) -> JsonValue:
    """A query as JSON, from JSON or its short form; None for none."""
    if text is None:
        return None
    if text.lstrip().startswith("{"):
        return load_value(text, "--query")
    try:
        return parse_text(text)
    except QueryTextInvalid as error:
        raise Failure(f"--query: {error.reason}", code=Exit.USAGE) from None


def read_pairs(pairs: list[str] | None, option: str) -> dict[str, JsonValue]:
    """`name=value` pairs with values as in YAML; an empty value is a null."""
    found: dict[str, JsonValue] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise Failure(f"{option} {pair}: write name=value", code=Exit.USAGE)
        found[name] = load_value(text, option) if text.strip() else None
    return found


def run_file(ctx: typer.Context, file: Path, send: Callable[[Roundsman, BinaryIO], Run]) -> None:
    """Send a file, wait for its run, and show what came of it."""
    client = connect(ctx)
    with file.open("rb") as content:
        run = send(client, content)
    show(ctx, client, run)


def show(ctx: typer.Context, client: Roundsman, run: Run) -> Run:
    """Wait for an operation, show its results; the exit code is that of `runs wait`."""
    from roundsman.cli.failures import run_exit

    output = output_of(ctx)
    output.say(f"Run {run.id} has started.")
    ended = client.runs.wait(run.id, timeout=timedelta(hours=24))
    results: dict[str, Any] = dict(ended.results)
    wrong = results.pop("first_errors", [])
    output.item(
        ended,
        [("id", ended.id), ("status", ended.status), *results.items(), ("reason", ended.reason)],
    )
    names = {name.upper() for one in wrong for name in one} & {"DEVICE", "GATEWAY"}
    where = min(names, default="LINE")
    output.rows([where, "REASON"], [[one[where.lower()], one["reason"]] for one in wrong])
    code = run_exit(ended.status)
    if code:
        raise typer.Exit(code)
    return ended
