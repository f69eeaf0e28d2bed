"""A serial line made of a pty, reached through a symbolic link that keeps its name.

A baud rate makes the line as slow as a real one (10 bits a byte, each direction for itself).
Unplugging closes the pty and takes the link away; plugging in makes a new pty under the same link.
"""

import asyncio
import contextlib
import os
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, assert_never

from firmware_sim.line import Action, CutLine, LinePersonality, Reboot, Send
from firmware_sim.recording import NO_TAP, Tap

BITS_PER_BYTE: Final = 10
# Long enough for few wake-ups, short enough that a frame never waits long for its last byte.
PIECE_S: Final = 0.004
READ_SIZE: Final = 4096
# epoll rounds its wait up to whole milliseconds: this much late on average.
WAKES_LATE_S: Final = 0.0005


class PtyEndpoint:
    """Gives a device, or several that share it, their line. `run` serves until it is cancelled."""

    def __init__(
        self, personality: LinePersonality, link: Path, baud: int | None, tap: Tap = NO_TAP
    ) -> None:
        self.personality = personality
        self._tap = tap
        self.link = link
        self._bytes_per_s = baud / BITS_PER_BYTE if baud else None
        self._timers: set[asyncio.TimerHandle] = set()
        self._plan: list[asyncio.TimerHandle] = []
        self._out: deque[bytes] = deque()
        self._master: int | None = None
        self._slave: int | None = None
        self._is_writing = False

    async def run(self) -> None:
        """Plug in, boot, and serve; unplug at the end. Needs the running loop's clock."""
        loop = asyncio.get_running_loop()
        try:
            self._plug_in()
            self._boot()
            self._plan = [
                loop.call_later(unplug.after_s, self._cut, unplug.for_s)
                for unplug in self.personality.unplugs
                if unplug.after_s is not None
            ]
            await loop.create_future()  # until cancelled
        finally:
            for timer in self._plan:
                timer.cancel()
            self._forget_timers()
            self._unplug()

    def _plug_in(self) -> None:
        master, slave = os.openpty()
        # Raw, and never closed by us while plugged in: clients come and go as on a real port.
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._master, self._slave = master, slave
        self.link.parent.mkdir(parents=True, exist_ok=True)
        new_link = self.link.with_name(f".{self.link.name}.new")
        new_link.unlink(missing_ok=True)
        new_link.symlink_to(os.ttyname(slave))
        new_link.replace(self.link)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _unplug(self) -> None:
        self._out.clear()
        if self._master is None or self._slave is None:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.link.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = None

    def _cut(self, for_s: float) -> None:
        if self._master is None:
            return
        self.personality.unplugged()
        self._unplug()
        self._plan.append(asyncio.get_running_loop().call_later(for_s, self._plug_in))

    def _boot(self) -> None:
        self._forget_timers()
        now_s = asyncio.get_running_loop().time()
        self._act(self.personality.boot(now_s), now_s)

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._out.clear()

    def _act(self, actions: list[Action], now_s: float) -> None:
        """Do what the device does; its times count from `now_s`, however late this call is."""
        for action in actions:
            due_s = now_s + action.after_s if not isinstance(action, CutLine) else now_s
            match action:
                case Send():
                    self._at(due_s, self._queue, action.data, due_s)
                case Reboot():
                    self._at(due_s, self._boot)
                case CutLine():
                    self._cut(action.for_s)
                case _:
                    assert_never(action)

    def _at(self, due_s: float, act: Callable[..., None], *arguments: object) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            act(*arguments)

        timer = asyncio.get_running_loop().call_at(due_s, fire)
        self._timers.add(timer)

    def _read(self) -> None:
        """Bytes came in on an idle line: they begin to pass now."""
        self._take(asyncio.get_running_loop().time())

    def _take(self, start_s: float) -> bool:
        assert self._master is not None
        loop = asyncio.get_running_loop()
        size = READ_SIZE if self._bytes_per_s is None else self._piece_size(self._bytes_per_s)
        try:
            data = os.read(self._master, size)
        except BlockingIOError:
            return False
        self._tap.data("to_device", data)
        if self._bytes_per_s is None:
            now_s = loop.time()
            self._act(self.personality.receive(data, now_s), now_s)
            return True
        # The device has them, and the wire is free, when they have passed. Until then nothing is
        # read, so the kernel's buffer pushes back on the writer.
        loop.remove_reader(self._master)
        end_s = start_s + len(data) / self._bytes_per_s
        loop.call_at(end_s - WAKES_LATE_S, self._arrived, data, end_s, self._master)
        return True

    def _arrived(self, data: bytes, end_s: float, master: int) -> None:
        if master != self._master:
            return  # unplugged while on the wire
        loop = asyncio.get_running_loop()
        # What waits already follows without a gap, however late this call is.
        if not self._take(end_s):
            loop.add_reader(master, self._read)
        self._act(self.personality.receive(data, end_s), end_s)

    def _queue(self, data: bytes, due_s: float) -> None:
        self._out.append(data)
        if not self._is_writing:
            self._write(due_s)

    def _write(self, start_s: float) -> None:
        self._is_writing = False
        while self._out and self._master is not None:
            data = self._out.popleft()
            if self._bytes_per_s is None:
                self._put(data)
                continue
            piece_size = self._piece_size(self._bytes_per_s)
            piece, rest = data[:piece_size], data[piece_size:]
            if rest:
                self._out.appendleft(rest)
            end_s = start_s + len(piece) / self._bytes_per_s
            self._is_writing = True
            asyncio.get_running_loop().call_at(
                end_s - WAKES_LATE_S, self._put_and_go_on, piece, end_s
            )
            return

    def _put_and_go_on(self, piece: bytes, end_s: float) -> None:
        self._put(piece)
        self._write(end_s)

    @staticmethod
    def _piece_size(bytes_per_s: float) -> int:
        return max(1, int(bytes_per_s * PIECE_S))

    def _put(self, data: bytes) -> None:
        """A UART has nobody to wait for: what the reader's buffer cannot take is lost."""
        if self._master is not None:
            self._tap.data("from_device", data)
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)
