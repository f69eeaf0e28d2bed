"""What became of the demo's run: a row for each device, and whether it is what was to be shown."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from contract.http.runs import Run
from contract.http.tasks import Attempt, TaskDetail
from contract.lifecycle import TaskStatus
from roundsman.cli.output import STYLES, cell, write

REFUSES: Final = "pump-4"
LOSES_ITS_LINE: Final = "pump-9"
_REFUSALS: Final = ("image_refused", "device_refused")


@dataclass(frozen=True)
class Row:
    """One device: versions as they were read from it, and what happened on the way."""

    device: str
    status: str
    attempts: int
    before: str
    after: str
    seconds: float | None
    remark: str


Counters = Mapping[str, int]  # what a simulated device has counted: unplugs, resumes ...


def row_of(task: TaskDetail, counters: Counters) -> Row:
    newest = task.attempts[0] if task.attempts else None
    first = task.attempts[-1] if task.attempts else None
    seconds = None
    if first and first.started_at and task.ended_at:
        seconds = max((task.ended_at - first.started_at).total_seconds(), 0.0)
    return Row(
        device=task.target,
        status=task.status,
        attempts=task.attempt,
        before=_version(first, "before"),
        after=_version(newest, "verify"),
        seconds=seconds,
        remark=_remark(task, newest, counters),
    )


def _version(attempt: Attempt | None, step_id: str) -> str:
    for step in attempt.steps if attempt else ():
        if step.id == step_id and isinstance(step.result, dict):
            return cell(step.result.get("version"))
    return ""


def _remark(task: TaskDetail, newest: Attempt | None, counters: Counters) -> str:
    if task.failure:
        return cell(f"{task.failure.code}: {task.failure.sentence} {task.failure.text}".strip())
    if task.attempt > 1:
        earlier = [each.failure.code for each in task.attempts[1:] if each.failure]
        return f"recovered after {', '.join(earlier)}" if earlier else "recovered"
    if newest and any(step.tries > 1 for step in newest.steps):
        again = next(step for step in newest.steps if step.tries > 1)
        return f"recovered: `{again.uses}` was tried {again.tries} times"
    if counters.get("unplugs") and counters.get("resumes"):
        return "recovered: lost its line, and the upload went on where it was"
    return ""


def surprises(
    tasks: Sequence[TaskDetail], counters: Mapping[str, Counters], expected: int
) -> list[str]:
    """What is not as the demo means to show it; empty when all is."""
    found = []
    if len(tasks) != expected:
        found.append(f"there are {len(tasks)} tasks, not {expected}")
    for task in tasks:
        refused = task.failure is not None and task.failure.code in _REFUSALS
        if task.target == REFUSES:
            if task.status is not TaskStatus.FAILED or not refused:
                found.append(f"{task.target} was to refuse its image, and is {task.status}")
        elif task.status is not TaskStatus.SUCCEEDED:
            code = task.failure.code if task.failure else "no failure"
            found.append(f"{task.target} was to succeed, and is {task.status} ({code})")
        elif task.target == LOSES_ITS_LINE and not counters.get(task.target, {}).get("unplugs"):
            found.append(f"{task.target} was to lose its line, and kept it")
    return found


def show(rows: Sequence[Row], run: Run) -> None:
    titles = ["DEVICE", "STATUS", "ATTEMPTS", "FROM", "TO", "SECONDS", "REMARK"]
    texts = [
        [
            row.device,
            row.status,
            str(row.attempts),
            row.before,
            row.after,
            "" if row.seconds is None else f"{row.seconds:.1f}",
            row.remark,
        ]
        for row in rows
    ]
    write("")
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in titles:
            table.add_column(title, no_wrap=title != "REMARK")
        for line in texts:
            table.add_row(*(Text(text, STYLES.get(text, "")) for text in line))
        Console(highlight=False).print(table)
    else:
        widths = [max(len(line[i]) for line in [titles, *texts]) for i in range(len(titles) - 1)]
        for line in [titles, *texts]:
            start = "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False))
            write(f"{start}  {line[-1]}".rstrip())
    counts = run.counts
    write(
        f"\nRun {run.id}: {run.status.replace('_', ' ')}, {counts.succeeded} of {counts.total} "
        f"succeeded, {counts.failed + counts.timed_out} failed."
    )
