"""What stays of runs: their logs, results and triggers; waiting for them; links to reports."""

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from contract.http.history import (
    AddLogLine,
    ExtendRun,
    Firing,
    Level,
    ReportLink,
    RunItem,
    TaskResult,
)
from contract.http.runs import Run, RunLogLine
from contract.lifecycle import RUN_ENDS, RunStatus, can_reach
from roundsman._sync.pause import pause
from roundsman._sync.transport import Transport, parse
from roundsman.current import current_run_id
from roundsman.errors import Timeout, Unreachable

FIRST_LOOK_S: Final = 0.2
LONGEST_LOOK_S: Final = 2.0


class RunHistory:
    """The part of `runs` that is about what they were and are."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, run: str) -> Run:
        return self._transport.get(f"/runs/{run}", Run)

    def list(
        self,
        *,
        status: RunStatus | str | Collection[str] | None = None,
        job: str | None = None,
        type: str | None = None,
        has_errors: bool | None = None,
        created: tuple[datetime | None, datetime | None] = (None, None),
        started: tuple[datetime | None, datetime | None] = (None, None),
        ended: tuple[datetime | None, datetime | None] = (None, None),
        started_by: str | None = None,
        system: bool = False,
        limit: int | None = None,
    ) -> Iterator[Run]:
        """Runs, the newest first; `limit` is the size of a page.

        `status` is one or several; ranges are from inclusive to exclusive, either end may be None.
        `started_by` is a run whose triggers and steps started them; runs of system jobs are
        hidden unless `system`.
        """
        words = status if status is None or isinstance(status, str) else ",".join(status)
        query: dict[str, str | int | None] = {
            "status": words,
            "job": job,
            "type": type,
            "has_errors": None if has_errors is None else str(has_errors).lower(),
            "started_by": started_by,
            "system": "true" if system else None,
            "limit": limit,
        }
        for name, (first, last) in (("created", created), ("started", started), ("ended", ended)):
            query[f"{name}_from"] = None if first is None else first.isoformat()
            query[f"{name}_to"] = None if last is None else last.isoformat()
        return self._transport.items("/runs", Run, query)

    def log(
        self,
        run: str,
        *,
        level: str | None = None,
        contains: str | None = None,
        period: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        zone: str | None = None,
        limit: int | None = None,
    ) -> Iterator[RunLogLine]:
        """The lines of a run, the oldest first.

        `period` is `today`, `yesterday` (of `zone`, UTC if none) or so long until now (`2h 30m`);
        `start` and `end` go over its ends.
        """
        query: dict[str, str | int | None] = {
            "level": level,
            "contains": contains,
            "period": period,
            "from": None if start is None else start.isoformat(),
            "to": None if end is None else end.isoformat(),
            "zone": zone,
            "limit": limit,
        }
        return self._transport.items(f"/runs/{run}/log", RunLogLine, query)

    def add_log(
        self,
        text: str,
        *,
        level: Level = "INFO",
        run: str | None = None,
        task: str | None = None,
        data: Mapping[str, JsonValue] | None = None,
    ) -> bool:
        """Add a line to a run's log, also after its end; says whether there was a run.

        Without `run` it is the one we are in (see `roundsman.current_run`); outside of any run the
        line is dropped, so that code may log whether a run called it or not.
        """
        of_run = run or current_run_id()
        if of_run is None:
            return False
        line = AddLogLine(text=text, level=level, task=task, data=dict(data or {}))
        self._transport.send("POST", f"/runs/{of_run}/log", body=line, repeatable=False)
        return True

    def results(self, run: str, *, limit: int | None = None) -> Iterator[TaskResult]:
        """What became of each target, in order."""
        return self._transport.items(f"/runs/{run}/results", TaskResult, {"limit": limit})

    def triggers(self, run: str, *, limit: int | None = None) -> Iterator[Firing]:
        """The triggers of a run that fired, wait to fire, or could not."""
        return self._transport.items(f"/runs/{run}/triggers", Firing, {"limit": limit})

    def extend(self, run: str, items: Collection[RunItem], *, key: str) -> Run:
        """Append items to a run that has not ended; the same key again appends nothing.

        Raises Conflict when it has ended, BadRequest with every target that is not there.
        """
        asked = ExtendRun(items=[*items], key=key)
        return parse(self._transport.send("POST", f"/runs/{run}/items", body=asked), Run)

    def report(self, run: str) -> bytes:
        """The run report, a CSV with a row for each target, UTF-8."""
        return (self._transport.send("GET", f"/runs/{run}/report.csv")).content

    def report_link(self, run: str) -> ReportLink:
        """A fresh link to the report that needs no token, valid for 7 days."""
        answer = self._transport.send("POST", f"/runs/{run}/report-link")
        return parse(answer, ReportLink)

    def wait(
        self,
        run: str,
        statuses: Collection[RunStatus] = RUN_ENDS,
        *,
        timeout: timedelta,
    ) -> Run:
        """The run once it has one of `statuses`; one that it has already counts.

        Raises Timeout when `timeout` is over before, and Unreachable when it can no longer come
        there by itself; both with the run.
        """
        until = time.monotonic() + timeout.total_seconds()
        look = FIRST_LOOK_S
        while True:
            now = self.get(run)
            if now.status in statuses:
                return now
            if not can_reach(now.status, statuses):
                raise Unreachable(now, statuses)
            left = min(look, until - time.monotonic())
            if left <= 0:
                raise Timeout(now)
            pause(left)
            look = min(look * 1.5, LONGEST_LOOK_S)
