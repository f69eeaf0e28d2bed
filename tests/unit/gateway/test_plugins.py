"""What packages bring is found by name, imported when it is needed, and named when it is broken."""

import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from contract import plugins
from contract.plugins import PlugInBroken, load_any
from contract.steps import VERBS, AfterRestart, NoParameters, Verb, load_verbs
from gateway.drivers.base import Bus, DriverKind
from gateway.drivers.registry import OURS, Drivers
from gateway.errors import SettingsInvalid
from gateway.plugins import load_plug_ins
from gateway.settings import read_settings
from tests.kit.processes import REPOSITORY

pytestmark = pytest.mark.row("E4")


@dataclass(frozen=True)
class Point:
    """An entry point that needs no package."""

    name: str
    found: Any
    value: str = "acme:THING"

    def load(self) -> Any:
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


class LampOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str
    unit: int = 1
    speed: int = 9600


def bus(options: LampOptions) -> Bus:
    return Bus(f"serial:{options.host}", f"unit {options.unit}", {"speed": options.speed})


def lamp(**more: Any) -> DriverKind:
    made: dict[str, Any] = {"options": LampOptions, "make": None, "summary": "", "address": str}
    return DriverKind(**{**made, "bus": bus, **more})


@pytest.fixture
def read(tmp_path):
    def settings(devices, *points):
        path = tmp_path / "g.yaml"
        lines = "".join(f"  - {device}\n" for device in devices)
        path.write_text(f"gateway: n\ndevices:\n{lines}")
        return read_settings(path, {}, Drivers(points))

    return settings


@pytest.fixture(autouse=True)
def the_same_verbs_after():
    before = dict(VERBS)
    yield
    VERBS.clear()
    VERBS.update(before)


def test_every_driver_of_ours_is_a_kind_and_says_what_it_is():
    drivers = Drivers()
    assert set(drivers.names) == set(OURS)
    for name in drivers.names:
        assert drivers.kind(name).summary


def test_a_driver_of_a_package_is_known_by_its_name_and_takes_its_own_keys(read):
    point = Point("acme_lamp", lamp())
    settings = read(["{id: a, driver: acme_lamp, host: h, unit: 3, patience: 1s}"], point)
    device = settings.devices[0]
    assert device.options == LampOptions(host="h", unit=3)
    assert device.shares == Bus("serial:h", "unit 3", {"speed": 9600})
    assert device.patience.total_seconds() == 1


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["{id: a, driver: acme_lamb, host: h}"], "did you mean `acme_lamp`"),
        (
            ["{id: a, driver: acme_lamp, hots: h}"],
            ":3:32: devices[0].hots: unknown key `hots`; did",
        ),
        (["{id: a, driver: acme_lamp, host: h, unit: x}"], ":3:47: devices[0].unit"),
        (["{id: a, driver: acme_lamp, host: h}"] * 2, "`a` stands twice"),
        (
            ["{id: a, driver: acme_lamp, host: h}", "{id: b, driver: acme_lamp, host: h}"],
            "`a` and `b` are both unit 1 on the port h",
        ),
        (
            [
                "{id: a, driver: acme_lamp, host: h}",
                "{id: b, driver: acme_lamp, host: h, unit: 2, speed: 300}",
            ],
            "share the port h but not its `speed` (9600, 300)",
        ),
        (
            ["{id: a, driver: acme_lamp, host: h}", "{id: b, driver: smp, port: h}"],
            "share the port h but not its driver (acme_lamp, smp)",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(read, devices, said):
    with pytest.raises(SettingsInvalid) as caught:
        read(devices, Point("acme_lamp", lamp()))
    assert said in str(caught.value)


def test_units_share_a_line_and_lines_of_their_own_do_not(read):
    devices = [f"{{id: d{n}, driver: acme_lamp, host: h, unit: {n}}}" for n in range(1, 6)]
    assert len(read(devices, Point("acme_lamp", lamp())).devices) == 5


def test_a_driver_that_cannot_be_imported_says_why_and_others_go_on(read):
    points = [
        Point("acme_gone", ImportError("no module acme_radio")),
        Point("acme_odd", ModuleType("odd")),
        Point(
            "acme_greedy", lamp(options=type("O", (BaseModel,), {"__annotations__": {"id": int}}))
        ),
    ]
    devices = [f"{{id: d{n}, driver: {p.name}, any: key}}" for n, p in enumerate(points)]
    settings = read([*devices, "{id: good, driver: smp, port: x}"], *points)
    gone, odd, greedy, good = settings.devices
    assert "ImportError: no module acme_radio" in gone.broken
    assert "is a module, not a DriverKind" in odd.broken
    assert "names that all devices use: id" in greedy.broken
    assert (gone.options, gone.shares, good.broken) == (None, None, "")


def test_a_driver_of_ours_is_not_replaced_and_none_is_imported_before_it_is_named(
    read, monkeypatch
):
    class Explosive:
        name, value = "acme_lamp", "acme:THING"

        def load(self):
            raise AssertionError("imported")

    drivers = Drivers([Point("smp", lamp()), Explosive()])
    assert drivers.kind("smp").options is not LampOptions
    monkeypatch.delitem(sys.modules, "gateway.drivers.mqtt", raising=False)
    read(["{id: a, driver: smp, port: x}"], Explosive())
    assert "gateway.drivers.mqtt" not in sys.modules


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (Verb("acme.blink", NoParameters, AfterRestart.REPEAT, "s"), None),
        (Verb("acme.other", NoParameters, AfterRestart.REPEAT, "s"), "calls itself `acme.other`"),
        (Verb("acme.blink", NoParameters, AfterRestart.ASK, "s", macro=True), "macros"),
        ("no verb", "is a str, not a Verb"),
        (ImportError("no acme"), "ImportError: no acme"),
    ],
)
def test_a_step_of_a_package_is_checked(verb, said):
    problems = load_verbs([Point("acme.blink", verb)])
    assert ("acme.blink" in VERBS) is (said is None)
    assert [said] == [None] if not problems else said in problems[0]


@pytest.mark.parametrize("name", ["device.blink", "flow.delay", "Acme.blink", "blink", "a.b.c"])
def test_a_step_has_a_name_in_a_namespace_of_its_own(name):
    assert load_verbs([Point(name, Verb(name, NoParameters, AfterRestart.REPEAT, "s"))])
    assert name not in VERBS or VERBS[name].parameters is not NoParameters


class Blink:
    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Any, reach: Any) -> None:
        """Nothing."""


def test_an_action_is_performed_if_its_step_is_there_and_agrees():
    verb = Verb("acme.blink", NoParameters, AfterRestart.REPEAT, "s")
    other = Verb("acme.wait", NoParameters, AfterRestart.ASK, "s")
    groups = {
        plugins.STEPS: [Point("acme.blink", verb), Point("acme.wait", other)],
        plugins.ACTIONS: [
            Point("acme.blink", Blink()),
            Point("acme.wait", Blink()),
            Point("acme.unknown", Blink()),
            Point("flow.delay", Blink()),
        ],
        plugins.PROFILES: [
            Point("acme", ValueError("broken")),
            Point("mine", sys.modules["gateway"]),
        ],
    }
    found = load_plug_ins(lambda group: groups.get(group, []))
    assert isinstance(found.actions["acme.blink"], Blink)
    assert not isinstance(found.actions["flow.delay"], Blink)
    assert {"acme.wait", "acme.unknown"}.isdisjoint(found.actions)
    told = "\n".join(found.problems)
    for said in (
        "`acme.wait` (acme:THING): its after_restart is not `ask`",
        "no step of that name is installed",
        "that is one of our own",
        "profiles `acme` (acme:THING) cannot load: ValueError: broken",
    ):
        assert said in told
    assert [str(folder) for folder in found.profiles] == [str(REPOSITORY / "gateway")]


def test_a_package_that_exits_when_it_is_imported_is_a_broken_one():
    with pytest.raises(PlugInBroken, match="SystemExit: 3"):
        load_any(Point("acme", SystemExit(3)), "driver")


def test_of_two_packages_with_one_name_the_first_stays():
    one, two = Point("a", 1), Point("a", 2)
    assert plugins.by_name([one, two]) == {"a": one}
    with pytest.raises(PlugInBroken, match="is a int, not a str"):
        plugins.load_plug_in(one, str, "thing")


LOADED = """
import subprocess
import sys
from pathlib import Path
import gateway.__main__
from gateway.drivers.registry import Drivers
from gateway.settings import read_settings
read_settings(Path(sys.argv[1]), {}, Drivers())
print("\\n".join(sys.modules))
"""


def test_a_gateway_carries_the_weight_of_no_driver_that_it_does_not_use(tmp_path):
    def loaded(device):
        path = tmp_path / "g.yaml"
        path.write_text(f"gateway: n\ndevices: [{device}]")
        command = [sys.executable, "-c", LOADED, str(path)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    smp = loaded("{id: a, driver: smp, port: x}")
    assert "cbor2" in smp
    assert smp.isdisjoint({"pymodbus", "gateway.drivers.modbus", "gateway.drivers.mqtt"})
    assert "pymodbus" in loaded("{id: a, driver: modbus, port: x, profile: p}")
