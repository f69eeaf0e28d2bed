"""SMP (MCUmgr) devices: our own client, because a lost line must cost a retry, not the upload.

Every decision rests on what the device says: its offset, its image list. Only a reset is never
repeated blindly: a second one would end a test boot.
"""

import asyncio
from typing import Final, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contract.device import smp
from contract.device import smp_certificates as wire
from contract.device.mcuboot import BootMode
from contract.device.smp import Request, Response, SmpError, SmpInvalid
from gateway.drivers.base import (
    Answered,
    Bus,
    CertificateRequest,
    CertificateState,
    Command,
    CommitCertificate,
    ConfirmFirmware,
    Delegate,
    DeviceFacts,
    DeviceRequest,
    DriverKind,
    FirmwareState,
    InstallCertificate,
    MakeCsr,
    OnDeviceLog,
    OnProgress,
    Probe,
    ReadCertificate,
    ReadFirmware,
    ReadPoints,
    Refused,
    Reset,
    RollbackFirmware,
    Surroundings,
    TestCertificate,
    TestFirmware,
    UploadFirmware,
    WritePoints,
)
from gateway.drivers.smp import answers
from gateway.errors import DeviceUnreachable, ReplyGarbled, StepInvalid
from gateway.transports import smp_certificates
from gateway.transports.base import ByteLink, Turns
from gateway.transports.serial_port import SerialPort
from gateway.transports.smp_link import NoReply, SmpLink
from gateway.transports.smp_upload import ImageSender, LineLimits

ANSWER_WITHIN_S: Final = 15.0
PROBE_WITHIN_S: Final = 3.0
REOPEN_EVERY_S: Final = (0.2, 0.5, 1.0, 2.0)
# Devices answer a reset and go down 250 ms later (CONFIG_MCUMGR_GRP_OS_RESET_MS).
DOWN_AFTER_RESET_S: Final = 0.6
# Room for {"off", "data"} and the header is taken by the codec; below this nothing useful fits.
SMALLEST_BUF_SIZE: Final = 96
TASK_STATISTICS: Final = Request(smp.Op.READ, smp.Group.OS, 2)
OS_INFO: Final = Request(smp.Op.READ, smp.Group.OS, smp.Command.OS_INFO, {"format": "a"})
INTO_RECOVERY: Final = 1
NO_WAY_BACK: Final = {
    "overwrite": "its bootloader overwrites the image before, and has no way back",
    "direct_xip": "its bootloader starts the newer image: bring the old one back as a new version",
    "ram_load": "its bootloader starts the newer image: bring the old one back as a new version",
}


class SmpOptions(BaseModel):
    """How one SMP device is reached. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: str = Field(description="path of the serial port, best by-id")
    baud: int = Field(default=115200, ge=50, le=12_000_000)
    parity: Literal["N", "E", "O"] = "N"
    rtscts: bool = Field(default=False, description="hardware flow control")
    dtr: bool | None = Field(default=None, description="set the line on open; null leaves it")
    rts: bool | None = Field(default=None, description="set the line on open; null leaves it")
    reply_wait_s: float = Field(default=2.5, gt=0, description="wait for the first reply")
    erase_wait_s: float = Field(default=40.0, gt=0, description="wait for a whole slot's erase")
    no_progress_s: float = Field(default=60.0, gt=0, description="an upload without news ends")
    slot_addresses: list[int] = Field(
        default=[],
        max_length=2,
        description="where in flash the two slots lie: images linked for the other are refused",
    )


class SmpDriver:
    """One device behind one byte link. `first_sequence` should be random (see SmpLink)."""

    def __init__(
        self,
        port: ByteLink,
        options: SmpOptions,
        on_log: OnDeviceLog,
        first_sequence: int = 0,
        turns: Turns | None = None,
    ) -> None:
        self._options = options
        self.link = SmpLink(
            port,
            on_log,
            first_sequence=first_sequence,
            reply_wait_s=options.reply_wait_s,
            bytes_per_s=options.baud / 10,
            turns=turns,
            bus=_bus(options).name,
        )
        self._slot_sizes: dict[int, int] | None = None
        self._mode: BootMode | None = None
        self._limits = LineLimits()

    @property
    def is_away(self) -> bool:
        return False  # it can only fall silent

    async def open(self) -> DeviceFacts:
        await self._reach()
        until_s = _now_s() + ANSWER_WITHIN_S
        await self._learn_buffer(until_s)
        values: dict[str, JsonValue] = {"buf_size": self._limits.buf_size}
        state = await self._read_state(until_s)
        if isinstance(state, FirmwareState) and state.active is not None:
            values |= answers.about(state.active)
            if state.mode:
                values["boot_mode"] = state.mode
        if isinstance(state, FirmwareState) and state.in_recovery:
            values["recovery"] = True
        return DeviceFacts(values)

    async def close(self) -> None:
        await self.link.close()

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        until_s = _now_s() + timeout_s
        soon_s = _now_s() + min(timeout_s, ANSWER_WITHIN_S)
        if isinstance(request, UploadFirmware):
            return await self._upload(request, until_s, on_progress)
        await self._reach()
        match request:
            case Command():
                return await self._command(request, soon_s)
            case ReadFirmware():
                state = await self._read_state(soon_s)
                if isinstance(state, Refused):
                    return state
                return Answered(answers.listed(state), state)
            case TestFirmware():
                image_hash = bytes.fromhex(request.image_hash)
                return await self._write_state(image_hash, confirm=False, until_s=soon_s)
            case ConfirmFirmware():
                named = bytes.fromhex(request.image_hash) or None
                return await self._write_state(named, confirm=True, until_s=soon_s)
            case RollbackFirmware():
                return await self._roll_back(request.image, soon_s)
            case Reset():
                return await self._reset(request, until_s)
            case Probe():
                probe_s = _now_s() + min(timeout_s, PROBE_WITHIN_S)
                return answers.outcome(await self.ask(smp.echo("here?"), probe_s))
            case ReadPoints() | WritePoints():
                raise StepInvalid("SMP devices have no points", "verb_unsupported")
            case Delegate():
                raise StepInvalid("SMP devices take no job documents", "verb_unsupported")
        return await self._certificate(request, until_s, on_progress)

    async def ask(self, request: Request, until_s: float) -> Response:
        """Ask something that may safely arrive twice. Raises DeviceUnreachable."""
        try:
            return await self.link.ask(request, deadline_s=until_s)
        except NoReply as error:
            raise DeviceUnreachable(str(error)) from error

    async def _reach(self) -> None:
        if not self.link.is_open:
            self._slot_sizes = None
            await self.link.open()

    async def _command(self, command: Command, until_s: float) -> Answered | Refused:
        """The commands every SMP device has; all of them only read."""
        match command.name:
            case "version":
                state = await self._read_state(until_s)
                if isinstance(state, Refused):
                    return state
                if state.active is None:
                    return Refused("device_refused", "the device lists no running image")
                return Answered(answers.about(state.active))
            case "echo":
                reply = await self.ask(smp.echo(str(command.parameters.get("text", ""))), until_s)
                return answers.outcome(reply, lambda: {"echo": str(reply.payload.get("r", ""))})
            case "info":
                reply = await self.ask(OS_INFO, until_s)
                return answers.outcome(
                    reply, lambda: {"info": str(reply.payload.get("output", ""))}
                )
            case "taskstat":
                reply = await self.ask(TASK_STATISTICS, until_s)
                return answers.outcome(
                    reply, lambda: {"tasks": answers.as_json(reply.payload.get("tasks"))}
                )
        known = "version, echo, info and taskstat"
        raise StepInvalid(f"SMP devices know {known}, not `{command.name}`", "verb_unsupported")

    async def _certificate(
        self, request: CertificateRequest, until_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        """Devices with our management group; others refuse it as unsupported."""

        async def ask(message: Request) -> Response:
            return await self.ask(message, min(until_s, _now_s() + ANSWER_WITHIN_S))

        match request:
            case ReadCertificate():
                state = await smp_certificates.read_state(ask, request.slot)
                if isinstance(state, SmpError):
                    return answers.refusal(state, "device_refused")
                held = CertificateState(
                    state.active.hex(), state.in_use.hex(), state.pending.hex(), state.why[:500]
                )
                return Answered(certificate=held)
            case MakeCsr():
                made = await smp_certificates.make_csr(
                    ask, request.slot, request.request, request.subject
                )
                if isinstance(made, SmpError):
                    return answers.refusal(made, "device_refused")
                return Answered({"csr": made[0], "key_id": made[1]})
            case InstallCertificate():
                refused = await smp_certificates.install(
                    ask,
                    request.slot,
                    request.certificate,
                    request.chain,
                    self._limits.buf_size,
                    on_progress,
                )
                return Answered() if refused is None else answers.refusal(refused, "device_refused")
            case TestCertificate():
                fingerprint = bytes.fromhex(request.fingerprint)
                return answers.outcome(await ask(wire.test(request.slot, fingerprint)))
            case CommitCertificate():
                fingerprint = bytes.fromhex(request.fingerprint)
                return answers.outcome(await ask(wire.commit(request.slot, fingerprint)))
        assert_never(request)

    async def _learn_buffer(self, until_s: float) -> None:
        """Ask how large a message may be; a device that cannot say gets two lines at once."""
        reply = await self.ask(smp.os_params(), until_s)
        try:
            buf_size = smp.buffer_parameters(reply.payload).buf_size
        except SmpInvalid:
            buf_size = smp.TWO_LINES_BUF_SIZE
        self._limits.buf_size = max(buf_size, SMALLEST_BUF_SIZE)

    async def _read_state(self, until_s: float) -> FirmwareState | Refused:
        reply = await self.ask(smp.state_read(), until_s)
        if reply.error is not None:
            return answers.refusal(reply.error, "device_refused")
        try:
            slots = smp.image_slots(reply.payload)
        except SmpInvalid as error:
            raise ReplyGarbled(str(error)) from error
        # An application always lists itself as active; MCUboot's own list has no flags.
        in_recovery = not any(slot.active for slot in slots)
        if in_recovery:
            self._slot_sizes = None  # the bootloader may not tell what the application does
        mode = "" if in_recovery else await self._boot_mode(until_s)
        sizes = await self._sizes(until_s)
        # Where nothing would take the running image back, it is as good as confirmed.
        is_kept = mode in NO_WAY_BACK
        return FirmwareState(
            tuple(answers.image(slot, is_kept) for slot in slots),
            sizes.get(0),
            mode=mode,
            in_recovery=in_recovery,
            slot_sizes=sizes,
            slot_addresses=tuple(self._options.slot_addresses),
        )

    async def _boot_mode(self, until_s: float) -> BootMode:
        if self._mode is None:
            reply = await self.ask(smp.bootloader_info("mode"), until_s)
            self._mode = "" if reply.error else smp.boot_mode(reply.payload)
        return self._mode

    async def _sizes(self, until_s: float) -> dict[int, int]:
        """Room in bytes by image: that of the smaller slot."""
        if self._slot_sizes is None:
            reply = await self.ask(smp.slot_info(), until_s)
            found: dict[int, int] = {}
            for slot in [] if reply.error else smp.slot_sizes(reply.payload):
                if slot.size:
                    found[slot.image] = min(slot.size, found.get(slot.image, slot.size))
            self._slot_sizes = found
        return self._slot_sizes

    async def _write_state(
        self, image_hash: bytes | None, *, confirm: bool, until_s: float
    ) -> Answered | Refused:
        return answers.outcome(
            await self.ask(smp.state_write(image_hash, confirm=confirm), until_s)
        )

    async def _roll_back(self, image: int, until_s: float) -> Answered | Refused:
        """An image on test goes with the next reset by itself; else the other is put in for good.

        After a confirmed update the old image is no longer listed: there is no way back.
        """
        state = await self._read_state(until_s)
        if isinstance(state, Refused):
            return state
        ours = state.of(image)
        if ours.active is not None and not ours.active.confirmed:
            return Answered({"reset_needed": True})
        other = next((i for i in ours.images if not i.active and i.image_hash), None)
        if state.mode == "direct_xip_revert" and other is not None:
            return Refused("device_refused", NO_WAY_BACK["direct_xip"])
        if state.mode in NO_WAY_BACK:
            return Refused("device_refused", NO_WAY_BACK[state.mode])
        if other is None:
            return Refused("device_refused", "the device holds no other image to go back to")
        image_hash = bytes.fromhex(other.image_hash)
        outcome = await self._write_state(image_hash, confirm=True, until_s=until_s)
        return outcome if isinstance(outcome, Refused) else Answered({"reset_needed": True})

    async def _reset(self, request: Reset, until_s: float) -> Answered | Refused:
        """Restart once. Without a reply the image list tells whether a pending swap still waits.

        Where none waited, a second restart does no harm.
        """
        before = await self._read_state(min(until_s, _now_s() + ANSWER_WITHIN_S))
        was_pending = isinstance(before, FirmwareState) and answers.is_pending(before)
        boot_mode = INTO_RECOVERY if request.into_recovery else None
        message = smp.reset(force=request.force, boot_mode=boot_mode)
        while True:
            try:
                reply = await self.link.ask_once(message, self._options.reply_wait_s)
            except (NoReply, DeviceUnreachable) as error:
                after = await self._after_unanswered_reset(until_s, error)
                if (
                    was_pending
                    and isinstance(after, FirmwareState)
                    and not answers.is_pending(after)
                ):
                    return Answered()
            else:
                if reply.error is None:
                    await asyncio.sleep(DOWN_AFTER_RESET_S)
                return answers.outcome(reply)

    async def _after_unanswered_reset(
        self, until_s: float, error: Exception
    ) -> FirmwareState | Refused:
        while _now_s() < until_s:
            try:
                await self._reach()
                return await self._read_state(min(until_s, _now_s() + ANSWER_WITHIN_S))
            except DeviceUnreachable:
                await asyncio.sleep(REOPEN_EVERY_S[-1])
        raise ReplyGarbled(f"the reset was not answered: {error}") from error

    async def _upload(
        self, request: UploadFirmware, until_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        """Send the image, over any number of lost lines and reboots, while it makes progress."""
        sender = ImageSender(
            self.link,
            self._limits,
            request.path,
            size=request.size,
            sha256=bytes.fromhex(request.sha256),
            image=request.image or (request.slot or 0) // 2,  # each image has two slots
            erase_wait_s=self._options.erase_wait_s,
            no_progress_s=self._options.no_progress_s,
            until_s=until_s,
            on_progress=on_progress,
        )
        with sender:
            while True:
                try:
                    outcome = await self._prepare_upload(request, sender)
                    return outcome if outcome is not None else answers.sent(await sender.send())
                except (DeviceUnreachable, NoReply) as error:
                    await self._recover(sender, error)

    async def _prepare_upload(
        self, request: UploadFirmware, sender: ImageSender
    ) -> Answered | Refused | None:
        """Look at the device before the first byte and after each break; None: go on sending."""
        await self._reach()
        soon_s = min(sender.give_up_at_s, _now_s() + ANSWER_WITHIN_S)
        await self._learn_buffer(soon_s)
        state = await self._read_state(soon_s)
        if isinstance(state, Refused):
            return None
        state = state.of(request.image)
        if state.slot_size is not None and request.size > state.slot_size:
            text = f"{request.size} bytes do not fit a slot of {state.slot_size}"
            return Refused("image_too_large", text)
        found = state.holding(request.image_hash)
        is_there = found is not None and not found.active
        if sender.has_begun and is_there and not (state.in_recovery and found and found.slot):
            return Answered({"bytes": request.size})  # only the last reply was lost
        return None

    async def _recover(self, sender: ImageSender, error: Exception) -> None:
        """Wait a little, unless there was no progress for so long that the line is given up."""
        pause_s = REOPEN_EVERY_S[min(sender.breaks, len(REOPEN_EVERY_S) - 1)]
        sender.breaks += 1
        if _now_s() + pause_s > sender.give_up_at_s:
            await self.close()
            raise DeviceUnreachable(f"upload stopped {sender.where}: {error}") from error
        await asyncio.sleep(pause_s)


def _bus(options: SmpOptions) -> Bus:
    return Bus(f"serial:{options.port}")


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _make(
    device: str, options: SmpOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> SmpDriver:
    port = SerialPort(
        options.port,
        options.baud,
        dtr=options.dtr,
        rts=options.rts,
        parity=options.parity,
        rtscts=options.rtscts,
    )
    number = surroundings.new_number()
    return SmpDriver(port, options, on_log, number, surroundings.turns)


KIND: Final = DriverKind(
    options=SmpOptions,
    make=_make,
    summary="MCUmgr over a serial line",
    address=lambda options: options.port,
    bus=_bus,
)
