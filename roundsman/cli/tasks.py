"""`roundsman tasks`: one target's part of a run."""

import json
from typing import Annotated, Final

import typer
from pydantic import JsonValue

from contract.http.tasks import TaskDetail
from roundsman.cli.failures import Exit, Failure
from roundsman.cli.options import noun, verb
from roundsman.cli.session import connect, output_of

app = noun("One target's part of a run.")
_SHOWN: Final = 20


@verb(app, "get", "roundsman tasks get 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa-3")
def get(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.", metavar="TASK")],
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Also what each step was given, rendered.")
    ] = False,
) -> None:
    """Show a task: its attempts, newest first, and the steps of each with their times."""
    found = connect(ctx).tasks.get(task)
    output = output_of(ctx)
    output.item(found, _rows(found))
    for attempt in found.attempts:
        output.say(f"\nAttempt {attempt.attempt} on {attempt.gateway}: {attempt.status}")
        output.rows(
            ["STEP", "USES", "STATUS", "TRIES", "STARTED", "ENDED", "FAILURE"],
            [
                [
                    step.id,
                    step.uses,
                    step.status,
                    step.tries,
                    step.started_at,
                    step.completed_at or step.skipped_at,
                    step.failure.code if step.failure else step.note,
                ]
                for step in attempt.steps
            ],
        )
        for step in attempt.steps:
            if step.failure is not None and step.help:
                output.say(f"{step.name or step.id}: {step.help}")
        for step in attempt.steps if inputs else ():
            if step.input is not None:
                cut = " (cut)" if step.input_truncated else ""
                output.say(f"{step.id} was given{cut}: {json.dumps(step.input, indent=2)}")


@verb(
    app,
    "acknowledge",
    "roundsman tasks acknowledge 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa-3 --result '{\"ok\": true}'",
    "roundsman tasks acknowledge 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa-3 --failure --text dead",
)
def acknowledge(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's id.", metavar="TASK")],
    failure: Annotated[bool, typer.Option("--failure", help="It has failed.")] = False,
    result: Annotated[str, typer.Option(help="Its result, as JSON.")] = "null",
    accumulator: Annotated[str, typer.Option(help="What it hands on, as JSON.")] = "null",
    text: Annotated[str, typer.Option(help="What there is to say about it.")] = "",
) -> None:
    """Close a task that is acknowledged explicitly; the first word counts."""
    found = connect(ctx).tasks.acknowledge(
        task,
        success=not failure,
        result=_json("result", result),
        accumulator=_json("accumulator", accumulator),
        text=text,
    )
    output_of(ctx).item(found, [("task", found.task), ("verdict", found.verdict)])


@verb(
    app,
    "acknowledgment-token",
    "roundsman tasks acknowledgment-token 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa-3",
)
def acknowledgment_token(
    ctx: typer.Context, task: Annotated[str, typer.Argument(help="The task's id.", metavar="TASK")]
) -> None:
    """Make a token with which somebody else may acknowledge this one task."""
    found = connect(ctx).tasks.acknowledgment_token(task)
    rows: list[tuple[str, object]] = [
        ("token", found.token), ("attempt", found.attempt), ("url", found.url)
    ]  # fmt: skip
    output_of(ctx).item(found, rows)


def _json(name: str, text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except ValueError as error:
        raise Failure(f"--{name} is no JSON: {error}", code=Exit.USAGE) from None
    return value


def _rows(task: TaskDetail) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("id", task.id),
        ("target", task.about),
        ("gateway", task.gateway),
        ("status", task.status),
        ("progress", task.progress),
        ("attempt", task.attempt),
        ("tries", f"{task.tries} of {task.attempts_allowed}"),
        ("started", task.started_at),
        ("ended", task.ended_at),
    ]
    if task.input.targets:
        more = len(task.input.targets) - _SHOWN
        shown = ", ".join(task.input.targets[:_SHOWN])
        rows.insert(2, ("targets", f"{shown} and {more} more" if more > 0 else shown))
    if task.failure:
        rows += [
            ("failure", task.failure.code),
            ("it means", task.failure.sentence),
            ("the case", task.failure.text),
            ("try", task.failure.help),
        ]
    if task.waiting_for:
        rows += [("waiting for", task.waiting_for.sentence), ("until", task.waiting_for.ends)]
    return rows
