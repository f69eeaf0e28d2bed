"""Runs: read, follow, wait for and cancel them."""

import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Final, TypeAlias

from contract.http import Page
from contract.http.runs import CancelRun, Run, RunLogLine
from contract.http.tasks import Task
from contract.lifecycle import RUN_ENDS, RunStatus
from roundsman._sync.events import read_events
from roundsman._sync.pause import pause
from roundsman._sync.transport import Transport, parse, parse_json
from roundsman.errors import ServerError, Timeout, TransportError

SILENCE_S: Final = 45.0
FIRST_LOOK_S: Final = 0.2
LONGEST_LOOK_S: Final = 2.0
UNANSWERED_LOOKS: Final = 20
FIRST_TASKS: Final = 1000

Change: TypeAlias = Run | list[Task]


class Runs:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, run: str) -> Run:
        return self._transport.get(f"/runs/{run}", Run)

    def list(
        self,
        *,
        status: RunStatus | str | None = None,
        job: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Run]:
        """Runs, the newest first; `limit` is the size of a page."""
        query = {"status": status, "job": job, "limit": limit}
        return self._transport.items("/runs", Run, query)

    def tasks(self, run: str, *, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a run in their order."""
        return self._transport.items(f"/runs/{run}/tasks", Task, {"limit": limit})

    def log(self, run: str, *, limit: int | None = None) -> Iterator[RunLogLine]:
        return self._transport.items(f"/runs/{run}/log", RunLogLine, {"limit": limit})

    def cancel(self, run: str, *, reason: str = "", force: bool = False) -> Run:
        """Ask for an end: nothing starts any more, what is in flight completes.

        With `force` it is stopped inside a step where that can be done.
        """
        asked = CancelRun(reason=reason, force=force)
        return parse(self._transport.send("POST", f"/runs/{run}/cancel", body=asked), Run)

    def report(self, run: str) -> bytes:
        """The run report, a CSV with a row for each task, UTF-8."""
        return (self._transport.send("GET", f"/runs/{run}/report.csv")).content

    def wait(
        self,
        run: str,
        statuses: Collection[RunStatus] = RUN_ENDS,
        timeout: timedelta | None = None,
    ) -> Run:
        """The run once it has one of `statuses`, or has ended in another.

        Raises Timeout, with the run, when `timeout` is over before.
        """
        until = None if timeout is None else time.monotonic() + timeout.total_seconds()
        look = FIRST_LOOK_S
        while True:
            now = self.get(run)
            if now.status in statuses or now.status in RUN_ENDS:
                return now
            left = look if until is None else min(look, until - time.monotonic())
            if left <= 0:
                raise Timeout(now)
            pause(left)
            look = min(look * 1.5, LONGEST_LOOK_S)

    def events(self, run: str) -> Iterator[Change]:
        """The run, and tasks of it that changed, until it has ended.

        It begins with the first thousand tasks and the run, and goes on by itself after an
        interruption, again with both: what happened in between is not lost. Where the stream
        cannot be had it looks every two seconds. Raises TransportError or ServerError after
        minutes without an answer.
        """
        unanswered = 0
        while True:
            try:
                with closing(self._stream(run)) as changes:
                    for change in changes:
                        yield change
                        if has_ended(change):
                            return
            except (TransportError, ServerError):
                broken = True
            else:
                broken = False
            pause(LONGEST_LOOK_S if broken else FIRST_LOOK_S)
            try:
                whole = self._whole(run)
            except (TransportError, ServerError):
                unanswered += 1
                if unanswered > UNANSWERED_LOOKS:
                    raise
                continue
            unanswered = 0
            for change in whole:
                yield change
                if has_ended(change):
                    return

    def _stream(self, run: str) -> Generator[Change, None, None]:
        headers = {"accept": "text/event-stream"}
        with self._transport.lines("/events", {"run": run}, headers, SILENCE_S) as lines:
            # Read after the stream is open: nothing can happen between the two unseen.
            for change in self._whole(run):
                yield change
            for name, data in read_events(lines):
                if name == "tasks":
                    yield parse_json(data, list[Task])
                elif name == "run":
                    now: Run = parse_json(data, Run)
                    if now.status in RUN_ENDS:  # the last tasks changed in the same moment
                        for change in self._whole(run):
                            yield change
                        return
                    yield now
                elif name == "reset":  # more happened than the service has kept
                    for change in self._whole(run):
                        yield change

    def _whole(self, run: str) -> tuple[Change, Change]:
        now = self.get(run)
        page = self._transport.get(f"/runs/{run}/tasks", Page[Task], {"limit": FIRST_TASKS})
        return page.items, now


def has_ended(change: Change) -> bool:
    return isinstance(change, Run) and change.status in RUN_ENDS
