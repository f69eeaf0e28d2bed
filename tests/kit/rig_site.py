"""One gateway of a rig: its process, its simulated devices, and its uplink that may fail."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.kit.faulty_link import FaultyLink
from tests.kit.ports import free_port
from tests.kit.processes import REPOSITORY, Program, Programs
from tests.kit.waiting import wait_until

# What a simulated device answers at once needs no long patience.
SMP_OPTIONS: Final[Mapping[str, Any]] = {"reply_wait_s": 0.5, "no_progress_s": 10.0}
LINE_OPTIONS: Final[Mapping[str, Any]] = {"reply_wait_s": 0.3, "tries": 30}
MODBUS_OPTIONS: Final[Mapping[str, Any]] = {"reply_wait_s": 0.3, "tries": 10}
PATIENCE: Final = "2s"
# Personalities that are named as the profile they are spoken to with.
FAMILIES: Final = (
    "tasmota", "shelly_gen1", "shelly_gen2", "zigbee2mqtt", "esphome", "losant", "thingsboard",
)  # fmt: skip

Group = Mapping[str, Any]
Truth = dict[str, Any]


class Uplink:
    """The way from one gateway to the cloud: broker and HTTP, failing together."""

    def __init__(
        self, broker_port: int, http_port: int, mqtt: type[FaultyLink] = FaultyLink
    ) -> None:
        self.mqtt = mqtt(broker_port)
        self.http = FaultyLink(http_port)

    def start(self) -> "Uplink":
        self.mqtt.start()
        self.http.start()
        return self

    def cut(self) -> None:
        self.mqtt.cut()
        self.http.cut()

    def restore(self) -> None:
        self.mqtt.restore()
        self.http.restore()

    def close(self) -> None:
        self.mqtt.close()
        self.http.close()


class Simulator:
    """A process that plays devices, and what its status file says is true of them."""

    def __init__(
        self,
        programs: Programs,
        folder: Path,
        name: str,
        groups: Sequence[Group],
        broker: str | None,
        seed: int | str,
    ) -> None:
        self.folder = folder
        self.lines = folder / "lines"
        self._status_file = folder / "status.json"
        self._experiences = folder / "experiences.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        scenario = folder / "devices.json"
        scenario.write_text(json.dumps({"seed": seed, "devices": [dict(g) for g in groups]}))
        command: list[str | Path] = [scenario, "--dir", self.lines]
        command += ["--status-file", self._status_file, "--experiences", self._experiences]
        if broker is not None:
            command += ["--broker", broker]
        self.program = programs.python("firmware_sim", *command, name=name)

    def status(self) -> dict[str, Truth]:
        """What is true of each device now: asked for, not what it was a moment ago."""
        before = self._written_at()
        os.kill(self.program.pid, signal.SIGUSR1)
        wait_until(lambda: self._written_at() != before, 20, "the simulator's status file")
        devices: dict[str, Truth] = json.loads(self._status_file.read_text())["devices"]
        return devices

    def experiences(self) -> list[Truth]:
        """What happened to the devices, in order, as far as it was written in whole lines."""
        if not self._experiences.exists():
            return []
        whole = self._experiences.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def device(self, device: str) -> Truth:
        return self.status()[device]

    def wait_for(self, device: str, counter: str, at_least: int, deadline_s: float = 30) -> Truth:
        """What is true of the device once a counter has come that far."""

        def look() -> Truth | None:
            truth = self.device(device)
            return truth if truth["counters"][counter] >= at_least else None

        found = wait_until(
            look, deadline_s, lambda: f"{device} {counter} >= {at_least}: {self.device(device)}"
        )
        assert found is not None
        return found

    def _written_at(self) -> int:
        # The file is replaced whole, so each writing has an inode of its own.
        try:
            stat = self._status_file.stat()
        except FileNotFoundError:
            return 0
        return stat.st_mtime_ns


class Site:
    """A gateway and its devices. Made by `Rig.add_gateway`, which starts it.

    Without `plays` the devices of `groups` are in its settings, and another's to play.
    """

    def __init__(
        self,
        programs: Programs,
        folder: Path,
        name: str,
        groups: Sequence[Group],
        *,
        cloud_url: str,
        broker_url: str,
        token: str,
        uplink: Uplink | None = None,
        seed: int | str = 7,
        options: Mapping[str, Any] | None = None,
        patience: str = PATIENCE,
        label: str = "",
        env: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        plays: bool = True,
    ) -> None:
        self.name = name
        self.label = label or name
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.env = env
        self.uplink = uplink
        self.groups = groups
        self.config = folder / "gateway.json"
        self._programs = programs
        self._program: Program | None = None
        folder.mkdir(parents=True, exist_ok=True)
        has_mqtt = any(group["personality"] in ("mqtt", *FAMILIES) for group in groups)
        self.local_port = free_port() if has_mqtt else None
        self.local_broker = f"mqtt://127.0.0.1:{self.local_port}" if has_mqtt else None
        self.simulator = (
            Simulator(programs, folder, f"devices-{self.label}", groups, self.local_broker, seed)
            if groups and plays
            else None
        )
        settings: dict[str, Any] = {
            "gateway": name,
            "data_dir": str(self.data_dir),
            "profiles": str(REPOSITORY / "configs" / "profiles"),
            "cloud": {"url": cloud_url, "mqtt": broker_url, "token": token},
            "devices": self._devices(groups, {**SMP_OPTIONS, **(options or {})}, patience),
            "log": {"format": "text"},
        }
        if has_mqtt:
            settings["local_broker"] = {"listen": f"127.0.0.1:{self.local_port}"}
        self.settings = settings
        self.write_config(settings)

    @property
    def devices(self) -> Simulator:
        assert self.simulator is not None, f"gateway {self.name} has no devices"
        return self.simulator

    @property
    def program(self) -> Program:
        assert self._program is not None, f"gateway {self.name} was never started"
        return self._program

    def write_config(self, settings: Mapping[str, Any]) -> None:
        self.config.write_text(json.dumps(settings, indent=1))

    def start(self) -> None:
        """Start the gateway, again if need be; it says itself when it is in session."""
        if self.simulator is not None:
            self.simulator.program.wait_for_line(".")  # the lines are plugged in
        if self._program is None:
            name = f"gateway-{self.label}"
            self._program = self._programs.python("gateway", self.config, name=name, env=self.env)
        else:
            self._program.start()

    def start_by(self, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Start it the first time through another program, such as one that keeps it running."""
        self._program = self._programs.start(
            f"gateway-{self.label}", *command, env=env, cwd=REPOSITORY
        )

    def wait_for_session(self, deadline_s: float = 30) -> None:
        self.program.wait_for_line("session opened", deadline_s)

    def wait_for_truth(
        self, device: str, is_so: Callable[[Truth], object], deadline_s: float = 60
    ) -> Truth:
        """What is true of a device once `is_so`."""

        def look() -> Truth | None:
            truth = self.devices.device(device)
            return truth if is_so(truth) else None

        found = wait_until(look, deadline_s, lambda: f"{device}: {self.devices.device(device)}")
        assert found is not None
        return found

    def kill_9(self) -> None:
        self.program.kill_9()

    def restart(self) -> None:
        """`kill -9` if it runs, then start again on the same data."""
        if self.program.is_running:
            self.kill_9()
        self.start()

    def wipe(self) -> None:
        """Lose journal and artifacts, as a replaced SD card would. Only while it is down."""
        assert not self.program.is_running
        shutil.rmtree(self.data_dir)

    def close(self) -> None:
        if self.uplink is not None:
            self.uplink.close()

    def _devices(
        self, groups: Sequence[Group], smp: Mapping[str, Any], patience: str
    ) -> list[dict[str, Any]]:
        found = []
        for group in groups:
            for device in device_ids(group):
                common = {
                    "id": device,
                    "type": group.get("type", "device"),
                    "tags": {"site": self.name},
                    "patience": patience,
                }
                if group["personality"] == "smp":
                    port = str(self.folder / "lines" / device)
                    found.append({**common, "driver": "smp", "port": port, **smp})
                elif group["personality"] == "line_json":
                    port = str(self.folder / "lines" / group["line"])
                    own = {"port": port, "address": device, **LINE_OPTIONS}
                    found.append({**common, "driver": "line_json", **own})
                elif group["personality"] in FAMILIES:
                    profile = group["personality"]
                    found.append({**common, "driver": "mqtt", "profile": profile})
                elif group["personality"] == "modbus":
                    unit = group.get("unit", 1) + device_ids(group).index(device)
                    found.append({**common, "unit": unit, **self._modbus(group)})
                else:
                    found.append({**common, "driver": "mqtt", "profile": "roundsman_demo"})
        return found

    def _modbus(self, group: Group) -> dict[str, Any]:
        common = {"driver": "modbus", "profile": "roundsman_demo_drive", **MODBUS_OPTIONS}
        if "listen" in group:
            host, _, port = group["listen"].rpartition(":")
            return {**common, "host": host, "tcp_port": int(port)}
        port = str(self.folder / "lines" / group["line"])
        # The kernel refuses parity on a pty.
        return {**common, "port": port, "baud": group.get("baud", 115200), "parity": "N"}


def device_ids(group: Group) -> list[str]:
    """The ids of a scenario's group, as the simulator names them."""
    if "ids" in group:
        return list(group["ids"])
    return [f"{group['id']}-{number}" for number in range(1, group.get("count", 1) + 1)]


def smp(device: str, **group: Any) -> Group:
    """One device on a pty with a small image; what is given goes into the scenario's group."""
    return {"personality": "smp", "ids": [device], **_QUICK, **group}


def mqtt(device: str, **group: Any) -> Group:
    """One device on the gateway's own broker."""
    return {"personality": "mqtt", "ids": [device], **_QUICK, "flash_time": "100ms", **group}


def family(name: str, device: str, **group: Any) -> Group:
    """A device of an off-the-shelf family, which is also the name of its profile."""
    return {"personality": name, "ids": [device], **_QUICK, "flash_time": "100ms", **group}


def on_one_line(line: str, *devices: str, **group: Any) -> Group:
    """Line-JSON devices that share a pty of that name."""
    return {"personality": "line_json", "line": line, "ids": list(devices), **_QUICK, **group}


def modbus(line: str, *devices: str, **group: Any) -> Group:
    """Units 1, 2 ... on a pty of that name, or behind TCP with `listen`; each a demo drive."""
    own = {"personality": "modbus", "line": line, "ids": list(devices), "registers": DRIVE}
    return {**own, **_QUICK, **group}


# What a drive of the profile roundsman_demo_drive holds.
DRIVE: Final[Mapping[str, Any]] = {
    "coils": {0: 0, 1: 0, 2: 1},
    "discrete": {0: 1, 1: 0},
    "holding": {
        **dict.fromkeys(range(24), 0),
        **{0: 1500, 1: 100, 16: 0x4452, 17: 0x562D, 18: 0x3432, 900: 0},
    },
    "input": {0: 1, 1: 34464, 2: 0x41AC, 3: 0, 4: 215, 5: 5},
    "exceptions": {900: 4},
}
_QUICK: Final[Mapping[str, Any]] = {"boot_time": "100ms", "image_size": 8192}
