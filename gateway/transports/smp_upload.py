"""Sends an image file over an SMP link: chunk by chunk, always at the offset the device names.

Where devices lose long messages, it falls back to short ones; where a device starts over, so does
this. What to do about a broken line is the driver's business.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from contract.device import smp
from contract.device.smp import Request, Response, SmpError, SmpInvalid
from gateway.transports.smp_link import NoReply, SmpLink

# The device hashes and compares these for a resume; fewer than 32 bytes reset its session.
LEAST_DATA: Final = 32
TRIES_OF_LONG: Final = 2
TRIES_OF_SHORT: Final = 6
FIRST_SHORT_SPAN: Final = 64
BUSY: Final = 10


@dataclass(slots=True)
class LineLimits:
    """What one device's line takes: its buffer in bytes, and whether two lines are the most.

    Some devices lose bursts of more than two lines and do not say so (their receive pool). After
    long messages got lost, short ones are used for a while; then one long message is tried again.
    Each time that fails, the while is longer. The driver keeps this as long as it lives.
    """

    buf_size: int = smp.TWO_LINES_BUF_SIZE
    short_left: int = 0
    _span: int = FIRST_SHORT_SPAN

    @property
    def is_short(self) -> bool:
        return self.short_left > 0

    @property
    def message_size(self) -> int:
        return min(self.buf_size, smp.TWO_LINES_BUF_SIZE) if self.is_short else self.buf_size

    def answered(self) -> None:
        if self.short_left:
            self.short_left -= 1
        else:
            self._span = FIRST_SHORT_SPAN

    def lost(self) -> None:
        if not self.short_left:
            self.short_left, self._span = self._span, min(self._span * 4, 100_000)


@dataclass(frozen=True, slots=True)
class Sent:
    """The device has all bytes."""

    size: int


class ImageSender:
    """One image on its way; `send` may be called again after the link broke.

    `until_s` is a time of the loop's clock; without progress it gives up `no_progress_s` after
    the last byte that was new to the device. `breaks` counts what happened since.
    """

    def __init__(
        self,
        link: SmpLink,
        limits: LineLimits,
        path: Path,
        *,
        size: int,
        sha256: bytes,
        image: int,
        erase_wait_s: float,
        no_progress_s: float,
        until_s: float,
        on_progress: Callable[[float, str], None],
    ) -> None:
        self.breaks = 0
        self._link = link
        self._limits = limits
        self._path = path
        self._size = size
        self._sha256 = sha256
        self._image = image
        self._erase_wait_s = erase_wait_s
        self._no_progress_s = no_progress_s
        self._until_s = until_s
        self._on_progress = on_progress
        self._farthest = -1
        self._progress_at_s = 0.0
        self._reported = -1.0
        self._file = -1

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_RDONLY)
        self._progress_at_s = _now_s()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    @property
    def give_up_at_s(self) -> float:
        return min(self._until_s, self._progress_at_s + self._no_progress_s)

    @property
    def has_begun(self) -> bool:
        return self._farthest >= 0

    @property
    def where(self) -> str:
        return f"at byte {max(self._farthest, 0)} of {self._size}"

    async def send(self) -> Sent | SmpError | str:
        """Send until the device has it all; a text says why the device's own check failed.

        Raises NoReply and DeviceUnreachable, and then may be called again.
        """
        offset = 0
        while True:
            reply, sent = await self._chunk(offset)
            if reply.error is not None:
                if reply.error.group is None and reply.error.rc == BUSY:
                    raise NoReply("the device is busy")
                return reply.error
            try:
                progress = smp.upload_progress(reply.payload)
            except SmpInvalid as error:
                raise NoReply(str(error)) from error
            if progress.match is False:
                return "the device received the image damaged"
            if progress.offset > self._size:
                return f"the device asks for byte {progress.offset} of {self._size}"
            self._report(progress.offset)
            if progress.offset == self._size:
                return Sent(self._size)
            if progress.offset == 0 and offset and offset + sent == self._size:
                raise NoReply("the last chunk was answered with a new start")
            if progress.offset <= self._farthest and _now_s() > self.give_up_at_s:
                raise NoReply("the device starts over and over")
            offset = progress.offset

    async def _chunk(self, offset: int) -> tuple[Response, int]:
        """Send the chunk at `offset` until it is answered; return how many bytes it held."""
        if offset == 0:
            # Two lines pass everywhere, so only the erase can make this one slow.
            first, sent = self._request(0, smp.TWO_LINES_BUF_SIZE)
            wait_s = min(self.give_up_at_s, _now_s() + self._erase_wait_s)
            return await self._link.ask(first, deadline_s=wait_s, tries=20), sent
        while True:
            tries = TRIES_OF_SHORT if self._limits.is_short else TRIES_OF_LONG
            chunk, sent = self._request(offset, self._limits.message_size)
            try:
                reply = await self._link.ask(chunk, deadline_s=self.give_up_at_s, tries=tries)
            except NoReply:
                self._limits.lost()
                if _now_s() >= self.give_up_at_s:
                    raise
                continue
            self._limits.answered()
            return reply, sent

    def _request(self, offset: int, buf_size: int) -> tuple[Request, int]:
        def chunk(data: bytes) -> Request:
            if offset:
                return smp.upload_next(offset, data)
            return smp.upload_first(self._size, self._sha256, data, image=self._image)

        room = max(smp.max_chunk(buf_size, chunk(b"")), LEAST_DATA)
        data = os.pread(self._file, room, offset)
        return chunk(data), len(data)

    def _report(self, offset: int) -> None:
        if offset > self._farthest:
            self._farthest, self._progress_at_s, self.breaks = offset, _now_s(), 0
        percent = 100 * offset / self._size
        if abs(percent - self._reported) >= 0.5 or offset == self._size:
            self._reported = percent
            self._on_progress(percent, f"{offset // 1024} of {self._size // 1024} KiB")


def _now_s() -> float:
    return asyncio.get_running_loop().time()
