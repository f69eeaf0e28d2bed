"""The devices of this gateway: each with a driver, opened when needed, and its link's state."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from contract.messages import DeviceState, InventoryDevice
from gateway.crash_points import reach
from gateway.domain.device_link import DeviceLink
from gateway.domain.facts import Instant
from gateway.domain.plain_json import plain, plain_text
from gateway.drivers.base import (
    Answered,
    DeviceRequest,
    Driver,
    FirmwareState,
    OnDeviceLog,
    OnProgress,
    Refused,
)
from gateway.errors import DeviceUnreachable, GatewayError, PortUnavailable
from gateway.logs import Log
from gateway.runner.buses import Buses
from gateway.runner.collects import Collects

OPEN_WITHIN_S: Final = 15.0
LINES_KEPT: Final = 200

log = Log()


@dataclass(frozen=True)
class Device:
    """A device as the settings name it. `make_driver` only builds; nothing is opened.

    `patience_ms` is how long an attempt waits for a silent device before it begins, and so counts
    as a try; None waits until the offer's start-by. `keeps_open`: its link shares a connection,
    so there is no line to let go of when there is no work. `takes_turns`: the driver takes the
    bus for each exchange by itself. `is_told`: its state is told to the cloud.
    """

    id: str
    make_driver: Callable[[OnDeviceLog], Driver]
    type: str = ""
    name: str = ""
    driver: str = ""
    address: str = ""
    bus: str = ""
    tags: Mapping[str, JsonValue] = field(default_factory=dict)
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)
    patience_ms: int | None = 30_000
    keeps_open: bool = False
    takes_turns: bool = False
    collects: tuple[Collects, ...] = ()
    problem: Callable[[], str] = str
    is_told: bool = True


class DeviceHandle:
    """One device, used by one worker at a time; its state is collected when none uses it."""

    def __init__(self, device: Device, buses: Buses, clock: Callable[[], Instant]) -> None:
        self.device = device
        self.link = DeviceLink()
        self._buses = buses
        self._clock = clock
        self._driver: Driver | None = None
        self._facts: dict[str, JsonValue] = {}
        self._states: list[DeviceState] = []
        self._lines: list[str] = []
        self.lines_dropped = 0
        self._is_stale = False
        self._users = 0
        # Done when the collection that is under way has ended.
        self._collected: asyncio.Future[None] | None = None

    @property
    def is_away(self) -> bool:
        """The device itself has said that it is not there."""
        return self._driver is not None and self._driver.is_away

    @property
    def is_in_use(self) -> bool:
        return self._users > 0 or self._collected is not None

    @property
    def bus(self) -> str:
        return self.device.bus or self.device.id

    @property
    def is_open(self) -> bool:
        driver = self._driver
        return driver is not None and self.link.status == "up" and not driver.is_away

    async def open(self, within_s: float = OPEN_WITHIN_S) -> None:
        """Open the link if it is not. Raises DeviceUnreachable."""
        async with self._used(), self._turn(within_s):
            if self._driver is not None and self._driver.is_away:
                await self._lost()
            await self._open(within_s)

    async def ask(
        self,
        request: DeviceRequest,
        timeout_s: float,
        on_progress: OnProgress,
        on_sent: Callable[[], None],
    ) -> Answered | Refused:
        """One exchange, the bus held. Raises what `Driver.perform` raises."""
        async with self._used():
            return await self._ask(request, timeout_s, on_progress, on_sent)

    async def collect(
        self, request: DeviceRequest, timeout_s: float, *, rests: bool
    ) -> Answered | Refused:
        """An exchange that no task asked for; workers wait until it has ended.

        With `rests` the link is closed afterwards. Only while `is_in_use` is false. Raises what
        `Driver.perform` raises, and DeviceUnreachable when the answer does not come in time.
        """
        assert not self.is_in_use, "the device is used"
        self._collected = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s + OPEN_WITHIN_S):
                return await self._ask(request, timeout_s, lambda *_: None, lambda: None)
        except TimeoutError:
            await self._lost()
            raise DeviceUnreachable("the device did not answer") from None
        finally:
            if rests and not (self.device.keeps_open and self.is_open):
                await self.close()
            self._collected.set_result(None)
            self._collected = None

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[None]:
        while self._collected is not None:
            await asyncio.shield(self._collected)
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    async def _ask(
        self,
        request: DeviceRequest,
        timeout_s: float,
        on_progress: OnProgress,
        on_sent: Callable[[], None],
    ) -> Answered | Refused:
        async with self._turn(timeout_s):
            driver = await self._open(min(timeout_s, OPEN_WITHIN_S))
            on_sent()
            reach("device.before_ask", self.device.id)
            try:
                answer = await driver.perform(request, timeout_s, on_progress)
            except DeviceUnreachable as error:
                self._say_of_line(error)
                await self._lost()
                raise
            reach("device.after_ask", self.device.id)
            self._is_up()
            if isinstance(answer, Answered) and answer.firmware is not None:
                self._learn(answer.firmware)
            return answer

    @property
    def has_link(self) -> bool:
        return self._driver is not None

    def make_stale(self) -> None:
        """What its driver is made from has changed."""
        self._is_stale = True

    async def freshen(self) -> None:
        """Between attempts: a driver made from what has changed since gives way to a new one."""
        if not self._is_stale or self._driver is None:
            return
        was_open = self.is_open
        await self.close()
        if self.device.keeps_open and was_open:
            with suppress(DeviceUnreachable):
                await self.open()

    async def rest(self) -> None:
        """There is no work: let go of the line, if there is one."""
        async with self._used():
            if not (self.device.keeps_open and self.is_open):
                await self.close()

    async def close(self) -> None:
        """Let go of the line; the next exchange opens it again."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                await driver.close()
        except (GatewayError, TimeoutError, OSError) as error:
            log.info("device link closed badly", device=self.device.id, why=str(error))

    def scope(self) -> dict[str, JsonValue]:
        """What expressions read as `device`."""
        device = self.device
        return {
            "id": device.id,
            "type": device.type,
            "name": device.name,
            "driver": device.driver,
            "tags": dict(device.tags),
            "attributes": {**device.attributes, **self._facts},
        }

    def inventory(self) -> InventoryDevice:
        device, problem = self.device, self.device.problem()
        why: dict[str, JsonValue] = {"problem": problem} if problem else {}
        return InventoryDevice(
            bus=self.bus[:128],
            id=device.id,
            type=device.type,
            name=device.name,
            driver=device.driver,
            address=device.address,
            tags=dict(device.tags),
            attributes={**device.attributes, **self._facts, **why},
            link="down" if problem else self.link.status,
        )

    def take_states(self) -> list[DeviceState]:
        states, self._states = self._states, []
        return states

    def take_lines(self) -> list[str]:
        """What the device has said unasked since the last call, as log text."""
        lines, self._lines = self._lines, []
        return lines

    def _turn(self, within_s: float) -> AbstractAsyncContextManager[None]:
        if self.device.takes_turns:
            return nullcontext()
        return self._buses.hold(self.bus, within_s, self.device.id)

    def _say_of_line(self, error: BaseException) -> None:
        if isinstance(error, PortUnavailable) and not self.device.takes_turns:
            self._buses.failed(self.bus, str(error))

    async def _open(self, within_s: float) -> Driver:
        if self._driver is not None:
            return self._driver
        self._is_stale = False
        driver = self.device.make_driver(self._device_said)
        try:
            async with asyncio.timeout(within_s):
                facts = await driver.open()
        except TimeoutError:
            await self._give_up(driver)
            raise DeviceUnreachable(f"no answer within {within_s:.0f} s") from None
        except BaseException as error:
            self._say_of_line(error)
            await self._give_up(driver)
            raise
        self._driver = driver
        values = plain(dict(facts.values))
        self._facts = values if isinstance(values, dict) else {}
        self._is_up(opened=True)
        return driver

    async def _give_up(self, driver: Driver) -> None:
        self._driver = driver
        await self._lost()

    async def _lost(self) -> None:
        await self.close()
        was = self.link.status
        self.link = self.link.was_lost(self._clock().wall)
        if was != "down":
            self._tell()

    def _is_up(self, opened: bool = False) -> None:
        if not self.device.takes_turns:
            self._buses.worked(self.bus)
        was = self.link.status
        self.link = self.link.came_up(self._clock().wall)
        if was != "up" or (opened and self._facts):
            self._tell()

    def _learn(self, firmware: FirmwareState) -> None:
        """What runs may be another image than when the link was opened."""
        if firmware.active is None:
            return
        image = firmware.active
        about: dict[str, JsonValue] = {
            "version": image.version,
            "hash": image.image_hash,
            "confirmed": image.confirmed,
        }
        if about.items() <= self._facts.items():
            return
        self._facts = {**self._facts, **about}
        self._tell()

    def _tell(self) -> None:
        if not self.device.is_told:
            return
        now = self._clock().wall
        self._states.append(
            DeviceState(
                number=0, at=now, device=self.device.id, link=self.link.status, values=self._facts
            )
        )
        del self._states[:-LINES_KEPT]

    def _device_said(self, text: str) -> None:
        if len(self._lines) >= LINES_KEPT:
            self.lines_dropped += 1
            return
        self._lines.append(plain_text(text, 1000))
