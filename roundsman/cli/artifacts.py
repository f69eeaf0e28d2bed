"""`roundsman artifacts`: firmware images and other immutable files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from contract.http.fleet import Artifact
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column, may_draw
from roundsman.cli.session import connect, output_of

app = noun("Firmware images and other immutable files.")


@verb(app, "push", "roundsman artifacts push pump.bin --name pump-2.4.1 --kind image")
def push(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file.")],
    name: Annotated[str | None, typer.Option(help="Its name; the file's, if not given.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="`image` has it checked as an MCUboot image.")
    ] = None,
) -> None:
    """Store a file. The same bytes under the same name again change nothing."""
    with file.open("rb") as content, _bar(file.name) as progress:
        pushed = connect(ctx).artifacts.push(
            name or file.name, content, kind=kind, progress=progress
        )
    output_of(ctx).item(
        pushed,
        [
            ("name", pushed.name),
            ("sha256", pushed.sha256),
            ("size", pushed.size),
            ("version", pushed.image_version),
        ],
    )


@verb(app, "list", "roundsman artifacts list")
def list_(ctx: typer.Context) -> None:
    """List all artifacts."""
    output_of(ctx).items(connect(ctx).artifacts.list(), COLUMNS)


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], object] | None]:
    if not may_draw():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        bar = progress.add_task(name)
        yield lambda sent, size: progress.update(bar, completed=sent, total=size)


COLUMNS = [
    Column[Artifact]("NAME", lambda artifact: artifact.name),
    Column[Artifact]("VERSION", lambda artifact: artifact.image_version),
    Column[Artifact]("SIZE", lambda artifact: artifact.size),
    Column[Artifact]("SHA256", lambda artifact: artifact.sha256),
    Column[Artifact]("CREATED", lambda artifact: artifact.created_at),
]
