"""The gateway as a device of its own: its software through an updater, its restart by itself.

The updater is a program, called with one verb; what it says decides, so every verb may be asked
again. A restart is noted in the journal before the process ends, and never made twice for one
request.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contract.durations import Duration, parse_duration
from contract.ids import THIS_GATEWAY
from gateway.crash_points import reach
from gateway.domain.updater import (
    UpdaterStatus,
    UpdaterUnreadable,
    is_restart_needed,
    parse_progress,
    parse_status,
)
from gateway.drivers.base import (
    Answered,
    ConfirmFirmware,
    DeviceFacts,
    DeviceRequest,
    FirmwareImage,
    FirmwareState,
    OnProgress,
    Probe,
    ReadFirmware,
    Refused,
    Reset,
    RollbackFirmware,
    TestFirmware,
    UploadFirmware,
)
from gateway.errors import GatewayError, ReplyGarbled, StepInvalid
from gateway.journal import restarts
from gateway.journal.database import Database
from gateway.logs import Log
from gateway.transports.program import run_program

QUICK_S: Final = 30.0
FILE_UNUSABLE: Final = 2
NO_ROOM: Final = 3
ANY_VERSION: Final = "0" * 64

log = Log()


class UpdaterOptions(BaseModel):
    """The program that replaces the gateway's software: docs/how-to/update-a-gateway.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: list[str] = Field(
        min_length=1, max_length=20, description="the program and its first arguments, no shell"
    )
    timeout: Duration = Field(
        default=parse_duration("10m"), description="how long staging may take"
    )
    cloud_within: Duration = Field(
        default=parse_duration("10m"),
        description="a new version that the cloud has not welcomed by then goes back",
    )


class ThisGateway(BaseModel):
    """The gateway as a target of `firmware.*` and `device.*` steps.

    It must be started again whenever it ends; exit code 75 says that it wants to be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    update: UpdaterOptions | None = Field(
        default=None, description="how its software is replaced; without it, it only restarts"
    )


class OwnProcess(Protocol):
    """This process, as far as the driver has to do with it."""

    @property
    def boot(self) -> int: ...

    async def until_welcomed(self) -> None: ...

    def end(self) -> None: ...


class ThisGatewayDriver:
    """One for the process. `version` is told where no updater is."""

    def __init__(
        self, options: ThisGateway, process: OwnProcess, journal: Database, version: str
    ) -> None:
        self._update = options.update
        self._process = process
        self._journal = journal
        self._version = version

    @property
    def is_away(self) -> bool:
        return False

    async def open(self) -> DeviceFacts:
        return DeviceFacts()

    async def close(self) -> None:
        pass

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        match request:
            case Probe():
                return Answered()
            case Reset():
                return await self._restart(request)
            case ReadFirmware():
                return await self._read()
            case UploadFirmware():
                return await self._stage(request, timeout_s, on_progress)
            case TestFirmware():
                return await self._switch(request)
            case ConfirmFirmware():
                return await self._confirm(timeout_s)
            case RollbackFirmware():
                return await self._roll_back(request)
        raise StepInvalid("a gateway itself only has firmware and a reset", "verb_unsupported")

    # -- what the verbs do

    async def _restart(self, request: Reset) -> Answered | Refused:
        """End this process, unless a start since has fulfilled the request. Does not return."""
        if request.into_recovery or not request.request:
            raise StepInvalid("a gateway itself has no recovery to restart into")
        boot = self._process.boot
        asked = await self._journal.run(restarts.ask, request.request, boot)
        if asked < boot:
            return Answered({"restarted": True, "boot": boot})
        reach("this_gateway.before_end")
        log.info("the gateway restarts because a task asks for it", request=request.request)
        self._process.end()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the process has ended")

    async def _read(self) -> Answered | Refused:
        if self._update is None:
            own = FirmwareImage(0, self._version, ANY_VERSION, active=True, confirmed=True)
            return Answered(firmware=FirmwareState((own,), takes="bundle", unmarks=True))
        status = await self.status()
        if isinstance(status, Refused):
            return status
        running, staged = status.running, status.staged
        images = [
            FirmwareImage(
                0, running.version, running.sha256, active=True, confirmed=status.confirmed
            )
        ]
        if staged is not None:
            images.append(FirmwareImage(1, staged.version, staged.sha256, pending=status.pending))
        state = FirmwareState(tuple(images), takes="bundle", unmarks=True)
        listed: list[JsonValue] = [
            {"slot": image.slot, "version": image.version, "active": image.active,
             "confirmed": image.confirmed, "pending": image.pending}
            for image in images
        ]  # fmt: skip
        return Answered({"images": listed}, state)

    async def _stage(
        self, request: UploadFirmware, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        def tell(line: bytes) -> None:
            news = parse_progress(line)
            if news is not None:
                on_progress(*news)

        options = self._updater()
        within_s = min(timeout_s, options.timeout.total_seconds())
        refused = await self._ask("stage", str(request.path), on_line=tell, within_s=within_s)
        return refused or Answered({"bytes": request.size})

    async def _switch(self, request: TestFirmware) -> Answered | Refused:
        boot, image_hash = self._process.boot, request.image_hash
        if await self._journal.run(restarts.is_made, request.restart, boot):
            return Answered()  # it was tried, and has gone: a second trial would be another task's
        status = await self.status()
        if isinstance(status, Refused):
            return status
        if status.staged is None or status.staged.sha256 != image_hash:
            return Refused("image_refused", "another version is staged")
        return await self._ask("switch") or Answered()

    async def _roll_back(self, request: RollbackFirmware) -> Answered | Refused:
        if await self._journal.run(restarts.is_made, request.restart, self._process.boot):
            return Answered({"done": True})
        said: list[bytes] = []
        refused = await self._ask("rollback", on_line=said.append)
        needed = is_restart_needed(said[-1] if said else b"")
        return refused or Answered({"reset_needed": needed, "done": not needed})

    async def _confirm(self, timeout_s: float) -> Answered | Refused:
        """Keep what runs, once it has proved that the cloud can be reached with it."""
        within_s = min(timeout_s, self._updater().cloud_within.total_seconds())
        try:
            async with asyncio.timeout(within_s):
                await self._process.until_welcomed()
        except TimeoutError:
            text = f"the cloud has not welcomed this version within {within_s:.0f} s"
            return Refused("device_refused", text)
        return await self._ask("confirm") or Answered()

    # -- the updater

    async def status(self) -> UpdaterStatus | Refused:
        """What it says runs. Raises ReplyGarbled, StepInvalid."""
        said: list[bytes] = []
        refused = await self._ask("status", on_line=said.append)
        if refused is not None:
            return refused
        try:
            return parse_status(b"\n".join(said))
        except UpdaterUnreadable as error:
            raise ReplyGarbled(str(error)) from error

    async def _ask(
        self,
        verb: str,
        *more: str,
        on_line: Callable[[bytes], None] = lambda line: None,
        within_s: float = QUICK_S,
    ) -> Refused | None:
        """None when it was done."""
        ended = await run_program([*self._updater().program, verb, *more], on_line, within_s)
        if ended.code == 0:
            return None
        codes = {FILE_UNUSABLE: "image_invalid", NO_ROOM: "storage_full"}
        code = codes.get(ended.code, "device_refused") if verb == "stage" else "device_refused"
        why = ended.complaint or f"exit code {ended.code}"
        return Refused(code, f"the updater's {verb}: {why}")

    def _updater(self) -> UpdaterOptions:
        if self._update is None:
            text = "this gateway's software has no updater: configure `this_gateway.update`"
            raise StepInvalid(text, "verb_unsupported")
        return self._update

    # -- what runs beside the tasks

    def loops(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        return {} if self._update is None else {THIS_GATEWAY: self.watch_trial}

    async def watch_trial(self) -> None:
        """Go back from a version on test that the cloud does not welcome in time."""
        options = self._updater()
        try:
            status = await self.status()
        except GatewayError as error:
            log.error("the updater cannot be asked", why=str(error))
            return
        if isinstance(status, Refused):
            log.error("the updater refuses to be asked", why=status.text)
            return
        log.info("software", version=status.running.version, confirmed=status.confirmed)
        if status.confirmed:
            return
        try:
            async with asyncio.timeout(options.cloud_within.total_seconds()):
                await self._process.until_welcomed()
        except TimeoutError:
            log.error("the cloud has not welcomed this version: going back to the one before")
            try:
                await self._ask("rollback")
            except GatewayError as error:
                log.error("the updater cannot go back", why=str(error))
            self._process.end()
