"""An SMP device on a serial console: bytes in, timed actions out.

It keeps the measured manners of Zephyr 4.4.0 (or 3.4.0): what is damaged or too large is dropped
without a word, half a line costs the next frame, logs and banners share the line.
"""

import binascii
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contract.device.smp import (
    HEADER_SIZE,
    Command,
    Group,
    Header,
    Op,
    SmpInvalid,
    decode_request,
    encode_frame,
    encode_message,
)
from contract.device.smp_certificates import GROUP as CERTIFICATES
from contract.device.smp_frames import FIRST, FURTHER
from firmware_sim import flash as flash_rules
from firmware_sim import recovery, smp_images
from firmware_sim.certificates import SmpCertificates
from firmware_sim.device import Device
from firmware_sim.faults import Unplug
from firmware_sim.flash import (
    ZEPHYR_3_4,
    ZEPHYR_4_4,
    Chunk,
    Flash,
    Refusal,
    Rules,
    Wanted,
)
from firmware_sim.keystore import KeystoreRefused
from firmware_sim.line import Action, CutLine, Reboot, Send

RESET_AFTER_S: Final = 0.25
# A line leaves the receive pool when the work queue has run; without this pause a burst finds it
# full (measured: two buffers, lines 12 ms apart all arrive, a burst of three never does).
POOL_BUSY_S: Final = 0.001
MAX_LINE: Final = 128

NOT_SUPPORTED: Final = 8
INVALID_VALUE: Final = 3
# How group codes become general ones for a client of SMP version 1.
_BAD_STATE: Final = frozenset({9, 27, 28, 32, 33})
_INVALID: Final = frozenset({14, 19, 20, 21, 22, 23, 24, 25, 29, 30, 31})
_OS_QUERY_UNKNOWN: Final = 3
_INTO_RECOVERY: Final = 1


@dataclass(frozen=True, slots=True)
class SmpSettings:
    """How this device's firmware was configured. Sizes in bytes.

    `rx_lines` is the receive pool of an unpaced line (None: any burst is taken). `certificates`:
    it has our management group.
    """

    zephyr: str = "4.4.0"
    buf_size: int = 384
    buf_count: int = 4
    rx_lines: int | None = None
    turnaround_s: float = 0.002
    erase_s: float = 0.05
    certificates: bool = True

    @property
    def is_3_4(self) -> bool:
        return self.zephyr.startswith("3.")

    @property
    def rules(self) -> Rules:
        return ZEPHYR_3_4 if self.is_3_4 else ZEPHYR_4_4


class _Refused(Exception):
    def __init__(self, rc: int, group: int | None = None) -> None:
        super().__init__(rc, group)
        self.rc = rc
        self.group = group


class SmpPersonality:
    """Speaks SMP for one device. Call `boot` first, then `receive` with what the line brings."""

    def __init__(self, device: Device, settings: SmpSettings) -> None:
        self.device = device
        self.settings = settings
        self._started_s: float | None = None
        self._up_at_s = 0.0
        self._free_at_s = 0.0
        self._line = bytearray()
        self._packet: bytearray | None = None
        self._in_pool: deque[float] = deque()
        self._lines_in = 0
        self._lines_out = 0
        self._replies = 0
        self._erasing_s = 0.0
        self._uploading = 0
        self._certificates = SmpCertificates(device.keystore)

    @property
    def unplugs(self) -> Sequence[Unplug]:
        return self.device.faults.unplugs

    def unplugged(self) -> None:
        self.device.counters.unplugs += 1

    def boot(self, now_s: float) -> list[Action]:
        """Power on, or a reset: RAM is lost, the bootloader does its work, the banner is sent."""
        unasked: list[Action] = []
        if self._started_s is None:
            self._started_s = now_s
            faults = self.device.faults
            unasked = [
                Send(data, after_s)
                for chatter in faults.chatters
                for after_s, data in chatter.pieces(faults.seed)
            ]
        banner = self.device.boot()
        self._certificates.boot()
        self._line.clear()
        self._packet = None
        self._in_pool.clear()
        self._up_at_s = self._free_at_s = now_s + self.device.boot_time_s
        pace_s = self.device.boot_time_s / len(banner)
        said = [
            Send(line.encode() + b"\r\n", after_s=index * pace_s)
            for index, line in enumerate(banner)
        ]
        return [*said, *unasked]

    def receive(self, data: bytes, now_s: float) -> list[Action]:
        """Take bytes from the line; return what the device does about them, in order."""
        if now_s < self._up_at_s:
            return []
        actions: list[Action] = []
        pieces = data.split(b"\n")
        for index, piece in enumerate(pieces):
            self._line += piece[: MAX_LINE + 1]
            if index == len(pieces) - 1:
                del self._line[MAX_LINE + 1 :]
                break
            line = bytes(self._line)
            self._line.clear()
            actions += self._take_line(line, now_s)
        return actions

    def _take_line(self, line: bytes, now_s: float) -> list[Action]:
        self._lines_in += 1
        if not line.rstrip(b"\r") or len(line) >= MAX_LINE or not self._has_room(now_s):
            return []
        received = self.device.faults.spoil_line("in", line.rstrip(b"\r"), self._lines_in)
        message = None if received is None else self._assemble(received)
        if message is None:
            return []
        return self._serve(message, now_s)

    @property
    def _buf_size(self) -> int:
        return recovery.BUF_SIZE if self.device.in_recovery else self.settings.buf_size

    def _has_room(self, now_s: float) -> bool:
        if self.settings.rx_lines is None:
            return True
        while self._in_pool and now_s - self._in_pool[0] >= POOL_BUSY_S:
            self._in_pool.popleft()
        if len(self._in_pool) >= self.settings.rx_lines:
            self.device.counters.dropped += 1
            return False
        self._in_pool.append(now_s)
        return True

    def _assemble(self, line: bytes) -> bytes | None:
        """Add a line to the packet; return the message when it is whole, undamaged and fits."""
        marker, text = line[:2], line[2:]
        if marker == FIRST:
            self._packet = bytearray()
        if marker not in (FIRST, FURTHER) or self._packet is None:
            return None
        try:
            self._packet += binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            self._packet = None
            return None
        packet = self._packet
        if len(packet) < 2 or len(packet) < 2 + int.from_bytes(packet[:2], "big"):
            return None
        self._packet = None
        body = bytes(packet[2:])
        if len(body) != int.from_bytes(packet[:2], "big") or binascii.crc_hqx(body, 0) != 0:
            self.device.counters.bad_crc += 1
            return None
        message = body[:-2]
        if len(message) + 4 > self._buf_size or len(message) < HEADER_SIZE:
            self.device.counters.dropped += 1
            return None
        self.device.counters.frames += 1
        return message

    def _serve(self, message: bytes, now_s: float) -> list[Action]:
        try:
            header, payload = decode_request(message)
        except SmpInvalid:
            header = Header.decode(message)
            if header.op not in (Op.READ, Op.WRITE):
                return []
            return self._reply(header, {"rc": INVALID_VALUE}, now_s, [])
        counters = self.device.counters
        counters.requests += 1
        assert self._started_s is not None
        if self.device.faults.is_silent(counters.requests, now_s - self._started_s):
            return []
        before = counters.chunks_received
        follow_ups: list[Action] = []
        serve = self._recover if self.device.in_recovery else self._answer
        try:
            answer = serve(header, payload, follow_ups)
        except _Refused as refused:
            answer = self._error(header, refused)
        if counters.chunks_received > before:
            cut = self._cut_short(counters.chunks_received)
            if cut:
                return cut
        return self._reply(header, answer, now_s, follow_ups)

    def _cut_short(self, chunk: int) -> list[Action]:
        """A planned power cut or unplugged line swallows the reply to this chunk."""
        if chunk in self.device.faults.reboot_after_chunks:
            return [Reboot()]
        unplug = self.device.faults.unplug_at_chunk(chunk)
        return [] if unplug is None else [CutLine(unplug.for_s)]

    def _recover(
        self, header: Header, payload: Mapping[str, Any], follow_ups: list[Action]
    ) -> dict[str, Any]:
        """What MCUboot serves itself: no flags in its list, and `rc` in each of its replies."""
        match (header.group, header.op, header.command):
            case (Group.OS, Op.WRITE, Command.OS_ECHO):
                return {"r": str(payload.get("d", ""))}
            case (Group.OS, Op.WRITE, Command.OS_RESET):
                follow_ups.append(Reboot(RESET_AFTER_S))
                return {"rc": 0}
            case (Group.OS, Op.READ, Command.OS_PARAMS):
                return {"buf_size": recovery.BUF_SIZE, "buf_count": recovery.BUF_COUNT}
            case (Group.IMAGE, Op.READ, Command.IMAGE_STATE):
                return {"images": smp_images.held(self.device.flash), "rc": 0}
            case (Group.IMAGE, Op.WRITE, Command.IMAGE_UPLOAD):
                if payload.get("image", 0) != 0:
                    raise _Refused(INVALID_VALUE)
                chunk = _chunk(payload)
                self.device.flash, answer = recovery.receive(self.device.flash, chunk)
                return {"rc": 0, **self._taken(chunk, answer)}
            case _:
                raise _Refused(NOT_SUPPORTED)

    def _answer(
        self, header: Header, payload: Mapping[str, Any], follow_ups: list[Action]
    ) -> dict[str, Any]:
        match (header.group, header.op, header.command):
            case (Group.OS, Op.WRITE | Op.READ, Command.OS_ECHO):
                return {"r": str(payload.get("d", ""))}
            case (Group.OS, Op.WRITE, Command.OS_RESET):
                if not self.settings.is_3_4:
                    self.device.recovers_next = payload.get("boot_mode") == _INTO_RECOVERY
                follow_ups.append(Reboot(RESET_AFTER_S))
                return {}
            case (Group.OS, Op.READ, Command.OS_PARAMS):
                return {"buf_size": self.settings.buf_size, "buf_count": self.settings.buf_count}
            case (Group.OS, Op.READ, Command.OS_BOOTLOADER_INFO) if not self.settings.is_3_4:
                mode = smp_images.bootloader_mode(payload.get("query", ""), self.device.flash.mode)
                if mode is None:
                    raise _Refused(_OS_QUERY_UNKNOWN, Group.OS)
                return mode
            case (Group.IMAGE, Op.READ, Command.IMAGE_STATE):
                return smp_images.state(self._all)
            case (Group.IMAGE, Op.WRITE, Command.IMAGE_STATE):
                return self._set_state(payload)
            case (Group.IMAGE, Op.WRITE, Command.IMAGE_UPLOAD):
                return self._upload(payload)
            case (Group.IMAGE, Op.WRITE, Command.IMAGE_ERASE):
                self._keep(0, self._erased(payload))
                return {}
            case (Group.IMAGE, Op.READ, Command.IMAGE_SLOT_INFO) if not self.settings.is_3_4:
                return {"images": [smp_images.room(n, flash) for n, flash in enumerate(self._all)]}
            case (group, op, command) if group == CERTIFICATES and self.settings.certificates:
                return self._about_certificates(op, command, payload)
            case _:
                raise _Refused(NOT_SUPPORTED)

    def _about_certificates(
        self, op: int, command: int, payload: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            answer = self._certificates.answer(op, command, payload)
        except KeystoreRefused as error:
            raise _Refused(error.rc, CERTIFICATES) from error
        if answer is None:
            raise _Refused(NOT_SUPPORTED)
        return answer

    @property
    def _all(self) -> list[Flash]:
        """The slots of all images, by their number."""
        return [self.device.flash, *self.device.further]

    def _set_state(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        image_hash = payload.get("hash")
        if not isinstance(image_hash, bytes) or not image_hash:
            image_hash = None
        confirm = payload.get("confirm") is True
        what = "confirm" if confirm else "test"
        self.device.experienced(what, {"version": self.device.version})
        image = self._image_of(image_hash)
        flash = self._all[image]
        if not flash.mode.has_test:
            raise _Refused(NOT_SUPPORTED)
        self._keep(image, flash_rules.set_state(flash, image_hash, confirm=confirm))
        return smp_images.state(self._all)

    def _image_of(self, image_hash: bytes | None) -> int:
        """Which image has this hash in one of its slots; 0 if none has."""
        for image, flash in enumerate(self._all):
            if image_hash in {flash.running.hash, flash.other.hash if flash.other else None}:
                return image if image_hash is not None else 0
        return 0

    def _erased(self, payload: Mapping[str, Any]) -> Flash | Refusal:
        slot = payload.get("slot")
        number = slot if isinstance(slot, int | None) else -1
        return flash_rules.erase(self.device.flash, number, self.settings.rules)

    def _keep(self, image: int, outcome: Flash | Refusal) -> None:
        if isinstance(outcome, Refusal):
            raise _Refused(outcome.rc, Group.IMAGE)
        if image == 0:
            self.device.flash = outcome
        else:
            self.device.further[image - 1] = outcome

    def _upload(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        chunk = _chunk(payload)
        if self.device.faults.refuse_upload is not None:
            raise _Refused(self.device.faults.refuse_upload, Group.IMAGE)
        # Only a first chunk names its image; there is one session for all of them.
        if chunk.offset == 0:
            self._uploading = _image_number(payload, len(self._all))
        image = self._uploading
        flash, answer = flash_rules.receive(self._all[image], chunk, self.settings.rules)
        self._keep(image, flash)
        return self._taken(chunk, answer)

    def _taken(self, chunk: Chunk, answer: Wanted | Refusal) -> dict[str, Any]:
        if isinstance(answer, Refusal):
            raise _Refused(answer.rc, Group.IMAGE)
        counters = self.device.counters
        counters.chunks_received += 1
        counters.bytes_written += answer.written
        counters.resumes += answer.resumed
        if chunk.offset == 0 and answer.written:
            self._erasing_s = self.settings.erase_s
        if answer.match is None:
            return {"off": answer.offset}
        return {"off": answer.offset, "match": answer.match}

    def _error(self, header: Header, refused: _Refused) -> dict[str, Any]:
        if refused.group is None:
            return {"rc": refused.rc}
        if header.version == 0:
            return {"rc": _general_code(refused.rc)}
        key = "ret" if self.settings.is_3_4 else "err"
        return {key: {"group": int(refused.group), "rc": refused.rc}}

    def _reply(
        self, header: Header, answer: dict[str, Any], now_s: float, follow_ups: list[Action]
    ) -> list[Action]:
        self._replies += 1
        faults, count = self.device.faults, self._replies
        back = Header(
            header.op + 1, header.group, header.command, header.sequence, 0, min(header.version, 1)
        )
        busy_s = self.settings.turnaround_s + self._erasing_s
        self._erasing_s = 0.0
        self._free_at_s = max(self._free_at_s, now_s) + busy_s
        after_s = self._free_at_s - now_s
        if faults.happens("late", faults.late_replies, count):
            after_s += faults.late_by_s
        data = self._on_the_line(encode_message(back, answer))
        actions: list[Action] = [Send(data, after_s)]
        if faults.happens("doubled", faults.doubled_replies, count):
            actions.append(Send(data, after_s))
        return actions + follow_ups

    def _on_the_line(self, message: bytes) -> bytes:
        """The reply's lines with what the plan does to them, and the logs around them."""
        faults, count = self.device.faults, self._replies
        out = bytearray()
        if faults.happens("noise", faults.log_noise, count):
            log = f"\x1b[0m[{count:08d}] <inf> app: still here".encode()
            same_line = faults.chance("same line", count) < 0.5
            out += log + (b" " if same_line else b"\r\n")
        for line in encode_frame(message):
            self._lines_out += 1
            sent = faults.spoil_line("out", line, self._lines_out)
            out += sent if sent is not None else b""
        if faults.happens("torn", faults.torn_replies, count):
            middle = max(len(out) - 9, 1)
            out[middle:middle] = f"[{count:08d}] <wrn> app: in between\r\n".encode()
        return bytes(out)


def _chunk(payload: Mapping[str, Any]) -> Chunk:
    match payload:
        case {"off": int(offset), "data": bytes(data)} if offset >= 0:
            total, sha256 = payload.get("len"), payload.get("sha")
            return Chunk(
                offset,
                data,
                total if isinstance(total, int) else None,
                sha256 if isinstance(sha256, bytes) else b"",
                payload.get("upgrade") is True,
            )
        case _:
            raise _Refused(INVALID_VALUE)


def _image_number(payload: Mapping[str, Any], images: int) -> int:
    image = payload.get("image", 0)
    if not isinstance(image, int) or not 0 <= image < images:
        raise _Refused(INVALID_VALUE)
    return image


def _general_code(rc: int) -> int:
    if rc in _BAD_STATE:
        return 6
    return INVALID_VALUE if rc in _INVALID else 1
