"""`roundsman runs`: executions of a job."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.durations import parse_duration
from contract.http.runs import Run, RunLogLine
from contract.http.tasks import Task
from contract.lifecycle import RUN_ENDS, run_statuses
from roundsman.cli.failures import Exit, Failure, run_exit
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of

app = noun("Executions of a job: follow, wait, cancel, report.")

RunArgument = Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")]


@verb(
    app, "list", "roundsman runs list --status running", "roundsman runs list --job pumps -o json"
)
def list_(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only runs of this status.")] = None,
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
) -> None:
    """List runs, the newest first."""
    output_of(ctx).items(connect(ctx).runs.list(status=status, job=job), COLUMNS)


@verb(app, "get", "roundsman runs get 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def get(ctx: typer.Context, run: RunArgument) -> None:
    """Show a run: its status, its counts, and why it does not move."""
    found = connect(ctx).runs.get(run)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "tasks", "roundsman runs tasks 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa -o ndjson")
def tasks(ctx: typer.Context, run: RunArgument) -> None:
    """List the tasks of a run, one for each target."""
    output_of(ctx).items(connect(ctx).runs.tasks(run), TASK_COLUMNS)


@verb(app, "log", "roundsman runs log 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def log(ctx: typer.Context, run: RunArgument) -> None:
    """Print the log of a run."""
    output_of(ctx).items(connect(ctx).runs.log(run), LOG_COLUMNS)


@verb(app, "watch", "roundsman runs watch 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def watch(ctx: typer.Context, run: RunArgument) -> None:
    """Follow a run to its end: bars on a terminal, one NDJSON event a line in a pipe.

    Ctrl-C stops watching; the run goes on. The exit code is that of `runs wait`.
    """
    from roundsman.cli.watch import follow

    raise typer.Exit(follow(connect(ctx), run, output_of(ctx)))


@verb(
    app,
    "wait",
    "roundsman runs wait 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --timeout 2h",
    "roundsman runs wait 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --for running",
)
def wait(
    ctx: typer.Context,
    run: RunArgument,
    for_: Annotated[
        str | None, typer.Option("--for", help="A status to wait for, instead of any end.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="At most so long: 90s, 2h.")] = None,
) -> None:
    """Wait until a run has ended.

    Exit codes: 0 succeeded, 3 ended with failures, 8 still going on at the timeout, 9 cancelled
    or replaced. With --for: 0 once it has that status.
    """
    try:
        statuses = RUN_ENDS if for_ is None else run_statuses(for_)
        longest = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    found = connect(ctx).runs.wait(run, statuses, longest)
    output_of(ctx).item(found, run_rows(found))
    if for_ is not None:
        reached = found.status in statuses
        raise typer.Exit(Exit.OK if reached else run_exit(found.status) or Exit.RUN_FAILED)
    raise typer.Exit(run_exit(found.status))


@verb(
    app,
    "cancel",
    "roundsman runs cancel 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --reason 'wrong image'",
)
def cancel(
    ctx: typer.Context,
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Why; shown with the run.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also stop inside a step, where that can be done.")
    ] = False,
) -> None:
    """Cancel a run: nothing starts any more, what is in flight completes."""
    found = connect(ctx).runs.cancel(run, reason=reason, force=force)
    output_of(ctx).item(found, run_rows(found))
    if found.status not in RUN_ENDS:
        output_of(ctx).say(f"{found.counts.in_flight} tasks are in flight and will end first.")


@verb(app, "report", "roundsman runs report 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa -f report.csv")
def report(
    ctx: typer.Context,
    run: RunArgument,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where to write it; else on stdout.")
    ] = None,
) -> None:
    """Get the run report: a CSV with a row for each task."""
    content = connect(ctx).runs.report(run)
    if file is None:
        sys.stdout.buffer.write(content)
        return
    file.write_bytes(content)
    output_of(ctx).say(f"{file}: {len(content)} bytes")


COLUMNS = [
    Column[Run]("ID", lambda run: run.id),
    Column[Run]("JOB", lambda run: run.job),
    Column[Run]("STATUS", lambda run: "unknown" if run.unknown else run.status),
    Column[Run]("PROGRESS", lambda run: run.progress),
    Column[Run]("OK", lambda run: run.counts.succeeded),
    Column[Run]("FAILED", lambda run: run.counts.failed + run.counts.timed_out),
    Column[Run]("TOTAL", lambda run: run.counts.total),
    Column[Run]("CREATED", lambda run: run.created_at),
]
TASK_COLUMNS = [
    Column[Task]("ID", lambda task: task.id),
    Column[Task]("TARGET", lambda task: task.target),
    Column[Task]("GATEWAY", lambda task: task.gateway),
    Column[Task]("STATUS", lambda task: task.status),
    Column[Task]("PROGRESS", lambda task: task.progress),
    Column[Task]("STEP", lambda task: task.current_step),
    Column[Task]("ATTEMPT", lambda task: task.attempt),
    Column[Task]("FAILURE", lambda task: task.failure.code if task.failure else None),
    Column[Task]("WAITING FOR", lambda task: task.waiting_for.code if task.waiting_for else None),
]
LOG_COLUMNS = [
    Column[RunLogLine]("AT", lambda line: line.at),
    Column[RunLogLine]("LEVEL", lambda line: line.level),
    Column[RunLogLine]("DEVICE", lambda line: line.device),
    Column[RunLogLine]("TEXT", lambda line: line.text),
]


def run_rows(run: Run) -> list[tuple[str, object]]:
    counts = {name: n for name, n in run.counts.model_dump().items() if n}
    rows: list[tuple[str, object]] = [
        ("id", run.id),
        ("job", run.job),
        ("status", "unknown" if run.unknown else run.status),
        ("progress", run.progress),
        ("tasks", counts),
        ("created", run.created_at),
        ("started", run.started_at),
        ("ended", run.ended_at),
        ("by", run.run_by.name),
    ]
    if run.reason:
        rows.append(("reason", run.reason))
    if run.waiting_for:
        rows.append(("waiting for", run.waiting_for.sentence))
        rows.append(("until", run.waiting_for.ends))
    return rows
