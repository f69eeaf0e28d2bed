"""`roundsman tasks`: one target's part of a run."""

from typing import Annotated

import typer

from contract.http.tasks import TaskDetail
from roundsman.cli.options import noun, verb
from roundsman.cli.session import connect, output_of

app = noun("One target's part of a run.")


@verb(app, "get", "roundsman tasks get 0198f0c2-7b1e-7c4e-9d0e-5a1f4be0c7aa-3")
def get(
    ctx: typer.Context, task: Annotated[str, typer.Argument(help="The task's id.", metavar="TASK")]
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


def _rows(task: TaskDetail) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("id", task.id),
        ("target", task.target),
        ("gateway", task.gateway),
        ("status", task.status),
        ("progress", task.progress),
        ("attempt", task.attempt),
        ("tries", f"{task.tries} of {task.attempts_allowed}"),
        ("started", task.started_at),
        ("ended", task.ended_at),
    ]
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
