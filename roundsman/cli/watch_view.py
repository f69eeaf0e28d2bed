"""What a run looks like while it goes on: the state of its tasks, and the bars drawn from it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from contract.http.runs import Run
from contract.http.tasks import Task
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus
from roundsman.cli.output import STYLES, cell

# Most interesting first; where there is no room for all, the last ones are summarised.
_ORDER: Final = (TASK_OPEN, {TaskStatus.RESCHEDULED}, {TaskStatus.FAILED, TaskStatus.TIMED_OUT})
_BAR_WIDTH: Final = 24
_LINES_AROUND: Final = 5


@dataclass
class Watched:
    """A run and the tasks of it that were heard of."""

    run: Run | None = None
    tasks: dict[str, Task] = field(default_factory=dict)

    def take(self, change: Run | list[Task]) -> list[Task]:
        """Take a change in; the tasks that differ from what was known."""
        if isinstance(change, Run):
            self.run = change
            return []
        news = [task for task in change if self.tasks.get(task.id) != task]
        self.tasks.update((task.id, task) for task in news)
        return news


def draw(watched: Watched, height: int, now: datetime) -> RenderableType:
    """The run's bar, then a bar per device, as many as fit; the others are counted."""
    if watched.run is None:
        return Text("Waiting for the run ...")
    tasks = sorted(watched.tasks.values(), key=lambda task: task.ordinal)
    room = max(height - _LINES_AROUND, 3)
    shown = chosen(tasks, room)
    parts: list[RenderableType] = [_run_line(watched.run, now), _task_table(shown, now)]
    left = _left_out(tasks, shown)
    if left:
        parts.append(Text(left, style="dim"))
    return Group(*parts)


def chosen(tasks: Sequence[Task], room: int) -> list[Task]:
    """The tasks to show, in their order: those in flight first, then failures, then the rest."""
    ranked = sorted(tasks, key=_rank)
    return sorted(ranked[:room], key=lambda task: task.ordinal)


def _rank(task: Task) -> tuple[int, float, int]:
    for rank, statuses in enumerate(_ORDER):
        if task.status in statuses:
            return rank, 0, task.ordinal
    # Of those that ended well, the latest: what just happened stays in sight.
    ended = task.ended_at.timestamp() if task.ended_at else 0
    return len(_ORDER), -ended, task.ordinal


def _left_out(tasks: Iterable[Task], shown: Iterable[Task]) -> str:
    ids = {task.id for task in shown}
    counts = Counter(task.status.value for task in tasks if task.id not in ids)
    if not counts:
        return ""
    said = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return f"and {counts.total()} more: {said}"


def _run_line(run: Run, now: datetime) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    counts = run.counts
    words = Text()
    words.append(run.status, STYLES.get(run.status, ""))
    words.append(f"  {counts.succeeded} ok", "green" if counts.succeeded else "dim")
    bad = counts.failed + counts.timed_out
    words.append(f"  {bad} failed", "red" if bad else "dim")
    if counts.retrying:
        words.append(f"  {counts.retrying} retrying", "yellow")
    words.append(f"  of {counts.total}  {_clock(run.started_at, run.ended_at, now)}")
    if run.waiting_for:
        words.append(f"  {cell(run.waiting_for.sentence)}", "dim")
    bar = ProgressBar(total=100, completed=run.progress, width=_BAR_WIDTH + 12)
    line.add_row(Text(cell(run.name), "bold"), bar, Text(f"{run.progress:3.0f} %"), words)
    return line


def _task_table(tasks: Sequence[Task], now: datetime) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    for _ in range(6):
        table.add_column(no_wrap=True)
    for task in tasks:
        done = 100.0 if task.status is TaskStatus.SUCCEEDED else task.progress
        style = STYLES.get(task.status, "")
        bar = ProgressBar(
            total=100,
            completed=done,
            width=_BAR_WIDTH,
            complete_style=style or "bar.complete",
            finished_style=style or "bar.finished",
        )
        table.add_row(
            Text(cell(task.about)),
            bar,
            Text(f"{done:3.0f} %"),
            Text(task.status, style),
            Text(_clock(task.started_at, task.ended_at, now), "dim"),
            Text(note(task), "red" if task.failure else "dim"),
        )
    return table


def note(task: Task) -> str:
    """What is worth saying about a task in a few words."""
    words = []
    if task.attempt > 1:
        words.append(f"attempt {task.attempt}")
    if task.failure:
        words.append(task.failure.code)
    elif task.status not in TASK_ENDS:
        if task.current_step:
            words.append(task.current_step)
        elif task.waiting_for:
            words.append(f"waiting: {task.waiting_for.code}")
    return cell(", ".join(words))


def _clock(started: datetime | None, ended: datetime | None, now: datetime) -> str:
    if started is None:
        return ""
    # A gateway's clock may be anything: a time before its start is no time at all.
    seconds = max(int(((ended or now) - started).total_seconds()), 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
