"""`roundsman runs`: executions of a job."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.durations import parse_duration
from contract.http.history import Firing, RunItem, TaskResult
from contract.http.runs import Run, RunLogLine
from contract.http.tasks import Task
from contract.lifecycle import RUN_ENDS, RunStatus, run_statuses
from roundsman.cli.failures import Exit, Failure, run_exit
from roundsman.cli.options import noun, read_time, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.errors import Unreachable

app = noun("Executions of a job: follow, wait, cancel, report.")

RunArgument = Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")]


@verb(
    app,
    "list",
    "roundsman runs list --status running,paused",
    "roundsman runs list --job pumps --errors -o json",
)
def list_(
    ctx: typer.Context,
    status: Annotated[
        str | None, typer.Option(help="Only runs of this status; several with commas.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only runs of this type.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only runs with errors.")] = False,
    started_by: Annotated[str | None, typer.Option(help="Only runs that this run started.")] = None,
    system: Annotated[bool, typer.Option("--system", help="Also runs of system jobs.")] = False,
) -> None:
    """List runs, the newest first."""
    found = connect(ctx).runs.list(
        status=status,
        job=job,
        type=type_,
        has_errors=True if errors else None,
        started_by=started_by,
        system=system,
    )
    output_of(ctx).items(found, COLUMNS)


@verb(app, "get", "roundsman runs get 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def get(ctx: typer.Context, run: RunArgument) -> None:
    """Show a run: its status, its counts, and why it does not move."""
    found = connect(ctx).runs.get(run)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "tasks", "roundsman runs tasks 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa -o ndjson")
def tasks(ctx: typer.Context, run: RunArgument) -> None:
    """List the tasks of a run: one for each target, or for several with `iteration.batch`."""
    output_of(ctx).items(connect(ctx).runs.tasks(run), TASK_COLUMNS)


@verb(
    app,
    "log",
    "roundsman runs log 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa",
    "roundsman runs log 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --level ERROR --period '2h 30m'",
    "roundsman runs log 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --add 'valve was stuck'",
)
def log(
    ctx: typer.Context,
    run: RunArgument,
    level: Annotated[str | None, typer.Option(help="Only lines of this level.")] = None,
    contains: Annotated[str | None, typer.Option(help="Only lines with this in them.")] = None,
    period: Annotated[
        str | None, typer.Option(help="today, yesterday, or so long until now: 2h 30m.")
    ] = None,
    add: Annotated[
        str | None, typer.Option(help="Add this line instead; of --level, else INFO.")
    ] = None,
) -> None:
    """Print the log of a run, or add a line to it."""
    if add is not None:
        chosen = level or "INFO"
        if chosen not in ("INFO", "WARNING", "ERROR"):
            raise Failure("a line is of level INFO, WARNING or ERROR", code=Exit.USAGE)
        connect(ctx).runs.add_log(add, run=run, level=chosen)  # type: ignore[arg-type]
        return
    lines = connect(ctx).runs.log(run, level=level, contains=contains, period=period)
    output_of(ctx).items(lines, LOG_COLUMNS)


@verb(app, "results", "roundsman runs results 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa -o ndjson")
def results(ctx: typer.Context, run: RunArgument) -> None:
    """List what became of each target: its response, or why it failed."""
    output_of(ctx).items(connect(ctx).runs.results(run), RESULT_COLUMNS)


@verb(app, "triggers", "roundsman runs triggers 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def triggers(ctx: typer.Context, run: RunArgument) -> None:
    """List the triggers of a run: what they started, what they wait for, why they could not."""
    output_of(ctx).items(connect(ctx).runs.triggers(run), FIRING_COLUMNS)


@verb(
    app,
    "extend",
    "roundsman runs extend 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa pump-7 pump-8 --key batch-2",
)
def extend(
    ctx: typer.Context,
    run: RunArgument,
    targets: Annotated[list[str], typer.Argument(help="Ids of targets.")],
    key: Annotated[str, typer.Option(help="Makes it harmless to say this again.")] = "",
) -> None:
    """Append targets to a run that has not ended."""
    found = connect(ctx).runs.extend(run, [RunItem(target=target) for target in targets], key=key)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "link", "roundsman runs link 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def link(ctx: typer.Context, run: RunArgument) -> None:
    """Make a link to the run's report that needs no token, valid for 7 days."""
    made = connect(ctx).runs.report_link(run)
    output_of(ctx).item(
        made, [("csv", made.csv), ("ndjson", made.ndjson), ("expires", made.expires_at)]
    )


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
    "roundsman runs wait 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --for running,paused --timeout 90s",
)
def wait(
    ctx: typer.Context,
    run: RunArgument,
    timeout: Annotated[str, typer.Option(help="At most so long: 90s, 2h.")],
    for_: Annotated[
        str | None,
        typer.Option("--for", help="Statuses to wait for, with commas, instead of any end."),
    ] = None,
) -> None:
    """Wait until a run has ended.

    Exit codes: 0 succeeded, 3 ended with failures, 8 still going on at the timeout, 9 cancelled
    or replaced. With --for: 0 once it has such a status, and if it never can again that of its end.
    """
    try:
        statuses = RUN_ENDS if for_ is None else _statuses(for_)
        longest = parse_duration(timeout)
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    try:
        found = connect(ctx).runs.wait(run, statuses, timeout=longest)
    except Unreachable as missed:
        output_of(ctx).item(missed.run, run_rows(missed.run))
        output_of(ctx).say(str(missed))
        raise typer.Exit(run_exit(missed.run.status) or Exit.RUN_FAILED) from None
    output_of(ctx).item(found, run_rows(found))
    raise typer.Exit(Exit.OK if for_ is not None else run_exit(found.status))


def _statuses(text: str) -> frozenset[RunStatus]:
    found = [run_statuses(word.strip()) for word in text.split(",") if word.strip()]
    return frozenset().union(*found)


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


@verb(
    app,
    "postpone",
    "roundsman runs postpone 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --by 2h",
    "roundsman runs postpone 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --to 2027-01-31T22:00+01:00",
)
def postpone(
    ctx: typer.Context,
    run: RunArgument,
    by: Annotated[str | None, typer.Option(help="So much later than planned: 90s, 2h.")] = None,
    to: Annotated[str | None, typer.Option(help="At this time, with its zone.")] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the run's log.")] = "",
) -> None:
    """Have a run that waits for its time start later; one that has started refuses."""
    if (by is None) == (to is None):
        raise Failure("Give --by or --to, not both", code=Exit.USAGE)
    try:
        longer = None if by is None else parse_duration(by)
        moment = None if to is None else read_time(to)
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    found = connect(ctx).runs.postpone(run, by=longer, to=moment, reason=reason)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "pause", "roundsman runs pause 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def pause(
    ctx: typer.Context,
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Why; stands in the run's log.")] = "",
) -> None:
    """Pause a run: nothing more starts, what has not begun is recalled, what runs completes."""
    found = connect(ctx).runs.pause(run, reason=reason)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "resume", "roundsman runs resume 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa")
def resume(ctx: typer.Context, run: RunArgument) -> None:
    """Lift a person's pause of a run; that of its job or of a window stays."""
    found = connect(ctx).runs.resume(run)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "change", "roundsman runs change 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --priority low")
def change(
    ctx: typer.Context,
    run: RunArgument,
    priority: Annotated[str, typer.Option(help="low, normal or high.")],
) -> None:
    """Change the priority of a run that has not ended."""
    if priority not in ("low", "normal", "high"):
        raise Failure("a priority is low, normal or high", code=Exit.USAGE)
    found = connect(ctx).runs.change(run, priority=priority)  # type: ignore[arg-type]
    output_of(ctx).item(found, run_rows(found))


@verb(
    app,
    "retry",
    "roundsman runs retry 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa",
    "roundsman runs retry 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa --failure device_unreachable",
)
def retry(
    ctx: typer.Context,
    run: RunArgument,
    failure: Annotated[
        list[str] | None, typer.Option(help="Only tasks with this failure code; repeatable.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the run's log.")] = "",
) -> None:
    """Try failed and timed-out tasks again, in the same run."""
    found = connect(ctx).runs.retry(run, failures=failure or [], tasks=task or [], reason=reason)
    output_of(ctx).item(found, run_rows(found))


@verb(app, "report", "roundsman runs report 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa -f report.csv")
def report(
    ctx: typer.Context,
    run: RunArgument,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where to write it; else on stdout.")
    ] = None,
) -> None:
    """Get the run report: a CSV with a row for each target."""
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
    Column[Task]("TARGET", lambda task: task.about),
    Column[Task]("GATEWAY", lambda task: task.gateway),
    Column[Task]("STATUS", lambda task: task.status),
    Column[Task]("PROGRESS", lambda task: task.progress),
    Column[Task]("STEP", lambda task: task.current_step),
    Column[Task]("ATTEMPT", lambda task: task.attempt),
    Column[Task]("FAILURE", lambda task: task.failure.code if task.failure else None),
    Column[Task]("WAITING FOR", lambda task: task.waiting_for.code if task.waiting_for else None),
]
RESULT_COLUMNS = [
    Column[TaskResult]("TARGET", lambda result: result.target),
    Column[TaskResult]("STATUS", lambda result: result.status),
    Column[TaskResult]("RESPONSE", lambda result: result.response),
    Column[TaskResult]("MESSAGE", lambda result: result.message),
]
FIRING_COLUMNS = [
    Column[Firing]("TRIGGER", lambda firing: firing.kind),
    Column[Firing]("JOB", lambda firing: firing.job),
    Column[Firing]("STATUS", lambda firing: firing.status),
    Column[Firing]("TASK", lambda firing: firing.task),
    Column[Firing]("RUN", lambda firing: firing.handler),
    Column[Firing]("REASON", lambda firing: firing.reason),
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
        *([("targets", run.targets)] if run.targets != run.counts.total else []),
        ("created", run.created_at),
        ("started", run.started_at),
        ("ended", run.ended_at),
        ("by", run.run_by.name),
    ]
    if run.starts_at:
        rows.append(("starts", run.starts_at))
    if run.replaces:
        rows.append(("replaces", run.replaces))
    if run.replaced_by:
        rows.append(("replaced by", run.replaced_by))
    if run.paused_by:
        rows.append(("paused by", ", ".join(run.paused_by)))
    if run.origin is not None:
        came = filter(None, (run.origin.kind, run.origin.run, run.origin.task, run.origin.step))
        rows.append(("started by", " ".join(came)))
    if run.reason:
        rows.append(("reason", run.reason))
    if run.waiting_for:
        rows.append(("waiting for", run.waiting_for.sentence))
        rows.append(("until", run.waiting_for.ends))
    return rows
