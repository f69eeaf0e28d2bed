"""What do 10,000 MQTT devices in one simulator process cost, against 1,000?

Two gateways with a local broker each share the devices; a job of two commands goes to all. The
devices subscribe with QoS 0: with QoS 1 NATS keeps a consumer for each, and looks through all of
them for every message. Cloud on SQLite. Memory is taken after the second run.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from benchmarks.answers import Figure
from contract.lifecycle import RunStatus
from tests.kit.processes import Programs, programs_in
from tests.kit.rig import Rig
from tests.kit.rig_jobs import ask as command
from tests.kit.rig_jobs import command_job

SIZES: Final = (1_000, 10_000)
GATEWAYS: Final = 2
DEADLINE_S: Final = 900.0
STEPS: Final = [command("version", "version"), command("echo", "echo", text="hello")]


def ask(rounds: int = 1) -> list[Figure]:
    found: dict[int, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            for number in range(rounds):
                place = Path(folder) / f"{size}-{number}"
                place.mkdir()
                with programs_in(place) as programs:
                    found.setdefault(size, []).append(measure(place / "rig", programs, size))
    small, large = found[SIZES[0]], found[SIZES[1]]
    return [
        Figure(
            f"{what}, {SIZES[1]:,} devices",
            unit,
            [each[what] for each in large],
            f"{SIZES[0]:,} devices",
            [each[what] for each in small],
        )
        for what, unit in UNITS.items()
    ]


UNITS: Final = {
    "until all are connected": "s",
    "first run, links opened": "tasks/s",
    "second run": "tasks/s",
    "memory of the simulator": "MB",
    "memory of a gateway": "MB",
    "memory of its broker": "MB",
}


def measure(folder: Path, programs: Programs, devices: int) -> dict[str, float]:
    """The figures of `UNITS` for one fleet. Every task must succeed."""
    with Rig(folder, programs, "nats", settings={"limits": {"heartbeat": "10s"}}) as rig:
        groups = []
        for number in range(GATEWAYS):
            group = {
                "personality": "mqtt",
                "id": f"device-{number}",
                "count": devices // GATEWAYS,
                "qos": 0,
            }
            site = rig.add_gateway(f"gateway-{number}", [group], plays=False)
            groups.append({**group, "broker": site.local_broker})
        scenario, status = folder / "fleet.json", folder / "status.json"
        scenario.write_text(json.dumps({"seed": 1, "devices": groups}))
        began = time.perf_counter()
        simulator = programs.python("firmware_sim", scenario, "--status-file", status, name="sim")
        ports = [site.local_port for site in rig.sites.values()]
        process = psutil.Process(simulator.pid)

        def are_connected() -> bool:
            made = process.net_connections("tcp")
            up = [c for c in made if c.status == psutil.CONN_ESTABLISHED and c.raddr]
            return sum(c.raddr.port in ports for c in up) >= devices

        _wait(are_connected, lambda: f"not all devices connected: {simulator.tail()}")
        connected_s = time.perf_counter() - began
        job = command_job("all", STEPS, concurrency=500 * GATEWAYS, timeout="15m")
        first = _rate(rig, rig.start(job))
        second = _rate(rig, rig.client.jobs.run("all").id)
        gateway = psutil.Process(rig.sites["gateway-0"].program.pid)
        broker = gateway.children()[0]
        figures = (
            connected_s,
            first,
            second,
            process.memory_info().rss / 1e6,
            gateway.memory_info().rss / 1e6,
            broker.memory_info().rss / 1e6,
        )
        return dict(zip(UNITS, figures, strict=True))


def _rate(rig: Rig, run: str) -> float:
    def ended() -> bool:
        return rig.client.runs.get(run).ended_at is not None

    _wait(ended, lambda: rig.describe(run))
    found = rig.client.runs.get(run)
    assert found.status is RunStatus.SUCCEEDED, rig.describe(run)
    assert found.duration_ms is not None
    return 1000 * found.counts.total / found.duration_ms


def _wait(is_so: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Seldom looked at: looking costs what is measured."""
    until = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < until, otherwise()
        time.sleep(0.5)
