"""Devices that speak AWS IoT Jobs: a whole job document is handed over, and its updates come back.

The gateway takes the service's part on its local broker. The job's id is made of task, attempt and
step, so that a gateway that was stopped finds the execution it began.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gateway.domain.aws_job_messages import MAX_DOCUMENT, THING_NAME
from gateway.domain.aws_job_record import from_record, to_record
from gateway.domain.aws_jobs import Execution, Key, Status
from gateway.drivers.base import (
    Answered,
    Delegate,
    DeviceFacts,
    DeviceRequest,
    DriverKind,
    OnDeviceLog,
    OnProgress,
    Probe,
    Refused,
    Surroundings,
)
from gateway.errors import DeviceUnreachable, SettingsInvalid, StepInvalid, StorageFull
from gateway.journal import executions
from gateway.journal.database import Database
from gateway.transports.aws_jobs_service import AwsJobsService

SERVICE: Final = "aws_jobs"
MAX_JOB_ID: Final = 64
# A limit that ends the step cancels us; so near to it, that is what has happened.
NEAR_S: Final = 0.25
FAILURES: Final[Mapping[Status, str]] = {
    Status.FAILED: "delegate_failed",
    Status.REJECTED: "delegate_rejected",
    Status.TIMED_OUT: "delegate_timed_out",
    Status.CANCELED: "interrupted",
    Status.REMOVED: "interrupted",
}
# An attempt takes progress every 2 s and drops what comes between: the newest is told then.
TELL_EVERY_S: Final = 2.1
PERCENT: Final = ("progress", "percent")
_NUMBER: Final = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%?\s*")


class AwsJobsOptions(BaseModel):
    """How one device is known to its AWS client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thing: str | None = Field(
        default=None,
        pattern=f"^{THING_NAME.pattern}$",
        description="its thing name; the device's id if not given",
    )


class JournalStore:
    """Executions in the gateway's journal."""

    def __init__(self, journal: Database, surroundings: Surroundings) -> None:
        self._journal = journal
        self._clock = surroundings.clock

    async def load(self, things: Iterable[str]) -> list[tuple[str, Execution]]:
        found = []
        now = self._clock()
        for thing, record in await self._journal.run_unsynced(executions.load, list(things)):
            execution = from_record(record, now)
            if execution is not None:
                found.append((thing, execution))
        return found

    async def save(
        self, changed: Sequence[tuple[str, Execution]], gone: Sequence[tuple[str, Key]]
    ) -> None:
        now = self._clock()
        rows = [
            executions.Row(thing, e.job, e.number, e.task, e.attempt, e.is_ended, to_record(e, now))
            for thing, e in changed
        ]
        forgotten = [(thing, *key) for thing, key in gone]
        await self._journal.run(executions.save, rows, forgotten)

    async def owners_gone(self, owners: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        return await self._journal.run_unsynced(executions.owners_gone, list(owners))


class AwsJobsDriver:
    """One thing of the service."""

    def __init__(self, thing: str, service: AwsJobsService, on_log: OnDeviceLog) -> None:
        self._thing = thing
        self._service = service
        self._on_log = on_log

    @property
    def is_away(self) -> bool:
        return False  # an AWS client may come and go; its queue waits for it

    async def open(self) -> DeviceFacts:
        return DeviceFacts()

    async def close(self) -> None:
        """Nothing of it is its own."""

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        match request:
            case Delegate():
                return await self._delegate(request, on_progress)
            case Probe():
                if not self._service.has_heard(self._thing):
                    raise DeviceUnreachable("it has not asked for jobs since the gateway started")
                return Answered()
        text = "AWS IoT Jobs devices take whole job documents: device.delegate"
        raise StepInvalid(text, "verb_unsupported")

    async def _delegate(self, request: Delegate, on_progress: OnProgress) -> Answered | Refused:
        size = len(json.dumps(request.document, separators=(",", ":")).encode())
        if size > MAX_DOCUMENT:
            text = f"the job document has {size} bytes; AWS IoT Jobs allows {MAX_DOCUMENT}"
            raise StepInvalid(text)
        execution = await self._begin(request)
        try:
            execution = await self._watched(execution, request, on_progress)
        except asyncio.CancelledError:
            with suppress(StorageFull):  # the service ends it once its attempt has ended
                await self._leave(execution, request)
            raise
        details: dict[str, JsonValue] = dict(execution.details)
        if execution.status is Status.SUCCEEDED:
            return Answered(details)
        return Refused(FAILURES[execution.status], _words(execution), details)

    async def _begin(self, request: Delegate) -> Execution:
        """The execution that was begun before the gateway stopped, or a new one."""
        job = job_id(request.task, request.attempt, request.step)
        if request.resumed:
            found = await self._service.find(self._thing, job)
            if found is not None:
                return found
        owner = (request.task, request.attempt)
        work_ms = None if request.work_s is None else round(request.work_s * 1000)
        return await self._service.queue(self._thing, job, request.document, owner, work_ms)

    async def _watched(
        self, execution: Execution, request: Delegate, on_progress: OnProgress
    ) -> Execution:
        """The execution once it has ended; what the device says on the way is told."""
        something = asyncio.Event()
        unwatch = self._service.watch(self._thing, something.set)
        request.stop.on_asked(something.set)
        loop = asyncio.get_running_loop()
        version, untold, tell_at_s = 1, False, loop.time() + TELL_EVERY_S
        try:
            while True:
                something.clear()
                newest = await self._service.find(self._thing, execution.job)
                execution = newest or execution
                if execution.version > version:
                    version, untold = execution.version, True
                    self._on_log(_line(execution))
                if untold and loop.time() >= tell_at_s:
                    untold, tell_at_s = False, loop.time() + TELL_EVERY_S
                    self._tell(execution, on_progress)
                if execution.is_ended:
                    return execution
                if request.stop.is_asked and execution.status is Status.QUEUED:
                    await self._end(execution, Status.CANCELED, force=False)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(tell_at_s if untold else None):
                        await something.wait()
        finally:
            unwatch()

    async def _leave(self, execution: Execution, request: Delegate) -> None:
        """Stopped from outside. If the process ends, the execution goes on and is found again."""
        loop = asyncio.get_running_loop()
        if request.stop.is_forced:
            await self._end(execution, Status.CANCELED)
        elif loop.time() >= request.until_s - NEAR_S:
            await self._end(execution, Status.TIMED_OUT)
            await self._end(execution, Status.CANCELED)  # what no device has begun

    async def _end(self, execution: Execution, status: Status, force: bool = True) -> None:
        await self._service.end(self._thing, execution.key, status, force)

    def _tell(self, execution: Execution, on_progress: OnProgress) -> None:
        said = _spoken(execution.details)
        percent = percent_in(execution.details)
        if percent is not None or said:
            on_progress(0.0 if percent is None else percent, said[:200])


def job_id(task: str, attempt: int, step: str) -> str:
    """The same for the same step of the same attempt; at most 64 characters."""
    digest = hashlib.sha256(f"{task}/{attempt}/{step}".encode()).hexdigest()
    name = f"{task}-{attempt}-{digest[:8]}"
    return name if len(name) <= MAX_JOB_ID else digest


def percent_in(details: Mapping[str, str]) -> float | None:
    """0 to 100 from a detail named `progress` or `percent`, such as `42` or `42%`."""
    for name in PERCENT:
        found = _NUMBER.fullmatch(details.get(name, ""))
        if found is not None:
            return min(float(found[1]), 100.0)
    return None


def _spoken(details: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in details.items() if key not in PERCENT)


def _line(execution: Execution) -> str:
    said = _spoken(execution.details)
    return f"{execution.status} (version {execution.version}){said and ': '}{said}"


def _words(execution: Execution) -> str:
    said = _spoken(execution.details)
    return f"job {execution.job} is {execution.status}" + (f": {said}" if said else "")


def _make(
    device: str, options: AwsJobsOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> AwsJobsDriver:
    link, journal = surroundings.messages, surroundings.journal
    if link is None or journal is None:
        raise SettingsInvalid(f"device {device}: AWS IoT Jobs devices need a local broker")
    store = JournalStore(journal, surroundings)
    service = surroundings.share(SERVICE, lambda: AwsJobsService(link, store, surroundings.clock))
    surroundings.loops[SERVICE] = service.run
    thing = options.thing or device
    things: dict[str, str] = surroundings.share("aws_jobs.things", dict)
    if things.setdefault(thing, device) != device:
        raise SettingsInvalid(f"device {device}: `{things[thing]}` is the thing `{thing}` already")
    service.add(thing)
    return AwsJobsDriver(thing, service, on_log)


KIND: Final = DriverKind(
    options=AwsJobsOptions,
    make=_make,
    summary="devices with an AWS IoT Jobs client, on the local broker",
    address=lambda options: "" if options.thing is None else f"thing {options.thing}",
    needs_broker=True,
    keeps_open=True,
    takes_turns=True,
)
