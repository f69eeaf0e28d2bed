"""`python -m tests.campaign 200`: play so many seeded stories and judge them; `make campaign`."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.campaign.play import Played, Setting, play_all, shrink
from tests.campaign.story import Story

LINE_EVERY: Final = 50  # where no bar can be drawn


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign",
        description="Seeded stories: programs die, links fail, and devices tell what happened.",
    )
    parser.add_argument("stories", type=int, nargs="?", default=200, help="how many; 200")
    parser.add_argument("--seed", type=int, default=0, help="of the first story; the next follow")
    parser.add_argument("--workers", type=int, default=2, help="how many are played at a time")
    parser.add_argument("--folder", type=Path, help="for data and logs; a new one in /tmp")
    parser.add_argument("--only-sqlite", action="store_true", help="no stage on PostgreSQL")
    parser.add_argument("--no-shrinking", action="store_true", help="leave failed stories whole")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0 when every story kept every promise."""
    options = _arguments().parse_args(words)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="roundsman-campaign-"))
    with ExitStack() as stack:
        make_database = None
        if not options.only_sqlite:
            from tests.kit.postgres import PostgresServer

            make_database = stack.enter_context(PostgresServer()).create_database
        setting = Setting(folder, make_database)
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        seeds = range(options.seed, options.seed + options.stories)
        with bar:
            line = bar.add_task("stories", total=options.stories)

            def told(one: Played) -> None:
                bar.advance(line)
                done = round(bar.tasks[line].completed)
                if not bar.console.is_terminal and done % LINE_EVERY == 0:
                    bar.console.print(f"{done} of {options.stories} stories")
                if one.problems:
                    bar.console.print(_failure(one), markup=False, highlight=False)

            played = play_all(seeds, setting, options.workers, told)
        print(summary(played))
        failed = [one for one in played if one.problems]
        if failed and not options.no_shrinking:
            print(f"\nMaking story {failed[0].story.seed} smaller ...")
            print(_failure(shrink(failed[0], setting)))
    return 1 if failed else 0


def summary(played: Sequence[Played]) -> str:
    """What was played, what went wrong in it on purpose, and how its tasks ended."""
    faults = Counter(str(fault.kind) for one in played for fault in one.story.faults)
    places = {line for one in played for line in one.places}
    come_to = {line for line in places if "!" not in line}
    fallen = {" ".join(line.split()[:3]) for line in places if "!" in line}
    statuses = sum((one.statuses for one in played), Counter[str]())
    deaths = sum((one.deaths for one in played), Counter[str]())
    failed = [one.story.seed for one in played if one.problems]
    slowest = sorted(played, key=lambda one: -one.took_s)[:3]
    told = [
        ("stories", f"{len(played)}, {len(failed)} broke a promise {failed or ''}"),
        ("faults", _counted(faults)),
        ("deaths", _counted(deaths)),
        ("publishes", f"{sum(one.late for one in played)} late and out of order, "
                      f"{sum(one.doubled for one in played)} doubled"),
        ("crash points", f"{len(come_to)} come to while armed, fallen at {len(fallen)}"),
        ("tasks", f"{statuses.total()}: {_counted(statuses)}"),
        ("slowest", ", ".join(f"{one.story.seed} in {one.took_s:.0f} s" for one in slowest)),
    ]  # fmt: skip
    return "\n".join(f"{name:13} {text}" for name, text in told)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _failure(one: Played) -> str:
    problems = "\n".join(f"  - {problem}" for problem in one.problems)
    return f"{_story(one.story)}\nbroke a promise; data and logs are in {one.folder}\n{problems}"


def _story(story: Story) -> str:
    return f"\n{story}\n  (again: make campaign N=1 SEED={story.seed})"


if __name__ == "__main__":
    sys.exit(main())
