"""State is collected by schedules, from devices that no task uses, and put into the outbox."""

import asyncio
import functools
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import JsonValue

from contract.messages import DeviceState
from gateway.domain.collecting import Worth
from gateway.domain.facts import Instant
from gateway.drivers.base import Answered, Command, DeviceFacts, OnValues, ReadPoints, Refused
from gateway.errors import DeviceUnreachable
from gateway.journal import outbox
from gateway.journal.database import open_database
from gateway.runner.buses import Buses
from gateway.runner.collector import Collector
from gateway.runner.collects import Ask, Hear
from gateway.runner.devices import Device, DeviceHandle
from tests.kit.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.row("E2")
EPOCH = 1_760_000_000_000


class Sensor:
    """Answers with what the test says; `asked` holds when, in seconds."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.opened = self.closed = 0
        self.value: JsonValue = 1
        self.silent = self.is_away = False
        self.takes_s = 0.0
        self.busy = 0

    async def open(self) -> DeviceFacts:
        if self.silent:
            self.asked.append((now_s(), "open"))
            raise DeviceUnreachable("silent")
        self.opened += 1
        return DeviceFacts()

    async def perform(self, request, timeout_s, on_progress):
        self.busy += 1
        assert self.busy == 1, "one exchange at a time"
        self.asked.append((now_s(), request.name if isinstance(request, Command) else "read"))
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.busy -= 1
        if self.silent:
            raise DeviceUnreachable("silent")
        if isinstance(request, ReadPoints):
            if "missing" in request.names:
                return Refused("device_refused", "no such point")
            return Answered({"values": {name: self.value for name in request.names}})
        return Answered({"version": "1.0.0"})

    async def close(self) -> None:
        self.closed += 1


class Heard:
    def __init__(self) -> None:
        self.say: OnValues = lambda values: None
        self.closed = False

    def listen(self, on_values):
        self.say = on_values
        return self

    async def keep(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


def now_s() -> float:
    return round(asyncio.get_running_loop().time(), 3)


def clock() -> Instant:
    ms = round(asyncio.get_running_loop().time() * 1000)
    return Instant(EPOCH + ms, ms)


def read(every_s: float, *names: str, **more) -> Ask:
    return Ask(ReadPoints(names or ("bar",)), round(every_s * 1000), 10, Worth(), **more)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.buses = Buses()
        self.journal = open_database(folder, inline=True)
        self.handles: dict[str, DeviceHandle] = {}
        self.at_work: set[str] = set()

    def add(self, name: str, *collects, bus: str = "") -> Sensor:
        sensor = Sensor()
        device = Device(name, lambda _: sensor, bus=bus or name, collects=collects)
        self.handles[name] = DeviceHandle(device, self.buses, clock)
        return sensor

    @asynccontextmanager
    async def running(self):
        collector = Collector(
            self.handles, self.buses, self.journal, clock, lambda: "live",
            lambda urgent: None, self.at_work.__contains__,
        )  # fmt: skip
        assert collector.has_work
        async with asyncio.TaskGroup() as group:
            task = group.create_task(collector.run(), name="collector")
            yield
            task.cancel()

    def samples(self) -> list[DeviceState]:
        found = self.journal.run_now(outbox.first, "live", "states", 10_000, 10**8)
        return [DeviceState.model_validate_json(line) for _, line in found]

    def values(self) -> list[dict[str, JsonValue]]:
        return [dict(one.values) for one in self.samples() if one.values]


def in_virtual_time(story):
    @functools.wraps(story)
    def run(rig):
        run_in_virtual_time(story(rig))

    return run


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    yield made
    made.journal.close()


@in_virtual_time
async def test_points_are_read_in_time_and_only_what_changed_is_kept(rig):
    sensor = rig.add("pump-1", read(1))
    async with rig.running():
        await asyncio.sleep(3.5)
        sensor.value = 2
        await asyncio.sleep(3)
    assert [round(at) for at, _ in sensor.asked] == [0, 1, 2, 3, 4, 5, 6]
    assert rig.values() == [{"bar": 1}, {"bar": 2}]
    assert [one.order for one in rig.samples()] == sorted({one.order for one in rig.samples()})
    assert sensor.opened == 1


@in_virtual_time
async def test_a_device_at_work_is_left_alone_and_asked_when_it_is_free(rig):
    sensor = rig.add("pump-1", read(1))
    rig.at_work.add("pump-1")
    async with rig.running():
        await asyncio.sleep(5)
        assert sensor.asked == []
        rig.at_work.clear()
        await asyncio.sleep(1)
    assert len(sensor.asked) in (1, 2)


@in_virtual_time
async def test_a_task_waits_for_the_end_of_a_collection_and_no_collection_begins_in_it(rig):
    sensor = rig.add("pump-1", read(1))
    sensor.takes_s = 0.4
    handle = rig.handles["pump-1"]
    async with rig.running():
        await asyncio.sleep(0.1)  # amid the first collection
        for _ in range(20):  # the sensor itself sees to it that nothing overlaps
            await handle.ask(Command("version"), 5, lambda *_: None, lambda: None)
    assert {name for _, name in sensor.asked} == {"read", "version"}


@in_virtual_time
async def test_one_line_is_shared_by_turns_and_gives_way_to_a_task(rig):
    first = rig.add("pump-1", read(1), bus="line")
    second = rig.add("pump-2", read(1), bus="line")
    first.takes_s = second.takes_s = 0.8
    async with rig.running():
        await asyncio.sleep(20)
        assert abs(len(first.asked) - len(second.asked)) <= 1
        assert len(first.asked) >= 10
        before = len(first.asked) + len(second.asked)
        await asyncio.sleep(0.05)
        async with rig.buses.hold("line", 30, "pump-3"):
            held_at = now_s()
            await asyncio.sleep(6)
            asked = [at for at, _ in first.asked + second.asked if at > held_at]
            assert asked == []
        await asyncio.sleep(2)
    assert len(first.asked) + len(second.asked) > before


@in_virtual_time
async def test_a_silent_device_is_asked_ever_more_seldom_and_its_neighbour_in_time(rig):
    silent = rig.add("pump-1", read(1), bus="line")
    sensor = rig.add("pump-2", read(1), bus="line")
    silent.silent = True
    async with rig.running():
        await asyncio.sleep(120)
    assert 4 <= len(silent.asked) <= 6
    assert len(sensor.asked) > 110
    assert [one.link for one in rig.samples() if one.device == "pump-1"] == ["down"]


@in_virtual_time
async def test_a_device_that_says_it_is_away_is_not_asked(rig):
    sensor = rig.add("pump-1", read(1))
    async with rig.running():
        await asyncio.sleep(2.5)
        sensor.is_away = True
        before = len(sensor.asked)
        await asyncio.sleep(10)
        assert len(sensor.asked) == before
        sensor.is_away = False
        await asyncio.sleep(2)
    assert len(sensor.asked) > before


@in_virtual_time
async def test_a_sleepy_device_is_opened_as_often_as_its_item_says(rig):
    item = Ask(Command("version"), 3_600_000, 10, Worth(), name="firmware")
    sensor = rig.add("meter-1", item)
    async with rig.running():
        await asyncio.sleep(4 * 3600 - 60)
    assert (sensor.opened, sensor.closed) == (4, 4)
    assert rig.values()[0] == {"firmware": {"version": "1.0.0"}}


@in_virtual_time
async def test_what_a_device_publishes_is_kept_where_it_is_wanted(rig):
    heard = Heard()
    rig.add("meter-1", Hear(heard.listen, Worth(deadband=1)))
    async with rig.running():
        await asyncio.sleep(1)
        for value in (20, 20.5, 22, 22, 10):
            heard.say({"t": value})
        await asyncio.sleep(1)
        assert rig.values() == [{"t": 20}, {"t": 22}, {"t": 10}]
        heard.say({"t": 30})
    assert rig.values()[-1] == {"t": 30}  # also what came right before the end
    assert heard.closed


@in_virtual_time
async def test_a_point_that_is_not_there_ends_nothing(rig):
    rig.add("pump-1", read(1, "missing"), read(1, "bar"))
    async with rig.running():
        await asyncio.sleep(3)
    assert rig.values() == [{"bar": 1}]
