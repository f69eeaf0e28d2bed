"""Runs: read, follow, wait for and cancel them."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias

from contract.http import Page
from contract.http.runs import CancelRun, ChangeRun, PauseRun, PostponeRun, RetryRun, Run
from contract.http.tasks import Task
from contract.lifecycle import RUN_ENDS
from roundsman._async import targets
from roundsman._async.events import read_events
from roundsman._async.pause import pause
from roundsman._async.run_history import FIRST_LOOK_S, LONGEST_LOOK_S, RunHistory
from roundsman._async.transport import parse, parse_json
from roundsman.errors import ServerError, TransportError

SILENCE_S: Final = 45.0
UNANSWERED_LOOKS: Final = 20
FIRST_TASKS: Final = 1000

Change: TypeAlias = Run | list[Task]


class Runs(RunHistory):
    def tasks(self, run: str, *, limit: int | None = None) -> AsyncIterator[Task]:
        """The tasks of a run in their order."""
        return self._transport.items(f"/runs/{run}/tasks", Task, {"limit": limit})

    async def download(self, run: str, path: Path) -> int:
        """Write the file that an export has made; its size in bytes. Raises NotFound for none."""
        return await targets.download(self._transport, run, path)

    async def cancel(self, run: str, *, reason: str = "", force: bool = False) -> Run:
        """Ask for an end: nothing starts any more, what is in flight completes.

        With `force` it is stopped inside a step where that can be done.
        """
        asked = CancelRun(reason=reason, force=force)
        return parse(await self._transport.send("POST", f"/runs/{run}/cancel", body=asked), Run)

    async def pause(self, run: str, *, reason: str = "") -> Run:
        """Let nothing more start; what has not begun is recalled, what runs completes."""
        asked = PauseRun(reason=reason)
        return parse(await self._transport.send("POST", f"/runs/{run}/pause", body=asked), Run)

    async def resume(self, run: str) -> Run:
        """Lift a person's pause; that of the run's job or of a window stays."""
        return parse(await self._transport.send("POST", f"/runs/{run}/resume"), Run)

    async def postpone(
        self,
        run: str,
        *,
        by: timedelta | None = None,
        to: datetime | None = None,
        reason: str = "",
    ) -> Run:
        """Have a run that waits for its time start later: `by` so long, or `to` a time.

        Raises Conflict when it has started or ended.
        """
        asked = PostponeRun(by=by, to=to, reason=reason)
        answer = await self._transport.send(
            "POST", f"/runs/{run}/postpone", body=asked, repeatable=to is not None
        )
        return parse(answer, Run)

    async def change(self, run: str, *, priority: Literal["low", "normal", "high"]) -> Run:
        """Change the priority of a run that has not ended."""
        asked = ChangeRun(priority=priority)
        return parse(await self._transport.send("PATCH", f"/runs/{run}", body=asked), Run)

    async def retry(
        self,
        run: str,
        *,
        failures: Collection[str] = (),
        tasks: Collection[str] = (),
        reason: str = "",
    ) -> Run:
        """Try failed and timed-out tasks again in the same run: all, by failure code, or listed.

        Raises Conflict when another run of the job is in flight, or no task ended like that.
        """
        asked = RetryRun(failures=[*failures], tasks=[*tasks], reason=reason)
        answer = await self._transport.send(
            "POST", f"/runs/{run}/retry", body=asked, repeatable=False
        )
        return parse(answer, Run)

    async def events(self, run: str) -> AsyncIterator[Change]:
        """The run, and tasks of it that changed, until it has ended.

        It begins with the first thousand tasks and the run, and goes on by itself after an
        interruption, again with both: what happened in between is not lost. Where the stream
        cannot be had it looks every two seconds. Raises TransportError or ServerError after
        minutes without an answer.
        """
        unanswered = 0
        while True:
            try:
                async with aclosing(self._stream(run)) as changes:
                    async for change in changes:
                        yield change
                        if has_ended(change):
                            return
            except (TransportError, ServerError):
                broken = True
            else:
                broken = False
            await pause(LONGEST_LOOK_S if broken else FIRST_LOOK_S)
            try:
                whole = await self._whole(run)
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

    async def _stream(self, run: str) -> AsyncGenerator[Change, None]:
        headers = {"accept": "text/event-stream"}
        async with self._transport.lines("/events", {"run": run}, headers, SILENCE_S) as lines:
            # Read after the stream is open: nothing can happen between the two unseen.
            for change in await self._whole(run):
                yield change
            async for name, data in read_events(lines):
                if name == "tasks":
                    yield parse_json(data, list[Task])
                elif name == "run":
                    now: Run = parse_json(data, Run)
                    if now.status in RUN_ENDS:  # the last tasks changed in the same moment
                        for change in await self._whole(run):
                            yield change
                        return
                    yield now
                elif name == "reset":  # more happened than the service has kept
                    for change in await self._whole(run):
                        yield change

    async def _whole(self, run: str) -> tuple[Change, Change]:
        now = await self.get(run)
        page = await self._transport.get(f"/runs/{run}/tasks", Page[Task], {"limit": FIRST_TASKS})
        return page.items, now


def has_ended(change: Change) -> bool:
    return isinstance(change, Run) and change.status in RUN_ENDS
