"""Following a run: live bars on a terminal, one event a line in a pipe."""

import json
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from contract.http.runs import Run
from contract.http.tasks import Task
from roundsman._sync.client import Roundsman
from roundsman.cli.failures import Exit, run_exit
from roundsman.cli.options import Format
from roundsman.cli.output import Output, may_draw, say, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundsman.cli.watch_view import Watched


# A run expires before that.
LONGEST = timedelta(days=366)


def follow(client: Roundsman, run: str, output: Output) -> Exit:
    """Follow a run to its end and return what that means for the exit code.

    Ctrl-C stops the watching only, and says so.
    """
    try:
        if output.format is Format.JSON:
            ended = client.runs.wait(run, timeout=LONGEST)
            write(ended.model_dump_json(indent=2))
        elif output.format is Format.TABLE and may_draw():
            ended = show_bars(client.runs.events(run))
            _sum_up(ended)
        else:
            ended = write_lines(client.runs.events(run))
    except KeyboardInterrupt:
        say("\nStopped watching; the run goes on.")
        say(f"Watch it again:  roundsman runs watch {run}")
        say(f"Cancel it:       roundsman runs cancel {run}")
        return Exit.INTERRUPTED
    return run_exit(ended.status)


def write_lines(changes: Iterable[Run | list[Task]]) -> Run:
    """One JSON object a line: `{"event": "run" | "task", "data": ...}`; the run as it ended."""
    from roundsman.cli.watch_view import Watched

    watched = Watched()
    for change in changes:
        for task in watched.take(change):
            _event("task", task.model_dump(mode="json"))
        if isinstance(change, Run):
            _event("run", change.model_dump(mode="json"))
        sys.stdout.flush()
    assert watched.run is not None
    return watched.run


def _event(name: str, data: object) -> None:
    write(json.dumps({"event": name, "data": data}, separators=(",", ":")))


def show_bars(changes: Iterable[Run | list[Task]]) -> Run:
    """Draw bars while changes arrive; the run as it ended."""
    from roundsman.cli.watch_view import Watched

    watched = Watched()
    with _live(watched):
        for change in changes:
            watched.take(change)
    assert watched.run is not None
    return watched.run


@contextmanager
def _live(watched: "Watched") -> "Iterator[None]":
    from rich.console import Console
    from rich.live import Live

    from roundsman.cli.watch_view import draw

    console = Console(highlight=False)
    with Live(
        get_renderable=lambda: draw(watched, console.height, datetime.now(UTC)),
        console=console,
        refresh_per_second=8,
        vertical_overflow="crop",
    ):
        yield


def _sum_up(run: Run) -> None:
    counts = run.counts
    say(
        f"Run {run.id} {run.status.replace('_', ' ')}: {counts.succeeded} of {counts.total} "
        f"succeeded, {counts.failed + counts.timed_out} failed, {counts.cancelled} cancelled."
    )
    if counts.failed + counts.timed_out:
        say(f"See why: roundsman runs tasks {run.id}")
