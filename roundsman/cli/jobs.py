"""`roundsman jobs`: definitions."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from contract.durations import parse_duration
from contract.http.history import Reference
from contract.http.jobs import Job
from contract.ids import slug
from roundsman._sync.client import Roundsman
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.job_files import check_job, naming, read_context, read_text
from roundsman.cli.options import noun, read_time, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import Query, read_query

app = noun("Definitions: create, read and run them.")

Pairs = Annotated[
    list[str] | None,
    typer.Option("--context", "-c", help="name=value, over the job's own; repeatable."),
]
ContextFile = Annotated[
    Path | None, typer.Option(help="The whole context, YAML or JSON, instead of the job's.")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the run to its end.")]


@verb(
    app,
    "create",
    "roundsman jobs create -f pump-firmware.yaml",
    "roundsman jobs create -f pump-firmware.yaml --run --watch",
)
def create(
    ctx: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="The job, YAML or JSON; - is stdin.")],
    run: Annotated[bool, typer.Option("--run", help="Start a run of it at once.")] = False,
    context: Pairs = None,
    context_file: ContextFile = None,
    watch: Watch = False,
) -> None:
    """Save a job. With --run, start it."""
    text, source = read_text(file)
    check_job(text, source)
    client = connect(ctx)
    with naming(text, source):
        job = client.jobs.create(text)
    if run or watch:
        output_of(ctx).say(f"Job {job.id} is saved.")
        _start(ctx, client, job, context, context_file, None, watch)
        return
    output_of(ctx).item(job, _rows(job))


@verb(
    app,
    "save",
    "roundsman jobs save -f pump-firmware.yaml",
    "roundsman jobs save -f pump-firmware.yaml --job pump-firmware",
)
def save(
    ctx: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="The job, YAML or JSON; - is stdin.")],
    job: Annotated[
        str | None, typer.Option(help="The job's id, where neither id nor name say it.")
    ] = None,
) -> None:
    """Replace a job that exists with a newer document. Runs in flight keep the one they have.

    With --job the document may bring another name: a job's id never changes.
    """
    text, source = read_text(file)
    document = check_job(text, source)
    client = connect(ctx)
    old = client.jobs.get(job or document.id or slug(document.name))
    with naming(text, source):
        saved = client.jobs.update(old.id, text, old.revision)
    output_of(ctx).item(saved, _rows(saved))


@verb(
    app,
    "duplicate",
    "roundsman jobs duplicate pump-firmware",
    "roundsman jobs duplicate pump-firmware --name 'Pumps of Rome' --id pumps-rome",
)
def duplicate(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="The id of the job that is copied.")],
    name: Annotated[str | None, typer.Option(help="The copy's name.")] = None,
    new_id: Annotated[
        str | None, typer.Option("--id", help="The copy's id; made from the name if not given.")
    ] = None,
) -> None:
    """Save a copy of a job under another name and id, without its runs."""
    made = connect(ctx).jobs.duplicate(job, name=name, new_id=new_id)
    output_of(ctx).item(made, _rows(made))


@verb(app, "list", "roundsman jobs list", "roundsman jobs list -o json")
def list_(ctx: typer.Context) -> None:
    """List all jobs."""
    output_of(ctx).items(connect(ctx).jobs.list(), COLUMNS)


@verb(app, "get", "roundsman jobs get pump-firmware", "roundsman jobs get pump-firmware -o json")
def get(ctx: typer.Context, job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Show a job; its document is in -o json."""
    found = connect(ctx).jobs.get(job)
    output_of(ctx).item(found, _rows(found))


@verb(
    app,
    "run",
    "roundsman jobs run pump-firmware --watch",
    "roundsman jobs run pump-firmware --context site=berlin --context version=2.4.1",
)
def run_(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.")],
    context: Pairs = None,
    context_file: ContextFile = None,
    query: Query = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Cancel the run in flight, and start when it ended.")
    ] = False,
    at: Annotated[str | None, typer.Option(help="Start at this time, with its zone.")] = None,
    after: Annotated[str | None, typer.Option(help="Start so much later: 90s, 2h.")] = None,
    expires: Annotated[str | None, typer.Option(help="End it so long after its start.")] = None,
    watch: Watch = False,
) -> None:
    """Start a run of a job."""
    if at is not None and after is not None:
        raise Failure("Give --at or --after, not both", code=Exit.USAGE)
    client = connect(ctx)
    try:
        more = {
            "query": read_query(query),
            "replace": replace,
            "at": None if at is None else read_time(at),
            "after": None if after is None else parse_duration(after),
            "expires_after": None if expires is None else parse_duration(expires),
        }
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    _start(ctx, client, client.jobs.get(job), context, context_file, priority, watch, more)


@verb(
    app,
    "preview",
    "roundsman jobs preview pump-firmware --query 'tags.site:berlin'",
    "roundsman jobs preview -f pump-firmware.yaml",
)
def preview(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(help="The job's id.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A job that is not saved, instead.")
    ] = None,
    context: Pairs = None,
    context_file: ContextFile = None,
    query: Query = None,
) -> None:
    """Say what a run would be about: how many targets, and who would have to wait and why."""
    if (job is None) == (file is None):
        raise Failure("Give a job or --file, not both", code=Exit.USAGE)
    client = connect(ctx)
    if file is not None:
        text, source = read_text(file)
        document = check_job(text, source)
        with naming(text, source):
            found = client.jobs.preview(document)
    else:
        assert job is not None
        given = read_context(context or [], context_file)
        if given is not None and context_file is None:
            own = client.jobs.get(job).document.get("context")
            given = {**(own if isinstance(own, dict) else {}), **given}
        found = client.jobs.preview(job, context=given, query=read_query(query))
    output = output_of(ctx)
    about = [
        ("targets", found.count),
        ("tasks", found.tasks),
        ("of", found.resource),
        ("table", found.table or None),
    ]
    output.item(found, [*about, *(("warning", text) for text in found.warnings)])
    output.rows(["TARGET"], [[one.get("id")] for one in found.sample])
    if found.excluded:
        rows = [[one.count, one.reason, one.sentence] for one in found.excluded]
        output.rows(["WOULD WAIT", "FOR", "BECAUSE"], rows)


@verb(app, "pause", "roundsman jobs pause pump-firmware --reason 'bad image'")
def pause(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.")],
    reason: Annotated[str, typer.Option(help="Why; stands in the logs of its runs.")] = "",
) -> None:
    """Pause a job: its runs, its schedule, and every start."""
    found = connect(ctx).jobs.pause(job, reason=reason)
    output_of(ctx).item(found, _rows(found))


@verb(app, "resume", "roundsman jobs resume pump-firmware")
def resume(ctx: typer.Context, job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Resume a job and its runs, but for those that a person paused by themselves."""
    found = connect(ctx).jobs.resume(job)
    output_of(ctx).item(found, _rows(found))


@verb(
    app,
    "delete",
    "roundsman jobs delete pump-firmware",
    "roundsman jobs delete pump-firmware --with-triggered",
)
def delete(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.")],
    with_triggered: Annotated[
        bool,
        typer.Option("--with-triggered", help="Also the jobs that only its triggers start."),
    ] = False,
) -> None:
    """Delete a job: what is in flight completes; its runs, logs and reports are gone."""
    deleted = connect(ctx).jobs.delete(job, with_triggered=with_triggered)
    output = output_of(ctx)
    output.item(
        deleted,
        [
            ("deleted", ", ".join([deleted.job, *deleted.also_deleted])),
            ("still completing", deleted.run),
        ],
    )
    for warning in deleted.warnings:
        output.say(f"Warning: {warning}")


@verb(app, "references", "roundsman jobs references pump-firmware")
def references(
    ctx: typer.Context, job: Annotated[str, typer.Argument(help="The job's id.")]
) -> None:
    """Show which jobs have a trigger on it, and apart from them which merely run it."""
    found = connect(ctx).jobs.references(job)

    def shown(places: list[Reference]) -> str | None:
        return ", ".join(f"{place.job} ({place.place})" for place in places) or None

    output_of(ctx).item(
        found,
        [
            ("its triggers start", shown(found.triggers)),
            ("started by triggers of", shown(found.triggered_by)),
            ("used by", shown(found.used_by)),
        ],
    )


def _start(
    ctx: typer.Context,
    client: Roundsman,
    job: Job,
    pairs: list[str] | None,
    context_file: Path | None,
    priority: str | None,
    watch: bool,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    from roundsman.cli.runs import run_rows
    from roundsman.cli.watch import follow

    context = read_context(pairs or [], context_file)
    if context is not None and context_file is None:
        own = job.document.get("context")
        context = {**(own if isinstance(own, dict) else {}), **context}
    started = client.jobs.run(job.id, context=context, priority=priority, **more)
    output = output_of(ctx)
    if watch:
        output.say(f"Run {started.id} has started.")
        raise typer.Exit(follow(client, started.id, output))
    output.item(started, run_rows(started))
    output.say(f"Follow it with: roundsman runs watch {started.id}")


COLUMNS = [
    Column[Job]("ID", lambda job: job.id),
    Column[Job]("NAME", lambda job: job.name),
    Column[Job]("TYPE", lambda job: job.type),
    Column[Job]("TARGETS", lambda job: job.resource),
    Column[Job]("RUN", lambda job: job.run.status if job.run else None),
    Column[Job]("PROGRESS", lambda job: job.run.progress if job.run else None),
    Column[Job]("LAST RUN", lambda job: job.last_run_at),
    Column[Job]("UPDATED", lambda job: job.updated_at),
]


def _rows(job: Job) -> list[tuple[str, object]]:
    return [
        ("id", job.id),
        ("name", job.name),
        ("description", job.description),
        ("type", job.type),
        ("targets", job.resource),
        ("revision", job.revision),
        ("updated", job.updated_at),
        ("paused by", job.paused_by or None),
        ("last run", job.run.id if job.run else None),
        ("last run at", job.last_run_at),
        ("its status", job.run.status if job.run else None),
    ]
